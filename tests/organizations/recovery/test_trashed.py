"""What is kept of deleted organizations, with an older master, or on another server."""

import json

import pytest
from psycopg import sql

from tests.real_server import ServerFailed

from .estate import NEWER, Estate, document


def adopt(estate: Estate, database: str, name: str, *options: str) -> str:
    """Adopt it; the new database's name."""
    arguments = [database, f"--name={name}", "--email=b@test.com", "--json", *options]
    return str(document(estate.manage("adopt_org", *arguments), '{"id"')["database"])


def in_order(estate: Estate, name: str) -> None:
    estate.manage("migrate_orgs", "--verify", f"--org={name}")
    estate.manage("check_orgs", name)


def test_a_master_from_before_the_sign_up_reports_what_is_kept_and_brings_it_back(
    graced: Estate,
) -> None:
    dump = graced.dump()
    database = graced.create("Unknown Ltd")
    graced.manage("delete_org", "Unknown Ltd", "--yes")
    graced.restore_in_place(dump)
    graced.manage("reconcile_orgs")
    graced.manage("prune")
    what, remedy = graced.problems()[database]
    assert what == f"{NEWER}: it was deleted, and is kept aside, and no row says so"
    assert remedy.endswith(f"adopt_org {database} --name … --email … --undelete")
    with pytest.raises(ServerFailed, match="Use --undelete"):
        adopt(graced, database, "Unknown Ltd")
    new = adopt(graced, database, "Unknown Ltd", "--undelete")
    assert graced.value("SELECT count(*) FROM users", database=new) == 1
    assert "adopt_org moved its content" in graced.problems()[database][0]
    in_order(graced, "Unknown Ltd")


def test_a_master_from_before_the_deletion_touches_nothing_and_a_failed_adoption_keeps_it_aside(
    graced: Estate,
) -> None:
    database, picky = graced.create("Deleted Since Ltd"), graced.create("Picky Ltd")
    role = graced.value("SELECT role_name FROM organizations WHERE name = 'Picky Ltd'")
    with graced.superuser(picky) as owner:
        owner.execute("ALTER TABLE users ENABLE ROW LEVEL SECURITY")
        owner.execute("ALTER TABLE users FORCE ROW LEVEL SECURITY")
    dump = graced.dump()
    for name in ("Deleted Since Ltd", "Picky Ltd"):
        graced.manage("delete_org", name, "--yes")
    graced.restore_in_place(dump)
    graced.manage("reconcile_orgs")
    with pytest.raises(ServerFailed, match="was not changed"):
        graced.manage("delete_org", "Deleted Since Ltd", "--now", "--without-backup", "--yes")
    assert "the identity says aside" in graced.problems()["Deleted Since Ltd"][0]
    with graced.superuser() as superuser:
        query = "SELECT datallowconn FROM pg_database WHERE datname = %s"
        assert superuser.execute(query, (database,)).fetchone() == (False,)
    assert adopt(graced, database, "Deleted Since Ltd", "--undelete") != database
    in_order(graced, "Deleted Since Ltd")

    with pytest.raises(ServerFailed, match="row-level security|copy"):
        adopt(graced, picky, "Picky Ltd", "--undelete")
    facts = (
        "SELECT pg_get_userbyid(datdba) || ' ' || datallowconn || ' ' || rolcanlogin "
        "FROM pg_database, pg_roles WHERE datname = %s AND rolname = %s"
    )
    assert graced.value(facts, picky, role) == "orgmgmt false false"


def test_a_master_from_before_the_undeletion_drops_nothing(graced: Estate) -> None:
    database = graced.create("Undeleted Since Ltd")
    graced.manage("delete_org", "Undeleted Since Ltd", "--yes")
    with graced.superuser("master_org_db") as master:
        master.execute(
            "UPDATE organizations SET kept_until = now() - interval '1 day' "
            "WHERE name = 'Undeleted Since Ltd'"
        )
    dump = graced.dump()
    graced.manage("undelete_org", "Undeleted Since Ltd")
    graced.restore_in_place(dump)
    with pytest.raises(ServerFailed, match="Some could not be cleaned up"):
        graced.manage("reconcile_orgs")
    with pytest.raises(ServerFailed, match="Not all was removed"):
        graced.manage("prune")
    with pytest.raises(ServerFailed, match="the identity says let in"):
        graced.manage("undelete_org", "Undeleted Since Ltd")
    what, remedy = graced.problems()["Undeleted Since Ltd"]
    assert what.startswith(NEWER) and "--undelete" in remedy
    assert adopt(graced, database, "Undeleted Since Ltd", "--undelete") != database
    in_order(graced, "Undeleted Since Ltd")


def test_on_another_server_what_is_kept_is_claimed_too(graced: Estate) -> None:
    graced.create("Moved Ltd")
    graced.manage("delete_org", "Moved Ltd", "--yes")
    role = graced.value("SELECT role_name FROM organizations WHERE name = 'Moved Ltd'")
    said = json.loads(graced.value("SELECT shobj_description(%s::regrole, 'pg_authid')", role))
    with graced.superuser("master_org_db") as master:
        # As if it had come with a dump of another server, where OIDs were others.
        comment = sql.SQL("COMMENT ON ROLE {} IS {}")
        other = sql.Literal(json.dumps({**said, "databases": [1]}))
        master.execute(comment.format(sql.Identifier(role), other))
        master.execute("UPDATE installation SET system_identifier = 1")
    with pytest.raises(ServerFailed, match="is a copy"):
        graced.manage("undelete_org", "Moved Ltd")
    graced.manage("claim_installation", "--yes")
    graced.manage("undelete_org", "Moved Ltd")
    graced.manage("check_orgs", "Moved Ltd")
