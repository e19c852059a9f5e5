"""The registry of aliases under many threads, and under the garbage collector."""

import gc
import random
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from django.db import close_old_connections, connections, reset_queries
from pytest_django import Settings

from accounts.models import User
from organizations import tenancy
from organizations.tenancy import Tenant, directory, pool, registry
from tests.conftest import Company

from .conftest import lent, visit

pytestmark = pytest.mark.usefixtures("fresh_registry")


class TellingLock:
    """A lock that counts when a thread would deadlock with itself, and lets it pass."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.holder: int | None = None
        self.deadlocks = self.inner = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self.holder == threading.get_ident():
            self.deadlocks += blocking
            return False
        taken = self.lock.acquire(blocking, timeout)
        if taken:
            self.holder = threading.get_ident()
        return taken

    def release(self) -> None:
        self.holder = None
        self.lock.release()

    def __enter__(self) -> None:
        if not self.acquire():
            self.inner += 1

    def __exit__(self, *exc: object) -> None:
        self.inner -= 1
        if self.inner < 0:
            self.inner = 0
            self.release()


def _people() -> Iterator[User]:
    yield from User.objects.iterator()


def _abandon(tenant: Tenant) -> None:
    """Leave an iteration that holds a connection to the garbage collector."""
    abandoned: list[Any] = [tenancy.iterate(tenant, _people())]
    abandoned.append(abandoned)
    next(abandoned[0])
    del abandoned


@pytest.mark.parametrize("module", [registry, pool.shared], ids=["registry", "pool"])
def test_a_collection_while_the_lock_is_held_does_not_lock_the_thread(
    module: Any, several: list[Company], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An abandoned iteration can be collected at any allocation."""
    lock = TellingLock()
    name = "_evict_until_one_fits" if module is registry else "_find"
    inner = getattr(module, name)

    def collect_first(*args: Any) -> Any:
        gc.collect()
        return inner(*args)

    gc.collect()
    with monkeypatch.context() as patched:
        patched.setattr(module, name, collect_first)
        patched.setattr(module, "_lock", lock)
        gc.disable()
        try:
            _abandon(several[0].tenant)
            # Its alias goes at the same time.
            registry.forget(several[0].tenant.alias)
            visit(several[1])
        finally:
            gc.enable()
        assert lock.deadlocks == 0, "the thread waits for a lock that it holds itself"
        visit(several[2])
    assert registry._pins[several[0].tenant.alias] == 0, "the abandoned iteration holds its pin"
    assert lent() == 0, "the abandoned iteration holds its connection"


class ManyMore:
    """The installed directory, and made-up organizations that nobody connects to."""

    def __init__(self, real: directory.Directory) -> None:
        self.real = real
        self.tenant_by_id, self.tenant_by_name = real.tenant_by_id, real.tenant_by_name
        self.display_name = real.display_name

    def connection_settings(self, tenant: Tenant) -> dict[str, Any]:
        if tenant.slug == "made-up":
            return {"ENGINE": "organizations.tenancy.backend", "NAME": "nowhere"}
        return self.real.connection_settings(tenant)


def test_threads_register_evict_and_query_while_others_loop_over_aliases(
    several: list[Company], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request walks all aliases, in every thread, while others add and remove some."""
    ceiling, workers, walkers = 16, 4, 2
    settings.ORG_MAX_ALIASES = ceiling
    monkeypatch.setattr(directory, "_installed", ManyMore(directory.get()))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    done = threading.Event()
    too_many: list[int] = []

    def work(seed: int) -> None:
        order = random.Random(seed)
        try:
            for step in range(80):
                with ExitStack() as pins:
                    for _ in range(2):
                        made_up = Tenant(10**9 + order.randrange(200), "made-up")
                        pins.enter_context(tenancy.override(made_up))
                    if step % 5 == 0:
                        visit(order.choice(several))
                if (count := len(registry.registered())) > ceiling:
                    too_many.append(count)
        finally:
            connections.close_all()

    def walk() -> None:
        while not done.wait(0.001):
            close_old_connections()
            reset_queries()
            list(connections)

    with ThreadPoolExecutor(workers + walkers) as pool:
        walking = [pool.submit(walk) for _ in range(walkers)]
        try:
            for worker in [pool.submit(work, seed) for seed in range(workers)]:
                worker.result(timeout=90)
        finally:
            done.set()
            sys.setswitchinterval(interval)
        for walker in walking:
            walker.result(timeout=30)
    assert not too_many, f"aliases passed the ceiling of {ceiling}: {too_many}"
    assert not +registry._pins, "a pin is left"
    assert set(registry._aliases().organizations) == set(registry.registered())
