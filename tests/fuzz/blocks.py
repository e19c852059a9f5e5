"""Fuzz rules for tenant blocks: entering, leaving, their order, and connections cut inside."""

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from asgiref.sync import sync_to_async
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition

from organizations import tenancy
from organizations.tenancy import NoTenant, RegistryFull, registry

from . import work
from .base import BROKEN, Base, act, forget_what_nobody_uses, pick
from .model import Entry, Rows
from .units import Task, Unit


@dataclass(eq=False)
class Block:
    """An entered block that a rule leaves."""

    override: tenancy.override
    entry: Entry
    unit: Unit


@dataclass(eq=False)
class Entering:
    """A generator that stopped inside its own block."""

    generator: Any
    entry: Entry


class Blocks(Base):
    """Enter, leave, break off, spawn, bind, generate."""

    organizations = st.one_of(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.none())

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[Block] = []
        self.entering: list[Entering] = []
        self.bound: list[tuple[int, Callable[[], Rows]]] = []

    @initialize(organizations=st.lists(st.integers(0, 2), min_size=5, max_size=5))
    def begin_at_work(self, organizations: list[int]) -> None:
        """Most units are in an organization, as most are in a server."""
        for number, organization in enumerate(organizations[:4]):
            self._enter(self.units[number], organization)

    # --- Blocks ---------------------------------------------------------------------------------
    @act(number=pick, organization=organizations)
    def enter(self, number: int, organization: int | None) -> None:
        self._enter(self.unit(number), organization)

    @act(number=pick, organization=organizations)
    def enter_deeper(self, number: int, organization: int | None) -> None:
        """Enter another block inside, while there is room."""
        busy = [unit for unit in self.units if self.model.active(unit.name) is not None]
        if busy:
            self._enter(busy[number % len(busy)], organization)

    def _enter(self, unit: Unit, organization: int | None) -> None:
        override = tenancy.override(self.tenant(organization))
        if self.enters(organization, lambda: unit.direct(override.__enter__)) is None:
            return
        entry = self.model.enter(unit.name, organization, flow=unit.name)
        self.blocks.append(Block(override, entry, unit))
        if isinstance(unit, Task):
            unit.leave_at_end.append(lambda: override.__exit__(None, None, None))

    @act(which=pick, failed=st.booleans())
    def leave(self, which: int, failed: bool) -> None:
        """Any block that is open, whichever was entered last."""
        if self.blocks:
            self._leave(which % len(self.blocks), failed)

    @act(failed=st.booleans())
    def leave_the_last(self, failed: bool) -> None:
        """Leave the newest block."""
        if self.blocks:
            self._leave(-1, failed)

    def _leave(self, which: int, failed: bool) -> None:
        block = self.blocks.pop(which)
        error = work.Boom() if failed else None
        block.unit.direct(
            lambda: block.override.__exit__(type(error) if error else None, error, None)
        )
        self.model.leave(block.unit.name, block.entry)

    @act(number=pick, organization=organizations, pk=st.integers(10, 13))
    def raise_out_of_a_block(self, number: int, organization: int | None, pk: int) -> None:
        unit = self.unit(number)
        tenant = self.tenant(organization)
        full = self.is_full_for(organization)
        idle = organization is not None and organization not in self.model.pinned()
        kept = idle and unit.query(lambda: work.is_held(tenant))
        try:
            unit.query(lambda: work.break_off(tenant, pk))
        except work.Boom:
            assert organization is not None and not full
        except NoTenant:
            assert organization is None
        except RegistryFull:
            assert full
        except BROKEN as error:
            self.excuse(unit, organization, error)
        else:
            raise AssertionError("nothing was raised")
        if idle and not kept:
            assert not unit.query(lambda: work.is_held(tenant)), "the block's connection stays open"
        self.read(unit)

    @act(number=pick)
    def reset(self, number: int) -> None:
        """What the edge of a request or a job does."""
        unit = self.unit(number)
        unit.direct(tenancy.reset)
        self.model.reset(unit.name, flow=unit.name)

    # --- Generators -----------------------------------------------------------------------------
    @precondition(lambda self: len(self.entering) < 3)
    @act(number=pick, organization=st.integers(0, 3))
    def start_a_generator_that_enters(self, number: int, organization: int) -> None:
        unit = self.unit(number)
        generator = work.entering(self.sides[organization].tenant)
        found = self.enters(organization, lambda: unit.query(lambda: next(generator)))
        if found is not None:
            entry = self.model.enter(unit.name, organization, flow=unit.thread)
            self.entering.append(Entering(generator, entry))
            assert found == self.tenant(organization)

    @precondition(lambda self: self.entering)
    @act(number=pick, which=pick)
    def advance_a_generator_that_enters(self, number: int, which: int) -> None:
        unit, held = self.unit(number), self.entering[which % len(self.entering)]
        found = unit.query(lambda: next(held.generator))
        assert found == self.tenant(self.model.active(unit.name))

    @precondition(lambda self: self.entering)
    @act(number=pick, which=pick, abandon=st.booleans())
    def end_a_generator_that_enters(self, number: int, which: int, abandon: bool) -> None:
        """In any unit: the garbage collector does not ask which."""
        unit, held = self.unit(number), self.entering.pop(which % len(self.entering))
        if abandon:
            box = [held.generator]
            held.generator = None
            unit.query(lambda: drop(box))
        else:
            unit.query(held.generator.close)
        self.model.leave(unit.name, held.entry)

    # --- Work for others ------------------------------------------------------------------------
    @act(number=pick)
    def bind(self, number: int) -> None:
        unit = self.unit(number)
        active = self.model.active(unit.name)
        try:
            bound = unit.direct(lambda: tenancy.bind(work.rows_now))
        except NoTenant:
            assert active is None
        else:
            assert active is not None, "work was bound to nobody"
            self.bound.append((active, bound))

    @precondition(lambda self: self.bound)
    @act(number=pick, which=pick)
    def call_what_was_bound(self, number: int, which: int) -> None:
        unit = self.unit(number)
        organization, bound = self.bound[which % len(self.bound)]
        found = self.enters(organization, lambda: self.asks(unit, bound, organization=organization))
        self.same(found, organization)

    @act(number=pick)
    def spawn_a_task(self, number: int) -> None:
        """From a task, or from this thread, wherever it is: the child begins where its starter is,
        and what the starter leaves is over for the child too."""
        if len(self.tasks) >= 4:
            return
        starters = [self.world.here, *self.tasks]
        starter = starters[number % len(starters)]
        self.born += 1
        parent = starter if isinstance(starter, Task) else None
        task = Task(f"task {self.born}", self.world.loop, parent=parent)
        self.tasks.append(task)
        self.model.stacks[task.name] = list(self.model.stacks[starter.name])

    @precondition(lambda self: self.tasks)
    @act(number=pick)
    def cancel_a_task(self, number: int) -> None:
        task = self.tasks.pop(number % len(self.tasks))
        task.end()
        for block in [block for block in self.blocks if block.unit is task]:
            self.blocks.remove(block)
            self.model.leave(task.name, block.entry)

    @act(choices=st.lists(st.integers(0, 3), min_size=9, max_size=9))
    def visit_all_at_once(self, choices: list[int]) -> None:
        """Threads and tasks enter, read and leave at the same time."""
        started: list[tuple[Unit, int, Future[Any]]] = []
        units: list[Any] = [*self.world.threads, *self.tasks]
        for unit, organization in zip(units, choices, strict=False):
            make = self._visit_async if isinstance(unit, Task) else self._visit
            started.append((unit, organization, unit.submit(make(organization))))
        # The tasks share a thread: several of them can meet one connection that was cut.
        cut = frozenset(self.model.cut)
        for unit, organization, future in started:
            try:
                found = future.result(60)
            except RegistryFull:
                continue  # Who came first is not known.
            except BROKEN as error:
                self.excuse(unit, organization, error, cut=cut)
                continue
            for read in found:
                self.same(read, organization)
        # Who was registered last is not known, and must not decide what the next step does.
        forget_what_nobody_uses()

    def _visit(self, organization: int) -> Callable[[], list[Rows]]:
        def visit() -> list[Rows]:
            found = []
            for _ in range(2):
                with tenancy.override(self.sides[organization].tenant):
                    found += [work.rows_now(), work.by_raw_sql()]
            return found

        return visit

    def _visit_async(self, organization: int) -> Callable[[], Any]:
        async def visit() -> list[Rows]:
            with tenancy.override(self.sides[organization].tenant):
                return [await sync_to_async(work.rows_now)() for _ in range(2)]

        return visit

    # --- Aliases and connections ----------------------------------------------------------------
    @act(ceiling=st.integers(1, 4))
    def change_the_ceiling(self, ceiling: int) -> None:
        self.model.ceiling = ceiling
        self.settings.disable()
        self.settings.options["ORG_MAX_ALIASES"] = ceiling
        self.settings.enable()

    @act(organization=st.integers(0, 3))
    def forget(self, organization: int) -> None:
        """As after a change of the organization's credential."""
        registry.forget(self.alias(organization))
        self.cursors_may_break(organization)

    @act(organization=st.integers(0, 3))
    def cut_the_connections(self, organization: int) -> None:
        name = self.sides[organization].organization.database_name
        self.world.superuser.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = %s AND usename LIKE 'orgrole%%'",
            (name,),
        )
        self.was_cut(organization)

    def was_cut(self, organization: int) -> None:
        """Whoever has a connection of it meets an error once."""
        self.world.wait_for_none((self.sides[organization].organization.database_name,))
        threads = {unit.thread for unit in self.units}
        self.model.cut |= {(thread, organization) for thread in threads | {"executor"}}
        self.cursors_may_break(organization)

    def cursors_may_break(self, organization: int) -> None:
        """Hook: the organization's open streams may fail once."""

    def let_go(self) -> None:
        super().let_go()
        for held in self.entering:
            held.generator.close()
        for block in self.blocks:
            if not isinstance(block.unit, Task):
                block.unit.direct(lambda block=block: block.override.__exit__(None, None, None))  # type: ignore[misc]


def drop(box: list[Any]) -> None:
    """Drop what is in the box, and collect it here."""
    last = weakref.ref(box.pop())
    if last() is not None:
        gc.collect()
