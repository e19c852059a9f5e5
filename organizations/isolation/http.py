"""Isolation attempts: A's requests that name B in bodies, paths, headers, hosts and filters."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.conf import settings
from django.http import HttpResponse
from django.test import Client
from django.test.utils import override_settings
from django.utils import timezone

from accounts.models import LoginSession
from organizations import tenancy

from .attempts import attempt
from .calls import Call, all_calls, endpoints, pointing_headers, send
from .credentials import asks_for_a_mail, code_of, refusal, refuse_errors, written_to
from .kinds import all_kinds
from .outcome import Broken, Crossed
from .stage import Stage

FAMILY = "http"
# Proxies' headers about where a request came in; they must not select an organization.
_FORWARDED = ("X-Forwarded-Host", "X-Original-Host", "X-Host", "Forwarded")
_FILTERS = (
    {"search": "{domain}"},
    {"search": "example"},
    {"ordering": "-email"},
    {"page_size": "500"},
    {"email__contains": "{domain}", "id__gt": "0", "organization": "{id}", "org": "{id}"},
)


def with_audience(*audiences: str) -> list[str]:
    return [key for key, call in all_calls().items() if call.audience in audiences]


def some_headers(stage: Stage, key: str) -> Iterator[dict[str, str]]:
    """Two of the headers, by slug and by id; others for each endpoint, so that all are tried."""
    every = list(pointing_headers(stage.theirs))
    start = 2 * list(all_calls()).index(key)
    return (every[(start + step) % len(every)] for step in range(4))


def everything(stage: Stage) -> Sequence[str]:
    return [*all_calls(), *sorted(endpoints() - set(all_calls()))]


def needing_a_login(stage: Stage) -> Sequence[str]:
    return with_audience("member", "staff")


def call_of(key: str) -> Call:
    """The call. Raises Broken for an endpoint without an entry."""
    try:
        return all_calls()[key]
    except KeyError:
        raise Broken(
            "not tried: add it to CALLS in organizations/isolation/calls.py, or in the module "
            "`isolation` of its app"
        ) from None


def both_log_ins(stage: Stage) -> Iterator[Client]:
    yield stage.ours.by_token()
    yield stage.ours.by_cookie()


@attempt(FAMILY, "A's call that names B in path and body", over=everything)
def named_in_the_call(stage: Stage, key: str) -> str:
    call, how = call_of(key), set()
    for client in both_log_ins(stage):
        answer = send(client, key, stage.ours, stage.theirs)
        if stage.theirs.traces_in(answer.content):
            raise Crossed(f"answered {answer.status_code} with something of B's")
        expect(call, answer)
        how.add(str(answer.status_code))
        stage.settle()
    return f"{', '.join(sorted(how))}, nothing of B's"


def expect(call: Call, answer: HttpResponse) -> None:
    """Check the status for the organization's own users; a setting can close an open call."""
    refuse_errors(answer)
    if call.audience == "staff" and answer.status_code == 200:
        raise Crossed("served as if A's admin were the platform's staff")
    closed = call.audience == "open" and answer.status_code in (401, 403, 404)
    if answer.status_code != call.status and not closed:
        raise Broken(f"answered {answer.status_code}, expected {call.status}")


@attempt(FAMILY, "A's credential with a header that names B", over=needing_a_login)
def header(stage: Stage, key: str) -> str:
    for client in both_log_ins(stage):
        for headers in some_headers(stage, key):
            answer = send(client, key, stage.ours, stage.theirs, headers=headers)
            _expect_mismatch(stage, answer, str(headers))
    _expect_control(stage, key)
    return "403 organization_mismatch"


def _expect_mismatch(stage: Stage, answer: HttpResponse, what: str) -> None:
    how = refusal(answer, stage.theirs)
    if how != "403 organization_mismatch":
        raise Crossed(f"{what}: answered {how}, not a mismatch")


def _expect_control(stage: Stage, key: str) -> None:
    """A control: without naming B, A's call works."""
    expect(call_of(key), send(stage.ours.by_token(), key, stage.ours, stage.theirs))


@attempt(FAMILY, "A's credential at B's host", over=needing_a_login)
def host(stage: Stage, key: str) -> str:
    with base_domain() as base:
        there = {"host": f"{stage.theirs.tenant.slug}.{base}"}
        at_home = {"host": f"{stage.ours.tenant.slug}.{base}"}
        for client in both_log_ins(stage):
            answer = send(client, key, stage.ours, stage.theirs, headers=there)
            _expect_mismatch(stage, answer, "B's host")
        answer = send(stage.ours.by_token(), key, stage.ours, stage.theirs, headers=at_home)
        expect(call_of(key), answer)
    return "403 organization_mismatch"


def _with_each_header(stage: Stage, key: str) -> None:
    for headers in some_headers(stage, key):
        send(stage.ours.visitor(), key, stage.ours, stage.theirs, headers=headers)


@contextmanager
def base_domain() -> Iterator[str]:
    """ORG_BASE_DOMAIN, or one of this process's own if unset."""
    base = settings.ORG_BASE_DOMAIN or "base-domain.invalid"
    with override_settings(
        ORG_BASE_DOMAIN=base, ALLOWED_HOSTS=[*settings.ALLOWED_HOSTS, f".{base}"]
    ):
        yield base


@attempt(FAMILY, "A login of A's that has ended", over=needing_a_login)
def ended(stage: Stage, key: str) -> str:
    for client in both_log_ins(stage):
        with tenancy.override(stage.ours.tenant):
            LoginSession.objects.update(ended_at=timezone.now())
        answer = send(client, key, stage.ours, stage.theirs)
        refuse_errors(answer)
        if answer.status_code != 401:
            raise Crossed(f"answered {answer.status_code}, as if it went on")
        stage.settle()
    _expect_control(stage, key)
    return "401"


@attempt(
    FAMILY,
    "A's password or refresh token with a header that names B",
    over=lambda stage: with_audience("login", "refresh"),
)
def header_beside_a_body(stage: Stage, key: str) -> str:
    before = stage.ours.contents()
    if settings.ORG_PUBLIC_LOOKUP == "off" and asks_for_a_mail(stage, key):
        # Then strangers learn neither about organizations nor about a mismatch.
        if written_to(lambda: _with_each_header(stage, key)):
            raise Crossed("a mail was written")
        return "no mail"
    for headers in some_headers(stage, key):
        client = stage.ours.visitor()
        answer = send(client, key, stage.ours, stage.theirs, headers=headers)
        refuse_errors(answer)
        if answer.status_code != 403 or b"another organization" not in answer.content:
            raise Crossed(f"{headers}: answered {answer.status_code}")
    if stage.ours.contents() != before:
        raise Crossed("a refused call has changed something")
    expect(call_of(key), send(stage.ours.visitor(), key, stage.ours, stage.theirs))
    return "403, names another organization"


@attempt(FAMILY, "A header that names B without a credential", over=everything)
def header_alone(stage: Stage, key: str) -> str:
    call, how = call_of(key), set()
    forwarded = dict.fromkeys(_FORWARDED, f"{stage.theirs.tenant.slug}.invalid")
    for headers in (*some_headers(stage, key), forwarded):
        client = stage.ours.visitor()
        answer = send(client, key, stage.ours, stage.theirs, headers=headers)
        if stage.theirs.traces_in(answer.content):
            raise Crossed(f"{headers}: answered {answer.status_code} with something of B's")
        refuse_errors(answer)
        # The API index contains only paths.
        closed = call.audience in ("member", "staff") and key != "GET /api/v1/"
        if closed and answer.status_code not in (401, 403):
            raise Crossed(f"{headers}: answered {answer.status_code}")
        how.add(str(answer.status_code))
    return f"{', '.join(sorted(how))}, nothing of B's"


@attempt(FAMILY, "A credential for B that names a login of A's", over=needing_a_login)
def misdirected(stage: Stage, key: str) -> str:
    how = set()
    kinds = all_kinds()
    raw = kinds["access token"].misdirected(stage.ours, stage.theirs)
    client = stage.theirs.visitor()
    headers = {"Authorization": f"Bearer {raw}"}
    how.add(refusal(send(client, key, stage.ours, stage.theirs, headers=headers), stage.theirs))
    client = stage.theirs.visitor()
    client.cookies[settings.ORG_SESSION_COOKIE_NAME] = kinds["session cookie"].misdirected(
        stage.ours, stage.theirs
    )
    how.add(refusal(send(client, key, stage.ours, stage.theirs), stage.theirs))
    return ", ".join(sorted(how))


@attempt(
    FAMILY,
    "A's lists, filtered and searched for B",
    over=lambda stage: [key for key, call in all_calls().items() if call.lists],
)
def filtered(stage: Stage, key: str) -> str:
    facts = {"domain": stage.theirs.domain, "id": stage.theirs.organization.pk}
    client = stage.ours.by_token()
    for query in _FILTERS:
        filled = {name: value.format(**facts) for name, value in query.items()}
        answer = send(client, key, stage.ours, stage.theirs, query_params=filled)
        # The search term may be repeated only in the page links.
        listed = json.dumps(_listed(answer)).encode()
        if stage.theirs.traces_in(listed):
            raise Crossed(f"{', '.join(query)}: rows of B's")
        expect(call_of(key), answer)
    return f"{answer.status_code} {code_of(answer)}, only A's rows".replace(" ,", ",")


def _listed(answer: HttpResponse) -> object:
    body = json.loads(answer.content)
    return body.get("results", body) if isinstance(body, dict) else body


@attempt(
    FAMILY,
    "A's admin user in Django admin",
    over=lambda stage: ["/admin/", "/admin/organizations/organization/"],
)
def staff_admin(stage: Stage, path: str) -> str:
    for client in both_log_ins(stage):
        answer = client.get(path)
        if answer.status_code != 302 or not answer["Location"].startswith("/admin/login/"):
            raise Crossed(f"answered {answer.status_code}")
    return "302 to the staff login"
