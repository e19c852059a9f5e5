"""manage.py export_org"""

import hashlib
import io
import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import psycopg
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import Settings

from accounts.models import LoginSession, User
from organizations import lifecycle, tenancy
from organizations.errors import ServerUnavailable
from organizations.exporting import contents
from organizations.exporting.archive import Archive
from organizations.exporting.export import export_organization
from organizations.models import AuditEntry
from organizations.postgres.databases import settings_for
from organizations.tenancy import guard, storage, trail
from tests.conftest import Company, Superuser
from tests.organizations.helpers import Fork
from tests.organizations.tenancy.hostile import replaced, run


@pytest.fixture
def file(tmp_path: Path, settings: Settings) -> Path:
    """Where the export goes; the organizations' files are of this test alone."""
    settings.MEDIA_ROOT = str(tmp_path / "media")
    (tmp_path / "exports").mkdir()
    return tmp_path / "exports" / "alpha.zip"


@pytest.fixture
def sessions(alpha: Company) -> Iterator[list[LoginSession]]:
    """More log-ins of alpha's than one statement reads."""
    with tenancy.override(alpha.tenant):
        user = User.objects.get(email=alpha.email)
        made = LoginSession.objects.bulk_create(
            LoginSession(
                user=user,
                kind="token",
                refresh_jti=f"00000000-0000-4000-8000-{number:012}",
                expires_at=timezone.now() + timedelta(hours=1, microseconds=number),
            )
            for number in range(2 * contents._ROWS_AT_A_TIME + 1)
        )
    yield made
    with tenancy.override(alpha.tenant):
        LoginSession.objects.filter(pk__in=[each.pk for each in made]).delete()


def exported(company: Company, path: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The entries, and the manifest."""
    export_organization(company.organization, path)
    with ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[-1] == "manifest.json"
        found = {name: archive.read(name) for name in archive.namelist()}
    return found, json.loads(found.pop("manifest.json"))


def lines(entry: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in entry.splitlines()]


def refused(company: Company, path: Path) -> str:
    """Why the export ends with an error, which leaves no file."""
    others = sorted(path.parent.iterdir())
    with pytest.raises(CommandError) as error:
        call_command("export_org", company.name, "--output", str(path))
    assert sorted(path.parent.iterdir()) == others
    return str(error.value)


# --- What is in it ------------------------------------------------------------------------------
def test_everything_of_the_organization_is_there_and_nothing_of_others(
    alpha: Company, beta: Company, sessions: list[LoginSession], file: Path
) -> None:
    for company, text in ((alpha, b"of alpha"), (beta, b"of beta")):
        with tenancy.override(company.tenant):
            default_storage.save("deep/è.txt", ContentFile(text))
    trail.record("login.failed", organization_id=beta.organization.pk, facts={"reason": "beta"})
    found, manifest = exported(alpha, file)
    assert set(found) == {
        *("accounts.user.jsonl", "accounts.loginsession.jsonl"),
        *("audit_entries.jsonl", "files/deep/è.txt"),
    }
    with tenancy.override(alpha.tenant):
        users = list(User.objects.values("id", "email", "is_admin", "created_at"))
        logins = set(map(str, LoginSession.objects.values_list("pk", flat=True)))
    rows = lines(found["accounts.user.jsonl"])
    assert [each["email"] for each in rows] == [each["email"] for each in users]
    assert datetime.fromisoformat(rows[0]["created_at"]) == users[0]["created_at"], "to the µs"
    rows = lines(found["accounts.loginsession.jsonl"])
    assert {each["id"] for each in rows} == logins and len(rows) == len(logins)
    assert {each["user_id"] for each in rows} <= {each["id"] for each in users}
    own = AuditEntry.objects.filter(organization_id=alpha.organization.pk)
    entries = lines(found["audit_entries.jsonl"])
    assert [each["id"] for each in entries] == sorted(own.values_list("id", flat=True))
    assert entries[-1]["act"] == "organization.exported"
    assert found["files/deep/è.txt"] == b"of alpha"

    for part in manifest["parts"]:
        content = found.pop(part["name"])
        assert part["sha256"] == hashlib.sha256(content).hexdigest()
        assert part["bytes"] == len(content)
        if part["name"].endswith(".jsonl"):
            assert part["rows"] == content.count(b"\n")
    assert found == {}
    assert manifest["organization"]["name"] == alpha.name
    assert manifest["fingerprint"] == alpha.organization.fingerprint != ""
    assert datetime.fromisoformat(manifest["began_at"]) <= timezone.now()


def test_no_password_and_no_secret_of_a_login_is_there(
    alpha: Company, sessions: list[LoginSession], file: Path
) -> None:
    found, manifest = exported(alpha, file)
    with tenancy.override(alpha.tenant):
        secrets = [*User.objects.values_list("password", flat=True), str(sessions[0].refresh_jti)]
    assert not [secret for secret in secrets for each in found.values() if secret.encode() in each]
    assert {(each["model"], each["field"]) for each in manifest["left_out"]} == {
        ("accounts.user", "password"),
        ("accounts.loginsession", "refresh_jti"),
    }
    assert all(each["reason"] for each in manifest["left_out"])


def test_the_rows_are_of_one_moment(
    alpha: Company, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = contents.begin
    entry = settings_for(alpha.organization.place, owner="")
    named = {name: entry[name.upper()] for name in ("host", "port", "user", "password")}

    def begin_and_write_elsewhere(*, owner: str) -> None:
        begin(owner=owner)
        with psycopg.connect(**named, dbname=entry["NAME"]) as other:
            other.execute("UPDATE users SET email = 'later@alpha.example'")
            other.execute("DELETE FROM login_sessions")

    monkeypatch.setattr(contents, "begin", begin_and_write_elsewhere)
    with tenancy.override(alpha.tenant):
        logins = LoginSession.objects.count()
    try:
        found, _ = exported(alpha, file)
    finally:
        with tenancy.override(alpha.tenant):
            User.objects.filter(email="later@alpha.example").update(email=alpha.email)
    assert b"later@" not in found["accounts.user.jsonl"]
    assert len(lines(found["accounts.loginsession.jsonl"])) == logins


def test_a_value_that_json_cannot_hold_is_text(tmp_path: Path) -> None:
    with (
        (tmp_path / "x.zip").open("wb") as stream,
        Archive(stream) as archive,
        archive.part("x.jsonl", has_rows=True) as part,
    ):
        part.add({"a": float("nan"), "b": timedelta(days=1), "c": 1.5, "d": {"e": [None]}})
    with (tmp_path / "y.zip").open("wb") as stream, Archive(stream) as archive:
        for name, has_rows in (("none.jsonl", True), ("files/x", False)):
            with archive.part(name, has_rows=has_rows):
                pass
        assert [part.get("rows") for part in archive.parts] == [0, None]
    with ZipFile(tmp_path / "x.zip") as written:
        row = json.loads(written.read("x.jsonl"), parse_constant=pytest.fail)
    assert row == {"a": "nan", "b": "P1DT00H00M00S", "c": 1.5, "d": {"e": [None]}}


def test_a_suspended_organization_is_exported(alpha: Company, file: Path) -> None:
    lifecycle.suspend_organization(alpha.organization)
    try:
        found, _ = exported(alpha, file)
    finally:
        lifecycle.resume_organization(alpha.organization)
    assert alpha.email.encode() in found["accounts.user.jsonl"]


@pytest.mark.timeout(30)
def test_only_regular_files_of_the_folder_are_read(alpha: Company, file: Path) -> None:
    folder = storage.folder_of(alpha.organization.key)
    folder.mkdir(parents=True)
    (file.parent / "secret").write_text("of the host")
    (folder / "link").symlink_to(file.parent / "secret")
    (folder / "folder").symlink_to(file.parent)
    os.mkfifo(folder / "fifo")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.txt")).write_text("named in no known encoding")
    found, _ = exported(alpha, file)
    assert [name for name in found if name.startswith("files/")] == [r"files/\xff.txt"]


# --- The file -----------------------------------------------------------------------------------
def test_the_command_says_what_it_wrote_for_its_owner_alone(alpha: Company, file: Path) -> None:
    out = io.StringIO()
    call_command("export_org", "ACME corp", "--output", str(file), "--json", stdout=out)
    said = json.loads(out.getvalue())
    with ZipFile(file) as archive:
        rows = sum(len(lines(archive.read(n))) for n in archive.namelist() if n.endswith("jsonl"))
    assert (said["name"], said["file"], said["files"]) == (alpha.name, str(file), 0)
    assert (said["bytes"], said["rows"]) == (file.stat().st_size, rows)
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_a_file_that_is_there_is_not_touched(alpha: Company, file: Path) -> None:
    file.write_text("mine")
    entries = AuditEntry.objects.count()
    assert refused(alpha, file) == f"{file} exists already. Nothing was written: name another file."
    assert file.read_text() == "mine"
    assert AuditEntry.objects.count() == entries


def test_a_file_that_appears_meanwhile_is_not_touched(
    alpha: Company, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = contents.write_entries

    def write_slowly(*args: Any) -> None:
        file.write_text("mine")
        write(*args)

    monkeypatch.setattr(contents, "write_entries", write_slowly)
    with pytest.raises(CommandError, match="exists already"):
        call_command("export_org", alpha.name, "--output", str(file))
    assert (file.read_text(), list(file.parent.iterdir())) == ("mine", [file])


def test_a_folder_that_is_missing_is_a_sentence(alpha: Company, file: Path) -> None:
    with pytest.raises(CommandError, match="not exported.*: No such file or directory"):
        call_command("export_org", alpha.name, "--output", str(file.parent / "none" / "x.zip"))


def test_a_killed_export_leaves_no_file_of_that_name(
    alpha: Company, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(*args: Any) -> None:
        (file.parent / "reached").touch()
        time.sleep(60)

    monkeypatch.setattr(contents, "write_entries", wait)
    with Fork(lambda: export_organization(alpha.organization, file)) as fork:
        deadline = time.monotonic() + 20
        while not (file.parent / "reached").exists():
            assert time.monotonic() < deadline and fork.poll() is None
            time.sleep(0.02)
        fork.send(signal.SIGKILL)
        assert fork.wait() == -signal.SIGKILL
    assert not file.exists()
    monkeypatch.undo()
    exported(alpha, file)


def test_a_server_that_goes_away_is_told_from_a_table_that_cannot_be_read(
    alpha: Company, file: Path, monkeypatch: pytest.MonkeyPatch, superuser: Superuser
) -> None:
    begin = contents.begin

    def begin_and_lose(*, owner: str) -> None:
        begin(owner=owner)
        superuser.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s",
            (alpha.organization.role_name,),
        )

    monkeypatch.setattr(contents, "begin", begin_and_lose)
    with pytest.raises(ServerUnavailable):  # Which a job tries again.
        export_organization(alpha.organization, file)
    assert list(file.parent.iterdir()) == []


# --- Hostile ground -----------------------------------------------------------------------------
@pytest.mark.timeout(60)
def test_an_organization_cannot_make_its_export_endless_or_silently_partial(
    alpha: Company, file: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.STATEMENT_TIMEOUT_SECONDS = 1
    monkeypatch.setattr(guard, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(guard, "CANCEL_SECONDS", 0.3)
    with replaced(alpha, "login_sessions", "SELECT kept.* FROM kept, generate_series(1, 9000000)"):
        assert refused(alpha, file).endswith("login_sessions is no table")
    hidden = (
        *("CREATE POLICY hides ON users USING (false)",),
        *(
            "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE users FORCE ROW LEVEL SECURITY",
        ),
    )
    run(alpha, *hidden)
    try:
        assert "row-level security policy" in refused(alpha, file)
    finally:
        run(alpha, "DROP POLICY hides ON users", "ALTER TABLE users NO FORCE ROW LEVEL SECURITY")
        run(alpha, "ALTER TABLE users DISABLE ROW LEVEL SECURITY")
    entry = settings_for(alpha.organization.place, owner="")
    named = {name: entry[name.upper()] for name in ("host", "port", "user", "password")}
    with psycopg.connect(**named, dbname=entry["NAME"]) as other:
        other.execute("LOCK TABLE users")
        began = time.monotonic()
        refused(alpha, file)
        assert time.monotonic() - began < 5
    exported(alpha, file)
