"""Middleware and router of the naive comparator, as a first attempt would write them.

The middleware adds an alias at run time, the router reads a thread-local variable, and Django keeps
the connections. It uses the databases and roles that the product has made.
"""

import threading
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.models import Model
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts import tokens
from benchmarks.comparators.plain.stack import TokenMiddleware
from organizations.models import Organization
from organizations.secrets import unseal

_here = threading.local()


class AliasMiddleware(TokenMiddleware):
    """Adds the organization's alias to the settings and makes it the thread's."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        super().__init__(get_response)

    def read(self, request: HttpRequest) -> tokens.Credential | Exception | None:
        credential = super().read(request)
        _here.alias = "default"
        if isinstance(credential, tokens.Credential):
            _here.alias = _alias_of(Organization.objects.get(pk=credential.organization_id))
        return credential


def _alias_of(organization: Organization) -> str:
    alias = f"naive_{organization.pk}"
    if alias not in connections.databases:
        connections.databases[alias] = {
            **connections.databases["default"],
            "NAME": organization.database_name,
            "USER": organization.role_name,
            "PASSWORD": unseal(organization.sealed_password, owner=organization.name),
            "CONN_MAX_AGE": getattr(settings, "NAIVE_CONN_MAX_AGE"),  # noqa: B009 - not the product's
            "CONN_HEALTH_CHECKS": False,
        }
    return alias


class AliasRouter:
    """Tenant models go to the thread's alias, all others to the master."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        return _here.alias if model._meta.app_label == "accounts" else "default"

    db_for_write = db_for_read
