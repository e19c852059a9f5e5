"""Adds backup runs."""

import django.utils.timezone
from django.db import migrations, models

import organizations.models


class Migration(migrations.Migration):
    dependencies = [
        ("organizations", "0010_acts_and_former_names"),
    ]

    operations = [
        migrations.CreateModel(
            name="BackupRun",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "key",
                    models.CharField(
                        default=organizations.models.random_key,
                        editable=False,
                        max_length=32,
                        unique=True,
                    ),
                ),
                ("organization_id", models.BigIntegerField()),
                ("organization_key", models.CharField(max_length=32)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("running", "Running"),
                            ("good", "Good"),
                            ("failed", "Failed"),
                            ("bad", "Bad"),
                            ("removing", "Removing"),
                        ],
                        default="running",
                        max_length=20,
                    ),
                ),
                ("started_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("ended_at", models.DateTimeField(null=True)),
                ("bytes", models.BigIntegerField(default=0)),
                ("folder", models.CharField(blank=True, max_length=100)),
                ("error_code", models.CharField(blank=True, max_length=50)),
                ("error", models.TextField(blank=True)),
                ("verified_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "backup_runs",
                "ordering": ("-started_at", "-id"),
                "indexes": [
                    models.Index(
                        fields=["organization_key", "-started_at"], name="backup_runs_organization"
                    )
                ],
            },
        ),
    ]
