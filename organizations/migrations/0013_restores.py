"""Adds restores, and the permission to restore."""

import django.utils.timezone
from django.db import migrations, models

import organizations.models


class Migration(migrations.Migration):
    dependencies = [
        ("organizations", "0012_deletion_grace"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="organization",
            options={
                "ordering": ("id",),
                "permissions": (
                    ("suspend_organization", "Can suspend organization"),
                    ("resume_organization", "Can resume organization"),
                    ("rename_organization", "Can rename organization"),
                    ("restore_organization", "Can restore organization"),
                    ("undelete_organization", "Can undelete organization"),
                ),
            },
        ),
        migrations.CreateModel(
            name="Restore",
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
                            ("switching", "Switching"),
                            ("done", "Done"),
                            ("undone", "Undone"),
                            ("failed", "Failed"),
                        ],
                        default="running",
                        max_length=20,
                    ),
                ),
                ("is_undo", models.BooleanField(default=False)),
                ("backup", models.CharField(blank=True, max_length=32)),
                ("backed_up_at", models.DateTimeField(null=True)),
                ("started_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("ended_at", models.DateTimeField(null=True)),
                ("users", models.JSONField(default=dict)),
                ("error_code", models.CharField(blank=True, max_length=50)),
                ("error", models.TextField(blank=True)),
                ("files", models.CharField(blank=True, max_length=32)),
                ("database_name", models.CharField(blank=True, max_length=63)),
                ("role_name", models.CharField(blank=True, max_length=63)),
                ("fingerprint", models.CharField(blank=True, max_length=64)),
                ("kept_until", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "restores",
                "ordering": ("-id",),
                "indexes": [
                    models.Index(fields=["organization_key", "-id"], name="restores_organization")
                ],
            },
        ),
    ]
