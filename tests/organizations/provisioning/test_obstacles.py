"""Template obstacles: what a copy would lose or share is found and reported, and not copied."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.core.management import call_command
from pytest_django import Settings

from organizations import lifecycle
from organizations.inspecting import checking
from organizations.inspecting.verdicts import Kind
from organizations.lifecycle import Created
from organizations.models import Organization, SpareDatabase, Template, UncopyableSchema
from organizations.postgres.sessions import open_session
from organizations.provisioning import obstacles, refill, templates
from organizations.provisioning.obstacles import Obstacle
from organizations.recovery import twins
from tests.conftest import PASSWORD, leftovers
from tests.organizations.helpers import Code, Superuser, as_role_of

pytestmark = pytest.mark.usefixtures("no_template")

DATABASE = "DO $$ BEGIN EXECUTE format('{}', current_database()); END $$"
# What was tried to be lost or shared by a copy, and as what it is found.
OBSTACLES = (
    ("CREATE TABLE vault AS SELECT gen_random_uuid() AS key", "rows: public.vault"),
    ("CREATE SCHEMA safe; CREATE TABLE safe.vault AS SELECT 1 AS key", "rows: safe.vault"),
    (
        "CREATE TABLE hidden (key text); INSERT INTO hidden VALUES ('x'); "
        "ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; ALTER TABLE hidden FORCE ROW LEVEL SECURITY",
        "rows: public.hidden",
    ),
    ("CREATE MATERIALIZED VIEW seen AS SELECT gen_random_uuid() AS key", "rows: public.seen"),
    ("SELECT lo_from_bytea(0, 'key')", "rows: large objects"),
    (
        DATABASE.format("ALTER DATABASE %I SET search_path = public, safe"),
        "a setting of the database: search_path",
    ),
    (
        DATABASE.format("ALTER ROLE CURRENT_USER IN DATABASE %I SET work_mem = ''5MB''"),
        "a setting of its role in the database: work_mem",
    ),
    ("ALTER ROLE CURRENT_USER SET work_mem = '5MB'", "a setting of its role: work_mem"),
    (
        "ALTER ROLE CURRENT_USER SET statement_timeout = '1min'",
        "a setting of its role: statement_timeout",
    ),
    ("ALTER ROLE CURRENT_USER RESET lock_timeout", "a setting of its role: lock_timeout"),
    (
        "CREATE TABLE ruled (key text); CREATE POLICY own ON ruled TO CURRENT_USER USING (true)",
        "a policy for its role: policy own on table ruled",
    ),
    ("GRANT CREATE ON SCHEMA public TO CURRENT_USER", "a grant to its role: schema public"),
    (
        "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
        "of its role alone: default privileges on new functions",
    ),
    (DATABASE.format("COMMENT ON DATABASE %I IS ''ours''"), "a comment: on the database"),
    (DATABASE.format("ALTER DATABASE %I CONNECTION LIMIT 50"), "of the database: CONNECTION LIMIT"),
    (DATABASE.format("ALTER DATABASE %I IS_TEMPLATE true"), "of the database: IS_TEMPLATE"),
    (
        DATABASE.format("GRANT CONNECT ON DATABASE %I TO pg_monitor"),
        "of the database: its privileges",
    ),
    (
        "DO $$ BEGIN EXECUTE format('CREATE FUNCTION whose() RETURNS text LANGUAGE sql AS %L', "
        "format('SELECT %L', current_user)); END $$",
        "a name that is written into: a function",
    ),
)
COPIED = """
    CREATE EXTENSION pg_trgm; CREATE SCHEMA safe; CREATE TABLE safe.vault (id int PRIMARY KEY);
    COMMENT ON TABLE safe.vault IS 'ours'; GRANT SELECT ON safe.vault TO pg_monitor;
    CREATE POLICY everybody ON safe.vault USING (true);
    CREATE PUBLICATION news FOR TABLE safe.vault;
    CREATE TABLE gone (id int); INSERT INTO gone VALUES (1); DELETE FROM gone;
    CREATE FUNCTION one() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
    CREATE TYPE mood AS ENUM ('good'); CREATE SEQUENCE numbers; SELECT nextval('numbers')
"""


@contextmanager
def signed_up(name: str) -> Iterator[Created]:
    """Sign an organization up; deleted after the block."""
    created = lifecycle.create_organization(name=name, email="admin@test.com", password=PASSWORD)
    try:
        yield created
    finally:
        lifecycle.delete_organization(created.organization)


@pytest.fixture(autouse=True)
def _nothing_is_known() -> Iterator[None]:
    yield
    UncopyableSchema.objects.all().delete()


def build() -> list[Obstacle]:
    """Build this code's template; its obstacles, none if it was built."""
    with open_session() as session:
        template = templates.ensure(session)
    assert bool(template) is not bool(templates.obstacles())
    return templates.obstacles()


def read(organization: Organization, query: str) -> list[object]:
    """The first column, read as the organization's role."""
    with as_role_of(organization) as connection:
        return [row[0] for row in connection.execute(query.encode())]


def test_the_projects_own_migrations_are_copied() -> None:
    assert build() == []
    with signed_up("Copied Truly") as created:
        assert created.report.path == "template"


def test_each_obstacle_is_found_with_its_migration(code: Code, superuser: Superuser) -> None:
    code.add(*(statement for statement, _ in OBSTACLES))
    found = {each.migration: each.what for each in build()}
    for number, (_, what) in enumerate(OBSTACLES, start=2):
        name = f"accounts.{number:04}_added"
        assert found.pop(name).startswith(what), name
    assert found == {}
    assert not Template.objects.exists()
    assert leftovers(superuser) == (set(), set())


def test_what_comes_along_truly_is_copied(code: Code) -> None:
    code.add(COPIED)
    assert build() == []


def test_random_rows_of_a_migration_are_of_one_organization_each(
    code: Code, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """By the template all three would have the same key."""
    code.add("CREATE TABLE vault AS SELECT gen_random_uuid() AS key")
    settings.ORG_SPARE_DATABASES = 1
    with open_session() as session:
        refill.fill(session)
    with signed_up("Spare Key") as spare, signed_up("Own Key") as first:
        settings.ORG_SPARE_DATABASES = 0
        with signed_up("Other Key") as second:
            made = (spare, first, second)
            assert [each.report.path for each in made] == ["spare", "plain", "plain"]
            keys = [read(each.organization, "SELECT key FROM vault") for each in made]
            assert len({str(key) for [key] in keys}) == 3, "organizations share a key"
    said = [record for record in caplog.records if record.message.startswith("not copied")]
    assert [(each.migration, each.because) for each in said] == [  # type: ignore[attr-defined]
        ("accounts.0002_added", "rows: public.vault")
    ], "once, with the migration's name"
    assert not SpareDatabase.objects.exists()


def test_a_migration_can_say_that_its_rows_are_the_same_for_all(code: Code) -> None:
    seed = "CREATE TABLE currencies AS SELECT 'EUR' AS code"
    code.add(seed, declared=True)
    assert build() == []
    with signed_up("Seeded Ltd") as created:
        assert created.report.path == "template"
        assert read(created.organization, "SELECT code FROM currencies") == ["EUR"]
    # It speaks of rows, and of its own alone.
    code.add(seed, "UPDATE currencies SET code = md5(random()::text)", declared=True)
    assert build() == [
        Obstacle("accounts.0003_added", "rows: public.currencies", ("public", "currencies"))
    ]
    code.add(seed, "ALTER TABLE currencies ADD COLUMN note text", declared=True)
    assert build() == []
    code.add("GRANT CREATE ON SCHEMA public TO CURRENT_USER", declared=True)
    assert [each.what for each in build()] == ["a grant to its role: schema public"]


def test_what_a_later_migration_takes_away_is_no_obstacle(code: Code) -> None:
    code.add("CREATE TABLE vault AS SELECT gen_random_uuid() AS key", "DELETE FROM vault")
    assert build() == []
    code.add(
        "ALTER ROLE CURRENT_USER SET work_mem = '5MB'", "ALTER ROLE CURRENT_USER RESET work_mem"
    )
    assert build() == []


def test_build_template_says_why_there_is_none(
    code: Code, capsys: pytest.CaptureFixture[str]
) -> None:
    code.add("CREATE TABLE vault AS SELECT gen_random_uuid() AS key")
    call_command("build_template")
    said = capsys.readouterr().out
    assert "accounts.0002_added: rows: public.vault" in said
    assert "each organization is migrated by itself" in said


def test_check_orgs_finds_organizations_that_share_a_templates_values(
    code: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    code.add(
        "CREATE TABLE vault AS SELECT 'a country' AS name, gen_random_uuid() AS key, now() AS at",
        "CREATE TABLE words AS SELECT 'same everywhere' AS word",
    )
    with monkeypatch.context() as earlier:
        # As before anybody looked.
        earlier.setattr(obstacles.Watch, "found", lambda self: [])
        with signed_up("Twin One") as one, signed_up("Twin Two") as two:
            assert [each.report.path for each in (one, two)] == ["template", "template"]
            Template.objects.update(ready=False)
            earlier.undo()
            with signed_up("No Twin") as other:
                assert other.report.path == "plain"
                problems = [
                    (each.subject, problem.what)
                    for each in checking.check()
                    for problem in each.problems
                    if problem.kind == Kind.SHARED_ROWS
                ]
                assert sorted(problems) == [
                    (
                        name,
                        f"shares random values with {twin} (rows: public.vault), which "
                        "accounts.0002_added made in the template that both were copied from",
                    )
                    for name, twin in (("Twin One", "Twin Two"), ("Twin Two", "Twin One"))
                ]
                rows = Organization.objects.filter(pk=two.organization.pk)
                rows.update(cloned_from=one.organization.pk)
                assert shared_rows() == [], "a clone has its source's on purpose"
                rows.update(cloned_from=None)
                # One gets a value of its own; the other puts something hostile there.
                with as_role_of(one.organization) as connection:
                    connection.execute("UPDATE vault SET key = gen_random_uuid()")
                assert shared_rows() == []
                with as_role_of(two.organization) as connection:
                    connection.execute(
                        "ALTER TABLE vault RENAME TO old; CREATE VIEW vault AS "
                        "SELECT old.ctid, old.*, pg_sleep(60)::text FROM old"
                    )
                monkeypatch.setattr(twins, "_SECONDS", 0.1)
                assert shared_rows() == []


def shared_rows() -> list[str]:
    """The organizations that check_orgs reports for shared rows."""
    return [
        each.subject
        for each in checking.check()
        for problem in each.problems
        if problem.kind == Kind.SHARED_ROWS
    ]
