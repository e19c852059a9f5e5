"""Adds archived organizations: the backup that they are thawed from, and their earlier status."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("organizations", "0016_backups_by_staff"),
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
                    ("clone_organization", "Can clone organization"),
                    ("undelete_organization", "Can undelete organization"),
                    ("backup_organization", "Can backup organization"),
                    ("verify_organization", "Can verify organization"),
                    ("export_organization", "Can export organization"),
                    ("archive_organization", "Can archive organization"),
                    ("thaw_organization", "Can thaw organization"),
                ),
            },
        ),
        migrations.AddField(
            model_name="organization",
            name="archived_backup",
            field=models.ForeignKey(
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="organizations.backuprun",
            ),
        ),
        migrations.AddField(
            model_name="organization",
            name="archived_from",
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
                    ("archiving", "Archiving"),
                    ("archived", "Archived"),
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
