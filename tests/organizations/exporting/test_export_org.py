"""manage.py export_org"""

import errno
import hashlib
import io
import json
import os
import signal
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.models import LoginSession, User
from organizations import lifecycle, tenancy
from organizations.errors import ServerUnavailable
from organizations.exporting import contents
from organizations.exporting.export import export_organization
from organizations.exporting.zipped import Archive
from organizations.models import AuditEntry
from organizations.tenancy import storage, trail
from tests.conftest import Company, Superuser
from tests.organizations.helpers import Fork

from .helpers import as_owner, exported, lines, refused


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
    made = {each["email"]: datetime.fromisoformat(each["created_at"]) for each in rows}
    assert made == {each["email"]: each["created_at"] for each in users}, "to the µs"
    assert len(rows) == len(users)
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

    def begin_and_write_elsewhere(**facts: Any) -> None:
        begin(**facts)
        with as_owner(alpha) as other:
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
    spent: list[int] = []
    with (
        (tmp_path / "x.zip").open("wb") as stream,
        Archive(stream, spent.append) as archive,
        archive.part("x.jsonl", has_rows=True) as part,
    ):
        part.add({"a": float("nan"), "b": timedelta(days=1), "c": 1.5, "d": {"e": [None]}})
    with (tmp_path / "y.zip").open("wb") as stream, Archive(stream, spent.append) as archive:
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
    beside, _ = exported(alpha, folder / "export.zip")
    assert set(beside) == set(found), "not itself"


def test_a_file_that_grows_is_read_as_long_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"as it was")

    def grow(count: int) -> None:
        with path.open("ab") as more:
            more.write(b" and more")

    with (
        (tmp_path / "x.zip").open("wb") as stream,
        Archive(stream, grow) as archive,
        path.open("rb") as file,
        archive.part("files/log", has_rows=False) as part,
    ):
        length = path.stat().st_size
        contents.write_file(part, file)
    with ZipFile(tmp_path / "x.zip") as written:
        assert len(written.read("files/log")) == length


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


def _refuse_links(*args: Any) -> None:
    raise PermissionError(errno.EPERM, "as on a file system without links")


@pytest.mark.parametrize("link", [os.link, _refuse_links])
def test_a_file_that_appears_meanwhile_is_not_touched(
    alpha: Company, file: Path, monkeypatch: pytest.MonkeyPatch, link: Callable[..., None]
) -> None:
    write = contents.write_entries

    def write_slowly(*args: Any) -> None:
        file.write_text("mine")
        write(*args)

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(contents, "write_entries", write_slowly)
    with pytest.raises(CommandError, match="exists already"):
        call_command("export_org", alpha.name, "--output", str(file))
    assert (file.read_text(), list(file.parent.iterdir())) == ("mine", [file])
    file.unlink()
    monkeypatch.setattr(contents, "write_entries", write)
    exported(alpha, file)
    assert list(file.parent.iterdir()) == [file]


def test_a_folder_that_is_missing_is_a_sentence(alpha: Company, file: Path) -> None:
    with pytest.raises(CommandError, match="not exported.*: No such file or directory"):
        call_command("export_org", alpha.name, "--output", str(file.parent / "none" / "x.zip"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_export_leaves_no_file_of_that_name(
    alpha: Company, file: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    reached = file.parent.parent / "reached"

    def wait(*args: Any) -> None:
        reached.touch()
        time.sleep(60)

    def export() -> None:
        call_command("export_org", alpha.name, "--output", str(file))

    monkeypatch.setattr(contents, "write_entries", wait)
    with Fork(export) as fork:
        deadline = time.monotonic() + 20
        while not reached.exists():
            assert time.monotonic() < deadline and fork.poll() is None
            time.sleep(0.02)
        fork.send(number)
        assert fork.wait() == (130 if number == signal.SIGTERM else -number)
    left = [path.suffix for path in file.parent.iterdir()]
    assert left == ([] if number == signal.SIGTERM else [".part"])
    monkeypatch.undo()
    exported(alpha, file)


def test_a_server_that_goes_away_is_told_from_a_table_that_cannot_be_read(
    alpha: Company, file: Path, monkeypatch: pytest.MonkeyPatch, superuser: Superuser
) -> None:
    begin = contents.begin

    def begin_and_lose(**facts: Any) -> None:
        begin(**facts)
        superuser.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s",
            (alpha.organization.role_name,),
        )

    monkeypatch.setattr(contents, "begin", begin_and_lose)
    with pytest.raises(ServerUnavailable):  # Which a job tries again.
        export_organization(alpha.organization, file)
    assert list(file.parent.iterdir()) == []
