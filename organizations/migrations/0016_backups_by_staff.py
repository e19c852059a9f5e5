"""Adds the key that encrypted a backup, and the permissions to back up, verify and export."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("organizations", "0015_clones"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="backuprun",
            options={"ordering": ("-started_at", "-id"), "verbose_name": "backup"},
        ),
        migrations.AlterModelOptions(
            name="organization",
            options={
                "ordering": ("id",),
                "permissions": (
                    ("suspend_organization", "Can suspend organization"),
                    ("resume_organization", "Can resume organization"),
                    ("rename_organization", "Can rename organization"),
                    ("restore_organization", "Can restore organization"),
                    ("clone_organization", "Can clone organization"),
                    ("undelete_organization", "Can undelete organization"),
                    ("backup_organization", "Can backup organization"),
                    ("verify_organization", "Can verify organization"),
                    ("export_organization", "Can export organization"),
                ),
            },
        ),
        migrations.AddField(
            model_name="backuprun",
            name="encryption_key",
            field=models.CharField(blank=True, db_default="", default="", max_length=100),
        ),
    ]
