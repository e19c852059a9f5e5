"""Organizations of the FastAPI edition are taken over: people log in, and nothing is half done."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts import services
from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.errors import (
    AdoptionRefused,
    FirstEditionUnreadable,
    OrganizationBusy,
    OrganizationExists,
)
from organizations.first_edition import taking_over
from organizations.first_edition.planning import plan
from organizations.first_edition.source import Source
from organizations.models import AuditEntry, Organization
from tests.conftest import Superuser, leftovers
from tests.organizations.helpers import kill_in_a_fork, kill_this_process, together

from .conftest import PASSWORD, Edition


@pytest.fixture
def url_file(edition: Edition, tmp_path: Path) -> Path:
    made = tmp_path / "url"
    made.write_text(f"{edition.url}\n")
    return made


def run(url_file: Path, *options: str) -> dict[str, dict[str, Any]]:
    """The command's rows, by name."""
    out = io.StringIO()
    call_command("adopt_fastapi_orgs", *options, "--json", f"--url-file={url_file}", stdout=out)
    return {row["name"]: row for row in json.loads(out.getvalue())["organizations"]}


def log_in_by_v1(name: str, email: str, password: str) -> int:
    body = {"organization": name, "email": email, "password": password}
    answer = Client().post("/api/v1/auth/token/", body, content_type="application/json")
    return answer.status_code


def stored(organization: Organization) -> dict[int, User]:
    with tenancy.override(organization.tenant):
        return {user.pk: user for user in User.objects.all()}


def test_their_people_log_in_with_the_passwords_that_they_had(
    edition: Edition, url_file: Path, superuser: Superuser
) -> None:
    first, second = edition.add("MyCompany"), edition.add("Globex Ltd")
    before = edition.rows(first)
    assert {row["state"] for row in run(url_file).values()} == {"to adopt"}
    assert not Organization.objects.live().exclude(adopted_from="").exists(), "only listed"
    made = run(url_file, "--yes")
    assert {(row["state"], row["users"], row["admins"]) for row in made.values()} == {
        ("adopted", 3, 1)
    }
    mine = Organization.objects.get(pk=made["MyCompany"]["id"])
    other = Organization.objects.get(pk=made["Globex Ltd"]["id"])
    assert mine.database_name not in (first, second)
    assert mine.created_at == datetime(2024, 1, 15, 10, 30, tzinfo=UTC)

    users = stored(mine)
    assert {(user.pk, user.email, user.is_admin, user.is_active) for user in users.values()} == {
        (1, "admin@company.com", True, True),
        (3, "Ada@Company.com", False, True),
        (4, "gone@company.com", False, False),
    }
    assert users[3].created_at == datetime(2024, 2, 1, 8, 0, 0, 500_000, tzinfo=UTC)

    # By the first edition's path, and by the new one.
    admin = {"email": "admin@company.com", "password": "testpass123"}
    path = "/admin/login?organization_name=MyCompany"
    answer = Client().post(path, admin, content_type="application/json")
    assert answer.status_code == 200
    assert answer.json()["user"] == {
        "id": 1,
        "email": "admin@company.com",
        "is_admin": True,
        "is_active": True,
    }
    assert log_in_by_v1("mycompany", "ada@company.com", "testpass456") == 200
    assert log_in_by_v1("MyCompany", "ada@company.com", "testpass457") == 401
    assert log_in_by_v1("MyCompany", "gone@company.com", "testpass789") == 401, "inactive"

    kinds = {number: user.password.split("$")[1] for number, user in stored(mine).items()}
    assert kinds == {1: "argon2id", 3: "argon2id", 4: "2b"}, "renewed by their logins alone"
    assert {user.password[:4] for user in stored(other).values()} == {"$2b$"}
    assert log_in_by_v1("Globex Ltd", "admin@company.com", "testpass123") == 200
    with tenancy.override(mine.tenant):
        assert services.create_user(email="new@company.com", password="testpass-abc").pk == 5

    entry = AuditEntry.objects.get(act="organization.adopted", organization_id=mine.pk)
    assert entry.facts == {"from": "fastapi", "old_id": 1, "users": 3}
    assert edition.rows(first) == before

    again = run(url_file, "--yes").values()
    assert {(row["state"], row["users"]) for row in again} == {("adopted before", None)}
    assert Organization.objects.live().exclude(adopted_from="").count() == 2


def test_nothing_begins_while_anything_is_listed(edition: Edition, url_file: Path) -> None:
    twins = "UPDATE users SET email = 'ADMIN@company.com' WHERE id = 3"
    edition.add("Fine Ltd")
    edition.add("Twins Ltd", twins)
    out = io.StringIO()
    with pytest.raises(CommandError, match=r"^Nothing was done\.$"):
        call_command("adopt_fastapi_orgs", "--yes", f"--url-file={url_file}", stdout=out)
    assert "Fine Ltd: 3 users (1 active admins) in org_fine_ltd" in out.getvalue()
    assert "users 1 and 3 have one address here, 'ADMIN@company.com'" in out.getvalue()
    assert not Organization.objects.live().exclude(adopted_from="").exists()

    # Those that are named, or not left out, alone.
    with pytest.raises(CommandError, match="no organization of this name"):
        run(url_file, "--leave-out=twins ltd")
    assert run(url_file, "--yes", "Fine Ltd")["Fine Ltd"]["state"] == "adopted"
    left = run(url_file, "--yes", "--leave-out=Twins Ltd")
    assert {name: row["state"] for name, row in left.items()} == {"Fine Ltd": "adopted before"}


def test_what_a_killed_run_left_is_undone_and_done_again(
    edition: Edition, superuser: Superuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = leftovers(superuser)
    edition.add("Killed Ltd")
    (planned,) = plan(old := Source(edition.url))

    for step in ("make_database", "_copy", "_activate"):
        with monkeypatch.context() as patch:
            does = getattr(taking_over, step)

            def then_dies(*arguments: Any, does: Any = does, **options: Any) -> None:
                does(*arguments, **options)
                kill_this_process()

            patch.setattr(taking_over, step, then_dies)
            kill_in_a_fork(lambda: taking_over.adopt(old, planned.old))
        if step == "_copy":
            assert lifecycle.reconcile_organizations()["undone"] == ["Killed Ltd"]
            assert not Organization.objects.filter(name="Killed Ltd").exists()
    row = Organization.objects.get(name="Killed Ltd")
    assert (row.status, len(stored(row))) == ("active", 3)
    (again,) = plan(old)
    assert again.adopted == row and not again.is_due
    databases, roles = leftovers(superuser)
    assert (databases - {"org_killed_ltd"}, roles) == known


def test_of_two_runs_at_once_one_takes_over(edition: Edition) -> None:
    edition.add("Raced Ltd")
    old = Source(edition.url)
    (planned,) = plan(old)

    def act() -> object:
        return taking_over.adopt(old, planned.old)

    results = [type(each) for each in together(act, act)]
    assert Organization in results and {OrganizationBusy, OrganizationExists} & {*results}
    # Nor is it taken over twice under two names.
    with pytest.raises(OrganizationBusy):
        taking_over.adopt(old, replace(planned.old, name="Renamed Ltd"))
    assert Organization.objects.live().exclude(adopted_from="").count() == 1


def test_users_that_changed_since_they_were_listed_undo_it(
    edition: Edition, superuser: Superuser
) -> None:
    database = edition.add("Late Ltd")
    old = Source(edition.url)
    (planned,) = plan(old)
    edition.execute(database, "UPDATE users SET hashed_password = 'plain' WHERE id = 3")
    with pytest.raises(AdoptionRefused, match="its users changed since they were listed"):
        taking_over.adopt(old, planned.old)
    assert not Organization.objects.filter(name="Late Ltd").exists()
    assert leftovers(superuser) == ({database}, set())


def test_the_url_is_never_shown(
    edition: Edition, url_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = {
        edition.url.replace("fastapi_master", "nowhere"): "the connection failed",
        # libpq takes what follows the first @ for the host.
        edition.url.replace("sesame", "a@sesame"): "the connection failed",
        f"password {PASSWORD}": "not one that libpq reads",
        "": "there is no URL",
    }
    for url, why in broken.items():
        url_file.write_text(url)
        with pytest.raises(CommandError, match=why) as raised:
            run(url_file)
        assert isinstance(raised.value.__cause__, FirstEditionUnreadable)
        said = "".join(map(str, (raised.value, raised.value.__cause__, caplog.text)))
        assert "sesame" not in said and "reader" not in said, why
        assert raised.value.__cause__.__cause__ is None
    with pytest.raises(CommandError, match=r"cannot be read \(FileNotFoundError\)"):
        run(url_file.with_name("absent"))
