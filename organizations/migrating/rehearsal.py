"""Simulates Django's migration executor, without a database, for a given set of applied migrations.

So squashed migrations, `run_before` and the order work as with `migrate`. Relies on Django 5.2,
db/migrations/executor.py and loader.py.
"""

from copy import copy
from dataclasses import dataclass, field
from typing import Any

from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.migration import Migration
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from organizations.errors import HistoryInconsistent

Key = tuple[str, str]
# A row of django_migrations that is added (True) or removed.
Change = tuple[bool, Key]


@dataclass(frozen=True)
class Step:
    """One migration to apply or unapply.

    state: before the migration, in both directions, without rendered models; clone it.
    """

    migration: Migration
    backwards: bool
    state: ProjectState
    changes: tuple[Change, ...]
    compiled: dict[int, Any] = field(default_factory=dict, compare=False)

    @property
    def key(self) -> Key:
        return self.migration.app_label, self.migration.name

    def own_migration(self) -> Migration:
        """A copy of the migration for a single run.

        Operations modify themselves while being unapplied (RenameModel.database_backwards), and
        stay modified if that fails.
        """
        own = copy(self.migration)
        own.__dict__["operations"] = [_own(operation) for operation in own.operations]
        return own

    def rendered(self) -> ProjectState:
        """A copy of the state, with its models. Not thread-safe.

        Fields get numbers from a global counter as they are created (Django 5.2, db/models/fields/
        __init__.py, creation_counter), which determine the order of columns.
        """
        state = self.state.clone()
        _ = state.apps
        return state


def _own(operation: Operation) -> Operation:
    own = copy(operation)
    for name in ("database_operations", "state_operations"):
        if hasattr(own, name):
            setattr(own, name, [_own(each) for each in getattr(own, name)])
    return own


class Loader(MigrationLoader):
    """Another loader's modules, with a given set of migrations as applied."""

    def __init__(self, shared: MigrationLoader, there: frozenset[Key]) -> None:
        self._shared = shared
        self._there = there
        super().__init__(
            None,
            ignore_no_migrations=True,
            replace_migrations=shared.replace_migrations,  # type: ignore[attr-defined]
        )

    # build_graph first sets what the connection reports (nothing, without one), then adds to it.
    @property
    def applied_migrations(self) -> dict[Key, Any]:
        return self._applied

    @applied_migrations.setter
    def applied_migrations(self, value: Any) -> None:
        self._applied: dict[Key, Any] = dict.fromkeys(self._there)

    def refuse_inconsistent(self) -> None:
        """As check_consistent_history, for a set. Raises HistoryInconsistent."""
        for key in sorted(self._there & self.graph.nodes.keys()):
            for parent in sorted(node.key for node in self.graph.node_map[key].parents):
                replacing = self.replacements.get(parent)
                if parent in self._there or (
                    replacing is not None and self._there.issuperset(replacing.replaces)
                ):
                    continue
                raise HistoryInconsistent(".".join(key), lacks=".".join(parent))

    def load_disk(self) -> None:
        self.disk_migrations = dict(self._shared.disk_migrations)
        self.unmigrated_apps = set(self._shared.unmigrated_apps)
        self.migrated_apps = set(self._shared.migrated_apps)


class _Recorder:
    """A MigrationRecorder in memory."""

    def __init__(self, there: frozenset[Key]) -> None:
        self.there = set(there)
        self._changes: list[Change] = []

    def take(self) -> tuple[Change, ...]:
        """The changes since the last call."""
        changes, self._changes = self._changes, []
        return tuple(changes)

    def ensure_schema(self) -> None:
        """Does nothing: whoever needs the table creates it."""

    def applied_migrations(self) -> dict[Key, Any]:
        return dict.fromkeys(self.there)

    def record_applied(self, app: str, name: str) -> None:
        self.there.add((app, name))
        self._changes.append((True, (app, name)))

    def record_unapplied(self, app: str, name: str) -> None:
        self.there.discard((app, name))
        self._changes.append((False, (app, name)))


class _Unrendered(ProjectState):
    """Never renders the models, which the executor requests in advance."""

    apps = property(lambda self: None, fdel=lambda self: None)

    def clone(self) -> "_Unrendered":
        models = {key: model.clone() for key, model in self.models.items()}
        return _Unrendered(models, real_apps=self.real_apps)


class Rehearsal(MigrationExecutor):
    """Records what would be done."""

    recorder: _Recorder  # type: ignore[assignment]

    def __init__(self, loader: MigrationLoader, there: frozenset[Key]) -> None:
        # As MigrationExecutor.__init__, without a connection.
        self.connection = None  # type: ignore[assignment]
        self.loader = loader
        self.recorder = _Recorder(there)
        self.progress_callback = None
        self.steps: list[Step] = []

    def _create_project_state(self, *args: Any, **kwargs: Any) -> ProjectState:
        state = super()._create_project_state(*args, **kwargs)  # type: ignore[misc]
        return _Unrendered(state.models, real_apps=state.real_apps)

    def apply_migration(
        self, state: ProjectState, migration: Migration, *args: Any, **kwargs: Any
    ) -> ProjectState:
        before = _bare(state)
        # A faked one is only recorded.
        super().apply_migration(state, migration, fake=True)
        self.steps.append(Step(migration, False, before, self.recorder.take()))
        return migration.mutate_state(state, preserve=False)

    def unapply_migration(
        self, state: ProjectState, migration: Migration, *args: Any, **kwargs: Any
    ) -> ProjectState:
        super().unapply_migration(state, migration, fake=True)
        self.steps.append(Step(migration, True, _bare(state), self.recorder.take()))
        return state


def _bare(state: ProjectState) -> ProjectState:
    """A plain copy, which renders its models on demand."""
    models = {key: model.clone() for key, model in state.models.items()}
    return ProjectState(models, real_apps=state.real_apps)
