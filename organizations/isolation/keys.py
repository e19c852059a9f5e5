"""Isolation attempts: cache keys and rate limits. Primary keys repeat across organizations."""

import secrets
from collections.abc import Callable

from django.conf import settings
from django.core.cache import caches
from django.http import HttpResponse
from django.test.utils import override_settings

from organizations import tenancy
from organizations.tenancy import counters

from .attempts import attempt
from .outcome import Broken, Crossed
from .sides import Side
from .stage import Stage

FAMILY = "keys"


@attempt(
    FAMILY,
    "A reads and deletes B's cache key",
    over=lambda _: sorted({*settings.CACHES} - {counters.ALIAS}),
)
def cached(stage: Stage, alias: str) -> str:
    cache, key = caches[alias], f"isolation-check-{secrets.token_hex(8)}"
    with tenancy.override(stage.theirs.tenant):
        cache.set(key, "B's", 60)
        if cache.get(key) != "B's":
            raise Broken("the cache keeps nothing")
    try:
        with tenancy.override(stage.ours.tenant):
            seen = cache.get(key)
            cache.set(key, "A's", 60)
            cache.delete(key)
        if seen is not None or cache.get(key) is not None:
            raise Crossed("B's entry was read")
        with tenancy.override(stage.theirs.tenant):
            if cache.get(key) != "B's":
                raise Crossed("B's entry was overwritten or deleted")
    finally:
        with tenancy.override(stage.theirs.tenant):
            cache.delete(key)
    return "another compartment"


def _ask(side: Side, address: str) -> HttpResponse:
    return side.by_token().get("/api/v1/me/")  # type: ignore[return-value]


def _fail_to_log_in(side: Side, address: str) -> HttpResponse:
    body = {"organization": side.organization.name, "email": address, "password": "is not it"}
    return side.visitor().post("/api/v1/auth/token/", body, content_type="application/json")  # type: ignore[return-value]


def _have_a_link_sent(side: Side, address: str) -> HttpResponse:
    body = {"organization": side.organization.name, "email": address}
    path = "/api/v1/auth/password-reset/"
    return side.visitor().post(path, body, content_type="application/json")  # type: ignore[return-value]


def _have_it_exported(side: Side, address: str) -> HttpResponse:
    return side.by_token().post("/api/v1/export/")  # type: ignore[return-value]


# Limits per person or organization, and what they limit. The others count client addresses, which
# belong to no organization.
LIMITS: dict[str, Callable[[Side, str], HttpResponse]] = {
    "THROTTLE_MEMBER": _ask,
    "THROTTLE_ORGANIZATION": _ask,
    "THROTTLE_EXPORT": _have_it_exported,
    "THROTTLE_LOGIN_ACCOUNT": _fail_to_log_in,
    "THROTTLE_LOGIN_ORGANIZATION": _fail_to_log_in,
    "LOGIN_FREE_FAILURES": _fail_to_log_in,
    "THROTTLE_MAIL_ACCOUNT": _have_a_link_sent,
    "THROTTLE_MAIL_ORGANIZATION": _have_a_link_sent,
}
ADDRESS_LIMITS = {f"THROTTLE_{name}" for name in ("SIGNUP", "LOOKUP", "REFRESH")} | {
    "THROTTLE_LOGIN_ADDRESS",
    "THROTTLE_MAIL_ADDRESS",
    # Per mailbox, over all organizations on purpose.
    "THROTTLE_MAIL_RECIPIENT",
}


@attempt(FAMILY, "B limited by A's requests, one limit at a time", over=lambda _: [*LIMITS])
def throttled(stage: Stage, name: str) -> str:
    """B is tried with a user of the same id and with the same address."""
    act, address = LIMITS[name], f"{secrets.token_hex(8)}@example.invalid"
    limits = dict.fromkeys([*LIMITS, *ADDRESS_LIMITS]) | {"LOGIN_FREE_FAILURES": 1_000}
    limits[name] = 1 if name == "LOGIN_FREE_FAILURES" else "1/min"
    with override_settings(THROTTLES=True, **limits):
        if not any(act(stage.ours, address).status_code == 429 for _ in range(4)):
            raise Broken("A itself is not slowed down")
        answer = act(stage.theirs, address).status_code
    if answer == 429:
        raise Crossed("B is slowed down too")
    if answer >= 500:
        raise Broken(f"B is answered {answer}")
    return "only A is slowed down"
