"""Schema versions: which migrations a fingerprint stands for, and which a database lacks."""

import threading
from collections.abc import Iterable
from functools import lru_cache

from django.conf import settings

from organizations import tenancy
from organizations.models import SchemaVersion
from organizations.postgres.sessions import ServerSession

from . import code

_lock = threading.Lock()
# The master's rows by fingerprint. They never change, so one look is enough.
_known: dict[str, frozenset[str]] = {}
_MOST_KNOWN = 1_000


def remember(fingerprint: str, migrations: Iterable[str]) -> None:
    """Record which migrations a database with this fingerprint has. Once per process."""
    if fingerprint in _known:
        return
    names = sorted(migrations)
    # Not get_or_create, which would query first; and two processes may write it at the same time.
    SchemaVersion.objects.bulk_create(
        [SchemaVersion(fingerprint=fingerprint, migrations=names)], ignore_conflicts=True
    )
    _keep(fingerprint, names)


def remember_code() -> str:
    """The fingerprint of this process's code, whose migrations are recorded."""
    fingerprint = code.current().fingerprint
    if fingerprint not in _known:
        remember(fingerprint, code_migrations())
    return fingerprint


def migrations_of(
    fingerprint: str, *, session: ServerSession | None = None
) -> frozenset[str] | None:
    """The migrations of a database with this fingerprint, as `app.name`. None: unknown.

    session: whose row names the fingerprint. An open transaction of Django's can be older.
    """
    known = _known.get(fingerprint)
    if known is None:
        names = _recorded(fingerprint) if session is None else session.value(_NAMES, (fingerprint,))
        known = None if names is None else _keep(fingerprint, names)
    return known


_NAMES = "SELECT migrations FROM schema_versions WHERE fingerprint = %s"


def _recorded(fingerprint: str) -> Iterable[str] | None:
    return SchemaVersion.objects.filter(pk=fingerprint).values_list("migrations", flat=True).first()


def _keep(fingerprint: str, migrations: Iterable[str]) -> frozenset[str]:
    kept = frozenset(migrations)
    with _lock:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[fingerprint] = kept
    return kept


def code_migrations() -> tuple[str, ...]:
    """All of the code's, as `app.name`, sorted."""
    return tuple(sorted(_replacing()))


def lacking(has: frozenset[str]) -> list[str]:
    """The code's migrations that are missing in `has`, sorted.

    A squashed migration counts as applied if those it replaces are, and vice versa, as in Django
    (db/migrations/loader.py, build_graph).
    """
    replacing = _replacing()
    there = set(has)
    for name, replaced in replacing.items():
        if replaced and (name in has or has.issuperset(replaced)):
            there.update(replaced, (name,))
    return sorted(replacing.keys() - there)


def _replacing() -> dict[str, tuple[str, ...]]:
    """The code's migrations, each with those it replaces."""
    labels = tuple(sorted(tenancy.tenant_labels()))
    return _read(labels, tuple(sorted(settings.MIGRATION_MODULES.items())))


@lru_cache(maxsize=8)
def _read(labels: tuple[str, ...], modules: code.Modules) -> dict[str, tuple[str, ...]]:
    return {
        f"{label}.{name}": tuple(f"{app}.{old}" for app, old in migration.replaces)
        for (label, name), migration in code.disk_migrations().items()
        if label in labels
    }
