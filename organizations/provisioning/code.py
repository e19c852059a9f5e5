"""Fingerprint and tables of the code's tenant-app migrations."""

import hashlib
import inspect
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import django
from django.apps import apps
from django.conf import settings
from django.db.migrations.exceptions import CircularDependencyError, NodeNotFoundError
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.migration import Migration
from django.db.models import Model

from organizations import tenancy
from organizations.errors import MigrationsIncoherent

# MIGRATION_MODULES, sorted; None stands for an app without migrations.
Modules = tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Code:
    """fingerprint: a hash of the source of all tenant apps' migrations, and of Django's version,
    which makes SQL of them. tables: those that exist after all migrations."""

    fingerprint: str
    tables: tuple[str, ...]


def current() -> Code:
    """This process's code. Computed once, and again if a setting has changed."""
    return _read(*_key())


def problem() -> str | None:
    """The problem with the tenant apps' migrations, and what to do; None if they are consistent.

    With a problem, no database can be created or migrated. For this process, as `current`.
    """
    return _problem(*_key())


def refuse_incoherent_migrations() -> None:
    """Raise MigrationsIncoherent if there is a problem."""
    if sentence := problem():
        raise MigrationsIncoherent(sentence)


def fingerprint_of(migrations: Iterable[str]) -> str:
    """The fingerprint of a database with these migrations, as `app.name`; with all: the code's own.

    One that the code does not know counts by its name, unless the code has deleted it and one of
    these replaces it: Django keeps its row.
    """
    return _fingerprint_of(*_key(), frozenset(migrations))


@lru_cache(maxsize=64)
def _fingerprint_of(labels: tuple[str, ...], modules: Modules, there: frozenset[str]) -> str:
    sources, replacing = _sources(labels, modules)
    left = {name for name in there - sources.keys() if there & replacing.get(name, set())}
    return _digest(sources, there - left)


def _key() -> tuple[tuple[str, ...], Modules]:
    labels = tuple(sorted(tenancy.tenant_labels()))
    return labels, tuple(sorted(settings.MIGRATION_MODULES.items()))


@lru_cache(maxsize=8)
def _problem(labels: tuple[str, ...], modules: Modules) -> str | None:
    found = []
    try:
        loader = MigrationLoader(None, ignore_no_migrations=True)
    except (NodeNotFoundError, CircularDependencyError) as error:
        return f"{error}. Fix the migrations' dependencies."
    for label, names in sorted(loader.detect_conflicts().items()):
        if label in labels:
            found.append(
                f"{label} has {len(names)} newest migrations: {', '.join(sorted(names))}. "
                f"Run manage.py makemigrations --merge {label}."
            )
    migrated = {label for label, _ in loader.disk_migrations}
    for label in sorted({model._meta.app_label for model in _models(labels)} - migrated):
        found.append(f"{label} has models but no migrations. Run manage.py makemigrations {label}.")
    return " ".join(found) or None


@lru_cache(maxsize=8)
def _sources(
    labels: tuple[str, ...], modules: Modules
) -> tuple[Mapping[str, bytes], Mapping[str, set[str]]]:
    """The source of each migration, and for each replaced one the names that replace it."""
    # The source, not only the name: in development migrations get edited.
    found, replacing = {}, defaultdict[str, set[str]](set)
    for (label, name), migration in disk_migrations().items():
        if label in labels:
            source = inspect.getsourcefile(type(migration))
            found[f"{label}.{name}"] = Path(source).read_bytes() if source else b""
            for app, old in migration.replaces:
                replacing[f"{app}.{old}"].add(f"{label}.{name}")
    return found, replacing


def _digest(sources: Mapping[str, bytes], names: Iterable[str]) -> str:
    digest = hashlib.sha256(django.get_version().encode())
    # By label and name, not by the joined text: `a_b.0001` sorts after `a.0001`.
    for name in sorted(names, key=lambda each: each.split(".", 1)):
        content = sources.get(name)
        if content is None:
            digest.update(f"\0{name}\0".encode())
        else:
            digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


@lru_cache(maxsize=8)
def _read(labels: tuple[str, ...], modules: Modules) -> Code:
    sources, _ = _sources(labels, modules)
    tables = {model._meta.db_table for model in _models(labels)}
    return Code(_digest(sources, sources), (*sorted(tables), "django_migrations"))


def _models(labels: Collection[str]) -> Iterator[type[Model]]:
    """The models with a table."""
    for model in apps.get_models(include_auto_created=True):
        if model._meta.app_label in labels and model._meta.managed and not model._meta.proxy:
            yield model


def disk_migrations() -> dict[tuple[str, str], Migration]:
    """All of the code's migrations, by label and name, even if their graph is inconsistent."""
    loader = MigrationLoader(None, load=False)
    loader.load_disk()
    found: dict[tuple[str, str], Migration] = loader.disk_migrations
    return found
