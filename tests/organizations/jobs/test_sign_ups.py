"""Sign-ups as background jobs: the 202 answer, and what a worker makes of it."""

from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import connections
from django.test import Client
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob
from pytest_django import Settings

from organizations import lifecycle
from organizations.background import control, enqueueing, pruning, sign_ups
from organizations.errors import ProvisioningFailed, ServerUnavailable
from organizations.jobs.models import PendingSignUp
from organizations.models import Organization
from organizations.provisioning import making
from tests.conftest import PASSWORD, Company

from .helpers import job, work

BODY = {"organization_name": "Later Ltd", "email": "boss@later.example", "password": PASSWORD}


def sign_up(client: Client, *, prefer: str = "respond-async", **changes: str):  # type: ignore[no-untyped-def]
    return client.post(
        "/org/create", BODY | changes, content_type="application/json", headers={"Prefer": prefer}
    )


@pytest.fixture(autouse=True)
def _deleted_again():  # type: ignore[no-untyped-def]
    yield
    for made in Organization.objects.usable().named(BODY["organization_name"]):
        lifecycle.delete_organization(made)


def test_a_sign_up_is_accepted_and_done_by_a_worker(client: Client) -> None:
    accepted = sign_up(client)
    assert accepted.status_code == 202, accepted.content
    assert accepted.headers["Preference-Applied"] == "respond-async"
    url = accepted.headers["Location"]
    assert accepted.json() == {"state": "waiting", "step": "", "status_url": url}
    waiting = client.get(url)
    assert (waiting.status_code, waiting.json()["state"]) == (200, "waiting")
    assert int(waiting.headers["Retry-After"]) > 0

    mail.outbox.clear()
    work()

    assert [each.to for each in mail.outbox] == [[BODY["email"]]]
    assert "http://testserver/api/email/verify/?token=" in mail.outbox[0].body
    done = client.get(url)
    assert done.json()["state"] == "done"
    assert done.json()["organization"]["name"] == "Later Ltd"
    assert "Retry-After" not in done.headers
    assert set(done.json()) == {"state", "step", "organization"}, "and no login"
    login = {"organization": "Later Ltd", "email": BODY["email"], "password": PASSWORD}
    token = client.post("/api/v1/auth/token/", login, content_type="application/json")
    assert token.status_code == 200, token.content


def test_only_what_is_right_and_prefers_it_is_done_later(client: Client) -> None:
    answer = sign_up(client, password="short")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert not ProcrastinateJob.objects.exists()
    assert sign_up(client, prefer="wait=10").status_code == 201
    other = "Later 2 Ltd"
    among_others = "wait=10, Respond-Async; foo=1"
    assert sign_up(client, prefer=among_others, organization_name=other).status_code == 202


def test_the_name_of_one_that_waits_is_taken(client: Client) -> None:
    assert sign_up(client).status_code == 202
    for prefer in ("respond-async", ""):
        again = sign_up(client, prefer=prefer, organization_name="LATER  ltd")
        assert (again.status_code, again.json()["code"]) == (409, "organization_exists")
    work()
    assert sign_up(client).status_code == 409


def test_nothing_secret_is_in_the_jobs_and_nothing_is_left(client: Client) -> None:
    token = sign_up(client).headers["Location"].rsplit("/", 1)[1]
    pending = PendingSignUp.objects.get()
    assert ProcrastinateJob.objects.get().args == {"sign_up_id": pending.pk}
    assert pending.sealed_password_hash
    assert "argon2" not in pending.sealed_password_hash
    assert token not in repr(vars(pending))
    work()
    pending.refresh_from_db()
    assert (pending.sealed_password_hash, pending.email, pending.base_url) == ("", "", "")


def test_a_failure_that_no_retry_helps_frees_the_name(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise ProvisioningFailed("Later Ltd", "something that names a host")

    url = sign_up(client).headers["Location"]
    with monkeypatch.context() as patch:
        patch.setattr(making, "make_database", fail)
        work()
    answer = client.get(url).json()
    assert (answer["state"], answer["error"]["code"]) == ("failed", "provisioning_failed")
    assert "host" not in answer["error"]["detail"]
    assert not PendingSignUp.objects.get().sealed_password_hash
    assert not Organization.objects.live().named("Later Ltd").exists()
    assert sign_up(client).status_code == 202


def test_an_outage_is_tried_again_and_then_given_up(
    client: Client, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise ServerUnavailable

    settings.JOB_TRIES = 2
    url = sign_up(client).headers["Location"]
    pending = PendingSignUp.objects.get()
    monkeypatch.setattr(making, "make_database", fail)
    work()
    first = job(pending.job_id or 0)
    assert (first.status, first.attempts) == ("todo", 1)
    assert first.scheduled_at is not None
    assert client.get(url).json()["state"] == "running"

    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET scheduled_at = now()")
    work()
    assert job(pending.job_id or 0).status == "failed"
    assert client.get(url).json()["error"]["code"] == "database_unavailable"


def test_a_cancelled_one_is_not_made(client: Client) -> None:
    url = sign_up(client).headers["Location"]
    number = PendingSignUp.objects.get().job_id or 0
    control.cancel(number)
    work()
    assert client.get(url).json()["error"]["code"] == "sign_up_cancelled"
    assert not Organization.objects.live().named("Later Ltd").exists()


def test_a_second_try_after_a_success_does_nothing(client: Client) -> None:
    url = sign_up(client).headers["Location"]
    work()
    made = client.get(url).json()["organization"]["id"]
    number = PendingSignUp.objects.get().job_id

    # As a worker leaves it that dies before it can say that it was done.
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = %s", [number])
    work()
    assert job(number or 0).status == "succeeded"
    assert client.get(url).json()["organization"]["id"] == made


def test_what_another_worker_has_finished_is_not_made_again(client: Client) -> None:
    """A worker that was wrongly taken for dead."""
    sign_up(client)
    pending = PendingSignUp.objects.get()
    assert lifecycle.create_reserved_organization(pending, password_hash="x") is not None
    assert lifecycle.create_reserved_organization(pending, password_hash="x") is None
    work()


def test_staff_are_answered_the_same_way(staff_client: Client, alpha: Company) -> None:
    answer = staff_client.post(
        "/api/v1/organizations/",
        BODY,
        content_type="application/json",
        headers={"Prefer": "respond-async"},
    )
    assert answer.status_code == 202, answer.content


def test_one_that_is_cancelled_while_it_runs_is_undone(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sign_up(client).headers["Location"]
    number = PendingSignUp.objects.get().job_id or 0
    activate = making._activate

    def cancelled_before(*args: Any) -> None:
        control.cancel(number)
        activate(*args)

    monkeypatch.setattr(making, "_activate", cancelled_before)
    work()
    assert client.get(url).json()["error"]["code"] == "sign_up_cancelled"
    assert job(number).status == "failed"
    assert not Organization.objects.live().named("Later Ltd").exists()
    assert sign_up(client).status_code == 202


def test_the_name_of_one_whose_job_ended_without_a_word_is_freed(client: Client) -> None:
    url = sign_up(client).headers["Location"]
    enqueueing.platform_job("reconcile")
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE task_name = 'sign_up'")
        sign_ups.give_up_abandoned()
        assert client.get(url).json()["state"] == "waiting"
        cursor.execute("UPDATE procrastinate_jobs SET status = 'failed' WHERE status = 'doing'")
    work()
    assert client.get(url).json()["error"]["code"] == "provisioning_failed"
    assert sign_up(client).status_code == 202


def _grow_old(minutes: int) -> None:
    PendingSignUp.objects.update(created_at=timezone.now() - timedelta(minutes=minutes))


def test_one_that_no_worker_has_made_in_time_frees_its_name(client: Client) -> None:
    for state in ("waiting", "running"):
        url = sign_up(client).headers["Location"]
        pending = PendingSignUp.objects.open()
        pending.update(state=state)
        _grow_old(59)
        assert client.get(url).json()["state"] == state
        assert sign_up(client).status_code == 409
        _grow_old(61)
        told = client.get(url)
        assert (told.json()["state"], told.json()["error"]["code"]) == ("failed", "sign_up_expired")
        assert "Retry-After" not in told.headers
        assert not PendingSignUp.objects.exclude(sealed_password_hash="").exists()


@pytest.mark.parametrize("prefer", ["respond-async", ""])
def test_a_name_is_free_after_expiry_without_a_status_request(client: Client, prefer: str) -> None:
    sign_up(client)
    _grow_old(61)
    assert sign_up(client, prefer=prefer).status_code == (202 if prefer else 201)
    work()  # The job of the first is still there.
    assert Organization.objects.usable().named("Later Ltd").count() == 1


def test_the_time_is_the_installations_own(client: Client, settings: Settings) -> None:
    settings.ORG_SIGNUP_EXPIRY_MINUTES = 5
    url = sign_up(client).headers["Location"]
    _grow_old(6)
    pruning.prune()
    assert not PendingSignUp.objects.open().exists()
    assert client.get(url).json()["error"]["code"] == "sign_up_expired"


def test_polling_as_often_as_retry_after_says_meets_no_limit(
    client: Client, throttles: Settings
) -> None:
    throttles.THROTTLE_LOOKUP = "3/min"
    urls = []
    for number in range(2):
        accepted = sign_up(client, organization_name=f"Later {number} Ltd")
        urls.append(accepted.headers["Location"])
        assert int(accepted.headers["Retry-After"]) == 20
    for _ in range(3):  # A minute's.
        for url in urls:
            waiting = client.get(url)
            assert (waiting.status_code, waiting.headers["Retry-After"]) == (200, "20")
    assert client.get(urls[0]).status_code == 429


def test_guesses_at_status_urls_are_unknown_and_counted_by_address(
    client: Client, throttles: Settings
) -> None:
    throttles.THROTTLE_LOOKUP = "3/min"
    guesses = [client.get(f"/org/create/status/guess-{number}") for number in range(4)]
    assert [answer.status_code for answer in guesses] == [404, 404, 404, 429]
    assert guesses[0].json()["code"] == "sign_up_not_found"


def test_cancelling_a_running_sign_up_does_not_claim_nothing_was_made(client: Client) -> None:
    url = sign_up(client).headers["Location"]
    number = PendingSignUp.objects.get().job_id or 0
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = %s", [number])
    control.cancel(number)
    error = client.get(url).json()["error"]
    assert error["code"] == "sign_up_cancelled"
    assert "Nothing was created" not in error["detail"]
    assert "is being removed" in error["detail"]
