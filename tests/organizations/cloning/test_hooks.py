"""A team's own neutralise.py, in a tenant app of a project of its own."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from accounts.models import User
from organizations import tenancy
from organizations.models import Organization
from tests.conftest import Company
from tests.organizations.helpers import manage

from .helpers import add_users

_SETTINGS = """
from orgmgmt.settings import *
INSTALLED_APPS = [*INSTALLED_APPS, "shop"]
TENANT_APPS = [*TENANT_APPS, "shop"]
"""
Run = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def run(made: Company, media: Path, tmp_path: Path) -> Run:
    """clone_org in a project whose tenant app `shop` has this neutralise.py."""

    def clone(neutralise: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "shop").mkdir(exist_ok=True)
        (tmp_path / "shop" / "__init__.py").touch()
        (tmp_path / "shop" / "neutralise.py").write_text(neutralise)
        (tmp_path / "shop_settings.py").write_text(_SETTINGS)
        return manage(
            *("clone_org", made.name, "Of A Shop", "--json"),
            DJANGO_SETTINGS_MODULE="shop_settings",
            PYTHONPATH=str(tmp_path),
            MEDIA_ROOT=str(media),
        )

    return clone


def test_it_runs_with_the_clone_active_and_after_those_of_the_apps_before(
    made: Company, run: Run
) -> None:
    add_users(made, "ada@test.com")
    done = run(
        "from accounts.models import User\n"
        "def neutralise() -> None:\n"
        "    assert not User.objects.exclude(email__endswith='@example.invalid').exists()\n"
        "    User.objects.filter(is_admin=False).delete()\n"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["neutralised"] == ["accounts", "shop"]
    counts = {}
    for row in (made.organization, Organization.objects.get(name="Of A Shop")):
        with tenancy.override(row.tenant):
            counts[row.name] = User.objects.count()
    assert counts == {made.name: 2, "Of A Shop": 1}


def test_one_that_fails_leaves_no_clone(run: Run, nothing_is_left: Callable[[], None]) -> None:
    for neutralise, sentence in (
        (
            "def neutralise() -> None:\n    raise RuntimeError('secret words')\n",
            "not cloned, and nothing is left over: shop: RuntimeError. The log has more.",
        ),
        ("def neutralize() -> None: ...\n", "shop.neutralise has no function neutralise."),
    ):
        done = run(neutralise)
        assert done.returncode == 1
        assert sentence in done.stderr
        nothing_is_left()
