"""A bare transaction.atomic(), as libraries use it, while an organization is active."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections, transaction
from psycopg import sql
from pytest_django import Settings

from accounts.models import LoginSession, User
from organizations import tenancy
from organizations.models import Organization
from organizations.tenancy import WrongTransaction
from tests.conftest import Company

from .conftest import TWIN_ID, Twins

LATER = datetime(2100, 1, 1, tzinfo=UTC)
NEW: dict[str, Any] = {"email": "new@alpha.example", "email_key": "new@alpha.example"}


class Oops(Exception):
    """What makes a block roll back."""


def run(statement: Any, *, many: bool = False) -> None:
    with tenancy.connection().cursor() as cursor:
        if many:
            cursor.executemany(statement, [(TWIN_ID,)])
        else:
            cursor.execute(statement)


WRITES: dict[str, Callable[[User], object]] = {
    "save": lambda user: user.save(),
    "create": lambda user: User.objects.create(**NEW),
    "update": lambda user: User.objects.update(is_admin=True),
    "delete": lambda user: user.delete(),
    "delete through a query set": lambda user: User.objects.filter(pk=TWIN_ID).delete(),
    "bulk_create": lambda user: User.objects.bulk_create([User(**NEW)]),
    "bulk_update": lambda user: User.objects.bulk_update([user], ["email"]),
    "get_or_create": lambda user: User.objects.get_or_create(**NEW),
    "update_or_create": lambda user: User.objects.update_or_create(pk=TWIN_ID, defaults=NEW),
    "related": lambda user: user.login_sessions.create(kind="token", expires_at=LATER),
    "with an alias": lambda user: user.save(using=tenancy.get().alias),
    "a block with an alias": lambda user: _inside(tenancy.get().alias, user.save),
    "SQL": lambda user: run("UPDATE users SET is_admin = true"),
    "SQL after a comment": lambda user: run("-- why\n/* what */ delete FROM users"),
    "SQL after WITH": lambda user: run("WITH gone AS (SELECT 1) UPDATE users SET is_admin = true"),
    "composed SQL": lambda user: run(sql.SQL("DELETE FROM {}").format(sql.Identifier("users"))),
    "many": lambda user: run("DELETE FROM users WHERE id = %s", many=True),
}


def _inside(using: str | None, act: Callable[[], object]) -> None:
    with transaction.atomic(using=using):
        act()


def contents(company: Company) -> list[Any]:
    with tenancy.override(company.tenant):
        return list(User.objects.order_by("pk").values())


def test_a_write_that_the_block_would_not_take_back_is_refused(
    alpha: Company, twins: Twins
) -> None:
    before = contents(alpha)
    twins.alpha.email = "changed@alpha.example"
    for write, act in WRITES.items():
        with tenancy.override(alpha.tenant):
            with (
                pytest.raises(WrongTransaction, match=r"Use tenancy\.atomic\(\)"),
                transaction.atomic(),
            ):
                act(twins.alpha)
                pytest.fail(f"not refused: {write}")
            assert not connections["default"].in_atomic_block
        assert contents(alpha) == before, write


@pytest.mark.usefixtures("twins")
def test_the_same_write_is_good_in_a_transaction_of_the_organizations(alpha: Company) -> None:
    before = contents(alpha)
    blocks: list[Any] = [tenancy.atomic, transaction.atomic]
    for write, act in WRITES.items():
        for outer, inner in (blocks, blocks[::-1]):
            with tenancy.override(alpha.tenant), pytest.raises(Oops), outer(), inner():
                act(User.objects.get(pk=TWIN_ID))
                raise Oops
        assert contents(alpha) == before, f"the transaction has not taken it back: {write}"


def test_a_library_that_decorates_or_is_called_by_others_is_found_too(
    alpha: Company, twins: Twins
) -> None:
    @transaction.atomic
    def decorated() -> None:
        twins.alpha.save()

    def beneath() -> None:
        # As in a test that wraps itself, or a view of Django admin's.
        with transaction.atomic(), tenancy.override(alpha.tenant), transaction.atomic():
            twins.alpha.save()

    with tenancy.override(alpha.tenant), pytest.raises(WrongTransaction):
        decorated()
    with pytest.raises(WrongTransaction):
        beneath()

    async def awaited() -> None:
        with tenancy.override(alpha.tenant):
            await sync_to_async(decorated)()

    with pytest.raises(WrongTransaction):
        asyncio.run(awaited())


def test_what_writes_nothing_is_let_through(alpha: Company, twins: Twins) -> None:
    with tenancy.override(alpha.tenant), transaction.atomic():
        assert list(User.objects.filter(pk=TWIN_ID)) == [twins.alpha]
        login = LoginSession(user=twins.alpha, kind="token", expires_at=LATER)
        login.full_clean(exclude=["refresh_jti", "ended_at"])
        run("SELECT 1 -- UPDATE")
        run("WITH one AS (SELECT 1) SELECT * FROM one")
        Organization.objects.filter(pk=alpha.organization.pk).update(name=alpha.organization.name)


def test_a_block_of_the_masters_around_the_organizations_is_the_masters(
    alpha: Company, twins: Twins
) -> None:
    """Master code that enters an organization has named its transaction, and knows what it does."""
    with transaction.atomic(using="default"), tenancy.override(alpha.tenant):
        twins.alpha.save()
    with tenancy.override(alpha.tenant), transaction.atomic(), tenancy.override(alpha.tenant):
        twins.alpha.save()

    def elsewhere() -> None:
        try:
            twins.alpha.save()
        finally:
            connections.close_all()

    with (
        ThreadPoolExecutor(1) as pool,
        tenancy.override(alpha.tenant),
        transaction.atomic(),
    ):
        pool.submit(tenancy.bind(elsewhere)).result(timeout=30)


def test_after_a_block_writes_are_good_again(alpha: Company, twins: Twins) -> None:
    with tenancy.override(alpha.tenant):
        with transaction.atomic(), transaction.atomic():
            pass
        with pytest.raises(Oops), transaction.atomic():
            raise Oops
        twins.alpha.save()


def test_it_can_be_a_warning_alone(
    alpha: Company, twins: Twins, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.ORG_BARE_ATOMIC = "warn"
    caplog.set_level(logging.WARNING)
    with tenancy.override(alpha.tenant), transaction.atomic():
        assert User.objects.filter(pk=TWIN_ID).update(is_admin=False) == 1
    (record,) = caplog.records
    assert "Use tenancy.atomic()" in record.getMessage()
    assert record.__dict__["alias"] == alpha.tenant.alias
    assert __file__ in str(record.stack_info), "nobody can tell where it was"


def test_a_call_for_after_the_commit_is_not_made_before_it(
    alpha: Company, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[str] = []

    def note() -> None:
        called.append("now")

    with tenancy.override(alpha.tenant):
        with (
            tenancy.atomic(),
            pytest.raises(WrongTransaction, match=r"Use tenancy\.on_commit\(\)"),
        ):
            transaction.on_commit(note)
        assert not called
        with tenancy.atomic(), transaction.atomic():
            transaction.on_commit(note)
            assert not called
        transaction.on_commit(note)
        settings.ORG_BARE_ATOMIC = "warn"
        with tenancy.atomic():
            transaction.on_commit(note)
    assert len(called) == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
