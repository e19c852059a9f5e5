"""Isolation attempts: A keeps reading after its suspension: queries, streams, jobs."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from asgiref.sync import sync_to_async
from django.db import Error as DatabaseError
from django.db import connections

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.errors import OrganizationSuspended
from organizations.models import Organization
from organizations.tenancy import directory

from .attempts import attempt
from .outcome import Broken, Crossed
from .stage import Stage

FAMILY = "suspended"
# Each reads, pauses, and returns whether it could read again.
Work = Callable[[Stage, Callable[[], None]], bool]
_SECONDS = 20.0


def _request(stage: Stage, pause: Callable[[], None]) -> bool:
    client = stage.ours.by_token()
    if client.get("/api/v1/me/").status_code != 200:
        return False
    pause()
    return bool(client.get("/api/v1/me/").status_code == 200)


def _query(stage: Stage, pause: Callable[[], None]) -> bool:
    """The suspension comes while it runs."""
    with _as_a_request(stage), tenancy.connection().cursor() as cursor:
        cursor.execute("SELECT 1")
        begun = threading.Thread(target=pause)
        begun.start()
        cursor.execute("SELECT pg_sleep(%s)", [_SECONDS])
    return True


def _transaction(stage: Stage, pause: Callable[[], None]) -> bool:
    with _as_a_request(stage), tenancy.atomic():
        User.objects.exists()
        pause()
        return User.objects.exists()


def _stream(stage: Stage, pause: Callable[[], None]) -> bool:
    def rows() -> Iterator[bool]:
        yield User.objects.exists()
        yield User.objects.exists()

    steps = tenancy.iterate(directory.get().tenant_by_id(stage.ours.organization.pk), rows())
    next(steps)
    pause()
    return next(steps)


def _async_view(stage: Stage, pause: Callable[[], None]) -> bool:
    tenant = directory.get().tenant_by_id(stage.ours.organization.pk)

    async def view() -> bool:
        with tenancy.override(tenant):
            await sync_to_async(User.objects.exists)()
            await asyncio.to_thread(pause)
            return await sync_to_async(User.objects.exists)()

    return asyncio.run(view())


def _job(stage: Stage, pause: Callable[[], None]) -> bool:
    """A job may run again meanwhile; what it had begun is ended."""
    with tenancy.override(stage.ours.tenant), tenancy.atomic():
        User.objects.exists()
        pause()
        return User.objects.exists()


_KINDS: dict[str, Work] = {
    "a request with a kept connection": _request,
    "a running query": _query,
    "an open transaction": _transaction,
    "a streamed body": _stream,
    "an async view": _async_view,
    "a job": _job,
}


def _as_a_request(stage: Stage) -> tenancy.override:
    return tenancy.override(directory.get().tenant_by_id(stage.ours.organization.pk))


def kinds(stage: Stage) -> Sequence[str]:
    return list(_KINDS)


@attempt(FAMILY, "A goes on reading after it was suspended", over=kinds)
def goes_on(stage: Stage, kind: str) -> str:
    pauses, goes = threading.Event(), threading.Event()

    def pause() -> None:
        pauses.set()
        goes.wait(_SECONDS)

    def work() -> bool:
        try:
            return _KINDS[kind](stage, pause)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(work)
        if not pauses.wait(_SECONDS):
            raise Broken("it did not read before the suspension")
        if kind == "a running query":
            time.sleep(0.2)
        row = Organization.objects.get(pk=stage.ours.organization.pk)
        lifecycle.suspend_organization(row)
        try:
            goes.set()
            reads = reading.result()
        except (DatabaseError, OrganizationSuspended) as error:
            return type(error).__name__
        finally:
            lifecycle.resume_organization(row)
            stage.reopen()
    if reads:
        raise Crossed("it read after the suspension was acknowledged")
    return "refused"
