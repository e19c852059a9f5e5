"""What a request says about an organization beside its credential. Compared, never obeyed."""

from collections.abc import Iterator

from django.conf import settings
from django.http import HttpRequest

from .context import Tenant

# Headers that clients and proxies of multi-tenant systems commonly send.
HEADERS = ("X-Organization", "X-Organization-Id", "X-Org", "X-Org-Id", "X-Tenant", "X-Tenant-Id")


def other_organization(request: HttpRequest, tenant: Tenant) -> str | None:
    """The header or host that names another organization than `tenant`, or None.

    An organization is named by its slug or its id.
    """
    accepted = {tenant.slug, str(tenant.organization_id)}
    for source, named in _named(request):
        if named not in accepted:
            return source
    return None


def _named(request: HttpRequest) -> Iterator[tuple[str, str]]:
    for header in HEADERS:
        if header in request.headers:
            yield f"The header {header}", request.headers[header].strip().lower()
    base: str = settings.ORG_BASE_DOMAIN
    if base:
        host = request.get_host().rsplit(":", 1)[0].lower().rstrip(".")
        if host.endswith(f".{base}"):
            yield "The host", host.removesuffix(f".{base}")
