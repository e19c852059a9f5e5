"""Rate limits of logins, and the delay that doubles with each failure."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import caches
from django.db.models import F
from django.test import Client, RequestFactory, override_settings
from django.utils import timezone
from pytest_django import Settings

from accounts import limits, services
from accounts.models import User
from organizations.models import AuditEntry, Organization, ThrottleCounter
from organizations.tenancy import directory
from tests.conftest import PASSWORD, Company
from tests.http.server import free_port

from .helpers import at_once, headers_of, json_of, send, unique_email

TOKEN = "/api/v1/auth/token/"


def attempt(organization: str, email: str, password: str = "wrong", **extra: str) -> Any:
    body = {"organization": organization, "email": email, "password": password}
    client = Client()
    client.defaults.update({"REMOTE_ADDR": "192.0.2.9", **extra})
    return send(client, "post", TOKEN, body)


def pass_time(seconds: int) -> None:
    """Move everything counted so far into the past."""
    ThrottleCounter.objects.update(expires_at=F("expires_at") - timedelta(seconds=seconds))


def statuses(times: int, *credentials: str) -> list[int]:
    return [attempt(*credentials).status_code for _ in range(times)]


def count_failures(key: str, failures: int) -> None:
    """The state after `failures` refused attempts, when the last delay has just ended."""
    ThrottleCounter.objects.update_or_create(
        key=caches["throttles"].make_key(key),
        defaults={
            "count": failures,
            "expires_at": timezone.now() + timedelta(seconds=limits.MEMORY_SECONDS),
        },
    )


def after(failures: int, name: str, email: str) -> None:
    """Count so many failures; the last delay has just ended."""
    count_failures(_failures(name, email), failures)


def _failures(name: str, email: str) -> str:
    _, word = directory.get().counted_as(name)
    return limits._key("FAILURES", word, email)


def acts(act: str) -> list[tuple[int | None, dict[str, Any]]]:
    return list(AuditEntry.objects.filter(act=act).values_list("organization_id", "facts"))


def test_an_organization_with_a_reused_id_starts_with_no_failures(
    alpha: Company, throttles: Settings
) -> None:
    """A restored master reuses ids, and counters in Redis outlive it."""
    rows = Organization.objects.filter(pk=alpha.organization.pk)
    throttles.LOGIN_FREE_FAILURES = 1
    assert statuses(3, alpha.name, alpha.email)[-1] == 429
    rows.update(key="0a" * 16)
    try:
        assert statuses(1, alpha.name, alpha.email) == [401]
    finally:
        rows.update(key=alpha.organization.key)


# --- Rates --------------------------------------------------------------------------------------
def test_log_ins_from_one_address_are_limited(alpha: Company, throttles: Settings) -> None:
    throttles.THROTTLE_LOGIN_ADDRESS = "2/min"
    throttles.LOGIN_FREE_FAILURES = 100
    assert statuses(3, alpha.name, alpha.email) == [401, 401, 429]
    assert attempt(alpha.name, alpha.email, PASSWORD).status_code == 429
    assert attempt(alpha.name, alpha.email, PASSWORD, REMOTE_ADDR="192.0.2.10").status_code == 200


def test_logins_to_one_account_are_limited_over_all_addresses(
    alpha: Company, beta: Company, throttles: Settings
) -> None:
    throttles.THROTTLE_LOGIN_ACCOUNT = "2/min"
    answers = [
        attempt(alpha.name, alpha.email, PASSWORD, REMOTE_ADDR=f"192.0.2.{last}").status_code
        for last in range(3)
    ]
    assert answers == [200, 200, 429]
    assert attempt(alpha.name, unique_email()).status_code == 401
    assert attempt(beta.name, beta.email, PASSWORD).status_code == 200


def test_log_ins_to_one_organization_are_limited(
    alpha: Company, beta: Company, throttles: Settings
) -> None:
    throttles.THROTTLE_LOGIN_ORGANIZATION = "2/min"
    assert [attempt(alpha.name, unique_email()).status_code for _ in range(3)] == [401, 401, 429]
    assert attempt(beta.name, beta.email, PASSWORD).status_code == 200


def test_what_one_limit_refuses_is_not_counted_by_the_next(
    alpha: Company, throttles: Settings
) -> None:
    throttles.THROTTLE_LOGIN_ACCOUNT = "1/min"
    throttles.THROTTLE_LOGIN_ORGANIZATION = "2/min"
    assert statuses(5, alpha.name, alpha.email) == [401, 429, 429, 429, 429]
    assert attempt(alpha.name, unique_email()).status_code == 401


def test_all_spellings_of_an_organization_are_one(alpha: Company, throttles: Settings) -> None:
    throttles.THROTTLE_LOGIN_ACCOUNT = "2/min"
    names = (alpha.name.upper(), alpha.name.replace(" ", "_"), f"  {alpha.name.lower()} ")
    assert [attempt(name, alpha.email.upper()).status_code for name in names] == [401, 401, 429]
    unknown = ("No Such Firm", "no-such_firm", "NO SUCH FIRM")
    assert [attempt(name, alpha.email).status_code for name in unknown] == [404, 404, 429]


def test_a_window_ends(alpha: Company, throttles: Settings) -> None:
    throttles.THROTTLE_LOGIN_ACCOUNT = "1/min"
    assert attempt(alpha.name, alpha.email, PASSWORD).status_code == 200
    assert attempt(alpha.name, alpha.email, PASSWORD).status_code == 429
    pass_time(61)
    assert attempt(alpha.name, alpha.email, PASSWORD).status_code == 200


def test_nothing_is_hashed_for_a_refused_attempt(
    alpha: Company, throttles: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    throttles.THROTTLE_LOGIN_ACCOUNT = "1/min"
    attempt(alpha.name, alpha.email)
    monkeypatch.setattr(services, "authenticate", lambda **_: pytest.fail("it was compared"))
    assert attempt(alpha.name, alpha.email, PASSWORD).status_code == 429


def test_the_trail_records_one_excess_per_window(alpha: Company, throttles: Settings) -> None:
    throttles.THROTTLE_LOGIN_ACCOUNT = "2/min"
    before = len(acts("throttle.exceeded"))
    assert statuses(6, alpha.name, alpha.email).count(429) == 4
    told = acts("throttle.exceeded")  # The newest first.
    assert len(told) == before + 1
    assert told[0] == (alpha.organization.pk, {"limit": "login_account", "rate": "2/min"})


def test_without_the_counters_nobody_is_let_in(alpha: Company, throttles: Settings) -> None:
    gone = {
        "BACKEND": "organizations.throttling.redis.RedisCounters",
        "LOCATION": f"redis://127.0.0.1:{free_port()}/0",
        "KEY_FUNCTION": "organizations.tenancy.counters.hashed_key",
    }
    with override_settings(CACHES={**throttles.CACHES, "throttles": gone}):
        response = attempt(alpha.name, alpha.email, PASSWORD)
    assert json_of(response, 503)["code"] == "cache_unavailable"
    assert int(response["Retry-After"]) > 0


# --- The delay ----------------------------------------------------------------------------------
def test_failures_beyond_the_free_ones_are_followed_by_a_growing_delay(
    alpha: Company, throttles: Settings
) -> None:
    # From the seventh doubling on: a slow machine must not outlast the delay.
    after(11, alpha.name, alpha.email)
    for longest in (64, 128, 256, 512, 900, 900):
        assert attempt(alpha.name, alpha.email).status_code == 401
        response = attempt(alpha.name, alpha.email, PASSWORD)
        seconds = int(response["Retry-After"])
        assert longest - 40 < seconds <= longest
        assert json_of(response, 429) == {
            "detail": f"Too many failed logins. Try again in {seconds} seconds.",
            "code": "login_delayed",
        }
        pass_time(longest)


def test_a_success_forgets_the_failures(alpha: Company, throttles: Settings) -> None:
    after(11, alpha.name, alpha.email)
    assert attempt(alpha.name, alpha.email, PASSWORD).status_code == 200
    assert statuses(5, alpha.name, alpha.email) == [401] * 5
    assert attempt(alpha.name, alpha.email, PASSWORD).status_code == 200


def test_a_members_right_password_is_no_failure_at_the_admin_login(
    alpha: Company, member: User, throttles: Settings
) -> None:
    path = f"/admin/login?organization_name={alpha.name}"
    body = {"email": member.email, "password": PASSWORD}
    answers = [send(Client(), "post", path, body).status_code for _ in range(8)]
    assert answers == [403] * 8


def test_failures_are_forgotten_an_hour_after_the_last(alpha: Company, throttles: Settings) -> None:
    after(11, alpha.name, alpha.email)
    pass_time(3599)
    assert statuses(2, alpha.name, alpha.email) == [401, 429]
    pass_time(3600 + 64)
    assert statuses(2, alpha.name, alpha.email) == [401, 401]


def test_an_unknown_account_or_organization_is_delayed_like_a_known_one(
    alpha: Company, throttles: Settings
) -> None:
    email = unique_email()
    accounts = ((alpha.name, alpha.email), (alpha.name, email), (f"Nobody {email}", email))
    answers = []
    for each in accounts:
        after(30, *each)
        assert attempt(*each).status_code in (401, 404)
        answers.append(attempt(*each))
    for answer in answers:
        # Of the same length; only the clock has gone on from one to the other.
        seconds = answer["Retry-After"]
        del answer["Retry-After"]
        answer.content = answer.content.replace(seconds.encode(), b"xxx")
    assert [answer.status_code for answer in answers] == [429] * 3
    assert answers[0].content == answers[1].content == answers[2].content
    assert headers_of(answers[0]) == headers_of(answers[1]) == headers_of(answers[2])


def test_of_twenty_attempts_at_once_during_delays_one_is_made(
    alpha: Company, throttles: Settings
) -> None:
    after(15, alpha.name, alpha.email)
    answers = at_once(*[lambda: attempt(alpha.name, alpha.email).status_code] * 20)
    assert sorted(answers) == [401] + [429] * 19


def test_at_most_one_more_than_the_free_failures_run_at_once(throttles: Settings) -> None:
    counted: Any = caches["throttles"]

    def reserve() -> bool:
        return bool(counted.reserve("a person", free=3, longest=900, memory=3600).granted)

    assert sorted(at_once(*[reserve] * 20)).count(True) == 4


def test_twenty_with_the_right_password_log_in_at_once(alpha: Company, throttles: Settings) -> None:
    answers = at_once(*[lambda: attempt(alpha.name, alpha.email, PASSWORD).status_code] * 20)
    assert answers == [200] * 20


def test_an_attempt_that_broke_off_is_no_failure(
    alpha: Company, throttles: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: str) -> None:
        raise ConnectionAbortedError

    with monkeypatch.context() as patched:
        patched.setattr(services, "authenticate", fail)
        for _ in range(8):
            with pytest.raises(ConnectionAbortedError):
                attempt(alpha.name, alpha.email)
    assert statuses(5, alpha.name, alpha.email) == [401] * 5
    assert attempt(alpha.name, alpha.email, PASSWORD).status_code == 200


def test_the_trail_records_the_first_delay(alpha: Company, throttles: Settings) -> None:
    before = len(acts("login.delayed"))
    for _ in range(8):
        assert attempt(alpha.name, alpha.email).status_code == 401
        pass_time(10)
    assert len(acts("login.delayed")) == before + 1


def test_the_login_page_says_when_to_try_again(alpha: Company, throttles: Settings) -> None:
    body = {"organization": alpha.name, "email": alpha.email, "password": "wrong"}
    after(30, alpha.name, alpha.email)
    pages = [Client().post("/api/login/", body) for _ in range(2)]
    assert [page.status_code for page in pages] == [403, 429]
    seconds = pages[-1]["Retry-After"]
    assert f"Too many failed logins. Try again in {seconds} seconds." in pages[-1].content.decode()


# --- The client's address -----------------------------------------------------------------------
@pytest.mark.pure
def test_a_client_is_counted_by_its_network() -> None:
    places = {
        "192.0.2.1": "192.0.2.1",
        "2001:db8:1:2:3::4": "2001:db8:1:2::/64",
        "2001:db8:1:2:ffff::": "2001:db8:1:2::/64",
        "::ffff:192.0.2.1": "192.0.2.1",
        "": "unknown",
    }
    counted = {
        address: limits.client_key(RequestFactory().get("/", REMOTE_ADDR=address))
        for address in places
    }
    assert counted == places


def test_what_a_client_writes_into_x_forwarded_for_is_not_believed(
    settings: Settings, throttles: Settings
) -> None:
    throttles.THROTTLE_LOOKUP = "2/hour"

    def ask(forwarded: str) -> int:
        client = Client(REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR=forwarded)
        return send(client, "post", "/org/get", {}).status_code

    assert [ask(f"192.0.2.{last}") for last in range(3)] == [400, 400, 429]
    settings.TRUSTED_PROXY_HOPS = 1
    assert [ask(f"192.0.2.{last}, 198.51.100.7") for last in range(3)] == [400, 400, 429]
    assert ask("198.51.100.7, 198.51.100.8") == 400
