"""Spare databases: each is taken once, or not at all."""

from typing import Any

import psycopg
import pytest
from django.db import connections
from django.utils import timezone
from psycopg import sql
from pytest_django import Settings

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.errors import OrganizationExists
from organizations.lifecycle import Created
from organizations.models import Organization, SpareDatabase, Template
from organizations.postgres.sessions import open_session
from organizations.provisioning import making, refill
from organizations.provisioning import spares as spares_of
from organizations.recovery.credentials import reseal_credentials
from organizations.tenancy import registry
from tests.conftest import PASSWORD, leftovers
from tests.organizations.helpers import Code, Superuser, as_role_of, names, together
from tests.organizations.undroppable import undroppable, visited


def sign_up(name: str = "Taken Ltd") -> Created:
    return lifecycle.create_organization(name=name, email="admin@test.com", password=PASSWORD)


def end(*made: Created) -> None:
    for created in made:
        lifecycle.delete_organization(created.organization)


# --- Taken ---------------------------------------------------------------------------------------
def test_a_sign_up_takes_the_oldest(spares: list[SpareDatabase], superuser: Superuser) -> None:
    created = sign_up()
    organization = Organization.objects.get(pk=created.organization.pk)
    assert created.report.path == "spare"
    steps = ["lock", "row", "connect", "hash", "admin", "activation"]
    assert list(created.report.seconds) == steps
    assert organization.role_name == spares[0].role_name
    assert organization.database_name == "org_taken_ltd"
    assert not SpareDatabase.objects.filter(pk=spares[0].pk).exists()
    # The application is no member of a role that is taken.
    query = (
        "SELECT roleid::regrole::text FROM pg_auth_members "
        "WHERE member = 'orgmgmt'::regrole AND inherit_option AND roleid::regrole::text LIKE 'org%'"
    )
    assert names(superuser, query) == {spares[1].role_name}
    assert spares[0].database_name not in names(superuser, "SELECT datname FROM pg_database")
    with tenancy.override(organization.tenant):
        assert User.objects.get().email == "admin@test.com"
    end(created)
    assert leftovers(superuser) == (set(), set())


def test_of_eight_sign_ups_at_once_each_gets_a_spare_and_the_ninth_a_copy(
    settings: Settings, superuser: Superuser
) -> None:
    settings.ORG_SPARE_DATABASES = 8
    with open_session() as session:
        refill.fill(session)
    ready = set(SpareDatabase.objects.values_list("role_name", flat=True))
    made = together(*(lambda n=n: sign_up(f"Together {n}") for n in range(8)))
    created = [each for each in made if isinstance(each, Created)]
    assert len(created) == 8, [each for each in made if not isinstance(each, Created)]
    assert [each.report.path for each in created] == ["spare"] * 8
    assert {each.organization.role_name for each in created} == ready
    for each in created:
        with as_role_of(each.organization) as connection:
            assert connection.execute("SELECT email FROM users").fetchall() == [("admin@test.com",)]
    assert not SpareDatabase.objects.exists()
    ninth = sign_up("Together 8")
    assert ninth.report.path == "template"
    end(*created, ninth)
    assert leftovers(superuser) == (set(), set())


def test_a_spare_of_other_code_or_half_made_is_not_taken(spares: list[SpareDatabase]) -> None:
    facts: tuple[dict[str, Any], ...] = ({"fingerprint": "of other code"}, {"ready": False})
    for wrong in facts:
        SpareDatabase.objects.update(**wrong)
        created = sign_up()
        assert created.report.path == "template", wrong
        end(created)
        SpareDatabase.objects.update(fingerprint=spares[0].fingerprint, ready=True)


def test_a_sign_up_succeeds_even_if_no_refill_can_be_requested(
    spares: list[SpareDatabase], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The queue of NOTIFY is the server's, and any organization can fill it. PostgreSQL refuses a
    channel without a name, too."""
    monkeypatch.setattr(spares_of, "CHANNEL", "")
    created = sign_up()
    assert created.report.path == "spare"
    assert "refill not notified" in [record.message for record in caplog.records]
    end(created)


# --- Not to be had -------------------------------------------------------------------------------
def test_a_spare_with_a_connection_is_skipped(spares: list[SpareDatabase]) -> None:
    with visited(spares[0].database_name):
        created = sign_up()
        assert created.report.path == "spare"
        assert created.organization.role_name == spares[1].role_name
    end(created)


def test_a_spare_connected_to_at_the_last_moment_is_not_taken(
    spares: list[SpareDatabase], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hand_out = spares_of.hand_out

    def be_refused(*args: Any) -> None:
        """By the server, with the error of a rename of a database in use.

        That PostgreSQL refuses that rename is not shown here: it waits 5 s before it does.
        """
        hand_out(*args)
        with connections["default"].cursor() as cursor:
            cursor.execute("DO $$ BEGIN RAISE 'in use' USING ERRCODE = 'object_in_use'; END $$")

    monkeypatch.setattr(spares_of, "hand_out", be_refused)
    created = sign_up()
    assert created.report.path == "template"
    assert "spare database not usable" in [record.message for record in caplog.records]
    assert SpareDatabase.objects.filter(ready=True).count() == len(spares), "nothing was half taken"
    end(created)


def test_one_whose_database_is_gone_is_not_taken_and_replaced(
    spares: list[SpareDatabase], superuser: Superuser, caplog: pytest.LogCaptureFixture
) -> None:
    name = sql.Identifier(spares[0].database_name)
    superuser.execute(sql.SQL("DROP DATABASE {}").format(name))
    created = sign_up()
    assert created.report.path == "template"
    assert "spare database not usable" in [record.message for record in caplog.records]
    end(created)
    with open_session() as session:
        assert refill.fill(session) == (1, 1)
    assert leftovers(superuser) == (set(), set())


def test_a_foreign_database_that_takes_the_name_is_left_alone(
    spares: list[SpareDatabase], superuser: Superuser, caplog: pytest.LogCaptureFixture
) -> None:
    """Foreign databases are looked for first; this one appears after the look."""
    superuser.execute("CREATE DATABASE org_foreign_ltd")
    try:
        with open_session() as session:
            row = Organization(name="Foreign Ltd", database_name="org_foreign_ltd")
            assert making._insert_with_spare(session, row) is None
        assert "spare database not usable" in [record.message for record in caplog.records]
        assert SpareDatabase.objects.filter(ready=True).count() == len(spares)
        assert not Organization.objects.live().filter(name="Foreign Ltd").exists()
    finally:
        superuser.execute("DROP DATABASE org_foreign_ltd")


def test_a_spare_that_cannot_be_dropped_does_not_block_others(
    spares: list[SpareDatabase], superuser: Superuser
) -> None:
    SpareDatabase.objects.filter(pk=spares[0].pk).update(ready=False)
    with undroppable(spares[0].database_name), open_session() as session:
        with pytest.raises(psycopg.errors.ObjectInUse):
            refill.fill(session)
        assert SpareDatabase.objects.filter(ready=True).count() == len(spares)
    with open_session() as session:
        assert refill.fill(session) == (0, 1)
    assert leftovers(superuser) == (set(), set())


# --- Kept ----------------------------------------------------------------------------------------
def test_refilling_makes_what_is_missing_and_no_more(spares: list[SpareDatabase]) -> None:
    created = sign_up()
    with pytest.raises(OrganizationExists):
        sign_up("taken-ltd")  # Which takes no spare.
    end(created)
    with open_session() as session:
        assert refill.fill(session) == (1, 0)
        assert refill.fill(session) == (0, 0)


def test_refilling_drops_what_is_too_much(
    spares: list[SpareDatabase], settings: Settings, superuser: Superuser
) -> None:
    settings.ORG_SPARE_DATABASES = 1
    with open_session() as session:
        assert refill.fill(session) == (0, 1)
    assert [spare.pk for spare in SpareDatabase.objects.all()] == [spares[0].pk]
    assert leftovers(superuser) == (set(), set())


def test_spares_of_an_old_version_stay_until_unused_for_hours(
    spares: list[SpareDatabase], code: Code, superuser: Superuser
) -> None:
    code.add("CREATE TABLE added (id int)")
    with open_session() as session:
        assert refill.fill(session) == (2, 0)
        assert refill.fill(session) == (0, 0)
    long_ago = timezone.now() - spares_of.KEPT_UNUSED
    SpareDatabase.objects.filter(pk__in=[spare.pk for spare in spares]).update(created_at=long_ago)
    with open_session() as session:
        assert refill.fill(session) == (0, 0), "somebody works with the template of that code"
        Template.objects.filter(fingerprint=spares[0].fingerprint).update(used_at=long_ago)
        assert refill.fill(session) == (0, 2)
    created = sign_up()
    with as_role_of(created.organization) as connection:
        assert connection.execute("SELECT count(*) FROM added").fetchone() == (0,)
    assert created.report.path == "spare"
    end(created)
    assert leftovers(superuser) == (set(), set())


def test_two_that_refill_at_once_make_no_more_than_are_wanted(
    spares: list[SpareDatabase], settings: Settings
) -> None:
    settings.ORG_SPARE_DATABASES = 4

    def fill() -> Any:
        with open_session() as session:
            return refill.fill(session)

    first, second = together(fill, fill)
    assert SpareDatabase.objects.filter(ready=True).count() == 4
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    assert (first[0] + second[0], first[1] + second[1]) == (2, 0)


def test_they_are_made_the_plain_way_where_templates_are_off(
    settings: Settings, superuser: Superuser
) -> None:
    settings.ORG_TEMPLATES, settings.ORG_SPARE_DATABASES = False, 1
    with open_session() as session:
        refill.fill(session)
        created = sign_up()
        assert created.report.path == "spare"
        settings.ORG_SPARE_DATABASES = 0
        refill.fill(session)
    end(created)
    assert leftovers(superuser) == (set(), set())


def test_their_passwords_are_encrypted_again_with_the_others(
    spares: list[SpareDatabase], settings: Settings
) -> None:
    from cryptography.fernet import Fernet

    old = settings.CREDENTIAL_KEYS
    new = [Fernet.generate_key().decode()]
    settings.CREDENTIAL_KEYS = [*new, *old]
    try:
        reseal_credentials()
        settings.CREDENTIAL_KEYS = new
        created = sign_up()
        assert created.report.path == "spare"
        end(created)
    finally:
        settings.CREDENTIAL_KEYS = [*old, *new]
        reseal_credentials()
        settings.CREDENTIAL_KEYS = old


# --- Left over ---------------------------------------------------------------------------------
def test_reconciling_drops_one_that_is_half_made(
    spares: list[SpareDatabase], superuser: Superuser
) -> None:
    SpareDatabase.objects.filter(pk=spares[1].pk).update(ready=False)
    name = spares[1].database_name
    assert lifecycle.reconcile_organizations()["undone"] == [f"spare database {name}"]
    assert leftovers(superuser) == (set(), set())


def test_reconciling_drops_the_row_of_one_whose_database_is_gone(
    spares: list[SpareDatabase], superuser: Superuser
) -> None:
    name = sql.Identifier(spares[1].database_name)
    superuser.execute(sql.SQL("DROP DATABASE {}").format(name))
    lifecycle.reconcile_organizations()
    assert [spare.pk for spare in SpareDatabase.objects.all()] == [spares[0].pk]
    assert leftovers(superuser) == (set(), set())


def test_one_that_no_row_knows_is_kept(spares: list[SpareDatabase], superuser: Superuser) -> None:
    """It may be a customer's, of whom a restored master has not heard."""
    SpareDatabase.objects.filter(pk=spares[1].pk).delete()
    assert lifecycle.reconcile_organizations()["undone"] == []
    database, role = spares[1].database_name, spares[1].role_name
    assert leftovers(superuser) == ({database}, {role})
    superuser.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(database)))
    superuser.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_reconciling_leaves_another_installations_alone(superuser: Superuser) -> None:
    """Another master on the same server, of the same role: its rows are not here."""
    superuser.execute("CREATE DATABASE orgmgmt_spare_ffffff_0123456789abcdef OWNER orgmgmt")
    try:
        assert lifecycle.reconcile_organizations()["undone"] == []
        assert leftovers(superuser)[0] == {"orgmgmt_spare_ffffff_0123456789abcdef"}
    finally:
        superuser.execute("DROP DATABASE orgmgmt_spare_ffffff_0123456789abcdef")


def test_reconciling_gives_up_waiting_for_a_refill() -> None:
    with open_session() as other:
        assert other.try_lock(spares_of.LOCK)
        outcome = lifecycle.reconcile_organizations(wait_seconds=0.05)
    assert outcome["skipped"] == ["spare databases"]


def test_a_deletion_keeps_a_database_that_the_row_does_not_name(
    spares: list[SpareDatabase], superuser: Superuser
) -> None:
    created = sign_up()
    database = sql.Identifier(created.organization.database_name)
    registry.forget(created.organization.tenant.alias)
    superuser.execute(sql.SQL("ALTER DATABASE {} RENAME TO org_moved_by_hand").format(database))
    end(created)
    role = created.organization.role_name
    assert leftovers(superuser) == ({"org_moved_by_hand"}, {role})
    superuser.execute("DROP DATABASE org_moved_by_hand")
    superuser.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
