"""The registry of aliases: bounded, pinned while in use, and built again when needed."""

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from django.core.signals import request_finished
from django.db import connections
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from accounts.models import User
from organizations import tenancy
from organizations.postgres.databases import settings_for
from organizations.tenancy import RegistryFull, Tenant, directory, registry
from tests.conftest import Company

from .conftest import lent, visit

pytestmark = pytest.mark.usefixtures("fresh_registry")


def in_thread(function: Callable[[], Any]) -> Any:
    def run() -> Any:
        try:
            return function()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(timeout=60)


def aliases_of(companies: list[Company]) -> list[str]:
    return [company.tenant.alias for company in companies]


def test_the_least_recently_used_alias_makes_room(
    several: list[Company], settings: Settings
) -> None:
    settings.ORG_MAX_ALIASES = 3
    visit(*several[:3], several[0], several[3])
    assert registry.registered() == aliases_of([several[2], several[0], several[3]])
    assert several[1].tenant.alias not in connections.settings, "the evicted alias is known still"
    visit(several[1])
    assert len(registry.registered()) == 3


def test_a_pinned_alias_is_never_evicted(several: list[Company], settings: Settings) -> None:
    settings.ORG_MAX_ALIASES = 2
    with tenancy.override(several[0].tenant):
        for company in several[1:]:
            visit(company)
            assert len(registry.registered()) <= 2, "the ceiling was passed"
        assert several[0].tenant.alias in registry.registered(), "a pinned alias was evicted"
        assert User.objects.get().email == several[0].email


def test_with_every_alias_pinned_the_next_block_is_refused(
    several: list[Company], settings: Settings
) -> None:
    settings.ORG_MAX_ALIASES = 2
    with tenancy.override(several[0].tenant), tenancy.override(several[1].tenant):
        with pytest.raises(RegistryFull, match="All 2 aliases of this process are in use"):
            tenancy.override(several[2].tenant).__enter__()
        assert tenancy.get() == several[1].tenant, "the refused block changed the active one"
        with tenancy.override(several[0].tenant):
            assert User.objects.get().email == several[0].email, "a known alias was refused"
    visit(several[2])


def test_an_alias_pinned_by_another_thread_is_not_evicted(
    several: list[Company], settings: Settings
) -> None:
    settings.ORG_MAX_ALIASES = 1
    with tenancy.override(several[0].tenant), pytest.raises(RegistryFull):
        in_thread(lambda: visit(several[1]))
    in_thread(lambda: visit(several[1]))


def test_a_connection_is_given_back_with_the_threads_last_pin(alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        User.objects.exists()
        with tenancy.override(alpha.tenant):
            User.objects.exists()
        assert lent() == 1
        assert tenancy.connection().connection is not None, "the inner block gave it back"
    assert lent() == 0


def test_a_block_of_another_thread_keeps_its_own_connection(alpha: Company) -> None:
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with tenancy.override(alpha.tenant):
            User.objects.exists()
            inside.set()
            assert leave.wait(30)
            User.objects.exists()
        connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        staying = pool.submit(stay)
        assert inside.wait(30)
        with tenancy.override(alpha.tenant):
            User.objects.exists()
            assert lent() == 2
        assert lent() == 1
        leave.set()
        staying.result(timeout=30)
    assert lent() == 0


def test_a_tasks_thread_returns_its_connection_after_the_request(
    alpha: Company,
) -> None:
    kept: list[object] = []

    def keep_a_cursor() -> None:
        kept.append(tenancy.connection().cursor())

    with tenancy.override(alpha.tenant):
        context = contextvars.copy_context()
        worker = ThreadPoolExecutor(1)
        worker.submit(context.run, keep_a_cursor).result(timeout=30)
        assert lent() == 1
    assert lent() == 1
    worker.submit(request_finished.send, None).result(timeout=30)
    assert lent() == 0
    worker.submit(connections.close_all).result(timeout=30)
    worker.shutdown()


def test_the_wrapper_of_an_evicted_alias_is_not_used_again(
    several: list[Company], settings: Settings
) -> None:
    settings.ORG_MAX_ALIASES = 1
    with tenancy.override(several[0].tenant):
        User.objects.exists()
        old = tenancy.connection()
    visit(several[1])
    with tenancy.override(several[0].tenant):
        assert tenancy.connection() is not old, "the old wrapper came back"
        assert old.connection is None, "the old wrapper's connection is open"
        assert User.objects.get().email == several[0].email


def test_an_alias_has_every_default_that_django_fills(alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        entry = connections.settings[alpha.tenant.alias]
    missing = set(connections.settings["default"]) - set(entry)
    assert not missing, f"the entry lacks {missing}"
    assert entry["CONN_MAX_AGE"] == 0 and entry["AUTOCOMMIT"] is True


def test_no_pool_is_opened_for_an_organization(
    alpha: Company, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**settings.DATABASES["default"].get("OPTIONS", {}), "pool": True}
    with monkeypatch.context() as patch:
        patch.setitem(settings.DATABASES["default"], "OPTIONS", options)
        assert "pool" not in settings_for(alpha.organization.place, owner="")["OPTIONS"]


def test_forget_lets_running_blocks_finish_and_the_next_one_reads_again(
    alpha: Company, company: Callable[..., Company]
) -> None:
    moved = company()
    alias = moved.tenant.alias
    with tenancy.override(moved.tenant):
        User.objects.exists()
        before = connections.settings[alias]
        registry.forget(alias)
        assert User.objects.get().email == moved.email, "forget ended a running block's alias"
        assert alias in connections.settings
    assert alias not in registry.registered(), "the forgotten alias stayed after the last pin"
    with tenancy.override(moved.tenant):
        assert connections.settings[alias] is not before, "the old settings were used again"
        assert User.objects.get().email == moved.email


def test_a_block_that_begins_after_forget_reads_new_settings_at_once(alpha: Company) -> None:
    alias = alpha.tenant.alias
    with tenancy.override(alpha.tenant):
        before = connections.settings[alias]
        registry.forget(alias)
        in_thread(lambda: visit(alpha))
        assert connections.settings[alias] is not before, "the old settings were used again"
        assert User.objects.exists(), "the running block lost its alias"


def test_forgetting_an_unknown_alias_does_nothing() -> None:
    registry.forget("org_2000000000")
    assert registry.registered() == []


def test_leaked_pins_are_released_by_reset(several: list[Company], settings: Settings) -> None:
    settings.ORG_MAX_ALIASES = 1
    leaked = tenancy.override(several[0].tenant)
    leaked.__enter__()
    tenancy.reset()
    visit(several[1])


def test_a_pin_is_released_once(alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        pin = registry.Pin(alpha.tenant)
        pin.release()
        pin.release()
        assert registry._pins[alpha.tenant.alias] == 1, "the second release took another's pin"


def test_where_an_organization_is_is_asked_once(alpha: Company) -> None:
    tenant = directory.get().tenant_by_id(alpha.organization.pk)
    with CaptureQueriesContext(connections["default"]) as asked:
        visit_as(tenant, alpha)
        visit_as(tenant, alpha)
    assert len(asked) == 0, "the master was asked for what the tenant knows"


def test_an_alias_of_another_place_is_read_again(alpha: Company, beta: Company) -> None:
    """Another process has moved the organization, or changed its credential."""
    visit_as(replace(alpha.tenant, place=beta.organization.place), beta)
    now = directory.get().tenant_by_id(alpha.organization.pk)
    with CaptureQueriesContext(connections["default"]) as asked:
        visit_as(now, alpha)
        visit_as(now, alpha)
    assert len(asked) == 1, "who is right, the master knows"


def test_a_tenant_without_a_place_uses_the_registered_alias(alpha: Company) -> None:
    visit_as(directory.get().tenant_by_id(alpha.organization.pk), alpha)
    with CaptureQueriesContext(connections["default"]) as asked:
        visit_as(alpha.tenant, alpha)
    assert len(asked) == 0


def visit_as(tenant: Tenant, company: Company) -> None:
    with tenancy.override(tenant):
        assert User.objects.get().email == company.email


def test_the_end_of_a_request_walks_no_alias_of_others(several: list[Company]) -> None:
    visit(*several)
    assert list(connections) == ["default"]
    with tenancy.override(several[0].tenant):
        assert list(connections) == ["default", several[0].tenant.alias]
    assert all(company.tenant.alias in connections.settings for company in several)
