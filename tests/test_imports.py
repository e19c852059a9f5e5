"""Imports flow one way: urls → views, admin, commands, middleware → services → provisioning →
accounts.services → accounts.models → organizations.tenancy → Django."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("orgmgmt", "organizations", "accounts")

# Lower layers know nothing of higher ones. What is not named here is held by the other tests.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("organizations.tenancy",),
    (
        "organizations.errors",
        "organizations.naming",
        "accounts.models",
        "organizations.models",
        "organizations.jobs.models",
    ),
    (
        "accounts.services",
        "accounts.expiry",
        "accounts.tokens",
        "accounts.links",
        "accounts.link_services",
        "accounts.letters",
        "accounts.mails",
        "organizations.sealing",
        "organizations.keys",
    ),
    ("organizations.audit",),
    ("organizations.provisioning",),
    ("organizations.migrating",),
    ("organizations.services", "organizations.directory"),
    ("organizations.jobs",),
    (
        "organizations.views",
        "organizations.sign_up_views",
        "organizations.audit_views",
        "organizations.admin",
        "organizations.middleware",
        "organizations.management",
        "organizations.isolation",
        "accounts.views",
        "accounts.login_views",
        "accounts.link_flows",
        "accounts.link_views",
        "accounts.link_pages",
        "accounts.browser",
    ),
    ("organizations.urls", "accounts.urls", "orgmgmt"),
)
VIEWS = (
    "organizations.views",
    "organizations.sign_up_views",
    "accounts.views",
    "accounts.login_views",
    "accounts.link_views",
    "accounts.link_pages",
    "organizations.audit_views",
    "accounts.browser",
)
DRF = ("rest_framework", "rest_framework_simplejwt", "drf_spectacular", "django_filters")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
MODULES["manage"] = ROOT / "manage.py"


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def targets(source: str, *, module: str, is_package: bool = False) -> Iterator[str]:
    """What the source imports, by full name; anywhere in it, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = node.level - 1 if is_package else node.level
                parts = module.split(".")
                base = ".".join([*parts[: len(parts) - up], *([base] if base else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                # `from organizations import tenancy` is an import of organizations.tenancy.
                yield full if full in MODULES else base


def imports(module: str) -> set[str]:
    path = MODULES[module]
    is_package = path.name == "__init__.py"
    return set(targets(path.read_text(), module=module, is_package=is_package))


def arrows() -> Iterator[tuple[str, str]]:
    for module in MODULES:
        for target in imports(module):
            yield module, target


def layer(module: str) -> int | None:
    for height, packages in enumerate(LAYERS):
        if within(module, *packages):
            return height
    return None


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import organizations.views", {"organizations.views"}),
        ("from organizations import views", {"organizations.views"}),
        ("from . import views, models", {"organizations.views", "organizations.models"}),
        ("from .views import X", {"organizations.views"}),
        ("def f():\n    from .tenancy import directory", {"organizations.tenancy.directory"}),
        ("from .tenancy import Tenant", {"organizations.tenancy"}),
    ],
)
def test_every_way_to_import_is_seen(source: str, found: set[str]) -> None:
    assert set(targets(source, module="organizations.services")) == found


def test_every_named_module_exists() -> None:
    named = {name for packages in LAYERS for name in packages} | set(VIEWS)
    assert named <= set(MODULES), f"no such module: {named - set(MODULES)}"


def test_tenancy_imports_django_and_its_driver_alone() -> None:
    wrong = [
        f"{module} imports {target}"
        for module, target in arrows()
        if within(module, "organizations.tenancy")
        and target.split(".")[0] not in sys.stdlib_module_names
        and not within(target, "django", "psycopg", "organizations.tenancy")
    ]
    assert not wrong, wrong


def test_the_package_around_tenancy_imports_nothing() -> None:
    assert not imports("organizations"), "importing tenancy imports this too"


def test_accounts_takes_from_organizations_only_tenancy_and_errors() -> None:
    wrong = [
        f"{module} imports {target}"
        for module, target in arrows()
        if within(module, "accounts")
        and within(target, *PACKAGES)
        and not within(target, "accounts", "organizations.tenancy", "organizations.errors")
    ]
    assert not wrong, wrong


def test_nothing_imports_views_but_urls() -> None:
    wrong = [
        f"{module} imports {target}"
        for module, target in arrows()
        if within(target, *VIEWS)
        and not module.endswith(".urls")
        and not (within(module, *VIEWS) and within(target, "organizations.sign_up_views"))
    ]
    assert not wrong, wrong


def test_every_module_of_views_is_known_here() -> None:
    found = {name for name in MODULES if name.split(".")[-1].endswith("views")}
    assert found <= set(VIEWS), f"add to VIEWS: {found - set(VIEWS)}"


def test_provisioning_never_imports_drf() -> None:
    wrong = [
        f"{module} imports {target}"
        for module, target in arrows()
        if within(module, "organizations.provisioning") and within(target, *DRF)
    ]
    assert not wrong, wrong


def test_a_lower_layer_never_imports_a_higher_one() -> None:
    wrong = []
    for module, target in arrows():
        below, above = layer(module), layer(target)
        if below is not None and above is not None and below < above:
            wrong.append(f"{module} imports {target}")
    # The embedded server runs the SQL that server_sql prints; wiring imports what it wires.
    assert not wrong, wrong


def test_nothing_but_its_command_imports_what_attacks() -> None:
    wrong = [
        f"{module} imports {target}"
        for module, target in arrows()
        if within(target, "organizations.isolation")
        and not within(
            module,
            "organizations.isolation",
            "organizations.management.commands.check_isolation",
        )
    ]
    assert not wrong, wrong


def test_models_and_signals_never_reach_services_or_provisioning() -> None:
    wrong = [
        f"{module} imports {target}"
        for module, target in arrows()
        if module.split(".")[-1] in ("models", "signals")
        and within(target, "organizations.services", "organizations.provisioning")
    ]
    assert not wrong, wrong


def test_only_the_wiring_imports_the_wiring() -> None:
    wrong = [
        f"{module} imports {target}"
        for module, target in arrows()
        if within(target, "orgmgmt") and not within(module, "orgmgmt", "manage")
    ]
    assert not wrong, wrong


def test_the_environment_is_read_in_the_settings_alone() -> None:
    """The application's packages; the wiring that starts processes sets it for them."""
    wrong = []
    for module in MODULES:
        if within(module, "organizations", "accounts") and not within(
            module, "organizations.management.commands.create_org"
        ):
            tree = ast.parse(MODULES[module].read_text())
            if any(
                isinstance(n, ast.Attribute) and n.attr in ("environ", "getenv")
                for n in ast.walk(tree)
            ):
                wrong.append(module)
    assert not wrong, wrong
