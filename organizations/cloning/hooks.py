"""Calls each tenant app's hook that neutralises a clone: `neutralise` in its module `neutralise`.

A hook runs with the clone active, in autocommit, before anybody can use it. If it raises, no clone
is left. Triggers that came with the data run too.
"""

import logging
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from django.apps import apps
from django.conf import settings
from django.utils.module_loading import module_has_submodule

from accounts.errors import AccountError
from organizations import tenancy
from organizations.errors import CloneFailed, OrganizationError
from organizations.postgres import trouble

logger = logging.getLogger(__name__)

MODULE = FUNCTION = "neutralise"
Hook = Callable[[], object]


def found(*, name: str) -> dict[str, Hook | None]:
    """The hook of each tenant app by its label, in the order of INSTALLED_APPS; None: it has none.

    name: the organization's, for CloneFailed, which it raises for a module without the function.
    """
    hooks: dict[str, Hook | None] = {}
    for app in apps.get_app_configs():
        if app.name not in settings.TENANT_APPS:
            continue
        module = _module_of(app.name)
        if module is None:
            if list(app.get_models()):
                hooks[app.label] = None
            continue
        hook = getattr(module, FUNCTION, None)
        if not callable(hook):
            raise CloneFailed(name, f"{module.__name__} has no function {FUNCTION}.")
        hooks[app.label] = hook
    return hooks


def _module_of(app: str) -> ModuleType | None:
    if not module_has_submodule(import_module(app), MODULE):
        return None
    return import_module(f"{app}.{MODULE}")


def run(what: str, hook: Hook, *, name: str, watch: Callable[[], None]) -> None:
    """Call it with the clone active. watch: raises if its deadline has passed.

    name: the organization's, for CloneFailed. An error of the server is raised as it is.
    """
    try:
        hook()
    except Exception as error:
        if trouble.is_servers(error) or isinstance(error, tenancy.TooBusy):
            raise
        watch()
        facts = {"organization": tenancy.get().organization_id, "what": what}
        logger.error("clone not neutralised", extra=facts, exc_info=error)
        ours = isinstance(error, AccountError | OrganizationError)
        said = str(error) if ours else f"{type(error).__name__}. The log has more."
        raise CloneFailed(name, f"{what}: {said}") from error
