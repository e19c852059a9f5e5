"""An older or copied master destroys nothing: restores of real pg_dump files."""

import psycopg
import pytest
from psycopg import sql

from tests.real_server import ServerFailed

from .estate import NEWER, Estate, document


def test_customers_who_signed_up_since_the_dump_keep_their_databases(estate: Estate) -> None:
    estate.manage("refill_spares")
    dump = estate.dump()
    taken = {estate.create("Since One"), estate.create("Since Two")}
    assert estate.value("SELECT count(*) FROM spare_databases") == 0, "one of them had it"

    estate.restore_in_place(dump)
    estate.manage("reconcile_orgs")
    estate.manage("refill_spares")
    with pytest.raises(ServerFailed, match="problems left"):
        estate.manage("check_orgs", "--fix")

    assert taken <= estate.databases()
    found = estate.problems()
    for database in taken:
        what, remedy = found[database]
        assert what.startswith(NEWER)
        assert remedy.startswith(f"manage.py adopt_org {database} --name")

    # Back again: by the name that was typed, in a database of a new role.
    one = min(taken)
    with estate.superuser(one) as owner:
        owner.execute(
            "CREATE FUNCTION left_behind() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'"
        )
        owner.execute("CREATE ROLE stranger")
        owner.execute("GRANT SELECT ON users TO stranger")
    estate.execute(
        f"ALTER DATABASE {one} SET default_transaction_read_only = on",
        f"ALTER DATABASE {one} CONNECTION LIMIT 0",
    )
    for options in (["--name=?", "--email=a@test.com"], ["--name=Since One", "--email=nobody"]):
        with pytest.raises(ServerFailed):
            estate.manage("adopt_org", one, *options)
    with pytest.raises(ServerFailed, match="there is no such database"):
        estate.manage("adopt_org", "org_never", "--name=Since One", "--email=b@test.com")
    said = document(
        estate.manage("adopt_org", one, "--name=Since One", "--email=b@test.com", "--json"), '{"id"'
    )
    role = estate.value("SELECT role_name FROM organizations WHERE id = %s", said["id"])
    new = said["database"]
    assert new != one and estate.value("SELECT count(*) FROM users", database=new) == 1
    assert (
        estate.value(
            "SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE proname = 'left_behind'",
            database=new,
        )
        == role
    )
    assert not estate.value(
        "SELECT has_table_privilege('stranger', 'users', 'SELECT')", database=new
    )
    found = estate.problems()
    assert "adopt_org moved its content" in found[one][0], "the old one is kept"
    assert new not in found
    with pytest.raises(ServerFailed, match="its content was already moved"):
        estate.manage("adopt_org", one, "--name=Again", "--email=b@test.com")
    estate.manage("delete_org", "Since One", "--yes")
    assert one in estate.databases() and new not in estate.databases()


def test_an_adoption_ends_the_sessions_of_the_row_that_it_replaces(estate: Estate) -> None:
    """Its database and role can be others than those to adopt."""
    database = estate.create("Replaced Ltd")
    with estate.superuser("master_org_db") as master:
        master.execute("SET SESSION AUTHORIZATION orgmgmt")
        master.execute("CREATE ROLE orgrole_other LOGIN PASSWORD 'other'")
        master.execute("RESET SESSION AUTHORIZATION")
        master.execute("CREATE DATABASE org_other OWNER orgrole_other")
        master.execute(
            "UPDATE organizations SET database_name = 'org_other', role_name = 'orgrole_other' "
            "WHERE name = 'Replaced Ltd'"
        )
    estate.manage("reconcile_orgs")
    parameters = estate.postgres.superuser_parameters("org_other")
    parameters |= {"user": "orgrole_other", "password": "other"}
    with psycopg.connect(**parameters, autocommit=True) as kept:  # type: ignore[arg-type]
        estate.manage("adopt_org", database, "--name=Replaced Ltd", "--email=a@test.com")
        with pytest.raises(psycopg.OperationalError):
            kept.execute("SELECT 1")
    assert estate.value("SELECT status FROM organizations WHERE name = 'Replaced Ltd'") == "active"
    estate.manage("delete_org", "Replaced Ltd", "--yes")
    estate.execute("DROP DATABASE org_other", "DROP ROLE orgrole_other")


def test_a_copy_touches_nothing_until_it_is_claimed(estate: Estate) -> None:
    estate.manage("refill_spares")
    dump = estate.dump()
    taken = estate.create("Since Three")
    estate.restore(dump)
    before = estate.databases()

    for command in (
        ["reconcile_orgs"],
        ["refill_spares"],
        ["check_orgs", "--fix"],
        ["worker", "--once"],
        ["create_org", "Refused", "--email=a@test.com"],
    ):
        with pytest.raises(ServerFailed, match="This master database is a copy"):
            estate.manage(*command)
    assert "the master" in estate.problems()
    assert estate.databases() == before

    estate.manage("claim_installation", "--yes")
    estate.manage("reconcile_orgs")
    assert taken in estate.databases()
    assert estate.problems()[taken][0].startswith(NEWER)
    number = estate.value("SELECT coalesce(max(id), 0) FROM organizations")
    estate.create("After The Claim")
    assert estate.value("SELECT max(id) FROM organizations") > number + 1_000


def test_a_sign_up_that_the_dump_has_half_of_keeps_its_database(estate: Estate) -> None:
    database = estate.create("Half In The Dump")
    with estate.superuser("master_org_db") as master:
        master.execute(
            "UPDATE organizations SET status = 'provisioning' WHERE database_name = %s", (database,)
        )
        dump = estate.dump()
        master.execute(
            "UPDATE organizations SET status = 'active' WHERE database_name = %s", (database,)
        )
    estate.restore_in_place(dump)

    with pytest.raises(ServerFailed, match="Some could not be cleaned up"):
        estate.manage("reconcile_orgs")
    with pytest.raises(ServerFailed, match="is taken"):
        estate.create("Half in the dump")
    with pytest.raises(ServerFailed, match="was not changed"):
        estate.manage("delete_org", "Half In The Dump", "--yes")
    assert database in estate.databases()
    what, remedy = estate.problems()["Half In The Dump"]
    assert NEWER in what and remedy.startswith(f"manage.py adopt_org {database}")


def test_a_rehearsal_beside_production_takes_nothing_of_it(estate: Estate) -> None:
    live = estate.create("Live Ltd")
    estate.manage("backup_orgs", "Live Ltd")
    estate.manage("refill_spares")
    dump = estate.dump()
    newest = estate.create("Newest Ltd")
    estate.restore(dump, "rehearsal")
    before = estate.databases()
    beside = {"MASTER_DB_NAME": "rehearsal"}

    with pytest.raises(ServerFailed, match="nothing to claim"):
        estate.manage("claim_installation", "--new", "--yes")
    with pytest.raises(ServerFailed, match="This master database is a copy"):
        estate.manage("reconcile_orgs", environment=beside)
    with pytest.raises(ServerFailed, match="is still on this server"):
        estate.manage("claim_installation", "--yes", environment=beside)
    estate.manage("claim_installation", "--new", "--yes", environment=beside)
    estate.manage("reconcile_orgs", environment=beside)
    estate.manage("refill_spares", environment=beside)
    with pytest.raises(ServerFailed, match="another installation"):
        estate.manage("delete_org", "Live Ltd", "--yes", environment=beside)
    arguments = ("org_command", "--org=Live Ltd", "showmigrations", "accounts")
    with pytest.raises(ServerFailed):
        estate.manage(*arguments, environment=beside)
    assert "Live Ltd" not in estate.manage("migrate_orgs", "--verify", environment=beside)
    mine = estate.manage(
        "create_org",
        "Rehearsed",
        "--email=a@test.com",
        environment=beside,
    )
    assert "Rehearsed" in mine

    assert estate.value("SELECT count(*) FROM backup_runs", database="rehearsal") == 0
    estate.manage("verify_backups", "Live Ltd")

    assert before <= estate.databases()
    assert {live, newest} <= estate.databases()
    found = estate.problems()
    assert "Live Ltd" not in found and "Newest Ltd" not in found, "production is as it was"
    assert not any("rehears" in name.lower() for name in found)


def test_a_restored_deletion_ends_what_was_being_deleted_and_nothing_else(estate: Estate) -> None:
    database = estate.create("Going Ltd")
    with estate.superuser("master_org_db") as master:
        master.execute(
            "UPDATE organizations SET status = 'deleting', deletion = %s WHERE database_name = %s",
            ("0" * 32, database),
        )
    with pytest.raises(ServerFailed, match="Some could not be cleaned up"):
        estate.manage("reconcile_orgs")
    assert database in estate.databases()
    with estate.superuser("master_org_db") as master:
        master.execute(
            "UPDATE organizations SET status = 'active', deletion = '' WHERE database_name = %s",
            (database,),
        )
    estate.manage("delete_org", "Going Ltd", "--yes")
    assert database not in estate.databases()


def test_older_roles_are_left_alone_until_they_are_identified(estate: Estate) -> None:
    database = estate.create("Older Ltd")
    role = estate.value("SELECT role_name FROM organizations WHERE name = 'Older Ltd'")
    with estate.superuser() as superuser:
        superuser.execute(sql.SQL("COMMENT ON ROLE {} IS NULL").format(sql.Identifier(role)))
    with pytest.raises(ServerFailed, match="no identity yet"):
        estate.manage("delete_org", "Older Ltd", "--yes")
    assert "manage.py identify_orgs" in estate.manage("migrate")
    assert estate.problems()["Older Ltd"][1] == "manage.py identify_orgs"
    assert "Older Ltd: identified" in estate.manage("identify_orgs")
    assert "Older Ltd" not in estate.problems()

    # Restored by hand: another database under the same name.
    estate.execute(
        f"CREATE DATABASE by_hand TEMPLATE {database} OWNER {role}",
        f"DROP DATABASE {database}",
        f"ALTER DATABASE by_hand RENAME TO {database}",
    )
    with pytest.raises(ServerFailed, match="not the one that was created"):
        estate.manage("delete_org", "Older Ltd", "--yes")
    assert "Older Ltd: identified" in estate.manage("identify_orgs", "Older Ltd")
    estate.manage("delete_org", "Older Ltd", "--yes")
    assert database not in estate.databases()
