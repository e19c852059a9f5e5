"""Migration plans: which migrations lead from what a database has to the target, cached."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db.migrations.exceptions import AmbiguityError
from django.db.migrations.loader import MigrationLoader

from organizations import tenancy
from organizations.errors import MigrationUnknown
from organizations.provisioning import code

from .rehearsal import Change, Key, Loader, Rehearsal, Step

T = TypeVar("T")

_MOST_PLANS = 64


@dataclass(frozen=True)
class Target:
    """The newest of all tenant apps, or of one, or a given migration (`zero`: none of the app)."""

    label: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Plan:
    """changes: of rows, after the last step. names: what is applied then, `app.name`, sorted."""

    steps: tuple[Step, ...]
    changes: tuple[Change, ...]
    names: tuple[str, ...]

    def done(self, *, backwards: bool) -> tuple[Key, ...]:
        """The migrations of its steps in one direction, in order."""
        return tuple(step.key for step in self.steps if step.backwards == backwards)


class Graph:
    """The code's migrations and one target. Thread-safe."""

    def __init__(self, target: Target) -> None:
        """Raises MigrationsIncoherent and MigrationUnknown."""
        code.refuse_incoherent_migrations()
        self._target = target
        self.labels = sorted(tenancy.tenant_labels())
        # Once: load_disk reloads modules, which is not thread-safe.
        self._shared = MigrationLoader(None, ignore_no_migrations=True)
        self._named = self._look_up(target)
        if self._named is not None and self._named not in self._shared.graph.nodes:
            # A squashed one.
            self._shared = MigrationLoader(
                None, ignore_no_migrations=True, replace_migrations=False
            )
        self._lock = threading.Lock()
        self._plans: dict[frozenset[Key], Plan] = {}

    def _look_up(self, target: Target) -> Key | None:
        if target.label is None:
            return None
        if target.label not in self.labels:
            raise MigrationUnknown(target.label, target.name, known=self.labels)
        if target.name in (None, "zero"):
            return None
        try:
            found = self._shared.get_migration_by_prefix(target.label, target.name)
        except (AmbiguityError, KeyError) as error:
            names = [name for label, name in self._shared.graph.nodes if label == target.label]
            raise MigrationUnknown(target.label, target.name, known=sorted(names)) from error
        return target.label, found.name

    def plan(self, there: Iterable[Key]) -> Plan:
        """The plan for a database that has these. Raises HistoryInconsistent, and Django's errors
        for an impossible plan."""
        key = frozenset(there)
        with self._lock:
            if key not in self._plans:
                if len(self._plans) >= _MOST_PLANS:
                    self._plans.clear()
                self._plans[key] = self._make(key)
            return self._plans[key]

    def refuse_inconsistent(self, there: Iterable[Key]) -> None:
        """Raise HistoryInconsistent if these are not a possible history."""
        with self._lock:
            Loader(self._shared, frozenset(there)).refuse_inconsistent()

    def once(self, make: Callable[[], T]) -> T:
        """Call `make` under the lock."""
        with self._lock:
            return make()

    def _make(self, there: frozenset[Key]) -> Plan:
        loader = Loader(self._shared, there)
        loader.refuse_inconsistent()
        rehearsal = Rehearsal(loader, there)
        targets = self._targets(loader)
        plan = rehearsal.migration_plan(targets)
        if plan:
            rehearsal.migrate(targets, plan)
        else:
            rehearsal.check_replacements()
        names = sorted(names_of(rehearsal.recorder.there, self.labels))
        return Plan(tuple(rehearsal.steps), rehearsal.recorder.take(), tuple(names))

    def _targets(self, loader: MigrationLoader) -> list[tuple[str, Any]]:
        label = self._target.label
        if label is None:
            return [key for key in loader.graph.leaf_nodes() if key[0] in self.labels]
        if self._target.name is None:
            return list(loader.graph.leaf_nodes(label))
        if self._named is None:
            return [(label, None)]
        if self._named not in loader.graph.nodes and self._named in loader.replacements:
            # As in the command `migrate`: what it replaces is partly applied.
            return [loader.replacements[self._named].replaces[-1]]
        return [self._named]

    @property
    def to_unapply(self) -> tuple[Key, ...]:
        """The code's migrations that a database at the target lacks: they may be unapplied."""
        graph = self._shared.graph
        found: list[Key] = []
        for label, name in self._targets(self._shared):
            if name is None:
                nodes = graph.root_nodes(label)
            else:
                children = graph.node_map[(label, name)].children
                nodes = [node.key for node in children if node.key[0] == label]
            for node in nodes:
                found += [key for key in graph.backwards_plan(node) if key not in found]
        return tuple(found)


def names_of(keys: Iterable[Key], labels: Iterable[str]) -> list[str]:
    """The tenant apps' migrations among them, as `app.name`."""
    return [f"{label}.{name}" for label, name in keys if label in labels]
