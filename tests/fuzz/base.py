"""Fuzz machine: the base of all rules, with the world, requests to it, and the invariants."""

import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ClassVar, TypeVar

import psycopg
from django.db import InterfaceError, OperationalError, connections
from django.test import override_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from organizations import tenancy
from organizations.isolation import Side
from organizations.tenancy import (
    ConnectionsExhausted,
    NoTenant,
    RegistryFull,
    Tenant,
    pool,
    registry,
)
from tests.conftest import Superuser
from tests.plugin import SERVER

from .model import Model, Rows
from .units import Loop, Task, Thread, Unit
from .work import over_current_settings, rows_now

T = TypeVar("T")
# Few enough that idle ones are closed for others, and that now and then none is free.
MOST_CONNECTIONS = 6
# What a query may end with where its connection was cut, or none was free.
BROKEN = (OperationalError, InterfaceError, ConnectionsExhausted)
# Which of several; it is taken modulo their number.
pick = st.integers(0, 11)


@dataclass(repr=False)  # It holds tokens.
class World:
    """What stays between runs of the machine."""

    sides: list[Side]
    superuser: Superuser
    here: Unit = field(default_factory=lambda: Unit("here"))
    threads: list[Thread] = field(default_factory=list)
    loop: Loop = field(default_factory=Loop)
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    outside: list[Superuser] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    tokens_until: float = 0

    def __post_init__(self) -> None:
        for side in self.sides:
            side.plant("!")
            parameters: dict[str, Any] = {
                **SERVER.superuser_parameters(),
                "dbname": side.organization.database_name,
            }
            self.outside.append(psycopg.connect(**parameters, autocommit=True))

    def begin(self) -> tuple[list[Rows], list[str]]:
        """Each organization's rows as they are at first, and a token for each."""
        if time.monotonic() > self.tokens_until:
            self.tokens = [side.tokens()[0] for side in self.sides]
            self.tokens_until = time.monotonic() + 300
        for side, connection in zip(self.sides, self.outside, strict=True):
            connection.execute("DELETE FROM users WHERE id >= 10")
            connection.execute(
                "INSERT INTO users (id, email, email_key, hashed_password)"
                " SELECT id, id || %(at)s, id || %(at)s, '!' FROM generate_series(10, 12) AS id",
                {"at": f"@{side.domain}"},
            )
        return [self.contents(number) for number in range(len(self.sides))], self.tokens

    def contents(self, number: int) -> Rows:
        """An organization's rows, read without the code under test."""
        found = self.outside[number].execute("SELECT id, email FROM users").fetchall()
        return {int(str(row[0])): str(row[1]) for row in found}

    def wait_for_none(self, databases: tuple[str, ...]) -> None:
        """Until no organization's role is connected: the server notices a little later."""
        deadline = time.monotonic() + 10
        while count := self._sessions(databases):
            assert time.monotonic() < deadline, f"{count} connections stay open"
            time.sleep(0.002)

    def _sessions(self, databases: tuple[str, ...]) -> int:
        found = self.superuser.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = ANY(%s) AND usename LIKE 'orgrole%%'",
            (list(databases),),
        ).fetchone()
        return int(str(found[0])) if found else 0

    def end(self) -> None:
        for unit in self.threads:
            unit.end()
        self.loop.end()
        for connection in self.outside:
            connection.close()


def act(**strategies: Any) -> Callable[[Callable[..., None]], Any]:
    """hypothesis's rule, which is counted."""

    def decorate(method: Callable[..., None]) -> Any:
        @wraps(method)
        def counted(self: "Base", **drawn: Any) -> None:
            self.world.counts[method.__name__] += 1
            self.history.append(f"{method.__name__}({drawn})")
            with self.telling():
                method(self, **drawn)

        return rule(**strategies)(counted)  # type: ignore[no-untyped-call]

    return decorate


def forget_what_nobody_uses() -> None:
    """Remove every unpinned alias from the registry."""
    for alias in registry.registered():
        if not registry._pins[alias]:
            registry.forget(alias)


class Base(RuleBasedStateMachine):
    """Four organizations with rows under equal keys, and units with none active."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.history: list[str] = []
        self.sides = self.world.sides
        self.model = Model()
        self.tasks = [Task(f"task {number}", self.world.loop) for number in range(2)]
        self.born = len(self.tasks)
        for unit in self.units:
            self.model.stacks[unit.name] = []
        self.written = 0
        self.settings = override_settings(
            ORG_MAX_ALIASES=self.model.ceiling,
            ORG_MAX_CONNECTIONS=MOST_CONNECTIONS,
            ORG_CONNECTION_WAIT_SECONDS=0.02,
            ROOT_URLCONF="tests.fuzz.urls",
            CACHES={
                "default": {
                    "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
                    "LOCATION": "fuzz",
                    "KEY_FUNCTION": "organizations.tenancy.cache.make_key",
                }
            },
        )
        self.settings.enable()
        forget_what_nobody_uses()
        self.model.rows, self.tokens = self.world.begin()

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Note what failed, and after which steps; hypothesis reports it if it can repeat it."""
        try:
            yield
        except Exception:
            steps = "\n".join(self.history)
            self.world.failures.append(
                f"after {self.world.counts.total()} steps\n{steps}\n{traceback.format_exc()}"
            )
            raise

    @property
    def units(self) -> list[Unit]:
        return [self.world.here, *self.world.threads, *self.tasks]

    def unit(self, number: int) -> Unit:
        return self.units[number % len(self.units)]

    def tenant(self, organization: int | None) -> Tenant | None:
        return None if organization is None else self.sides[organization].tenant

    def alias(self, organization: int) -> str:
        return self.sides[organization].tenant.alias

    def enters(self, organization: int | None, work: Callable[[], T]) -> T | None:
        """The result of `work`, which pins the organization; None if it must fail."""
        full = self.is_full_for(organization)
        try:
            result = work()
        except RegistryFull:
            assert full, f"no room for {organization}, and only {self.model.pinned()} are in use"
            return None
        assert not full, f"{organization} came in beside {self.model.pinned()}"
        return result

    def is_full_for(self, organization: int | None) -> bool:
        """Whether entering must raise RegistryFull: it is not registered, and nothing can go.

        A forgotten one is registered for as long as somebody has it.
        """
        if organization is None:
            return False
        alias, pinned = self.alias(organization), self.model.pinned()
        goes = alias in registry._stale and organization not in pinned
        return (goes or alias not in registry.registered()) and len(pinned) >= self.model.ceiling

    def asks(
        self, unit: Unit, work: Callable[[], T], *, organization: int | None = None
    ) -> T | None:
        """The result of a query in the unit; None where no organization is active, or where its
        connection was cut."""
        active = self.model.active(unit.name) if organization is None else organization
        try:
            # What enters an organization by itself says nothing of the connection outside.
            entering = organization is not None
            result = unit.query(work if entering else lambda: over_current_settings(work))
        except NoTenant:
            assert active is None, f"{unit.name} has lost organization {active}"
            return None
        except BROKEN as error:
            self.excuse(unit, active, error)
            return None
        assert active is not None, f"{unit.name} is in no organization, and was answered {result}"
        self.model.cut.discard((unit.thread, active))
        return result

    def excuse(
        self,
        unit: Unit,
        organization: int | None,
        error: Exception,
        *,
        cut: Set[tuple[str, int]] | None = None,
    ) -> None:
        """A connection that was cut may fail once, and is closed as the end of a request does.

        Where none was free, nothing has been done.
        """
        assert organization is not None
        if isinstance(error, ConnectionsExhausted):
            self.world.counts["found no connection free"] += 1
            return
        if (unit.thread, organization) not in (self.model.cut if cut is None else cut):
            raise error
        self.model.cut.discard((unit.thread, organization))
        alias = self.alias(organization)

        def close() -> None:
            if (wrapper := getattr(connections._connections, alias, None)) is not None:  # type: ignore[attr-defined]
                wrapper.close()

        unit.query(close)

    def same(self, found: Rows | None, organization: int | None) -> None:
        """Check that what was read is exactly the organization's rows."""
        if found is not None:
            assert organization is not None
            assert found == self.model.rows[organization], f"these are not {organization}'s rows"

    @invariant()
    def nothing_has_crossed(self) -> None:
        with self.telling():
            self._everybody_is_where_they_must_be()
            self._what_is_in_use_is_pinned_and_nothing_else()

    def _everybody_is_where_they_must_be(self) -> None:
        for unit in self.units:
            active = self.tenant(self.model.active(unit.name))
            found = unit.direct(tenancy.peek)
            assert found == active, f"{unit.name} is in {found} and must be in {active}"

    def _what_is_in_use_is_pinned_and_nothing_else(self) -> None:
        registered = registry.registered()
        pinned = {self.alias(number): count for number, count in self.model.pinned().items()}
        found = dict(+registry._pins)
        assert found == pinned, f"pinned: {found}, and must be {pinned}"
        assert set(pinned) <= set(registered), "an alias in use was evicted"
        assert pool.shared.open <= MOST_CONNECTIONS

    def let_go(self) -> None:
        """The rules' own: end what they hold."""

    def teardown(self) -> None:
        try:
            with self.telling():
                self._end_everything()
                self._nothing_stays_open()
                for number, expected in enumerate(self.model.rows):
                    assert self.world.contents(number) == expected, f"{number}'s rows have changed"
        finally:
            self.settings.disable()

    def _end_everything(self) -> None:
        try:
            self.let_go()
        finally:
            for task in self.tasks:
                task.end()
            for unit in (self.world.here, *self.world.threads):
                unit.direct(tenancy.reset)
        assert not self.world.loop.in_executor(tenancy.peek), "the executor's thread is in one"
        registry.registered()
        assert not +registry._pins, f"pinned for ever: {+registry._pins}"

    def _nothing_stays_open(self) -> None:
        for unit in (self.world.here, *self.world.threads):
            unit.direct(registry.reap)
        self.world.loop.in_executor(registry.reap)
        assert pool.shared.open == pool.shared.idle, "somebody holds a connection"
        pool.shared.close_idle()
        self.world.wait_for_none(tuple(side.organization.database_name for side in self.sides))

    def read(self, unit: Unit) -> None:
        """A look from inside."""
        self.same(self.asks(unit, rows_now), self.model.active(unit.name))
