"""What the source's owner left in its database does no harm, and no clone is half neutralised."""

from collections.abc import Callable

import psycopg
import pytest
from pytest_django import Settings

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.errors import (
    BackupObstructed,
    BackupTookTooLong,
    CloneFailed,
    CopyFailed,
    OrganizationError,
)
from tests.conftest import Company, Superuser
from tests.organizations.backups.helpers import SETTLE, assert_nothing_is_settled, execute
from tests.organizations.deadlines import Clock, note_cancels
from tests.organizations.helpers import names
from tests.organizations.tenancy.hostile import SLEEP
from tests.plugin import SERVER

from .helpers import clone, row_of, rows_of

# It puts back what is replaced.
_BACK = """
CREATE FUNCTION back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    {} RETURN OLD;
END $$
"""
_DEFERRED = """
CREATE FUNCTION back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.email LIKE '%example.invalid' THEN
        UPDATE users SET email = OLD.email, hashed_password = OLD.hashed_password
        WHERE id = OLD.id;
    END IF;
    RETURN NULL;
END $$
"""
KEPT: dict[str, tuple[tuple[str, ...], str]] = {
    "a trigger": (
        (
            _BACK.format(""),
            "CREATE TRIGGER back BEFORE UPDATE OF hashed_password ON users FOR EACH ROW "
            "EXECUTE FUNCTION back()",
        ),
        "keeps addresses or passwords of users",
    ),
    "a deferred trigger": (
        (
            _DEFERRED,
            "CREATE CONSTRAINT TRIGGER back AFTER UPDATE ON users DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION back()",
        ),
        "keeps addresses or passwords of users",
    ),
    "a rule": (
        (
            "CREATE RULE back AS ON UPDATE TO users "
            "WHERE NEW.hashed_password <> OLD.hashed_password DO INSTEAD NOTHING",
        ),
        "keeps addresses or passwords of users",
    ),
    "a rule about logins": (
        (
            "INSERT INTO login_sessions (id, user_id, kind, created_at, expires_at) "
            "SELECT gen_random_uuid(), id, 'token', now(), now() FROM users",
            "CREATE RULE back AS ON DELETE TO login_sessions DO INSTEAD NOTHING",
        ),
        "keeps logins or links of users",
    ),
    "an error": (
        (
            _BACK.format("RAISE EXCEPTION 'secret words';"),
            "CREATE TRIGGER back BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION back()",
        ),
        "The log has more",
    ),
}


@pytest.mark.parametrize("how", KEPT)
def test_what_undoes_neutralising_leaves_no_clone(
    made: Company, nothing_is_left: Callable[[], None], how: str
) -> None:
    statements, sentence = KEPT[how]
    execute(made, *statements)
    row, before = row_of(made), rows_of(made.organization)
    with pytest.raises(CloneFailed, match=sentence) as refused:
        clone(made)
    assert "secret words" not in str(refused.value)
    nothing_is_left()
    assert (row_of(made), rows_of(made.organization)) == (row, before)


def test_its_functions_run_with_the_rights_of_the_clones_role_alone(
    made: Company, superuser: Superuser
) -> None:
    """In a CHECK, which the restore runs, and in a trigger, which neutralising runs."""
    execute(
        made,
        "CREATE FUNCTION rise() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN "
        "EXECUTE format('ALTER ROLE %I SUPERUSER', current_user); RETURN false; "
        "EXCEPTION WHEN insufficient_privilege THEN RETURN true; END $$",
        "CREATE TABLE trap (id bigint CHECK (rise()))",
        "INSERT INTO trap VALUES (1)",
        "CREATE FUNCTION rise_again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM rise(); RETURN NEW; END $$",
        "CREATE TRIGGER rise BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION rise_again()",
        f"ALTER DATABASE {made.organization.database_name} SET local_preload_libraries = 'absent'",
    )
    supers = "SELECT rolname FROM pg_roles WHERE rolsuper"
    before = names(superuser, supers)
    new = clone(made).organization
    assert names(superuser, supers) == before
    owners = "SELECT relowner::regrole::text FROM pg_class WHERE relname IN ('trap', 'users')"
    with psycopg.connect(**SERVER.superuser_parameters(new.database_name)) as inside:  # type: ignore[arg-type]
        assert names(inside, owners) == {new.role_name}


_SETTLED_BY = {
    "a check": (
        "CREATE TABLE settled (n int, CHECK (settle()))",
        "INSERT INTO settled VALUES (1)",
    ),
    "a trigger": (
        "CREATE FUNCTION settle_again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM public.settle(); RETURN NEW; END $$",
        "CREATE TRIGGER settles BEFORE UPDATE ON users FOR EACH ROW "
        "EXECUTE FUNCTION settle_again()",
    ),
}


@pytest.mark.parametrize("how", _SETTLED_BY)
def test_the_clone_keeps_no_way_in_and_no_setting_of_theirs(
    made: Company, beta: Company, superuser: Superuser, how: str
) -> None:
    """Whether the restore runs their code, or neutralising does."""
    own, guest = made.organization.database_name, beta.organization.role_name
    execute(made, SETTLE.format(own=own, guest=guest), *_SETTLED_BY[how])
    new = clone(made).organization
    new.refresh_from_db()
    assert_nothing_is_settled(superuser, new, beta.organization)
    with tenancy.override(new.tenant):
        assert User.objects.get().email.endswith("@example.invalid")


_DECOYS = {
    "a schema": "CREATE SCHEMA decoy; CREATE TABLE decoy.users AS TABLE public.users; "
    "SET search_path = decoy, public; SET standard_conforming_strings = off;",
    "a temporary table": "CREATE TEMPORARY TABLE users AS TABLE public.users;",
}


@pytest.mark.parametrize("how", _DECOYS)
def test_what_a_trigger_sets_in_the_session_leads_the_next_statement_nowhere_else(
    made: Company, how: str
) -> None:
    """Addresses would be replaced in another table of that name, and found to be."""
    decoy = f"CREATE FUNCTION decoy() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {_DECOYS[how]} "
    execute(
        made,
        decoy + "RETURN NULL; END$$",
        "CREATE TRIGGER decoy AFTER DELETE ON login_sessions EXECUTE FUNCTION decoy()",
    )
    new = clone(made).organization
    with psycopg.connect(**SERVER.superuser_parameters(new.database_name)) as inside:  # type: ignore[arg-type]
        (address,) = names(inside, "SELECT email FROM public.users")
    assert address.endswith("@example.invalid")


def test_an_event_trigger_of_a_superuser_is_not_taken_over(
    made: Company, superuser: Superuser, nothing_is_left: Callable[[], None]
) -> None:
    parameters = SERVER.superuser_parameters(made.organization.database_name)
    with psycopg.connect(**parameters, autocommit=True) as inside:  # type: ignore[arg-type]
        inside.execute(
            "CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'"
        )
        inside.execute("CREATE EVENT TRIGGER note ON ddl_command_end EXECUTE FUNCTION note()")
    with pytest.raises(CopyFailed, match="pg_dump or pg_restore ended with an error"):
        clone(made)
    nothing_is_left()


@pytest.mark.parametrize(
    ("statements", "error"),
    [
        (
            ("ALTER TABLE users RENAME TO mine", "CREATE VIEW users AS SELECT * FROM mine"),
            BackupObstructed,
        ),
        (
            (
                "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
                "ALTER TABLE users FORCE ROW LEVEL SECURITY",
            ),
            BackupObstructed,
        ),
    ],
    ids=["a view for a table", "row security"],
)
def test_what_cannot_be_copied_whole_is_not_cloned(
    made: Company,
    nothing_is_left: Callable[[], None],
    statements: tuple[str, ...],
    error: type[OrganizationError],
) -> None:
    execute(made, *statements)
    with pytest.raises(error):
        clone(made)
    nothing_is_left()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("where", ["the restore", "neutralising"])
def test_what_does_not_end_is_ended_at_the_deadline(
    made: Company,
    superuser: Superuser,
    settings: Settings,
    nothing_is_left: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    if where == "the restore":
        execute(
            made,
            SLEEP,
            "CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN "
            f"IF current_database() <> '{made.organization.database_name}' THEN "
            "PERFORM public.sleep(); END IF; RETURN true; END $$",
            "CREATE TABLE trap (n int CHECK (slow()))",
            "INSERT INTO trap VALUES (1)",
        )
    else:
        execute(
            made,
            SLEEP,
            "CREATE FUNCTION rest() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "PERFORM sleep(); RETURN NEW; END $$",
            "CREATE TRIGGER rest BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION rest()",
        )
    clock = Clock(monkeypatch, settings.BACKUP_DEADLINE_SECONDS)
    cancelled = note_cancels(monkeypatch, superuser)
    steps: list[str] = []

    def tell(step: str) -> None:
        steps.append(step)
        if step.startswith("neutralising"):
            clock.leave(1)

    with pytest.raises(BackupTookTooLong, match="The clone of .* was stopped after"):
        lifecycle.clone_organization(
            made.organization,
            name=f"{made.name} Copy",
            goes_on=clock.until_asleep(superuser),
            tell=tell,
        )
    if where == "the restore":
        assert steps[-1].startswith("copying") and steps[-1].endswith("rows")
    else:
        assert (steps[-1], cancelled) == ("neutralising logins", ["PgSleep"])
    nothing_is_left()
    still = "SELECT query FROM pg_stat_activity WHERE usename LIKE 'orgrole%' AND state = 'active'"
    assert names(superuser, still) == set()
