"""Tenant code is ordinary Django that never names a database; master code names the master."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings as project
from pytest_django import Settings

pytestmark = pytest.mark.pure
ROOT = Path(__file__).resolve().parent.parent
# Django's own users, which are staff here; simplejwt's stock views and blacklist look there too.
STAFF_NAMES = {"get_user_model", "authenticate", "get_user", "login", "logout"}
STAFF_MODULES = (
    "django.contrib.auth.models",
    "django.contrib.auth.backends",
    "rest_framework_simplejwt.views",
    "rest_framework_simplejwt.serializers",
    "rest_framework_simplejwt.authentication",
    "rest_framework_simplejwt.token_blacklist",
)
# The one place that turns "the active organization" into an alias.
MECHANISM = ROOT / "organizations" / "tenancy" / "transaction.py"


def tenant_modules() -> list[Path]:
    """Every module of every app in TENANT_APPS."""
    return [
        path
        for app in apps.get_app_configs()
        if app.name in project.TENANT_APPS
        for path in sorted(Path(app.path).rglob("*.py"))
    ]


def master_modules() -> list[Path]:
    """The master's modules, without those that make databases or try to reach the wrong one."""
    package = ROOT / "organizations"
    names = ("postgres", "provisioning", "migrations", "isolation")
    outside = [package / name for name in names]
    return [
        path
        for path in sorted(package.rglob("*.py"))
        if path != MECHANISM and not any(path.is_relative_to(folder) for folder in outside)
    ]


def faults(source: str, *, master: bool) -> list[str]:
    """Lines of the source that could reach the wrong database."""
    tree = ast.parse(source)
    named = {
        id(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _names_the_master(node)
    }
    return [
        f"line {getattr(node, 'lineno', 0)}: {fault}"
        for node in ast.walk(tree)
        for fault in _faults_of(node, named if master else set(), master=master)
    ]


def _names_the_master(call: ast.Call) -> bool:
    return any(
        keyword.arg == "using"
        and isinstance(keyword.value, ast.Constant)
        and keyword.value.value == "default"
        for keyword in call.keywords
    )


def _faults_of(node: ast.AST, named: set[int], *, master: bool) -> Iterator[str]:
    if isinstance(node, ast.Call):
        aliases = any(keyword.arg == "using" for keyword in node.keywords)
        if aliases and not (id(node.func) in named and _transaction(node.func)):
            yield "using="
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("using", "db_manager"):
            yield f".{node.func.attr}()"
    elif isinstance(node, ast.Attribute):
        if _transaction(node) and id(node) not in named:
            yield f"a bare transaction.{node.attr}"
        if node.attr == "get_user_model":
            yield "get_user_model"
        if node.attr in ("connection", "connections") and ast.unparse(node.value) in (
            "db",
            "django.db",
        ):
            yield f"db.{node.attr}"
    elif isinstance(node, ast.ImportFrom):
        yield from _faulty_names(node, master=master)
    elif isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.startswith(("django.contrib.auth", "django.db.transaction")):
                yield f"import {alias.name}"


def _transaction(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr in ("atomic", "on_commit")
        and ast.unparse(node.value).endswith("transaction")
    )


def _faulty_names(node: ast.ImportFrom, *, master: bool) -> Iterator[str]:
    # In tenant code even the named forms are wrong: tenancy has the helpers.
    forbidden = {
        "django.db": {"connection"} if master else {"connection", "connections", "transaction"},
        "django.db.transaction": {"atomic", "on_commit"},
        "django.contrib.auth": STAFF_NAMES,
    }
    module = node.module or ""
    for alias in node.names:
        if node.level == 0 and alias.name in forbidden.get(module, set()):
            yield f"from {module} import {alias.name}"
    if not master and node.level == 0 and module.startswith(STAFF_MODULES):
        yield f"from {module}"


def report(modules: list[Path], *, master: bool) -> list[str]:
    return [
        f"{path}: {fault}" for path in modules for fault in faults(path.read_text(), master=master)
    ]


FORBIDDEN = [
    "User.objects.using('org_1').all()",
    "User.objects.db_manager('org_1').create()",
    "user.save(using=alias)",
    "user.delete(using='default')",
    "from django.db import connection",
    "from django.db import transaction as t, connection as c",
    "from django import db\ndb.connection.cursor()",
    "import django.db\ndjango.db.connection.cursor()",
    "transaction.atomic()",
    "@transaction.atomic\ndef f(): ...",
    "transaction.on_commit(f)",
    "transaction.atomic(using=alias)",
    "transaction.atomic(using='org_1')",
    "from django.db.transaction import atomic",
    "def f():\n    from django.contrib.auth import get_user_model",
    "from django.contrib import auth\nauth.get_user_model()",
    "from django.contrib.auth import authenticate",
    "import django.contrib.auth",
]


MASTER_ONLY = [
    "with transaction.atomic(using='default'):\n    ...",
    "from django.db import transaction",
    "from django.db import connections",
    "from rest_framework_simplejwt.views import TokenObtainPairView",
    "from django.contrib.auth.models import AbstractUser",
]
ALLOWED = [
    "with tenancy.atomic():\n    ...",
    "tenancy.on_commit(f)",
    "tenancy.connection().cursor()",
    "from organizations.tenancy import atomic, connection",
    "services.authenticate(email=e, password=p)",
    "from django.db import IntegrityError, models",
    "from django.contrib.auth.hashers import make_password",
]


def test_the_scan_finds_what_could_leave_the_database_and_nothing_else() -> None:
    sources = [*FORBIDDEN, *MASTER_ONLY, *ALLOWED]
    refused = {
        master: [source for source in sources if faults(source, master=master)]
        for master in (True, False)
    }
    assert refused == {True: FORBIDDEN, False: FORBIDDEN + MASTER_ONLY}


def test_tenant_code_names_no_database_and_no_staff() -> None:
    assert tenant_modules(), "no tenant app was found"
    found = report(tenant_modules(), master=False)
    assert not found, "\n".join(found)


def test_master_code_names_the_master() -> None:
    found = report(master_modules(), master=True)
    assert not found, "\n".join(found)


def test_an_app_that_is_added_to_the_setting_is_scanned(settings: Settings) -> None:
    before = set(tenant_modules())
    settings.TENANT_APPS = [*settings.TENANT_APPS, "django.contrib.sessions"]
    added = {path.parts[-2:] for path in set(tenant_modules()) - before}
    assert ("sessions", "models.py") in added, "a newcomer's app is not scanned"
    assert ("commands", "clearsessions.py") in added, "its commands are not scanned"
