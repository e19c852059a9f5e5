"""Test migrations that use each operation of Django 5.2, after the tenant app's real ones."""

from pathlib import Path

from . import added
from .synthetic_case import Case
from .synthetic_fields import FIELDS
from .synthetic_models import MODELS

_HEAD = """\
import datetime, decimal, uuid
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import F, Q, functions
def id_():
    return ("id", models.BigAutoField(primary_key=True))
def names(apps, schema_editor):
    apps.get_model("accounts", "Kinds").others.filter(name="first").update(note="by Python")
class Migration(migrations.Migration):
"""

# Constraints come last: they hold the fields that they are of.
OTHERS = (
    # --- Indexes and constraints -----------------------------------------------------------------
    Case(
        "add_indexes",
        """migrations.AddIndex("Kinds", models.Index(fields=["big", "-at"], name="kinds_big")),
        migrations.AddIndex("Kinds", models.Index(
            functions.Lower("name").desc(), name="kinds_lower")),
        migrations.AddIndex("Kinds", models.Index(
            fields=["at"], include=["big"], condition=Q(name="50%'s"), name="kinds_some")),
        migrations.AddIndex("Kinds", models.Index(
            fields=["slug"], opclasses=["varchar_pattern_ops"], name="kinds_slugs")),
        migrations.AddIndex("Kinds", GinIndex(fields=["json"], name="kinds_json"))""",
    ),
    Case(
        "rename_index",
        'migrations.RenameIndex("Kinds", new_name="kinds_at", old_name="kinds_some")',
    ),
    Case(
        "rename_index_of",
        """migrations.RenameIndex(
            "Kinds", new_name="kinds_together", old_fields=("big", "small"))""",
        forwards=False,  # Taken back, Django leaves the name.
    ),
    Case("remove_index", 'migrations.RemoveIndex("Kinds", "kinds_lower")'),
    Case(
        "add_constraints",
        """migrations.AddConstraint("Kinds", models.CheckConstraint(
            condition=Q(small__lt=9) | Q(name__contains="%'"), name="kinds_check")),
        migrations.AddConstraint("Kinds", models.UniqueConstraint(
            fields=["big", "at"], name="kinds_unique")),
        migrations.AddConstraint("Kinds", models.UniqueConstraint(
            fields=["big"], condition=Q(flag=True), name="kinds_conditional")),
        migrations.AddConstraint("Kinds", models.UniqueConstraint(
            fields=["day"], deferrable=models.Deferrable.DEFERRED, name="kinds_deferred")),
        migrations.AddConstraint("Kinds", models.UniqueConstraint(
            fields=["time"], nulls_distinct=False, include=["big"], name="kinds_nulls")),
        migrations.AddConstraint("Kinds", models.UniqueConstraint(
            functions.Upper("name"), name="kinds_upper"))""",
    ),
    Case(
        "alter_constraint",
        """migrations.AlterConstraint("Kinds", "kinds_check", models.CheckConstraint(
            condition=Q(small__lt=9) | Q(name__contains="%'"), name="kinds_check",
            violation_error_message="No"))""",
    ),
    Case(
        "remove_constraints",
        """migrations.RemoveConstraint("Kinds", "kinds_unique"),
        migrations.RemoveConstraint("Kinds", "kinds_conditional"),
        migrations.RemoveConstraint("Crew", "team_is_one")""",
    ),
    # --- Others ----------------------------------------------------------------------------------
    Case(
        "sql",
        """migrations.RunSQL(
            "CREATE VIEW kinds AS SELECT name FROM accounts_kinds; -- 100% of it;\\n"
            "COMMENT ON VIEW kinds IS 'it''s; %s'", "DROP VIEW kinds")""",
    ),
    Case(
        "sql_state",
        """migrations.RunSQL("ALTER TABLE crews ADD g1 integer", "ALTER TABLE crews DROP g1",
            state_operations=[
                migrations.AddField("Crew", "g1", models.IntegerField(null=True))])""",
        forwards=False,
        backwards=False,
    ),
    Case(
        "python",
        "migrations.RunPython(names, migrations.RunPython.noop)",
        forwards=False,
        backwards=False,
    ),
    Case(
        "separate",
        """migrations.SeparateDatabaseAndState(
            [migrations.RunSQL("ALTER TABLE crews ADD g2 integer", "ALTER TABLE crews DROP g2")],
            [migrations.AddField("Crew", "g2", models.IntegerField(null=True))])""",
        forwards=False,
        backwards=False,
    ),
    Case(
        "not_atomic",
        """AddIndexConcurrently("Kinds", models.Index(fields=["big"], name="kinds_slowly")),
        migrations.AddField("Crew", "g3", models.IntegerField(null=True))""",
        forwards=False,
        backwards=False,
        atomic=False,
    ),
    Case("last", 'migrations.AddField("Crew", "g4", models.TextField(default=""))'),
)
CASES = (*MODELS, *FIELDS, *OTHERS)


def write(package: Path) -> dict[str, Case]:
    """Make the package; the cases by their migrations' names."""
    added.write(package)
    last = max(path.stem for path in package.glob("0*.py"))
    found = {}
    for number, case in enumerate(CASES, start=int(last[:4]) + 1):
        name = f"{number:04}_{case.name}"
        (package / f"{name}.py").write_text(
            f"{_HEAD}"
            f"    atomic = {case.atomic}\n"
            f"    dependencies = [('accounts', {last!r})]\n"
            f"    operations = [{case.operations}]\n"
        )
        found[name] = case
        last = name
    return found
