"""Test URLs: the project's paths, and views that a tenant app's developer could write."""

from collections.abc import Iterator

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from accounts.models import LoginSession, User
from organizations import tenancy
from orgmgmt.urls import urlpatterns as project_urlpatterns


def _lines() -> Iterator[str]:
    # One row a fetch, and a look at another table in between: every step asks the database.
    for user in User.objects.iterator(chunk_size=1):
        yield f"{user.email} {LoginSession.objects.filter(user=user).count()}\n"


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Its body is produced after every middleware has ended."""
    return StreamingHttpResponse(_lines())


def break_off(request: HttpRequest) -> HttpResponse:
    """Fails with blocks open: a transaction, and an organization entered once more."""
    with tenancy.atomic(), tenancy.override(tenancy.get()):
        User.objects.update(is_active=False)
        raise RuntimeError("on purpose")


def plain(request: HttpRequest) -> HttpResponse:
    """A plain Django view that requires no login."""
    return HttpResponse("\n".join(User.objects.values_list("email", flat=True)))


urlpatterns = [
    path("test/stream", stream),
    path("test/plain", plain),
    path("test/break-off", break_off),
    *project_urlpatterns,
]
