"""Adds which organization another one is a clone of, and the permission to clone."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("organizations", "0014_adopted_from"),
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
                ),
            },
        ),
        migrations.AddField(
            model_name="organization",
            name="cloned_from",
            field=models.BigIntegerField(editable=False, null=True),
        ),
    ]
