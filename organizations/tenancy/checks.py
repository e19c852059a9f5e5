"""System checks of models and settings for mistakes that break tenant isolation."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.contrib.admin.sites import all_sites
from django.core import checks
from django.db.models import FileField, Model

from .router import is_tenant_model
from .storage import TenantStorage


@checks.register(checks.Tags.models)
def check_relations(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> Iterable[checks.CheckMessage]:
    """No relation may lead from an organization's database to the master, or back."""
    for app in apps.get_app_configs() if app_configs is None else app_configs:
        for model in app.get_models(include_auto_created=True):
            yield from _crossings(model)


def _crossings(model: type[Model]) -> Iterator[checks.CheckMessage]:
    # Generic relations are among the private ones: rows of both sides joined by a key alone.
    options = model._meta
    for field in (*options.local_fields, *options.local_many_to_many, *options.private_fields):
        target = field.related_model
        if not isinstance(target, type) or not issubclass(target, Model):
            continue
        if is_tenant_model(model) == is_tenant_model(target):
            continue
        tenant_side, master_side = (model, target) if is_tenant_model(model) else (target, model)
        yield checks.Error(
            f"{model._meta.label}.{field.name} relates {tenant_side._meta.label}, which is in "
            f"every organization's database, with {master_side._meta.label}, which is in the "
            "master database.",
            hint=_hint(target),
            obj=field,
            id="tenancy.E001",
        )


@checks.register(checks.Tags.models)
def check_files(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> Iterable[checks.CheckMessage]:
    """A tenant app's files are on the storage that keeps organizations apart, and no others are."""
    for app in apps.get_app_configs() if app_configs is None else app_configs:
        for model in app.get_models(include_auto_created=True):
            for field in model._meta.local_fields:
                if not isinstance(field, FileField):
                    continue
                if isinstance(field.storage, TenantStorage) == is_tenant_model(model):
                    continue
                yield _misplaced(model, field)


def _misplaced(model: type[Model], field: FileField) -> checks.CheckMessage:
    if is_tenant_model(model):
        return checks.Error(
            f"{model._meta.label}.{field.name} keeps the files of all organizations together.",
            hint="Leave `storage` out, or name a subclass of "
            "organizations.tenancy.storage.TenantStorage.",
            obj=field,
            id="tenancy.E006",
        )
    return checks.Error(
        f"{model._meta.label}.{field.name} is of the master's, and keeps its files in the folder "
        "of whichever organization is active.",
        hint="Give it a storage of its own: an entry of STORAGES.",
        obj=field,
        id="tenancy.E007",
    )


def _hint(target: type[Model]) -> str:
    if target._meta.label == "contenttypes.ContentType":
        return (
            "A generic relation needs content types, which are the master's. Use a foreign key, "
            "null where it may lead elsewhere, for each model that it can lead to."
        )
    return "No relation can cross two databases. Keep the id as a plain integer."


@checks.register(checks.Tags.admin)
def check_admin(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> Iterable[checks.CheckMessage]:
    """Django admin shows the master alone: staff are in no organization."""
    for site in all_sites:
        for model, shown_by in site._registry.items():
            if is_tenant_model(model):
                yield checks.Error(
                    f"{model._meta.label} is registered in Django admin by "
                    f"{type(shown_by).__name__}, and is in every organization's database.",
                    hint=(
                        "Staff are in no organization, so its pages would answer 500. Take the "
                        "registration out. An organization's own people have the API; for a look "
                        "or a repair there is `manage.py org_command NAME -- shell`."
                    ),
                    obj=model,
                    id="tenancy.E008",
                )


@checks.register
def check_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> Iterable[checks.CheckMessage]:
    """TENANT_APPS, DATABASE_ROUTERS and ATOMIC_REQUESTS are as tenancy needs them."""
    installed = {app.name for app in apps.get_app_configs()}
    for name in settings.TENANT_APPS:
        if name not in installed:
            yield checks.Error(
                f"TENANT_APPS names {name}, which is not in INSTALLED_APPS.",
                hint="Add it to both, as the name that its AppConfig has.",
                id="tenancy.E002",
            )
    for app in apps.get_app_configs():
        listed = (app.name in settings.TENANT_APPS) + (app.name in settings.MASTER_APPS)
        if listed != 1 and any(app.get_models()):
            yield checks.Error(
                f"The app {app.name} has models and is in {('neither', '', 'both')[listed]} of "
                "TENANT_APPS and MASTER_APPS.",
                hint="Add it to TENANT_APPS, unless one table for all organizations is meant.",
                id="tenancy.E005",
            )
    router = "organizations.tenancy.TenantRouter"
    if list(settings.DATABASE_ROUTERS) != [router]:
        yield checks.Error(
            "DATABASE_ROUTERS does not consist of the tenant router alone.",
            hint=f"Set DATABASE_ROUTERS = [{router!r}]: a router before it could let a query out.",
            id="tenancy.E003",
        )
    if settings.DATABASES["default"].get("ATOMIC_REQUESTS"):
        yield checks.Error(
            "ATOMIC_REQUESTS is on for the master database.",
            hint="Turn it off: provisioning must not run inside a transaction.",
            id="tenancy.E004",
        )
