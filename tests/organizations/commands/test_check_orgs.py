"""`manage.py check_orgs`: finds and repairs what differs between the master and the server."""

import io
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.core.management import CommandError, call_command
from psycopg import sql
from pytest_django import DjangoAssertNumQueries, DjangoDbBlocker

from organizations import lifecycle
from organizations.inspecting import catalog, checking
from organizations.inspecting.checking import Finding
from organizations.inspecting.verdicts import Kind
from organizations.models import Organization, SchemaVersion, Server, SpareDatabase
from organizations.naming import name_key, role_name, system_database_name
from organizations.postgres.roles import ensure_role
from organizations.postgres.sessions import open_session
from organizations.provisioning import spares
from organizations.tenancy import registry
from tests.conftest import PASSWORD, Company, Superuser
from tests.organizations.helpers import insert_row

Ruin = Callable[[str], None]


@pytest.fixture(scope="module")
def _made(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Organization]:
    with django_db_blocker.unblock():
        name = f"Checked [red] {secrets.token_hex(3)}"
        made = lifecycle.create_organization(name=name, email="a@test.com", password=PASSWORD)
        registry.forget(made.organization.tenant.alias)  # A database that is in use has its name.
        yield made.organization
        lifecycle.delete_organization(made.organization)


@pytest.fixture
def one(_made: Organization) -> Iterator[Organization]:
    """A healthy organization, repaired after the test."""
    yield _made
    assert problems(_made) == [], "the test did not put it back"


@pytest.fixture
def ruin(one: Organization, alpha: Company, superuser: Superuser) -> Ruin:
    """Run SQL in which DB, ROLE and OTHER stand for the organization's names and alpha's role."""

    def run(statement: str) -> None:
        for word, name in (
            ("DB", one.database_name),
            ("ROLE", one.role_name),
            ("OTHER", alpha.organization.role_name),
        ):
            statement = statement.replace(f"<{word}>", sql.Identifier(name).as_string())
        superuser.execute(statement.encode())

    return run


def problems(organization: Organization, *, fix: bool = False) -> list[tuple[Kind, str]]:
    (finding,) = checking.check([organization.pk], fix=fix)
    return [(problem.kind, problem.what) for problem in finding.problems]


def besides(*, fix: bool = False) -> dict[str, Finding]:
    """What the server has without an organization, by name."""
    return {found.subject: found for found in checking.check(fix=fix) if found.seen is None}


def run(*arguments: str) -> tuple[str, str]:
    """Its output, and its last sentence if it failed."""
    out = io.StringIO()
    try:
        call_command("check_orgs", *arguments, stdout=out)
    except CommandError as error:
        assert error.returncode == 1
        return out.getvalue(), str(error)
    return out.getvalue(), ""


# --- In order -----------------------------------------------------------------------------------
def test_a_healthy_fleet_has_no_problem(alpha: Company, one: Organization) -> None:
    out, failed = run()
    assert failed == "", out
    (line,) = out.splitlines()
    assert line.startswith(f"{Organization.objects.live().count()} organizations, ")
    assert line.endswith(", 0 problems")


def test_the_questions_are_as_many_whether_there_are_few_or_many(
    alpha: Company, one: Organization, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(10, using="default"):
        list(checking.check())


def test_pages_hold_each_organization_once(
    alpha: Company, beta: Company, one: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "PAGE", 1)
    seen = [found.subject for found in checking.check() if found.seen is not None]
    assert seen == list(Organization.objects.live().order_by("pk").values_list("name", flat=True))


def test_a_named_one_is_listed_with_its_size_and_connections(one: Organization) -> None:
    out, failed = run(one.name.upper())
    assert failed == "", out
    _, line, summary = out.splitlines()
    words = line.split()
    assert words[:3] == [str(one.pk), "active", one.database_name]
    assert float(words[3]) > 1 and words[4] == "MB" and words[5].isdigit()
    assert words[6:] == ["current", *one.name.split()]
    assert summary.startswith("1 organization, ")


def test_an_unknown_organization_is_reported() -> None:
    assert run("Nobody Ltd")[1].startswith("There is no organization called 'Nobody Ltd'")


# --- What is set back ---------------------------------------------------------------------------
SPOILED = (
    ("GRANT CONNECT ON DATABASE <DB> TO PUBLIC", Kind.PRIVILEGES, "PUBLIC has CONNECT"),
    ("GRANT CONNECT ON DATABASE <DB> TO <OTHER>", Kind.PRIVILEGES, "has CONNECT"),
    ("REVOKE CONNECT ON DATABASE <DB> FROM orgmgmt", Kind.PRIVILEGES, "orgmgmt lacks CONNECT"),
    ("REVOKE CONNECT ON DATABASE <DB> FROM <ROLE>", Kind.PRIVILEGES, "lacks CONNECT"),
    ("ALTER DATABASE <DB> OWNER TO orgmgmt", Kind.OWNER, "belongs to orgmgmt"),
    ("ALTER DATABASE <DB> OWNER TO <OTHER>", Kind.OWNER, "belongs to orgrole_"),
    ("ALTER ROLE <ROLE> CREATEDB", Kind.ROLE, "has CREATEDB"),
    ("ALTER ROLE <ROLE> CREATEROLE", Kind.ROLE, "has CREATEROLE"),
    ("ALTER ROLE <ROLE> NOLOGIN", Kind.ROLE, "cannot log in"),
    ("ALTER ROLE <ROLE> CONNECTION LIMIT -1", Kind.ROLE, "may have any number of connections"),
    ("GRANT <OTHER> TO <ROLE> GRANTED BY orgmgmt", Kind.MEMBERSHIP, "is a member of orgrole_"),
    (
        "GRANT <ROLE> TO orgmgmt GRANTED BY orgmgmt",
        Kind.MEMBERSHIP,
        "orgmgmt is still a member",
    ),
    ("ALTER DATABASE <DB> IS_TEMPLATE true", Kind.SETTINGS, "is a template"),
    ("ALTER DATABASE <DB> CONNECTION LIMIT 0", Kind.SETTINGS, "accepts at most 0 connections"),
    ("ALTER DATABASE <DB> SET work_mem = '1MB'", Kind.SETTINGS, "has a work_mem of its own"),
    ("ALTER ROLE <ROLE> SET TimeZone = 'UTC'", Kind.SETTINGS, "has a TimeZone of its own"),
    (
        "ALTER ROLE <ROLE> SET statement_timeout = 1",
        Kind.SETTINGS,
        "statement_timeout of 1, not",
    ),
    ("ALTER ROLE <ROLE> IN DATABASE <DB> SET work_mem = '1MB'", Kind.SETTINGS, "of its own in"),
)


def test_what_is_not_as_it_was_made_is_found_and_set_back(one: Organization, ruin: Ruin) -> None:
    for statement, kind, what in SPOILED:
        ruin(statement)
        found = problems(one)
        assert [each for each, _ in found] == [kind], statement
        assert what in found[0][1], statement
        (finding,) = checking.check([one.pk], fix=True)
        assert (finding.problems, len(finding.fixed) > 0) == ((), True), statement


# --- What only a superuser may --------------------------------------------------------------------
def test_what_the_application_may_not_set_back_is_named_with_its_sql(
    one: Organization, ruin: Ruin, superuser: Superuser
) -> None:
    for statement, back, what in (
        ("ALTER ROLE <ROLE> SUPERUSER", "ALTER ROLE <ROLE> NOSUPERUSER", "has SUPERUSER"),
        ("ALTER ROLE <ROLE> REPLICATION", "ALTER ROLE <ROLE> NOREPLICATION", "has REPLICATION"),
        ("ALTER ROLE <ROLE> BYPASSRLS", "ALTER ROLE <ROLE> NOBYPASSRLS", "has BYPASSRLS"),
        ("GRANT pg_read_all_data TO <ROLE>", "REVOKE pg_read_all_data FROM <ROLE>", "is a member"),
    ):
        ruin(statement)
        try:
            (finding,) = checking.check([one.pk], fix=True)
            (problem,) = finding.problems
            assert what in problem.what and finding.fixed == ()
            assert problem.remedy.startswith("as a superuser: ")
            superuser.execute(problem.remedy.removeprefix("as a superuser: ").encode())
            assert problems(one) == [], "the printed SQL repairs it"
        finally:
            ruin(back)


def test_a_foreign_owners_database_is_not_handed_over(one: Organization, ruin: Ruin) -> None:
    ruin("ALTER DATABASE <DB> OWNER TO postgres")
    try:
        (finding,) = checking.check([one.pk], fix=True)
        owner = next(each for each in finding.problems if each.kind == Kind.OWNER)
        assert "OWNER TO" in owner.remedy and owner.statements == ()
    finally:
        ruin("ALTER DATABASE <DB> OWNER TO <ROLE>")


# --- What is missing ----------------------------------------------------------------------------
def test_a_missing_database_is_named_and_what_its_role_owns_instead(
    one: Organization, ruin: Ruin
) -> None:
    ruin("ALTER DATABASE <DB> RENAME TO org_moved_away")
    try:
        (kind, what), *more = problems(one, fix=True)
        assert (kind, what) == (Kind.DATABASE, f"the database {one.database_name} is missing")
        assert more == []
        moved = besides(fix=True)["org_moved_away"].problems[0]
        assert moved.what == (
            f"belongs to the role of {one.name}, whose database is {one.database_name}"
        )
    finally:
        ruin("ALTER DATABASE org_moved_away RENAME TO <DB>")


def test_a_missing_role_is_named(one: Organization, ruin: Ruin) -> None:
    ruin("ALTER ROLE <ROLE> RENAME TO orgrole_0123456789abcdef")
    try:
        ((_, what),) = problems(one, fix=True)
        assert what == f"the role {one.role_name} is missing"
    finally:
        ruin("ALTER ROLE orgrole_0123456789abcdef RENAME TO <ROLE>")


def test_a_database_that_takes_no_connections_is_named(one: Organization, ruin: Ruin) -> None:
    ruin("ALTER DATABASE <DB> ALLOW_CONNECTIONS false")
    try:
        ((kind, what),) = problems(one, fix=True)
        assert kind == Kind.DATABASE and what.endswith("accepts no connections")
    finally:
        ruin("ALTER DATABASE <DB> ALLOW_CONNECTIONS true")


def test_a_database_whose_drop_was_cut_short_is_named(one: Organization, ruin: Ruin) -> None:
    limit = "UPDATE pg_database SET datconnlimit = {} WHERE datname = {}"
    ruin(sql.SQL(limit).format(-2, one.database_name).as_string())
    try:
        ((_, what),) = problems(one, fix=True)
        assert what.endswith("is broken: its DROP DATABASE was interrupted")
    finally:
        ruin(sql.SQL(limit).format(-1, one.database_name).as_string())


# --- Schema -------------------------------------------------------------------------------------
def test_a_database_whose_record_is_outdated_is_named(one: Organization) -> None:
    SchemaVersion.objects.get_or_create(
        fingerprint="0" * 64, defaults={"migrations": ["accounts.0001_initial"]}
    )
    rows = Organization.objects.filter(pk=one.pk)
    before = rows.get().fingerprint
    try:
        for fingerprint, what in (
            ("", "are not recorded"),
            ("f" * 64, "fingerprint is unknown"),
            ("0" * 64, "outdated: it lacks "),
        ):
            rows.update(fingerprint=fingerprint)
            (finding,) = checking.check([one.pk], fix=True)
            (problem,) = finding.problems
            assert problem.kind == Kind.SCHEMA and what in problem.what
            assert f"--org={one.name}" in problem.remedy
    finally:
        rows.update(fingerprint=before)


# --- Unfinished ---------------------------------------------------------------------------------
@contextmanager
def half_made(name: str) -> Iterator[Organization]:
    with open_session() as session:
        row = insert_row(session, name)
    try:
        yield row
    finally:
        lifecycle.reconcile_organizations()


def test_an_unfinished_sign_up_is_a_problem_once_no_process_works_on_it(one: Organization) -> None:
    with half_made("Half Ltd") as row, open_session() as maker:
        assert maker.try_lock(name_key(row.name))
        assert problems(row) == []
        maker.unlock(name_key(row.name))
        ((kind, what),) = problems(row)
        assert (kind, what) == (Kind.UNFINISHED, "provisioning, and no process is working on it")
        assert besides(fix=True)[row.name].fixed[0].what == "undone"
    assert not Organization.objects.filter(pk=row.pk).exists()


# --- Orphans ------------------------------------------------------------------------------------
@pytest.fixture
def nobodys(superuser: Superuser) -> Iterator[str]:
    """A role of ours that no row names."""
    role = role_name()
    with open_session() as session:
        ensure_role(session, role=role, password="x", key="0" * 32)
    yield role
    superuser.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


@contextmanager
def database(superuser: Superuser, name: str, owner: str) -> Iterator[None]:
    names = (sql.Identifier(name), sql.Identifier(owner))
    superuser.execute(sql.SQL("CREATE DATABASE {} OWNER {} STRATEGY WAL_LOG").format(*names))
    try:
        yield
    finally:
        superuser.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(names[0]))


def test_an_orphan_database_is_named_and_kept_and_its_role_with_it(
    superuser: Superuser, nobodys: str
) -> None:
    with database(superuser, "org_orphan", nobodys), database(superuser, "org_chart", "postgres"):
        found = besides(fix=True)
        assert set(found) == {"org_orphan"}, "what is not ours is no matter of ours"
        (problem,) = found["org_orphan"].problems
        assert problem.kind == Kind.ORPHAN_DATABASE
        assert problem.remedy.endswith('as a superuser: DROP DATABASE "org_orphan";')
        assert superuser.execute("SELECT FROM pg_database WHERE datname = 'org_orphan'").rowcount


def test_an_orphan_role_goes_unless_something_depends_on_it(
    one: Organization, superuser: Superuser, nobodys: str
) -> None:
    grant = sql.SQL("GRANT TEMPORARY ON DATABASE {} TO {}")
    role = sql.Identifier(nobodys)
    superuser.execute(grant.format(sql.Identifier(one.database_name), role))
    superuser.execute(grant.format(sql.Identifier("postgres"), role))
    (problem,) = besides(fix=True)[nobodys].problems
    assert problem.kind == Kind.ORPHAN_ROLE
    assert "it stays because something in postgres refers to it" in problem.what
    assert problems(one) == [], "what an organization's database has granted it is taken back"
    superuser.execute(sql.SQL("REVOKE ALL ON DATABASE postgres FROM {}").format(role))
    assert besides()[nobodys].problems[0].remedy == "manage.py check_orgs --fix"
    assert len(besides(fix=True)[nobodys].fixed) == 1
    assert nobodys not in besides()


def test_a_spare_database_that_is_gone_goes_by_reconciling(superuser: Superuser) -> None:
    gone = SpareDatabase.objects.create(
        server=Server.of_master(),
        database_name=system_database_name("spare", master="master_org_db"),
        role_name=role_name(),
        sealed_password="",
        fingerprint="",
        ready=True,
    )
    unknown = system_database_name("spare", master="master_org_db")
    with database(superuser, unknown, "orgmgmt"):
        with open_session() as maker:
            assert maker.try_lock(spares.LOCK)
            assert gone.database_name not in besides(), "it is being made or dropped"
        found = besides()
        assert found[gone.database_name].problems[0].what == "a spare database that is gone"
        assert found[unknown].problems[0].remedy.startswith("it may contain data"), "it is kept"
        assert len(besides(fix=True)) == 2
        assert list(besides()) == [unknown]


# --- What is printed ----------------------------------------------------------------------------
def test_json_is_one_document_and_the_exit_code_says_what_is_left(
    one: Organization, ruin: Ruin
) -> None:
    ruin("ALTER ROLE <ROLE> CREATEDB")
    out, failed = run("--json")
    assert failed == "1 problem left."
    (facts,) = json.loads(out)["findings"]
    assert (facts["name"], facts["organization"]["id"]) == (one.name, one.pk)
    assert facts["organization"]["size_bytes"] > 1_000_000
    what = {"kind": "role", "what": f"the role {one.role_name} has CREATEDB"}
    assert facts["problems"] == [{**what, "fixed": False, "remedy": "manage.py check_orgs --fix"}]
    out, failed = run("--json", "--fix")
    assert failed == ""
    assert json.loads(out)["findings"][0]["problems"] == [{**what, "fixed": True}]
    assert json.loads(out)["counts"]["problems"] == 0


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_problems_are_a_table(
    one: Organization, ruin: Ruin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ruin("ALTER ROLE <ROLE> CREATEDB")
    screen = Screen()
    call_command("check_orgs", "--fix", stdout=screen, no_color=True)
    out = screen.getvalue()
    assert "what to do" in out and f" {one.name} " in out
    assert "fixed" in out and out.endswith("1 fixed, 0 problems\n")
