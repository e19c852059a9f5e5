"""Adds what identities are compared with: this installation's key, and each row's random key."""

import secrets

import django.utils.timezone
from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

import organizations.models

_TABLES = {
    "organization": "organizations",
    "sparedatabase": "spare_databases",
    "template": "templates",
}


def _key() -> "models.CharField[str, str]":
    return models.CharField(
        default=organizations.models.random_key, editable=False, max_length=32, unique=True
    )


def record_installation(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Where this master is at this moment is where it belongs."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO installation (id, key, system_identifier, database_oid, claimed_at) "
            "SELECT 1, %s, system_identifier, oid::bigint, now() FROM pg_control_system(), pg_database "
            "WHERE datname = current_database()",
            [secrets.token_hex(16)],
        )


class Migration(migrations.Migration):
    dependencies = [
        ("organizations", "0005_schema_versions"),
    ]

    operations = [
        migrations.CreateModel(
            name="Installation",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("key", models.CharField(default=organizations.models.random_key, max_length=32)),
                ("system_identifier", models.BigIntegerField()),
                ("database_oid", models.BigIntegerField()),
                ("claimed_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "db_table": "installation",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("id", 1)), name="installation_one_row"
                    )
                ],
            },
        ),
        migrations.RunPython(record_installation, migrations.RunPython.noop),
        migrations.AddField(
            model_name="organization",
            name="deletion",
            field=models.CharField(blank=True, default="", editable=False, max_length=32),
        ),
        # A default of Django's would give all rows that are there the same key.
        *(
            operation
            for model, table in _TABLES.items()
            for operation in (
                migrations.AddField(model, "key", models.CharField(max_length=32, null=True)),
                migrations.RunSQL(
                    # Its own constants alone.
                    f"UPDATE {table} SET key = replace(gen_random_uuid()::text, '-', '')",  # noqa: S608
                    migrations.RunSQL.noop,
                ),
                # What the update left to be checked comes first: PostgreSQL alters no table before.
                migrations.RunSQL("SET CONSTRAINTS ALL IMMEDIATE", migrations.RunSQL.noop),
                migrations.AlterField(model, "key", _key()),
            )
        ),
    ]
