"""/api/v1/export/: an organization's admins get all that is stored for it."""

import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import Client
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob
from pytest_django import Settings

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.background import control, enqueueing, exports
from organizations.background.worker import JobWorker
from organizations.exporting import contents
from organizations.exporting.export import export_organization
from organizations.exporting.zipped import Part
from organizations.models import AuditEntry
from organizations.provisioning import leftovers
from organizations.tenancy import storage
from tests.accounts.helpers import bearer, client_of, unique_email
from tests.conftest import Company
from tests.organizations.helpers import together
from tests.organizations.jobs.helpers import clear, job, work
from tests.organizations.tenancy.hostile import replaced

PATH = "/api/v1/export/"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, settings: Settings) -> Iterator[Path]:
    """Where the exports are, which are of this test alone."""
    settings.EXPORTS_ROOT = str(tmp_path / "exports")
    clear()
    yield tmp_path / "exports"
    clear()


@pytest.fixture
def admin(alpha: Company) -> Client:
    return bearer(alpha.token(Client()))


def state(client: Client) -> dict[str, Any]:
    response = client.get(PATH)
    assert response.status_code == 200, response.content
    body: dict[str, Any] = response.json()
    return body


def exported(client: Client) -> str:
    """The link to a fresh export."""
    assert client.post(PATH).status_code == 202
    work()
    return str(state(client)["url"])


def downloaded(client: Client, url: str) -> ZipFile:
    response = client.get(url)
    assert response.status_code == 200, response.content
    return ZipFile(io.BytesIO(b"".join(response.streaming_content)))  # type: ignore[attr-defined]


def is_refused(client: Client, url: str) -> bool:
    response = client.get(url)
    return response.status_code == 404 and response.json()["code"] == "export_not_found"


def test_an_admin_asks_waits_and_downloads(alpha: Company, admin: Client) -> None:
    newest = AuditEntry.objects.latest("id").pk
    assert state(admin) == {"state": "none"}
    response = admin.post(PATH)
    assert (response.status_code, response.json()) == (202, {"state": "waiting"})
    assert response["Location"] == PATH
    assert state(admin) == {"state": "waiting"}
    work()
    ready = state(admin)
    assert ready["state"] == "ready"
    assert ready["made_at"] < timezone.now().isoformat() < ready["expires_at"]
    response = admin.get(ready["url"])
    assert response["Content-Disposition"] == 'attachment; filename="acme-corp.zip"'
    assert "no-store" in response["Cache-Control"]
    assert int(response["Content-Length"]) == ready["bytes"]
    response.close()
    with downloaded(admin, ready["url"]) as archive:
        assert alpha.email.encode() in archive.read("accounts.user.jsonl")
        assert json.loads(archive.read("manifest.json"))["organization"]["name"] == alpha.name
    entries = AuditEntry.objects.filter(pk__gt=newest, act__contains="export").order_by("pk")
    acts = ["export.asked", "organization.exported", "export.downloaded", "export.downloaded"]
    assert [entry.act for entry in entries] == acts
    assert {entry.organization_id for entry in entries} == {alpha.organization.pk}
    assert [entry.actor for entry in entries] == ["user", "system", "user", "user"]


def test_only_admins_may(alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        member = User.objects.create(email=unique_email(), password="")
    try:
        for client, status in ((client_of(alpha, member), 403), (Client(), 401)):
            for answer in (client.get(PATH), client.post(PATH), client.get(f"{PATH}x/")):
                assert answer.status_code == status
    finally:
        with tenancy.override(alpha.tenant):
            member.delete()
    assert not ProcrastinateJob.objects.filter(task_name=exports.TASK).exists()


def test_a_link_is_for_its_login_and_for_a_short_time(
    alpha: Company, beta: Company, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = exported(admin)
    again = bearer(alpha.token(Client()))
    assert is_refused(again, url), "another login of the same admin"
    assert is_refused(bearer(beta.token(Client())), url)
    assert Client().get(url).status_code == 401
    assert is_refused(admin, f"{url[:-2]}{'A' if url[-2] != 'A' else 'B'}/")
    assert is_refused(admin, f"{PATH}{'x' * 1500}/")
    with downloaded(again, state(again)["url"]):
        pass
    late = time.time() + 15 * 60 + 1
    monkeypatch.setattr("django.core.signing.time.time", lambda: late)
    assert is_refused(admin, url)


def test_while_one_is_being_made_no_second_one_is(alpha: Company, admin: Client) -> None:
    headers = {"Authorization": f"Bearer {alpha.token(Client())}"}
    answers = together(*[lambda: Client(headers=headers).post(PATH).status_code] * 3)
    assert answers == [202] * 3
    jobs = ProcrastinateJob.objects.filter(task_name=exports.TASK)
    assert [job.status for job in jobs] == ["todo"]
    entries = AuditEntry.objects.filter(act="export.asked", organization_id=alpha.organization.pk)
    before = entries.count()
    assert admin.post(PATH).json() == {"state": "waiting"}
    with connections["default"].cursor() as cursor:  # As a worker that has begun.
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing', queueing_lock = NULL")
    assert admin.post(PATH).json() == state(admin) == {"state": "running"}
    assert (jobs.count(), entries.count()) == (1, before)


def test_a_new_one_replaces_the_last_and_what_a_killed_one_left(
    alpha: Company, admin: Client, root: Path
) -> None:
    first = exported(admin)
    folder = root / alpha.organization.key
    (folder / ".export-x.part").touch()
    (folder / "of the customer.txt").touch()
    second = exported(admin)
    assert first != second and is_refused(admin, first)
    assert len(list(folder.iterdir())) == 2
    assert (folder / "of the customer.txt").exists(), "were both folders one by mistake"
    assert folder.stat().st_mode & 0o777 == 0o700
    with downloaded(admin, second):
        pass


def test_a_worker_that_died_right_after_it_made_one_makes_no_second(
    alpha: Company, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.post(PATH)
    keep_only = exports.keep_only

    def die(name: str) -> None:
        monkeypatch.setattr(exports, "keep_only", keep_only)
        raise tenancy.TooBusy("as if it died; tried again")

    monkeypatch.setattr(exports, "keep_only", die)
    work()
    assert state(admin) == {"state": "waiting"}
    made = AuditEntry.objects.filter(act="organization.exported").count()
    ProcrastinateJob.objects.filter(task_name=exports.TASK).update(scheduled_at=timezone.now())
    work()
    assert state(admin)["state"] == "ready"
    assert AuditEntry.objects.filter(act="organization.exported").count() == made


def test_a_failed_one_says_so_and_can_be_asked_for_again(
    alpha: Company, admin: Client, root: Path
) -> None:
    admin.post(PATH)
    folder = root / alpha.organization.key
    folder.mkdir(parents=True)
    (folder / ".export-x.part").touch()
    with replaced(alpha, "login_sessions", "SELECT * FROM kept"):
        work()
        assert state(admin) == {"state": "failed"}
    assert list(folder.iterdir()) == [], "nor what killed tries left"
    with downloaded(admin, exported(admin)):
        pass


def test_one_that_is_cancelled_stops(
    alpha: Company,
    admin: Client,
    root: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.JOB_POLL_SECONDS = 0.05
    admin.post(PATH)
    number = ProcrastinateJob.objects.get(task_name=exports.TASK).pk
    ended = threading.Event()

    def write_without_end(part: Part, organization_id: int) -> None:
        control.cancel(number)
        try:
            while True:
                part.add({})
        finally:
            ended.set()

    monkeypatch.setattr(contents, "write_entries", write_without_end)
    JobWorker(goes_on=lambda: not ended.is_set(), concurrency=1).run()
    assert job(number).status == "aborted"
    assert state(admin) == {"state": "failed"}
    assert list((root / alpha.organization.key).iterdir()) == []


def test_a_worker_that_was_taken_for_dead_does_no_harm(
    alpha: Company, admin: Client, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one got the job, and was first."""
    admin.post(PATH)
    found = ProcrastinateJob.objects.get(task_name=exports.TASK)
    write = contents.write_entries

    def be_second(part: Part, organization_id: int) -> None:
        monkeypatch.setattr(contents, "write_entries", write)
        export_organization(alpha.organization, exports.new_path(found.args["name"]))
        write(part, organization_id)

    monkeypatch.setattr(contents, "write_entries", be_second)
    work()
    assert job(found.pk).status == "succeeded"
    with connections["default"].cursor() as cursor:  # As if it had failed.
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing'")
        cursor.execute("UPDATE procrastinate_jobs SET status = 'failed'")
    ready = state(admin)
    with downloaded(admin, ready["url"]):
        pass
    assert len(list((root / alpha.organization.key).iterdir())) == 1


def test_an_organization_asks_only_so_often(
    alpha: Company, beta: Company, admin: Client, throttles: Settings
) -> None:
    throttles.THROTTLE_EXPORT = "2/hour"
    again = bearer(alpha.token(Client()))
    answers = [client.post(PATH).status_code for client in (admin, again, admin, again)]
    assert answers == [202, 202, 429, 429]
    assert state(admin) == {"state": "waiting"}
    assert bearer(beta.token(Client())).post(PATH).status_code == 202


@pytest.mark.parametrize("how", ["command", "job"])
def test_after_a_day_it_is_gone(alpha: Company, admin: Client, root: Path, how: str) -> None:
    """Whatever became of its database."""
    url = exported(admin)
    (file,) = (root / alpha.organization.key).iterdir()

    def prune() -> None:
        with replaced(alpha, "login_sessions", "SELECT id FROM kept"):
            if how == "command":
                with pytest.raises(CommandError, match="1 failed"):
                    call_command("prune", alpha.name, stdout=io.StringIO(), stderr=io.StringIO())
            else:
                enqueueing.platform_job("clean_up")
                work()

    prune()
    assert file.exists(), "it has not expired"
    old = time.time() - 24 * 3600 - 1
    os.utime(file, (old, old))
    assert state(admin) == {"state": "none"}
    assert is_refused(admin, url)
    prune()
    assert not file.exists()


def test_exports_go_with_their_organization(company: Callable[..., Company], root: Path) -> None:
    doomed = company()
    exported(bearer(doomed.token(Client())))
    folder = root / doomed.organization.key
    assert len(list(folder.iterdir())) == 1
    lifecycle.delete_organization(doomed.organization)
    assert not folder.exists()
    # Written by a worker while it was being deleted.
    folder.mkdir()
    assert storage.folders_of(doomed.organization.key) == [folder]
    assert (doomed.organization.key, doomed.name) in leftovers.files()
    leftovers.remove_files()
    assert not folder.exists()
