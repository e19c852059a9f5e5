"""PostgreSQL's own rights: an organization's role reaches its own database and no other."""

from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from psycopg import sql

from organizations import lifecycle
from organizations.isolation.rows import tenant_models
from organizations.naming import name_key
from organizations.postgres.databases import sizes_bytes
from organizations.postgres.sessions import open_session
from organizations.postgres.warm import stock
from organizations.secrets import unseal
from tests.conftest import PASSWORD, Company
from tests.plugin import SERVER

from .helpers import Superuser, as_role_of, names, reload_configuration

CONNECTABLE = "SELECT datname FROM pg_database WHERE datallowconn"
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"


def test_an_organizations_role_connects_to_its_own_database(alpha: Company) -> None:
    with as_role_of(alpha.organization) as connection:
        assert names(connection, "SELECT email FROM users") == {alpha.email}


def test_an_organizations_role_connects_to_no_other_database(
    alpha: Company, beta: Company, superuser: Superuser
) -> None:
    others = names(superuser, CONNECTABLE) - {alpha.organization.database_name}
    assert {"postgres", "template1", "master_org_db", beta.organization.database_name} <= others
    for database in sorted(others):
        with (
            pytest.raises(psycopg.OperationalError, match="permission denied for database"),
            as_role_of(alpha.organization, database),
        ):
            pytest.fail(f"alpha's role reached {database}")


def test_no_database_of_the_server_grants_connect_to_public(
    alpha: Company, beta: Company, superuser: Superuser
) -> None:
    open_to_all = names(
        superuser,
        "SELECT datname FROM pg_database WHERE datallowconn AND EXISTS (SELECT FROM "
        "aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0)",
    )
    assert open_to_all == set()


def test_only_its_own_role_and_the_application_may_connect(
    alpha: Company, superuser: Superuser
) -> None:
    row = alpha.organization
    grantees = superuser.execute(
        "SELECT grantee::regrole::text, privilege_type FROM pg_database, aclexplode(datacl) "
        "WHERE datname = %s",
        (row.database_name,),
    ).fetchall()
    assert {grantee for grantee, _ in grantees} == {row.role_name, "orgmgmt"}
    assert [kind for grantee, kind in grantees if grantee == "orgmgmt"] == ["CONNECT"]


def test_an_organizations_role_has_no_attribute_but_login(
    alpha: Company, superuser: Superuser
) -> None:
    attributes = superuser.execute(
        "SELECT rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls "
        "FROM pg_roles WHERE rolname = %s",
        (alpha.organization.role_name,),
    ).fetchone()
    assert attributes == (True, False, False, False, False, False)


def test_a_role_has_a_connection_limit_that_it_cannot_change(
    alpha: Company, superuser: Superuser
) -> None:
    role = alpha.organization.role_name
    limit = superuser.execute("SELECT rolconnlimit FROM pg_roles WHERE rolname = %s", (role,))
    assert limit.fetchone() == (settings.ORG_CONNECTION_LIMIT,)
    with (
        as_role_of(alpha.organization) as own,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        own.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT -1").format(sql.Identifier(role)))


def test_an_organizations_role_is_member_of_no_role(alpha: Company, superuser: Superuser) -> None:
    of = superuser.execute(
        "SELECT roleid::regrole::text FROM pg_auth_members WHERE member = %s::regrole",
        (alpha.organization.role_name,),
    ).fetchall()
    assert of == []


def test_each_role_owns_its_database_and_no_other(alpha: Company, superuser: Superuser) -> None:
    row = alpha.organization
    owned = superuser.execute(
        "SELECT datname FROM pg_database WHERE datdba = %s::regrole", (row.role_name,)
    ).fetchall()
    assert owned == [(row.database_name,)]


def test_the_master_still_belongs_to_its_owner(alpha: Company, superuser: Superuser) -> None:
    """Provisioning hands nothing over that is not the organization's."""
    owner = superuser.execute(
        "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'master_org_db'"
    ).fetchone()
    assert owner == ("orgmgmt_owner",)


def test_an_organizations_role_owns_every_table_of_its_database(alpha: Company) -> None:
    with as_role_of(alpha.organization) as connection:
        owners = names(connection, "SELECT tableowner FROM pg_tables WHERE schemaname = 'public'")
    assert owners == {alpha.organization.role_name}


def test_an_organizations_database_has_only_tenant_tables(alpha: Company) -> None:
    with as_role_of(alpha.organization) as connection:
        tables = names(connection, TABLES)
        recorded = names(connection, "SELECT DISTINCT app FROM django_migrations")
    models = tenant_models()
    assert {"users", "login_sessions"} <= tables
    assert tables == {model._meta.db_table for model in models} | {"django_migrations"}
    assert recorded == {model._meta.app_label for model in models}


def test_the_users_table_has_the_columns_that_clients_know(alpha: Company) -> None:
    with as_role_of(alpha.organization) as connection:
        rows = connection.execute(
            "SELECT column_name, character_maximum_length "
            "FROM information_schema.columns WHERE table_name = 'users'"
        ).fetchall()
    columns = {str(name): length for name, length in rows}
    assert set(columns) == {
        "id",
        "email",
        "email_key",
        "hashed_password",
        "is_admin",
        "is_active",
        "created_at",
        "email_verified_at",
        "token_version",
        "email_version",
    }
    assert columns["hashed_password"] == 255


def test_the_master_has_no_table_of_a_tenant_app() -> None:
    with psycopg.connect(**SERVER.connection_parameters()) as connection:  # type: ignore[arg-type]
        tables = names(connection, TABLES)
    assert "organizations" in tables
    assert not tables & {"users", "login_sessions", "accounts_user"}
    assert not tables & {model._meta.db_table for model in tenant_models()}


def test_the_application_keeps_no_membership_that_it_could_use(
    alpha: Company, superuser: Superuser
) -> None:
    """Its ADMIN option stays: with it, it can make itself a member again for one act."""
    memberships = superuser.execute(
        "SELECT admin_option, inherit_option, set_option FROM pg_auth_members "
        "WHERE member = 'orgmgmt'::regrole AND roleid = %s::regrole",
        (alpha.organization.role_name,),
    ).fetchall()
    assert memberships == [(True, False, False)]


def test_no_membership_outlives_an_organization(superuser: Superuser) -> None:
    # Of organizations' roles: the first sign-up of all builds the template, with a role of its own.
    count = (
        "SELECT count(*) FROM pg_auth_members WHERE member = 'orgmgmt'::regrole "
        "AND roleid::regrole::text LIKE 'orgrole%'"
    )
    before = superuser.execute(count.encode()).fetchone()
    made = lifecycle.create_organization(name="Brief", email="a@test.com", password=PASSWORD)
    lifecycle.delete_organization(made.organization)
    assert superuser.execute(count.encode()).fetchone() == before


def test_the_application_reads_organizations_data_only_as_their_role(
    alpha: Company,
) -> None:
    parameters = SERVER.connection_parameters() | {"dbname": alpha.organization.database_name}
    with (
        psycopg.connect(**parameters) as connection,  # type: ignore[arg-type]
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for table"),
    ):
        connection.execute("SELECT * FROM users")


def test_the_verifier_of_an_organizations_role_has_one_iteration(
    alpha: Company, superuser: Superuser
) -> None:
    row = superuser.execute(
        "SELECT rolpassword FROM pg_authid WHERE rolname = %s", (alpha.organization.role_name,)
    ).fetchone()
    assert row is not None
    assert str(row[0]).startswith("SCRAM-SHA-256$1:")


def test_the_servers_log_never_sees_a_password(superuser: Superuser) -> None:
    log = Path(str(SERVER._server._log))
    stock.close()  # A session of before may not have been told yet.
    superuser.execute("ALTER SYSTEM SET log_statement = 'all'")
    reload_configuration(superuser)
    try:
        with open_session() as session:
            assert session.value("SHOW log_statement") == "all"
        made = lifecycle.create_organization(name="Logged", email="a@test.com", password=PASSWORD)
        secret = unseal(made.organization.sealed_password, owner="")
        lifecycle.delete_organization(made.organization)
    finally:
        superuser.execute("ALTER SYSTEM RESET log_statement")
        reload_configuration(superuser)
    text = log.read_text()
    assert made.organization.role_name in text, "the log has the statements"
    assert secret not in text
    assert PASSWORD not in text


def test_a_database_can_be_asked_for_its_size_by_the_application(
    alpha: Company, beta: Company
) -> None:
    wanted = [alpha.organization.database_name, beta.organization.database_name, "org_absent"]
    sizes = sizes_bytes(wanted)
    assert set(sizes) == set(wanted[:2])
    assert all(size > 1_000_000 for size in sizes.values())


def test_a_name_lock_belongs_to_one_session_and_ends_with_it() -> None:
    with open_session() as second:
        with open_session() as first:
            assert first.try_lock(name_key("Acme Corp"))
            assert not second.try_lock(name_key("acme_corp"))
            assert second.try_lock(name_key("Other"))
        second.lock(name_key("acme_corp"), name="acme_corp", timeout_seconds=10)
