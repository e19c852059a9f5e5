"""No repr or str of the project's own objects shows a secret that they hold."""

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connections
from django.views.debug import SafeExceptionReporterFilter

import accounts
import organizations
import orgmgmt
from organizations import tenancy
from tests.conftest import Company

MARK = "no-one-may-read-this"
SECRET = re.compile(r"passw|secret|sealed|token(?!_version)|jti|hash|raw|credential|(?<!name_)key")
# It names a token; nobody signs one without a key.
HARMLESS = {
    "accounts.tokens.Credential.jti",
    "organizations.backups.manifest.Part.key",  # The public half.
    "organizations.migrating.engine.MigrationSQL.key",  # app label and name
    # Random keys that tell rows apart, and that every role of the server can read.
    "organizations.postgres.identity.Expected.key",
    "organizations.postgres.identity.Identity.key",
    "organizations.inspecting.catalog.Kept.key",
    "organizations.inspecting.catalog.Kept.organization_key",
    "organizations.inspecting.catalog.Seen.key",
    "organizations.inspecting.catalog.Stock.key",
    "organizations.postgres.installation.Standing.key",
    "organizations.tenancy.tenant.Tenant.key",
}
OWN_MODELS = [
    model
    for model in apps.get_models()
    if model.__module__.startswith(("accounts.", "organizations."))
]


def modules() -> Iterator[Any]:
    for package in (accounts, organizations, orgmgmt):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not re.search(r"\.(migrations|gunicorn|wsgi|serve)\b", found.name):
                yield importlib.import_module(found.name)


def shown_fields() -> Iterator[str]:
    """Fields of dataclasses that a repr shows."""
    for module in modules():
        for name, found in inspect.getmembers(module, inspect.isclass):
            if found.__module__ != module.__name__ or not dataclasses.is_dataclass(found):
                continue
            if found.__dataclass_params__.repr:  # type: ignore[attr-defined]
                for field in dataclasses.fields(found):
                    if field.repr:
                        yield f"{module.__name__}.{name}.{field.name}"


@pytest.mark.pure
def test_a_model_shows_no_secret_of_its_row() -> None:
    for model in OWN_MODELS:
        fields = [
            field.attname for field in model._meta.concrete_fields if SECRET.search(field.name)
        ]
        # What a key says of a row is no secret.
        row = model(**dict.fromkeys(fields, MARK) | {model._meta.pk.attname: "1"})
        assert MARK not in f"{row!r} {row}", model._meta.label


@pytest.mark.pure
def test_a_dataclass_shows_no_field_that_is_named_like_a_secret() -> None:
    shown = set(shown_fields())
    assert "accounts.tokens.Credential.organization_id" in shown, "the fields are not found"
    assert {name for name in shown if SECRET.search(name.rpartition(".")[2])} <= HARMLESS


def test_an_error_page_shows_no_setting_that_is_a_secret() -> None:
    safe = str(SafeExceptionReporterFilter().get_safe_settings())
    databases = settings.DATABASES["default"]["PASSWORD"]
    for secret in (settings.SECRET_KEY, databases, *settings.CREDENTIAL_KEYS):
        assert secret not in safe


def test_nothing_about_an_open_connection_shows_its_password(alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        connection = tenancy.connection()
        connection.ensure_connection()
        shown = " ".join(
            f"{each!r} {each}"
            for each in (connection, connection.connection, connections, alpha.tenant, alpha)
        )
        password = str(connection.settings_dict["PASSWORD"])
        hidden = SafeExceptionReporterFilter().cleanse_setting("DATABASE", connection.settings_dict)
    assert password not in shown
    assert password not in str(hidden)
