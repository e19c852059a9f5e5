"""Database router: tenant apps to the active organization's database, all else to the master."""

from functools import cache
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db.models import Model

from .context import peek
from .errors import NoTenant, WrongTenant
from .tenant import ALIAS_PREFIX

MASTER = "default"


@cache
def _labels(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(app.label for app in apps.get_app_configs() if app.name in names)


def tenant_labels() -> frozenset[str]:
    """App labels of settings.TENANT_APPS."""
    return _labels(tuple(settings.TENANT_APPS))


def is_tenant_model(model: type[Model]) -> bool:
    """Whether the model's table is in every organization's database."""
    return model._meta.app_label in tenant_labels()


class TenantRouter:
    """Tenant apps to the active organization, all else to the master, without any fallback."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        """The alias to read from. Raises NoTenant, or WrongTenant for another's instance."""
        return self._alias(model, hints.get("instance"))

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        """The alias to write to. Raises NoTenant, or WrongTenant for another's instance.

        Saving asks here, not `instance._state.db`. Without checking the instance, an object loaded
        from one organization would overwrite the row with its key in another.
        """
        return self._alias(model, hints.get("instance"))

    def _alias(self, model: type[Model], instance: Model | None) -> str:
        if not is_tenant_model(model):
            return MASTER
        tenant = peek()
        if tenant is None:
            raise NoTenant(model._meta.label)
        if instance is not None and is_tenant_model(type(instance)):
            refuse_other_tenant(instance, tenant.alias)
        return tenant.alias

    def allow_relation(self, first: Model, second: Model, **hints: Any) -> bool:
        """Only within one database. Raises WrongTenant across two organizations."""
        if is_tenant_model(type(first)) != is_tenant_model(type(second)):
            return False
        if not is_tenant_model(type(first)):
            return True
        tenant = peek()
        if tenant is None:
            raise NoTenant(type(first)._meta.label)
        refuse_other_tenant(first, tenant.alias)
        refuse_other_tenant(second, tenant.alias)
        return True

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        """Tenant apps only on organization databases, and nothing else there."""
        return (app_label in tenant_labels()) == db.startswith(ALIAS_PREFIX)


def refuse_other_tenant(instance: Model, alias: str) -> None:
    """Raise WrongTenant if the instance was loaded from or saved to another database."""
    refuse_other_alias(f"This {type(instance)._meta.label}", instance._state.db, alias)


def refuse_other_alias(what: str, home: str | None, alias: str) -> None:
    """Raise WrongTenant if something of the alias `home` is used while `alias` is active."""
    if home is not None and home != alias:
        raise WrongTenant(what, belongs_to=home, active=alias)
