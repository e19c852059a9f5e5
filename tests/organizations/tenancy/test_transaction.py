"""Transactions on the active organization's database."""

import pytest
from django.db import connections
from pytest_django import Settings

from accounts.models import User
from organizations import tenancy
from organizations.tenancy import NoTenant, registry
from tests.conftest import Company

from .conftest import Twins


class Oops(Exception):
    """What makes a block roll back."""


def email_in(company: Company, pk: int) -> str:
    with tenancy.override(company.tenant):
        return User.objects.get(pk=pk).email


def test_atomic_takes_back_what_was_written_to_the_organization(
    alpha: Company, twins: Twins
) -> None:
    with pytest.raises(Oops), tenancy.override(alpha.tenant), tenancy.atomic():
        User.objects.filter(pk=twins.alpha.pk).update(email="changed@alpha.example")
        raise Oops
    assert email_in(alpha, twins.alpha.pk) == "twin@alpha.example", "it was not rolled back"


def test_atomic_of_one_organization_does_not_cover_another(
    alpha: Company, beta: Company, twins: Twins
) -> None:
    with pytest.raises(Oops), tenancy.override(alpha.tenant), tenancy.atomic():
        with tenancy.override(beta.tenant):
            User.objects.filter(pk=twins.beta.pk).update(email="changed@beta.example")
        raise Oops
    assert email_in(beta, twins.beta.pk) == "changed@beta.example", "beta shares a transaction"


def test_an_inner_atomic_is_a_savepoint(alpha: Company, twins: Twins) -> None:
    with tenancy.override(alpha.tenant), tenancy.atomic():
        User.objects.filter(pk=twins.alpha.pk).update(email="kept@alpha.example")
        with pytest.raises(Oops), tenancy.atomic():
            User.objects.filter(pk=twins.alpha.pk).update(email="lost@alpha.example")
            raise Oops
    assert email_in(alpha, twins.alpha.pk) == "kept@alpha.example"


def test_a_durable_atomic_refuses_to_be_an_inner_one(alpha: Company) -> None:
    with (
        tenancy.override(alpha.tenant),
        tenancy.atomic(),
        pytest.raises(RuntimeError, match="durable"),
        tenancy.atomic(durable=True),
    ):
        pytest.fail("a durable block began inside another")


def test_nested_blocks_of_the_same_organization_share_the_transaction(
    alpha: Company, twins: Twins
) -> None:
    with pytest.raises(Oops), tenancy.override(alpha.tenant), tenancy.atomic():
        with tenancy.override(alpha.tenant):
            User.objects.filter(pk=twins.alpha.pk).update(email="changed@alpha.example")
        assert tenancy.connection().in_atomic_block, "the inner block's end closed the connection"
        raise Oops
    assert email_in(alpha, twins.alpha.pk) == "twin@alpha.example", "it was not rolled back"


def test_on_commit_waits_for_the_organizations_transaction(alpha: Company) -> None:
    called: list[str] = []
    with tenancy.override(alpha.tenant):
        with tenancy.atomic():
            tenancy.on_commit(lambda: called.append(tenancy.get().slug))
            assert not called, "it did not wait for the commit"
        assert called == [alpha.tenant.slug], "it was not called with its organization active"


def test_on_commit_is_forgotten_when_the_transaction_rolls_back(alpha: Company) -> None:
    called: list[bool] = []
    with tenancy.override(alpha.tenant):
        with pytest.raises(Oops), tenancy.atomic():
            tenancy.on_commit(lambda: called.append(True))
            raise Oops
        with tenancy.atomic():
            pass
    assert not called, "it was called in spite of the rollback"


def test_without_an_organization_there_is_no_transaction() -> None:
    with pytest.raises(NoTenant):
        tenancy.atomic()
    with pytest.raises(NoTenant):
        tenancy.on_commit(lambda: None)
    with pytest.raises(NoTenant):
        tenancy.connection()


def test_connection_is_the_active_organizations(alpha: Company, beta: Company) -> None:
    for company in (alpha, beta):
        with tenancy.override(company.tenant), tenancy.connection().cursor() as cursor:
            cursor.execute("SELECT current_database(), current_user")
            assert cursor.fetchone() == (
                company.organization.database_name,
                company.organization.role_name,
            )


def test_no_request_opens_a_transaction_on_an_organization(
    alpha: Company, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Django opens one on every registered alias that has it, for any request.
    monkeypatch.setitem(settings.DATABASES["default"], "ATOMIC_REQUESTS", True)
    registry.forget(alpha.tenant.alias)
    with tenancy.override(alpha.tenant):
        assert connections.settings[alpha.tenant.alias]["ATOMIC_REQUESTS"] is False
        assert tenancy.connection().settings_dict["ATOMIC_REQUESTS"] is False


def test_a_connection_whose_transaction_outlived_its_block_is_closed(
    alpha: Company, beta: Company
) -> None:
    with tenancy.override(alpha.tenant):
        block = tenancy.atomic()
        block.__enter__()
        User.objects.exists()
        wrapper = tenancy.connection()
    block.__exit__(None, None, None)
    with tenancy.override(beta.tenant):
        User.objects.exists()
    try:
        assert wrapper.connection is None, "nobody works on alpha, and its connection stays open"
    finally:
        wrapper.close()
