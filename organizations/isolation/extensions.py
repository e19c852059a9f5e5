"""Collects the isolation attempts that tenant apps add in their `isolation` modules."""

from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from django.apps import apps
from django.conf import settings
from django.utils.module_loading import module_has_submodule


def modules() -> Iterator[ModuleType]:
    """The `isolation` modules of the apps in TENANT_APPS that have one."""
    for app in apps.get_app_configs():
        if app.name in settings.TENANT_APPS and module_has_submodule(
            import_module(app.name), "isolation"
        ):
            yield import_module(f"{app.name}.isolation")


def merged(own: dict[str, Any], name: str) -> dict[str, Any]:
    """`own`, merged with the apps' dictionaries of this name."""
    together = dict(own)
    for module in modules():
        together |= getattr(module, name, {})
    return together
