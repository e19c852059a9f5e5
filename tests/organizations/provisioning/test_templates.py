"""The template database: built once, and never delays a sign-up."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql
from pytest_django import Settings

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.errors import ProvisioningFailed
from organizations.lifecycle import Created
from organizations.models import Organization, SpareDatabase, Template
from organizations.postgres.sessions import open_session
from organizations.provisioning import code as code_of
from organizations.provisioning import templates
from tests.conftest import PASSWORD, leftovers
from tests.organizations.helpers import Code, Superuser, as_role_of, together
from tests.plugin import SERVER


@contextmanager
def signed_up(name: str = "Copied Ltd") -> Iterator[Created]:
    """Sign an organization up, check its admin, and delete it after the block."""
    created = lifecycle.create_organization(name=name, email="admin@test.com", password=PASSWORD)
    try:
        with tenancy.override(created.organization.tenant):
            assert User.objects.get().email == "admin@test.com"
        yield created
    finally:
        lifecycle.delete_organization(created.organization)


def as_superuser(database: str) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(**SERVER.superuser_parameters(database), autocommit=True)  # type: ignore[arg-type]


# --- Built ---------------------------------------------------------------------------------------
@pytest.mark.usefixtures("no_template")
def test_the_first_sign_up_builds_it_and_copies_it() -> None:
    with signed_up() as created:
        assert created.report.path == "template"
    template = Template.objects.get()
    assert template.ready
    assert template.fingerprint == code_of.current().fingerprint
    assert template.database_name.startswith("orgmgmt_template_")


@pytest.mark.usefixtures("no_template")
def test_one_of_many_first_sign_ups_builds_it_and_none_waits() -> None:
    def sign_up(number: int) -> Any:
        return lifecycle.create_organization(
            name=f"Crowd {number}", email="admin@test.com", password=PASSWORD
        )

    made = together(*(lambda number=number: sign_up(number) for number in range(5)))
    assert all(isinstance(each, Created) for each in made), made
    for each in made:
        assert isinstance(each, Created)
        lifecycle.delete_organization(each.organization)
    assert Template.objects.filter(ready=True).count() == 1
    assert not Template.objects.filter(ready=False).exists()


def test_nobody_may_connect_to_it(template: Template, superuser: Superuser) -> None:
    row = superuser.execute(
        "SELECT datallowconn, datacl::text, pg_get_userbyid(datdba) FROM pg_database "
        "WHERE datname = %s",
        (template.database_name,),
    ).fetchone()
    assert row == (False, "{orgmgmt=CTc/orgmgmt}", "orgmgmt")


def test_the_role_of_its_tables_owns_no_database_and_cannot_log_in(
    template: Template, superuser: Superuser
) -> None:
    row = superuser.execute(
        "SELECT rolcanlogin, rolpassword IS NULL, EXISTS "
        "(SELECT FROM pg_database WHERE datdba = pg_authid.oid) FROM pg_authid WHERE rolname = %s",
        (template.role_name,),
    ).fetchone()
    assert row == (False, True, False)


@pytest.mark.usefixtures("no_template")
def test_a_failed_template_leaves_nothing_and_is_not_retried_at_once(
    superuser: Superuser, code: Code, caplog: pytest.LogCaptureFixture
) -> None:
    code.add("SELECT 1 / 0")
    for _ in range(2):
        with pytest.raises(ProvisioningFailed, match="step after 'database' failed"):
            lifecycle.create_organization(name="Never", email="a@test.com", password=PASSWORD)
    assert [record.message for record in caplog.records].count("template not built") == 1
    assert not Template.objects.exists()
    assert leftovers(superuser) == (set(), set())


# --- Equal to the plain way ----------------------------------------------------------------------
_OWNERS_AND_RIGHTS = """
    SELECT 'relation', relname, relkind::text, pg_get_userbyid(relowner), relacl::text
    FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'schema', nspname, '', pg_get_userbyid(nspowner), nspacl::text
    FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'
    UNION ALL SELECT 'function', proname, '', pg_get_userbyid(proowner), proacl::text
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'type', typname, '', pg_get_userbyid(typowner), typacl::text
    FROM pg_type WHERE typnamespace = 'public'::regnamespace
    UNION ALL SELECT 'default', defaclobjtype::text, '', pg_get_userbyid(defaclrole),
    defaclacl::text FROM pg_default_acl
    UNION ALL SELECT 'database', '', datallowconn::text || encoding || datcollate || datconnlimit,
    pg_get_userbyid(datdba), datacl::text FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT 'migration', app, name, '', '' FROM django_migrations
    UNION ALL SELECT 'setting', unnest(setconfig), '', '', '' FROM pg_db_role_setting
    JOIN pg_roles ON pg_roles.oid = setrole WHERE rolname = '{role}'
    UNION ALL SELECT 'role', rolcanlogin::text || rolinherit || rolcreatedb || rolcreaterole
    || rolsuper || rolbypassrls, '', '', '' FROM pg_roles WHERE rolname = '{role}'
    UNION ALL SELECT 'membership', roleid::regrole::text, admin_option::text || inherit_option
    || set_option, member::regrole::text, grantor::regrole::text FROM pg_auth_members
    WHERE roleid = '{role}'::regrole OR member = '{role}'::regrole
"""


def facts(organization: Organization) -> list[tuple[str, ...]]:
    """Owners and rights from the catalogs, with the role named ROLE."""
    with as_superuser(organization.database_name) as connection:
        query = _OWNERS_AND_RIGHTS.format(role=organization.role_name)
        rows = connection.execute(query.encode()).fetchall()
    return sorted(
        tuple(str(each).replace(organization.role_name, "ROLE") for each in row) for row in rows
    )


def test_a_copy_and_a_spare_have_the_same_owners_and_rights_as_plain(
    settings: Settings, spares: list[SpareDatabase]
) -> None:
    with signed_up("By Spare") as spare:
        settings.ORG_SPARE_DATABASES = 0
        with signed_up("By Template") as copy:
            settings.ORG_TEMPLATES = False
            with signed_up("By Migrations") as plain:
                paths = [each.report.path for each in (plain, copy, spare)]
                assert paths == ["plain", "template", "spare"]
                wanted = facts(plain.organization)
                assert len(wanted) > 20
                assert facts(copy.organization) == wanted
                assert facts(spare.organization) == wanted


def test_the_roles_of_copies_may_not_take_anything_over_from_the_template(
    superuser: Superuser,
) -> None:
    with signed_up() as created, as_role_of(created.organization) as connection:
        role = sql.Identifier(Template.objects.get(ready=True).role_name)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(role))


# --- Fallen back from ----------------------------------------------------------------------------
def assert_a_sign_up_takes_the_plain_way(caplog: pytest.LogCaptureFixture) -> None:
    with signed_up("Fallback Ltd") as created:
        assert created.report.path == "plain"
        assert created.report.total_seconds < 4, "it waited for the template"
    assert "template not usable" in [record.message for record in caplog.records]


@pytest.mark.usefixtures("no_template")
def test_a_dropped_one_is_not_copied_and_rebuilt(
    template: Template, superuser: Superuser, caplog: pytest.LogCaptureFixture
) -> None:
    superuser.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(template.database_name)))
    assert_a_sign_up_takes_the_plain_way(caplog)
    with signed_up() as created:
        assert created.report.path == "template"
    assert leftovers(superuser) == (set(), set())


@pytest.mark.usefixtures("no_template")
def test_one_dropped_just_before_the_copy_is_not_copied(
    template: Template,
    superuser: Superuser,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(templates, "_is_free", lambda *_: True)
    superuser.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(template.database_name)))
    assert_a_sign_up_takes_the_plain_way(caplog)
    template.refresh_from_db()
    assert not template.ready
    assert leftovers(superuser)[0] == set()


@pytest.mark.usefixtures("no_template")
def test_one_with_a_connection_is_not_copied(
    template: Template, superuser: Superuser, caplog: pytest.LogCaptureFixture
) -> None:
    name = sql.Identifier(template.database_name)
    superuser.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
    with as_superuser(template.database_name):
        assert_a_sign_up_takes_the_plain_way(caplog)
    superuser.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
    with signed_up() as created:
        assert created.report.path == "template", "it was rebuilt"


@pytest.mark.usefixtures("no_template")
@pytest.mark.parametrize("table", ["users", "django_migrations"])
def test_one_that_lacks_a_table_is_not_copied_and_rebuilt(
    template: Template, superuser: Superuser, caplog: pytest.LogCaptureFixture, table: str
) -> None:
    name = sql.Identifier(template.database_name)
    superuser.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
    with as_superuser(template.database_name) as connection:
        drop = sql.SQL("DROP TABLE {} CASCADE").format(sql.Identifier(table))
        connection.execute(drop)
    superuser.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
    assert_a_sign_up_takes_the_plain_way(caplog)
    with signed_up() as created:
        assert created.report.path == "template"
    assert leftovers(superuser) == (set(), set())


@pytest.mark.usefixtures("no_template")
def test_one_whose_role_is_gone_is_not_copied(
    template: Template, superuser: Superuser, caplog: pytest.LogCaptureFixture
) -> None:
    role = sql.Identifier(template.role_name)
    superuser.execute(sql.SQL("ALTER ROLE {} RENAME TO orgmgmt_tables_gone").format(role))
    try:
        assert_a_sign_up_takes_the_plain_way(caplog)
    finally:
        superuser.execute(sql.SQL("ALTER ROLE orgmgmt_tables_gone RENAME TO {}").format(role))


@pytest.mark.usefixtures("no_template")
def test_a_sign_up_takes_the_plain_path_while_the_template_is_built() -> None:
    """What takes it with ORG_TEMPLATES off: the test of owners and rights, above."""
    with open_session() as other:
        assert other.try_lock(templates.LOCK)
        with signed_up() as created:
            assert created.report.path == "plain"
