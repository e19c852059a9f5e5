"""Isolation attempts: A's tokens, cookies and passwords used at B."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID

import jwt
from django.conf import settings
from django.core import mail
from django.http import HttpResponse
from django.test import Client

from accounts import tokens
from accounts.errors import InvalidLink, InvalidToken
from accounts.models import LoginSession
from organizations import tenancy

from . import rows
from .attempts import attempt
from .calls import all_calls, send
from .kinds import Kind, all_kinds, untried
from .outcome import Broken, Crossed
from .sides import Side
from .stage import Stage

FAMILY = "credentials"
# How an admin is logged in, and by which login.
_LOGINS: tuple[tuple[Callable[[Side], Client], UUID], ...] = (
    (Side.by_token, rows.TOKEN_SESSION),
    (Side.by_cookie, rows.BROWSER_SESSION),
)


def kinds(stage: Stage) -> Sequence[str]:
    return [*all_kinds(), *sorted(untried())]


def kind_named(name: str) -> Kind:
    """The kind. Raises Broken if it exists but has no entry."""
    try:
        return all_kinds()[name]
    except KeyError:
        raise Broken(
            "not tried: add it to KINDS in organizations/isolation/kinds.py, or in the module "
            "`isolation` of its app"
        ) from None


def expect_accepted(kind: Kind, side: Side) -> None:
    """The positive control: a valid one is accepted. Uses up the login; the stage is reset."""
    answer = kind.present(side.visitor(), kind.issue(side))
    if answer.status_code != kind.accepted:
        raise Broken(f"a valid one is answered {answer.status_code} too")


def refusal(answer: HttpResponse, theirs: Side) -> str:
    """How the response refuses. Raises Crossed if it does not, Broken for an error."""
    if theirs.traces_in(answer.content):
        raise Crossed(f"answered {answer.status_code} with something of B's")
    refuse_errors(answer)
    if answer.status_code not in (400, 401, 403, 404):
        raise Crossed(f"answered {answer.status_code}")
    return f"{answer.status_code} {code_of(answer)}".strip()


def refuse_errors(answer: HttpResponse) -> None:
    """Raise Broken if the response proves nothing."""
    if answer.status_code >= 500 or answer.status_code == 429:
        error = (getattr(answer, "exc_info", None) or (None, None))[1]
        raise Broken(f"answered {answer.status_code}{f' ({error!r:.120})' if error else ''}")


def code_of(answer: HttpResponse) -> str:
    """The `code` of an error response."""
    try:
        return str(json.loads(answer.content).get("code", ""))
    except (ValueError, AttributeError):
        return ""


@attempt(FAMILY, "A's login in a credential for B, correctly signed", over=kinds)
def misdirected(stage: Stage, name: str) -> str:
    kind = kind_named(name)
    expect_accepted(kind, stage.theirs)
    stage.plant()
    raw = kind.misdirected(stage.ours, stage.theirs)
    return refusal(kind.present(stage.theirs.visitor(), raw), stage.theirs)


@attempt(FAMILY, "A's credential used inside B, which has a login with the same id", over=kinds)
def used_inside(stage: Stage, name: str) -> str:
    kind = kind_named(name)
    raw = kind.issue(stage.ours)
    with tenancy.override(stage.ours.tenant):
        kind.use(raw)  # A control: it is valid at home.
    stage.plant()
    raw = kind.issue(stage.ours)
    with tenancy.override(stage.theirs.tenant):
        try:
            kind.use(raw)
        except (InvalidToken, InvalidLink) as error:
            return type(error).__name__
    raise Crossed("it found B's login")


@attempt(FAMILY, "A's credential with B's id written into it", over=kinds)
def tampered(stage: Stage, name: str) -> str:
    kind = kind_named(name)
    expect_accepted(kind, stage.ours)
    stage.plant()
    raw = with_organization(kind.issue(stage.ours), stage.theirs.tenant.organization_id)
    return refusal(kind.present(stage.theirs.visitor(), raw), stage.theirs)


def with_organization(raw: str, organization_id: int) -> str:
    """The credential with another organization in its payload and the old signature."""
    for separator in (".", ":"):
        parts = raw.split(separator)
        for index, part in enumerate(parts):
            try:
                payload = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
            except (ValueError, binascii.Error):
                continue
            if isinstance(payload, dict) and "org" in payload:
                payload["org"] = organization_id
                encoded = base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b"=")
                return separator.join([*parts[:index], encoded.decode(), *parts[index + 1 :]])
    raise Broken("no organization could be found in it")


@attempt(FAMILY, "An unsigned token for B (alg none)")
def unsigned(stage: Stage, subject: str) -> str:
    expect_accepted(all_kinds()["access token"], stage.theirs)
    good = stage.theirs.tokens()[0]
    payload = jwt.decode(good, options={"verify_signature": False})
    kid = jwt.get_unverified_header(good).get("kid")
    raw = jwt.encode(payload, key="", algorithm="none", headers={"kid": kid})
    return refusal(_by_bearer(stage.theirs, raw), stage.theirs)


def _by_bearer(side: Side, raw: str) -> HttpResponse:
    return all_kinds()["access token"].present(side.visitor(), raw)


@attempt(FAMILY, "A token that names a user but no organization")
def nobodys(stage: Stage, subject: str) -> str:
    how = set()
    good = jwt.decode(stage.theirs.tokens()[0], options={"verify_signature": False})
    for made in (tokens.OrgAccessToken(), tokens.OrgRefreshToken()):
        for claim in ("sid", "ver"):
            made[claim] = good[claim]
        made["user_id"] = str(rows.ADMIN)  # The claim that simplejwt itself uses.
        answer = _by_bearer(stage.theirs, str(made))
        how.add(refusal(answer, stage.theirs))
    return ", ".join(sorted(how))


@attempt(FAMILY, "A's token and B's cookie in one request: only A answers")
def both(stage: Stage, subject: str) -> str:
    client = stage.ours.by_token()
    client.cookies = stage.theirs.by_cookie().cookies
    answer = client.get("/api/v1/me/")
    if stage.theirs.traces_in(answer.content) or answer.status_code != 200:
        raise Crossed(f"answered {answer.status_code} as B")
    return "A's own answer"


@attempt(FAMILY, "A's cookie without the page's CSRF token")
def without_csrf(stage: Stage, subject: str) -> str:
    change = {"email": f"x@{stage.ours.domain}", "current_password": stage.ours.password}
    for client in (stage.ours.by_cookie(), stage.ours.by_cookie(checks_csrf=True)):
        answer = client.patch("/api/v1/me/", change, content_type="application/json")
        if not client.handler.enforce_csrf_checks and answer.status_code != 200:
            raise Broken(f"with one it is answered {answer.status_code} too")
    if answer.status_code == 200:
        raise Crossed("another site can act as A's admin")
    return refusal(answer, stage.theirs)  # type: ignore[arg-type]


@attempt(FAMILY, "A's refresh token used twice: A's login ends, B's with the same id continues")
def reused(stage: Stage, subject: str) -> str:
    kind, raw = all_kinds()["refresh token"], stage.ours.tokens()[1]
    answers = [kind.present(stage.ours.visitor(), raw).status_code for _ in range(2)]
    if answers != [200, 401]:
        raise Broken(f"answered {answers[0]} and {answers[1]}, expected 200 and 401")
    return goes_on(stage.theirs.by_token())


@attempt(FAMILY, "A's logout: A's login ends, B's with the same id continues")
def logged_out(stage: Stage, subject: str) -> str:
    """By token, by cookie and by a refresh token in the body, at the API and on the page."""
    for key in ("POST /api/v1/auth/logout/", "ANY /api/logout/"):
        for logged_in, pk in _LOGINS:
            answer = send(logged_in(stage.ours), key, stage.ours, stage.theirs)
            with tenancy.override(stage.ours.tenant):
                ended = LoginSession.objects.exclude(ended_at=None).values_list("pk", flat=True)
                ended_alone = [*ended] == [pk]
            if answer.status_code != all_calls()[key].status or not ended_alone:
                raise Broken(f"{key} answered {answer.status_code}, and A's login goes on")
            goes_on(logged_in(stage.theirs))
            stage.settle()
    kind = all_kinds()["refresh token"]
    if (found := _log_out(stage.ours, kind.issue(stage.ours)).status_code) != 204:
        raise Broken(f"a refresh token in the body is answered {found}")
    stage.settle()
    refusal(_log_out(stage.theirs, kind.misdirected(stage.ours, stage.theirs)), stage.theirs)
    return goes_on(stage.theirs.by_token())


def _log_out(side: Side, refresh: str) -> HttpResponse:
    """By a refresh token in the body."""
    path, body = "/api/v1/auth/logout/", {"refresh": refresh}
    return side.visitor().post(path, body, content_type="application/json")  # type: ignore[return-value]


def goes_on(client: Client) -> str:
    if client.get("/api/v1/me/").status_code != 200:
        raise Crossed("B's login has ended")
    return "B's login goes on"


@attempt(
    FAMILY,
    "A's address and password at B's login",
    over=lambda stage: [key for key in logins(stage) if not asks_for_a_mail(stage, key)],
)
def password(stage: Stage, key: str) -> str:
    wanted = all_calls()[key].status
    answer = send(stage.theirs.visitor(), key, stage.theirs, stage.theirs)
    if answer.status_code != wanted:
        raise Broken(f"B's own are answered {answer.status_code}")
    stage.plant()
    stranger = replace(stage.ours, organization=stage.theirs.organization)
    answer = send(stage.theirs.visitor(), key, stranger, stage.theirs)
    if answer.status_code == wanted or settings.ORG_SESSION_COOKIE_NAME in answer.cookies:
        raise Crossed(f"answered {answer.status_code}")
    refuse_errors(answer)
    # The login form repeats the typed name: no trace of B.
    if answer.status_code not in (401, 403):
        raise Broken(f"answered {answer.status_code}")
    return f"{answer.status_code} {code_of(answer)}".strip()


def logins(stage: Stage) -> list[str]:
    return [key for key, call in all_calls().items() if call.audience == "login"]


def asks_for_a_mail(stage: Stage, key: str) -> bool:
    """Whether the call takes an address but no password."""
    call = all_calls()[key]
    body = call.body(stage.ours, stage.theirs) if call.body else {}
    return call.audience == "login" and "password" not in body


@attempt(
    FAMILY,
    "A's address in B's requests for a mailed link",
    over=lambda stage: [key for key in logins(stage) if asks_for_a_mail(stage, key)],
)
def mailed(stage: Stage, key: str) -> str:
    """The response is the same on purpose; check whether a mail is written."""
    addressed = _addressed_by(stage, key, stage.theirs)
    if addressed != {stage.theirs.admin_email}:
        raise Broken("B's own get no mail")
    stranger = replace(stage.ours, organization=stage.theirs.organization)
    if _addressed_by(stage, key, stranger):
        raise Crossed("a mail was written")
    return "no mail"


def _addressed_by(stage: Stage, key: str, who: Side) -> set[str]:
    return written_to(lambda: refuse_errors(send(stage.theirs.visitor(), key, who, stage.theirs)))


def written_to(act: Callable[[], object]) -> set[str]:
    """The recipients of mails written because of the act; none are sent from this process."""
    before = len(getattr(mail, "outbox", []))
    act()
    return {address for each in getattr(mail, "outbox", [])[before:] for address in each.to}


@attempt(FAMILY, "A login of A's looked up in B by its id", over=kinds)
def same_id(stage: Stage, name: str) -> str:
    kind = kind_named(name)
    raw = kind.misdirected(stage.ours, stage.theirs)
    with tenancy.override(stage.theirs.tenant):
        try:
            kind.use(raw)
        except (InvalidToken, InvalidLink) as error:
            return type(error).__name__
    raise Crossed("B took a login that it does not have")
