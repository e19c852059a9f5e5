"""Checks before a migration: conflicting or incoherent migrations, and inconsistent histories.

Django's own `migrate` checks the same first.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from django.test import Client
from pytest_django import Settings

from organizations.errors import OUR_FAULT
from organizations.migrating.results import Kind
from organizations.models import Organization, SpareDatabase, Staff, Template
from organizations.provisioning import code
from orgmgmt import serve
from tests.conftest import PASSWORD, Company

from .added import ADD_FIELD
from .conftest import REAL, Add, Fleet
from .test_fleet import ask

SENTENCES = {
    "two newest": "accounts has 2 newest migrations: 0004_note, 0004_other. "
    "Run manage.py makemigrations --merge accounts.",
    "none": "accounts has models but no migrations. Run manage.py makemigrations accounts.",
    "a hole": "Migration accounts.0004_note dependencies reference nonexistent parent node "
    "('accounts', '0003_gone'). Fix the migrations' dependencies.",
}


@pytest.fixture(params=SENTENCES)
def broken(
    request: pytest.FixtureRequest, four: Fleet, add: Add, tmp_path: Path, settings: Settings
) -> Iterator[str]:
    """Make the code's migrations unusable; the expected message."""
    add(note=ADD_FIELD)
    package = tmp_path / settings.MIGRATION_MODULES["accounts"]
    note = package / "0004_note.py"
    match request.param:
        case "two newest":
            (package / "0004_other.py").write_text(note.read_text().replace("note", "other"))
        case "none":
            for path in package.glob("0*.py"):
                path.unlink()
        case "a hole":
            note.write_text(note.read_text().replace(REAL, "0003_gone"))
    yield SENTENCES[request.param]
    settings.MIGRATION_MODULES = {}


def said(command: str, *arguments: str, **options: Any) -> str:
    """The command's last message."""
    with pytest.raises(CommandError) as caught:
        call_command(command, *arguments, **options, stdout=io.StringIO(), stderr=io.StringIO())
    return str(caught.value)


def stock() -> tuple[int, int, int]:
    return (
        Organization.objects.count(),
        Template.objects.count(),
        SpareDatabase.objects.count(),
    )


def test_incoherent_migrations_are_reported_before_anything_is_changed(
    broken: str,
    four: Fleet,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = stock()
    monkeypatch.setenv("ORG_ADMIN_PASSWORD", PASSWORD)
    name = four.rows[0].name
    for words in ([], ["--plan"], ["--enqueue"], ["--verify"], ["--yes", name, "accounts", "zero"]):
        assert said("migrate_orgs", *words) == broken, words
    assert said("create_org", "Incoherent Ltd", email="a@test.com") == broken
    assert said("build_template", rebuild=True) == broken
    assert said("refill_spares") == broken

    sign_up = {"organization_name": "Incoherent Ltd", "email": "a@b.com", "password": PASSWORD}
    for headers in ({}, {"Prefer": "respond-async"}):
        answer = client.post("/org/create", sign_up, "application/json", headers=headers)
        assert (answer.status_code, answer.json()["detail"]) == (503, OUR_FAULT)
    assert caplog.text.count(f"MigrationsIncoherent: {broken}") == 2, "the operator's log says why"
    assert stock() == before
    assert {(each.migration_attempts, each.migration_error) for each in four.rows} == {(0, "")}


@pytest.mark.parametrize("broken", ["a hole"], indirect=True)
def test_the_server_still_starts_and_check_says_what_to_do(
    broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    staff = set(Staff.objects.values_list("pk", flat=True))
    serve._prepare()
    Staff.objects.exclude(pk__in=staff).delete()
    assert capsys.readouterr().err.count(broken) == 1
    connections.close_all()
    call_command("check")
    told = capsys.readouterr().err
    assert "organizations.W070" in told
    assert told.count(broken) == 1


def test_an_inconsistent_history_is_a_failure_in_every_kind_of_run(
    four: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = four.rows[1]
    [second] = [
        key
        for key in MigrationLoader(None).disk_migrations
        if key[0] == "accounts" and "0002" in key[1]
    ]
    why = f"accounts.{REAL} is applied, but {'.'.join(second)}, which it depends on, is not."
    remove = f"DELETE FROM django_migrations WHERE name = '{second[1]}' RETURNING app"  # noqa: S608
    ask(bad, remove)
    try:
        for look in ({"verify": True}, {}, {"verify": True}, {"retry_failed": True}):
            report = four.run(**look)
            assert report.counts[Kind.FAILED] == 1, look
            assert why in report.failed[0].error
        assert four.rows[1].fingerprint != code.current().fingerprint, "the record is true"
        assert why in four.rows[1].migration_error
        call_command("check")
        told = capsys.readouterr().err
        assert f"1 organizations, such as {bad.slug}, have an inconsistent migration" in told
        assert why in told.replace("\n", " ")
        with pytest.raises(CommandError, match=f"{REAL} is applied before its dependency"):
            call_command("org_command", bad.name, "migrate", "accounts", verbosity=0)
    finally:
        again = f"INSERT INTO django_migrations VALUES (2, 'accounts', '{second[1]}', now())"  # noqa: S608
        ask(bad, again)
    assert four.run().counts == {Kind.IN_STEP: 1}


def test_the_master_records_no_migration_of_a_tenant_app_and_says_so() -> None:
    with connections["default"].cursor() as cursor:
        # As an earlier version has recorded it.
        cursor.execute(
            "INSERT INTO django_migrations VALUES (DEFAULT, 'accounts', %s, 'now')", [REAL]
        )
    out = io.StringIO()
    call_command("migrate", interactive=False, stdout=out)
    assert "accounts" not in out.getvalue()
    assert out.getvalue().endswith("For the organizations' databases: manage.py migrate_orgs.\n")

    out = io.StringIO()
    call_command("showmigrations", stdout=out)
    assert " [X] 0001_initial\n" in out.getvalue()
    assert "\naccounts\n" not in out.getvalue()
    assert "accounts: in the organizations' databases." in out.getvalue()
    assert said("showmigrations", "accounts").startswith(
        "accounts: in the organizations' databases"
    )

    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM django_migrations WHERE app = 'accounts'")
        assert cursor.fetchone() == (0,)


def test_showmigrations_of_an_organization_has_the_tenant_apps_alone(
    alpha: Company, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("org_command", alpha.name, "showmigrations")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "accounts"
    assert {line[:4] for line in lines[1:]} == {" [X]"}
    wrong = said("org_command", alpha.name, "showmigrations", "organizations")
    assert "organizations: in the master" in wrong
