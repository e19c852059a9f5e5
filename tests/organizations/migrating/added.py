"""Test migrations: the tenant app's real ones in a package of their own, with others after them."""

from pathlib import Path

import accounts.migrations

ADD_FIELD = """migrations.AddField(
        "user", "note", models.CharField(max_length=20, default="", db_default="")
    )"""
# Fails where a user is called as no user should be.
STRICT_ADDRESSES = """migrations.RunSQL(
        "ALTER TABLE users ADD CONSTRAINT users_good CHECK (email <> 'bad data')",
        "ALTER TABLE users DROP CONSTRAINT users_good",
    )"""

# In front of an operation: its migration is in no transaction.
NOT_ATOMIC = "*not_atomic, "


def write(package: Path, **operations: str) -> None:
    """Make the package: the real ones, and one for each of `operations`, in their order.

    The real ones keep their sources, and so their part of the fingerprint.
    """
    package.mkdir()
    (package / "__init__.py").touch()
    last = ""
    for path in sorted(Path(accounts.migrations.__file__).parent.glob("0*.py")):
        last = path.stem
        (package / path.name).write_text(
            "from importlib import import_module\n"
            f"Migration = import_module('accounts.migrations.{last}').Migration\n"
        )
    for name, operation in operations.items():
        number = int(last[:4]) + 1
        (package / f"{number:04}_{name}.py").write_text(
            "from django.contrib.postgres import operations as postgres\n"
            "from django.db import migrations, models\n"
            "not_atomic = []\n"
            "class Migration(migrations.Migration):\n"
            f"    atomic = {not operation.startswith(NOT_ATOMIC)}\n"
            f"    dependencies = [('accounts', {last!r})]\n"
            f"    operations = [{operation}]\n"
        )
        last = f"{number:04}_{name}"
