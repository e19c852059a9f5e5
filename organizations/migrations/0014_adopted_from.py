"""Adds which row of a FastAPI edition's master an organization was adopted from."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("organizations", "0013_restores"),
    ]

    operations = [
        migrations.AddField(
            model_name="organization",
            name="adopted_from",
            field=models.CharField(
                blank=True, db_default="", default="", editable=False, max_length=64
            ),
        ),
        migrations.AddConstraint(
            model_name="organization",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    models.Q(("status", "deleted"), _negated=True),
                    models.Q(("adopted_from", ""), _negated=True),
                ),
                fields=("adopted_from",),
                name="organizations_adopted_from_live",
            ),
        ),
    ]
