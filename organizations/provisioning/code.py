"""What the code says that an organization's database holds."""

import hashlib
import inspect
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import django
from django.apps import apps
from django.conf import settings
from django.db.migrations.loader import MigrationLoader

from organizations import tenancy


@dataclass(frozen=True)
class Code:
    """fingerprint: of all migrations of the tenant apps, by their source, and of Django, which
    makes SQL of them. tables: what is there behind them."""

    fingerprint: str
    tables: tuple[str, ...]


def current() -> Code:
    """Of the code that this process runs. Computed once, and anew where a setting has changed."""
    labels = tuple(sorted(tenancy.tenant_labels()))
    return _read(labels, tuple(sorted(settings.MIGRATION_MODULES.items())))


@lru_cache(maxsize=8)
def _read(labels: tuple[str, ...], modules: tuple[tuple[str, str], ...]) -> Code:
    digest = hashlib.sha256(django.get_version().encode())
    for (label, name), migration in sorted(MigrationLoader(None).disk_migrations.items()):
        if label in labels:
            # The source, and not the name alone: in development a migration is changed at times.
            source = inspect.getsourcefile(type(migration))
            content = Path(source).read_bytes() if source else b""
            digest.update(f"\0{label}.{name}\0{len(content)}\0".encode() + content)
    tables = {
        model._meta.db_table
        for model in apps.get_models(include_auto_created=True)
        if model._meta.app_label in labels and model._meta.managed and not model._meta.proxy
    }
    return Code(digest.hexdigest(), (*sorted(tables), "django_migrations"))
