import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("organizations", "0011_backup_runs"),
    ]

    operations = [
        migrations.CreateModel(
            name="Erasure",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("organization_id", models.BigIntegerField()),
                ("organization_key", models.CharField(max_length=32, unique=True)),
                ("deleted_at", models.DateTimeField()),
                ("erased_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("backups_until", models.DateTimeField(null=True)),
                ("backups_gone_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "erasures",
                "ordering": ("-id",),
            },
        ),
        migrations.AlterModelOptions(
            name="organization",
            options={
                "ordering": ("id",),
                "permissions": (
                    ("suspend_organization", "Can suspend organization"),
                    ("resume_organization", "Can resume organization"),
                    ("rename_organization", "Can rename organization"),
                    ("undelete_organization", "Can undelete organization"),
                ),
            },
        ),
        migrations.AddField(
            model_name="organization",
            name="kept_until",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="organization",
            name="status_before",
            field=models.CharField(
                blank=True, db_default="", default="", editable=False, max_length=20
            ),
        ),
        migrations.AlterField(
            model_name="organization",
            name="status",
            field=models.CharField(
                choices=[
                    ("provisioning", "Provisioning"),
                    ("active", "Active"),
                    ("suspended", "Suspended"),
                    ("trashed", "Trashed"),
                    ("deleting", "Deleting"),
                    ("deleted", "Deleted"),
                    ("failed", "Failed"),
                ],
                default="provisioning",
                max_length=20,
            ),
        ),
    ]
