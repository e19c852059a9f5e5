"""Reads which organization and client address a request names. Compared, never trusted."""

import ipaddress
import re
from collections.abc import Iterator

from django.conf import settings
from django.http import HttpRequest
from django.http.multipartparser import MultiPartParserError

from . import directory
from .tenant import Tenant

# Some proxies add the client's port: 192.0.2.1:4711, [2001:db8::1]:4711.
_WITH_PORT = re.compile(r"([0-9.]+):\d{1,5}|\[([^\[\]]+)\](?::\d{1,5})?")
# Headers that clients and proxies of multi-tenant systems commonly send: X-Organization, X-Org-Id…
_NAMING_HEADER = re.compile(r"X-(Org|Organization|Tenant)(-.*)?", re.IGNORECASE)
_SLUG = re.compile(r"[a-z0-9-]{1,50}")
# The hidden form field with the id of the organization that the form was made for.
FORM_FIELD = "_organization"
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def other_organization(request: HttpRequest, tenant: Tenant) -> str | None:
    """The header or host that names another organization than `tenant`, by slug or id; or None.

    A recent former slug names it too, and is looked up in the master.
    """
    accepted = {tenant.slug, str(tenant.organization_id)}
    for source, named in _named(request):
        if named in accepted:
            continue
        if not _SLUG.fullmatch(named) or not directory.get().was_called(tenant, named):
            return source
        accepted.add(named)
    return None


def is_form_of_another(request: HttpRequest, tenant: Tenant) -> bool:
    """Whether the posted form names another organization than `tenant`."""
    if request.method != "POST" or request.content_type not in _FORMS:
        return False
    try:
        named = request.POST.get(FORM_FIELD)
    except MultiPartParserError:
        return False  # The view's parser will report it.
    return named is not None and named != str(tenant.organization_id)


def _named(request: HttpRequest) -> Iterator[tuple[str, str]]:
    for header, value in request.headers.items():
        if _NAMING_HEADER.fullmatch(header):
            yield f"The header {header}", value.strip().lower()
    base: str = settings.ORG_BASE_DOMAIN
    if base:
        host = request.get_host().rsplit(":", 1)[0].lower().rstrip(".")
        if host.endswith(f".{base}"):
            yield "The host", host.removesuffix(f".{base}")


def client_address(request: HttpRequest) -> str | None:
    """The client's IP address; None over a unix socket, or if a proxy sent an invalid one.

    With TRUSTED_PROXY_HOPS proxies in front, each of which appends to X-Forwarded-For, the entry
    written by the outermost: earlier entries are the client's and ignored.
    """
    hops: int = settings.TRUSTED_PROXY_HOPS
    text = request.META.get("REMOTE_ADDR", "")
    if hops:
        forwarded = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",")]
        text = forwarded[-hops] if len(forwarded) >= hops else forwarded[0] or text
    if match := _WITH_PORT.fullmatch(text):
        text = match[1] or match[2]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
