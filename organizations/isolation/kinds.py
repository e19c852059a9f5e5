"""Isolation attempts: the list of all kinds of credentials and how each is tried at B.

A new kind gets an entry in KINDS, here or in the tenant app's module `isolation`. `existing()`
finds all kinds in the code.
"""

import ast
import importlib
import importlib.util
import pkgutil
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType

from django.conf import settings
from django.http import HttpResponse
from django.test import Client
from rest_framework_simplejwt.tokens import Token

from accounts import link_tokens, sessions, tokens
from accounts.link_tokens import Purpose
from accounts.links import services as link_services
from accounts.models import LoginSession, User
from organizations import tenancy
from organizations.tenancy import Tenant

from . import rows
from .extensions import merged
from .sides import Side

# Packages that can create credentials, besides the tenant apps.
_PACKAGES = ("organizations",)
# Inspected but not imported: its modules are entry points.
_ENTRY_POINTS = "orgmgmt"
# Salts of keyed hashes that are no credentials.
NO_CREDENTIALS = frozenset(
    {
        "salt:throttles",  # Keys of counters.
        "salt:salt",  # secrets.sign(): each caller's own salt is listed.
        # Opens nothing without the login it names: exports.py tries it.
        "salt:organizations.exports",
        # Brings back the archived organization that it names, and admits nobody.
        "salt:organizations.thaw",
        # Seals a backup's manifest against changes, and admits nobody.
        "salt:organizations.backups.manifest",
        # A link's fingerprint; the link itself has its own salt.
        "salt:f'accounts.links.fingerprint.{purpose}'",
    }
)
# Django's signing functions, with a given or a built-in salt.
_SIGNING = frozenset({"Signer", "TimestampSigner", "set_signed_cookie", "get_cookie_signer"})


@dataclass(frozen=True)
class Kind:
    """One kind of credential.

    covers: its names in `existing()`. issue: a valid one of a side. misdirected: signed for the
    second side's organization over a login of the first's, as a signer could. present: uses it
    where it is accepted; `accepted` is the status of a valid one. use: what reads it inside an
    organization, which must compare the organization in it with the active one.
    """

    covers: frozenset[str]
    issue: Callable[[Side], str]
    misdirected: Callable[[Side, Side], str]
    present: Callable[[Client, str], HttpResponse]
    accepted: int
    use: Callable[[str], object]


def _access(side: Side) -> str:
    return side.tokens()[0]


def _refresh(side: Side) -> str:
    return side.tokens()[1]


def _own_session(side: Side, kind: LoginSession.Kind) -> LoginSession:
    """A login that only this side has, with a random id."""
    with tenancy.override(side.tenant):
        return sessions.start(User.objects.get(pk=rows.ADMIN), kind=kind)


def _pair_for(ours: Side, tenant: Tenant) -> tuple[str, str]:
    return tokens.issue(_own_session(ours, LoginSession.Kind.TOKEN), tenant)


def _cookie_for(ours: Side, tenant: Tenant) -> str:
    return tokens.sign_cookie(_own_session(ours, LoginSession.Kind.BROWSER), tenant)


def _by_bearer(client: Client, raw: str) -> HttpResponse:
    return client.get("/api/v1/me/", headers={"Authorization": f"Bearer {raw}"})  # type: ignore[return-value]


def _by_cookie(client: Client, raw: str) -> HttpResponse:
    client.cookies[settings.ORG_SESSION_COOKIE_NAME] = raw
    return client.get("/api/v1/me/")  # type: ignore[return-value]


def _at_refresh(client: Client, raw: str) -> HttpResponse:
    path = "/api/v1/auth/token/refresh/"
    return client.post(path, {"refresh": raw}, content_type="application/json")  # type: ignore[return-value]


_LINK_SALT = "salt:f'accounts.links.{purpose}'"
_RESET, _VERIFY = "/api/v1/auth/password-reset/confirm/", "/api/v1/auth/email/verify/"


def _new_password() -> str:
    return secrets.token_urlsafe(24)


def _link_for(ours: Side, theirs: Side, purpose: Purpose) -> str:
    """A's link with B's id, signed again, with the fingerprint of A's user and password."""
    signer = link_tokens._signer(purpose)
    content = signer.unsign_object(ours.link(purpose))
    return signer.sign_object({**content, "org": theirs.tenant.organization_id})


def _at(path: str, client: Client, body: dict[str, str]) -> HttpResponse:
    return client.post(path, body, content_type="application/json")  # type: ignore[return-value]


def _use_reset(raw: str) -> object:
    link = link_tokens.read(raw, purpose=Purpose.RESET)
    return link_services.reset_password(link, new_password=_new_password())


KINDS: dict[str, Kind] = {
    "access token": Kind(
        frozenset({"token:access", "login:token"}),
        _access,
        lambda a, b: _pair_for(a, b.tenant)[0],
        _by_bearer,
        200,
        lambda raw: sessions.of(tokens.read_access(raw)),
    ),
    "refresh token": Kind(
        frozenset({"token:refresh", "login:token"}),
        _refresh,
        lambda a, b: _pair_for(a, b.tenant)[1],
        _at_refresh,
        200,
        lambda raw: sessions.rotate(tokens.read_refresh(raw)),
    ),
    "session cookie": Kind(
        frozenset({"salt:accounts.browser-session", "login:browser"}),
        Side.cookie,
        lambda a, b: _cookie_for(a, b.tenant),
        _by_cookie,
        200,
        lambda raw: sessions.of(tokens.read_cookie(raw)),
    ),
    "link for a new password": Kind(
        frozenset({_LINK_SALT, "link:reset"}),
        lambda a: a.link(Purpose.RESET),
        lambda a, b: _link_for(a, b, Purpose.RESET),
        lambda client, raw: _at(_RESET, client, {"token": raw, "new_password": _new_password()}),
        204,
        _use_reset,
    ),
    "link that verifies an address": Kind(
        frozenset({_LINK_SALT, "link:verification"}),
        lambda a: a.link(Purpose.VERIFICATION),
        lambda a, b: _link_for(a, b, Purpose.VERIFICATION),
        lambda client, raw: _at(_VERIFY, client, {"token": raw}),
        204,
        lambda raw: link_services.verify_email(link_tokens.read(raw, purpose=Purpose.VERIFICATION)),
    ),
}


def all_kinds() -> dict[str, Kind]:
    """KINDS, including tenant apps'."""
    return merged(KINDS, "KINDS")


def untried() -> set[str]:
    """Existing credentials that no kind covers."""
    covered = {name for kind in all_kinds().values() for name in kind.covers}
    return existing() - covered - NO_CREDENTIALS


def existing() -> set[str]:
    """Every credential that the code can create.

    `token:` and the JWT type of each token class, `salt:` and the salt of everything signed,
    `unsalted:` and the module that signs without one, `login:` and a kind of login, `link:` and the
    purpose of a mailed link.
    """
    found = {f"login:{kind.value}" for kind in LoginSession.Kind}
    found |= {f"link:{purpose.value}" for purpose in link_tokens.Purpose}
    for package in (*settings.TENANT_APPS, *_PACKAGES):
        for module in _modules(package):
            found |= set(_token_classes(module)) | set(_salts(module))
    root = importlib.import_module(_ENTRY_POINTS)
    for entry_point in pkgutil.walk_packages(root.__path__, f"{_ENTRY_POINTS}."):
        unread = ModuleType(entry_point.name)
        spec = importlib.util.find_spec(entry_point.name)
        unread.__file__ = None if spec is None else spec.origin
        found |= set(_salts(unread))
    return found


def _modules(package: str) -> Iterator[ModuleType]:
    root = importlib.import_module(package)
    yield root
    for found in pkgutil.walk_packages(root.__path__, f"{package}."):
        if ".migrations." not in found.name and ".isolation" not in found.name:
            yield importlib.import_module(found.name)


def _token_classes(module: ModuleType) -> Iterator[str]:
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Token) and value.token_type:
            yield f"token:{value.token_type}"


def _salts(module: ModuleType) -> Iterator[str]:
    """Each salt in the source: its value, or its expression if it is not a name."""
    if module.__file__ is None:
        return
    for node in _calls(module.__file__):
        called = ast.unparse(node.func)
        name = called.rpartition(".")[2]
        salts = [keyword.value for keyword in node.keywords if keyword.arg == "salt"]
        if name == "salted_hmac":
            salts += node.args[:1]
        for salt in salts:
            text = ast.unparse(salt)
            value = ast.literal_eval(text) if isinstance(salt, ast.Constant) else None
            yield f"salt:{value or vars(module).get(text, text)}"
        if not salts and (name in _SIGNING or called in ("signing.dumps", "signing.loads")):
            yield f"unsalted:{module.__name__}"


@cache
def _calls(file: str) -> list[ast.Call]:
    """The calls in a source file that may sign something."""
    with open(file, encoding="utf-8") as source:
        tree = ast.parse(source.read())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [each for each in calls if _may_sign(each)]


def _may_sign(call: ast.Call) -> bool:
    called = call.func.attr if isinstance(call.func, ast.Attribute) else call.func
    name = called.id if isinstance(called, ast.Name) else called
    has_salt = any(keyword.arg == "salt" for keyword in call.keywords)
    return has_salt or name in (*_SIGNING, "salted_hmac", "dumps", "loads")
