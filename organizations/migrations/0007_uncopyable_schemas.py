"""Adds uncopyable schemas; templates and spares made without that check are made again."""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("organizations", "0006_identity"),
    ]

    operations = [
        migrations.CreateModel(
            name="UncopyableSchema",
            fields=[
                (
                    "fingerprint",
                    models.CharField(max_length=64, primary_key=True, serialize=False),
                ),
                ("obstacles", models.JSONField()),
                ("found_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "db_table": "uncopyable_schemas",
            },
        ),
        *(
            migrations.RunSQL(f"UPDATE {table} SET ready = false", migrations.RunSQL.noop)  # noqa: S608 - constants
            for table in ("templates", "spare_databases")
        ),
    ]
