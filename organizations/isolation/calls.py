"""Isolation attempts: the list of all HTTP endpoints and how each is attacked.

A new endpoint gets an entry in CALLS, here or in the tenant app's module `isolation`. `audience`
says what must happen to a stranger's call.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from django.conf import settings
from django.contrib.admindocs.views import simplify_regex
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.link_tokens import Purpose
from organizations import tenancy

from .extensions import merged
from .outcome import Crossed
from .rows import MEMBER
from .sides import Side

# Names that other systems use for a header that names an organization.
HEADERS = (
    "X-Organization",
    "X-Organization-Id",
    "X-Organization-Name",
    "X-Org",
    "X-Org-Slug",
    "X-Tenant",
    "X-Tenant-Id",
)

Audience = Literal["member", "staff", "login", "refresh", "open"]


@dataclass(frozen=True)
class Call:
    """One request to one endpoint.

    audience: `member` for the organization's own users, `staff` for no user, `login` with a
    password and `refresh` with a token in the body, `open` for everybody without a tenant.
    status: the expected status for alpha's admin, which proves that an attack reaches its goal.
    body: built from alpha (the caller) and beta (named wherever possible).
    """

    audience: Audience
    status: int
    body: Callable[[Side, Side], dict[str, Any]] | None = None
    query: Callable[[Side, Side], dict[str, str]] | None = None
    form: bool = False
    path: str | None = None
    lists: bool = False


def _credentials(ours: Side, theirs: Side) -> dict[str, Any]:
    return {"email": ours.admin_email, "password": ours.password}


def _token(ours: Side, theirs: Side) -> dict[str, Any]:
    return {"organization": ours.organization.name, **_credentials(ours, theirs)}


def _new_user(ours: Side, theirs: Side) -> dict[str, Any]:
    return {"email": f"new@{ours.domain}", "password": "another good passphrase"}


def _address(ours: Side, theirs: Side) -> dict[str, Any]:
    return {"organization": ours.organization.name, "email": ours.admin_email}


_NEW_PASSWORD = "another good passphrase"  # noqa: S105 - of throw-away users


def _reset(ours: Side, theirs: Side) -> dict[str, Any]:
    return {"token": ours.link(Purpose.RESET), "new_password": _NEW_PASSWORD}


_ONE_USER = f"/api/v1/users/{MEMBER}/"
_ORGANIZATION = "/api/v1/organizations/{theirs}/"

CALLS: dict[str, Call] = {
    "GET /": Call("open", 200),
    "GET /health": Call("open", 200),
    "GET /ready": Call("open", 200),
    "GET /openapi.json": Call("open", 200),
    "GET /.well-known/security.txt": Call("open", 200),
    "GET /docs": Call("open", 200),
    "GET /redoc": Call("open", 200),
    "ANY /admin": Call("open", 302),
    "POST /org/create": Call(
        "open", 409, lambda a, b: {**_credentials(a, b), "organization_name": a.organization.name}
    ),
    "GET /org/create/status/<str:token>": Call("open", 404, path="/org/create/status/guess"),
    "POST /org/get": Call("open", 200, lambda a, b: {"organization_name": a.organization.name}),
    "GET /admin/login": Call("open", 302),
    "POST /admin/login": Call(
        "login", 200, _credentials, lambda a, b: {"organization_name": a.organization.name}
    ),
    "GET /api/login/": Call("open", 200),
    "POST /api/login/": Call("login", 302, _token, form=True),
    "GET /api/password-reset/": Call("open", 200),
    "POST /api/password-reset/": Call("login", 200, _address, form=True),
    "GET /api/password-reset/confirm/": Call("open", 400),
    "POST /api/password-reset/confirm/": Call(
        "refresh", 200, lambda a, b: {**_reset(a, b), "again": _NEW_PASSWORD}, form=True
    ),
    "GET /api/email/verify/": Call("open", 400),
    "POST /api/email/verify/": Call(
        "refresh", 200, lambda a, b: {"token": a.link(Purpose.VERIFICATION)}, form=True
    ),
    "GET /api/thaw/": Call("open", 400),
    "POST /api/thaw/": Call("open", 400, lambda a, b: {"token": "guess"}, form=True),
    "ANY /api/logout/": Call("open", 302),
    "GET /api/v1/": Call("member", 200),
    "POST /api/v1/auth/token/": Call("login", 200, _token),
    "POST /api/v1/auth/token/refresh/": Call(
        "refresh", 200, lambda a, b: {"refresh": a.tokens()[1]}
    ),
    "POST /api/v1/auth/logout/": Call("member", 204, lambda a, b: {}),
    "POST /api/v1/auth/password-reset/": Call("login", 202, _address),
    "POST /api/v1/auth/password-reset/confirm/": Call("refresh", 204, _reset),
    "POST /api/v1/auth/email/verify/": Call(
        "refresh", 204, lambda a, b: {"token": a.link(Purpose.VERIFICATION)}
    ),
    "POST /api/v1/org/thaw-link/": Call(
        "open", 202, lambda a, b: {"organization_name": a.organization.name}
    ),
    "POST /api/v1/org/thaw/": Call("open", 400, lambda a, b: {"token": "guess"}),
    "GET /api/v1/org/thaw/<str:token>/": Call("open", 400, path="/api/v1/org/thaw/guess/"),
    "POST /api/v1/me/email/verification/": Call("member", 202, lambda a, b: {}),
    "GET /api/v1/me/": Call("member", 200),
    "PATCH /api/v1/me/": Call(
        "member",
        200,
        lambda a, b: {"email": f"changed@{a.domain}", "current_password": a.password},
    ),
    "POST /api/v1/me/password/": Call(
        "member",
        200,
        lambda a, b: {"current_password": a.password, "new_password": "another good passphrase"},
    ),
    "GET /api/v1/users/": Call("member", 200, lists=True),
    "POST /api/v1/users/": Call("member", 201, _new_user),
    "GET /api/v1/users/<pk>/": Call("member", 200, path=_ONE_USER),
    "PUT /api/v1/users/<pk>/": Call("member", 200, _new_user, path=_ONE_USER),
    "PATCH /api/v1/users/<pk>/": Call(
        "member", 200, lambda a, b: {"is_active": False}, path=_ONE_USER
    ),
    "DELETE /api/v1/users/<pk>/": Call("member", 204, path=_ONE_USER),
    "GET /api/v1/organization/": Call("member", 200),
    "GET /api/v1/audit/": Call("member", 200, lists=True),
    "GET /api/v1/export/": Call("member", 200),
    "POST /api/v1/export/": Call("member", 202, lambda a, b: {}),
    # Valid links are tried in exports.py.
    "GET /api/v1/export/<str:token>/": Call("member", 404, path="/api/v1/export/guess/"),
    "GET /api/v1/organizations/": Call("staff", 403, lists=True),
    "POST /api/v1/organizations/": Call(
        "staff", 403, lambda a, b: {**_credentials(a, b), "organization_name": b.organization.name}
    ),
    "GET /api/v1/organizations/<id_or_slug>/": Call("staff", 403, path=_ORGANIZATION),
    **{
        f"POST /api/v1/organizations/<id_or_slug>/{act}/": Call(
            "staff", 403, lambda a, b: {"name": a.organization.name}, path=f"{_ORGANIZATION}{act}/"
        )
        for act in ("suspend", "resume", "rename", "restore", "clone", "delete", "undelete")
        + ("backup", "verify", "export", "archive", "thaw")
    },
    **{
        f"GET /api/v1/organizations/<id_or_slug>/{act}/": Call(
            "staff", 403, path=f"{_ORGANIZATION}{act}/"
        )
        for act in ("restore", "clone", "backups", "archive", "thaw")
    },
}


def all_calls() -> dict[str, Call]:
    """CALLS, including tenant apps'."""
    return merged(CALLS, "CALLS")


def endpoints() -> set[str]:
    """`METHOD path` of every endpoint except Django admin's own pages.

    `ANY` for a plain function or a view with one handler for all methods; HEAD and OPTIONS follow
    from the others.
    """
    return {
        f"{method} {path}"
        for path, pattern in _patterns(get_resolver(settings.ROOT_URLCONF).url_patterns, "")
        for method in _methods(pattern)
    }


def _patterns(
    patterns: list[URLPattern | URLResolver], prefix: str
) -> Iterator[tuple[str, URLPattern]]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            if pattern.namespace != "admin":
                yield from _patterns(pattern.url_patterns, prefix + str(pattern.pattern))
        elif pattern.callback.__name__ != "not_found":
            yield simplify_regex(prefix + str(pattern.pattern)), pattern


def _methods(pattern: URLPattern) -> set[str]:
    callback: Any = pattern.callback
    if actions := getattr(callback, "actions", None):
        return {method.upper() for method in actions if method != "head"}
    view = getattr(callback, "cls", None) or getattr(callback, "view_class", None)
    if view is None or view.__name__ == "RedirectView":
        return {"ANY"}
    names = set(view.http_method_names) - {"head", "options"}
    return {name.upper() for name in names if hasattr(view, name)}


def send(client: Client, key: str, ours: Side, theirs: Side, **extra: Any) -> HttpResponse:
    """Send the call with this key as `client`. extra: arguments of Client.generic, and headers."""
    call = all_calls()[key]
    method, _, path = key.partition(" ")
    path = (call.path or path).format(theirs=theirs.organization.pk)
    options: dict[str, Any] = dict(extra)
    if call.query is not None:
        options["query_params"] = call.query(ours, theirs)
    if call.body is not None:
        options["data"] = call.body(ours, theirs)
        if not call.form:
            options["content_type"] = "application/json"
    request = getattr(client, "post" if method == "ANY" else method.lower())
    response: HttpResponse = request(path, **options)
    if tenancy.peek() is not None:
        raise Crossed(f"{key} left an organization active")
    return response


def pointing_headers(theirs: Side) -> Iterator[dict[str, str]]:
    """Every such header, naming beta by slug and by id."""
    for header in HEADERS:
        yield {header: theirs.tenant.slug}
        yield {header: str(theirs.tenant.organization_id)}
