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
    """No relation may cross between an organization's database and the master."""
    for app in apps.get_app_configs() if app_configs is None else app_configs:
        for model in app.get_models(include_auto_created=True):
            yield from _crossings(model)


def _crossings(model: type[Model]) -> Iterator[checks.CheckMessage]:
    # Includes generic relations (private fields): rows of both sides joined only by a key.
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
            f"every organization's database, to {master_side._meta.label}, which is in the "
            "master database.",
            hint=_hint(target),
            obj=field,
            id="tenancy.E001",
        )


@checks.register(checks.Tags.models)
def check_files(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> Iterable[checks.CheckMessage]:
    """Only tenant apps' files may use TenantStorage, and all of them must."""
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
            f"{model._meta.label}.{field.name} stores the files of all organizations together.",
            hint="Remove `storage`, or use a subclass of "
            "organizations.tenancy.storage.TenantStorage.",
            obj=field,
            id="tenancy.E006",
        )
    return checks.Error(
        f"{model._meta.label}.{field.name} is in the master, but stores its files in the folder "
        "of the active organization.",
        hint="Give it its own storage: an entry of STORAGES.",
        obj=field,
        id="tenancy.E007",
    )


def _hint(target: type[Model]) -> str:
    if target._meta.label == "contenttypes.ContentType":
        return (
            "A generic relation needs content types, which are in the master. Use a nullable "
            "foreign key for each possible target model."
        )
    return "Relations cannot cross databases. Store the id as a plain integer."


@checks.register(checks.Tags.admin)
def check_admin(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> Iterable[checks.CheckMessage]:
    """Tenant models must not be in Django admin, since staff belong to no organization."""
    for site in all_sites:
        for model, shown_by in site._registry.items():
            if is_tenant_model(model):
                yield checks.Error(
                    f"{model._meta.label} is registered in Django admin by "
                    f"{type(shown_by).__name__}, and is in every organization's database.",
                    hint=(
                        "Staff belong to no organization, so its pages would answer 500. Remove "
                        "the registration. An organization's users have the API; to inspect or "
                        "repair, use `manage.py org_command NAME -- shell`."
                    ),
                    obj=model,
                    id="tenancy.E008",
                )


@checks.register
def check_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> Iterable[checks.CheckMessage]:
    """TENANT_APPS, DATABASE_ROUTERS and ATOMIC_REQUESTS must fit tenancy."""
    installed = {app.name for app in apps.get_app_configs()}
    for name in settings.TENANT_APPS:
        if name not in installed:
            yield checks.Error(
                f"TENANT_APPS names {name}, which is not in INSTALLED_APPS.",
                hint="Add it to both, by its AppConfig's name.",
                id="tenancy.E002",
            )
    for app in apps.get_app_configs():
        listed = (app.name in settings.TENANT_APPS) + (app.name in settings.MASTER_APPS)
        if listed != 1 and any(app.get_models()):
            yield checks.Error(
                f"The app {app.name} has models and is in {('neither', '', 'both')[listed]} of "
                "TENANT_APPS and MASTER_APPS.",
                hint="Add it to TENANT_APPS, unless all organizations should share its tables.",
                id="tenancy.E005",
            )
    router = "organizations.tenancy.TenantRouter"
    if list(settings.DATABASE_ROUTERS) != [router]:
        yield checks.Error(
            "DATABASE_ROUTERS must contain only the tenant router.",
            hint=f"Set DATABASE_ROUTERS = [{router!r}]: another router could misdirect a query.",
            id="tenancy.E003",
        )
    if settings.DATABASES["default"].get("ATOMIC_REQUESTS"):
        yield checks.Error(
            "ATOMIC_REQUESTS is on for the master database.",
            hint="Turn it off: provisioning cannot run inside a transaction.",
            id="tenancy.E004",
        )
