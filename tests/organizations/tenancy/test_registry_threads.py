"""The registry under many threads, and under the garbage collector."""

import gc
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from django.db import close_old_connections, connections, reset_queries
from pytest_django import Settings

from organizations import tenancy
from organizations.tenancy import Tenant, directory, registry
from tests.conftest import Company

from .conftest import visit

pytestmark = pytest.mark.usefixtures("fresh_registry")


class TellingLock:
    """A lock that notes where its own thread would have waited for ever, and lets it pass."""

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


def test_a_collection_in_the_middle_of_registering_does_not_lock_the_thread(
    several: list[Company], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An abandoned iteration can be collected at any allocation, also while the lock is held."""
    configure, lock = connections.configure_settings, TellingLock()

    def collect_first(databases: dict[str, Any]) -> dict[str, Any]:
        gc.collect()
        return configure(databases)

    def abandon_and_register() -> None:
        abandoned: list[Any] = [tenancy.iterate(several[0].tenant, iter([1, 2]))]
        abandoned.append(abandoned)  # a cycle: the collector alone finds it
        del abandoned
        visit(several[1])

    monkeypatch.setattr(connections, "configure_settings", collect_first)
    monkeypatch.setattr(registry, "_lock", lock)
    abandon_and_register()
    assert lock.deadlocks == 0, "the thread waits for a lock that it holds itself"
    visit(several[2])
    assert registry._pins[several[0].tenant.alias] == 0, "the abandoned iteration holds its pin"


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


def test_threads_register_evict_and_query_while_others_walk_the_connections(
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
    assert set(connections.settings) == {"default", *registry.registered()}
