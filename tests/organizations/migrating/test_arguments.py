"""Arguments of `manage.py migrate_orgs`: apps, organizations, canaries."""

import pytest

from organizations.migrating.arguments import Unclear, canary, command, split
from organizations.migrating.engine import Target
from organizations.migrating.fleet import Canary

pytestmark = pytest.mark.pure

LABELS = {"accounts"}


def test_arguments_are_split_into_organizations_and_target() -> None:
    for words, names, target in (
        ([], [], Target()),
        (["Acme Corp", "Globex"], ["Acme Corp", "Globex"], Target()),
        (["accounts"], [], Target("accounts")),
        (["accounts", "0003"], [], Target("accounts", "0003")),
        (["Acme Corp", "accounts", "zero"], ["Acme Corp"], Target("accounts", "zero")),
        (["Accounts"], ["Accounts"], Target()),
    ):
        assert split(words, labels=LABELS) == (names, target)


def test_an_organization_with_an_apps_name_is_given_by_an_option() -> None:
    with pytest.raises(Unclear, match="For an organization of that name: --org accounts"):
        split(["accounts", "Acme Corp", "Globex"], labels=LABELS)


def test_canaries_are_a_number_or_a_share() -> None:
    assert canary("3") == Canary(number=3)
    assert canary("2.5%") == Canary(percent=2.5)
    for wrong in ("0", "0%", "101%", "some", "-1"):
        with pytest.raises(Unclear, match="3 or 5%"):
            canary(wrong)


def test_a_command_is_shown_as_one_would_type_it() -> None:
    options = {
        "names": ["Acme Corp", "accounts"],
        "parallel": 4,
        "canary": "5%",
        "max_failures": 0,
        **dict.fromkeys(("verify", "retry_failed", "yes"), False),
    }
    said = command(options, Target("accounts", "0003"), labels=LABELS, yes=True, canary="")
    assert said == (
        "manage.py migrate_orgs 'Acme Corp' --org=accounts --yes --parallel 4 accounts 0003"
    )
