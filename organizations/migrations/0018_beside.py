"""Adds read-only organizations, restored beside another one, and their restores."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("organizations", "0017_archives"),
    ]

    operations = [
        migrations.AddField(
            model_name="organization",
            name="read_only_until",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="restore",
            name="is_beside",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="restore",
            name="beside_id",
            field=models.BigIntegerField(null=True),
        ),
    ]
