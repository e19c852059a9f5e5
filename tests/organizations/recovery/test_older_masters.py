"""A master that is older than its server: which databases it adopts, and which it leaves alone."""

import shutil

import pytest
from psycopg import sql

from tests.organizations.backups.helpers import SETTLE
from tests.real_server import ServerFailed

from .estate import NEWER, Estate, document


def role_of(estate: Estate, database: str) -> str:
    query = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = %s"
    return str(estate.value(query, database))


def adopt(estate: Estate, database: str, name: str, *options: str) -> str:
    """Adopt it; the new database's name."""
    arguments = [database, f"--name={name}", "--email=b@test.com", "--json", *options]
    return str(document(estate.manage("adopt_org", *arguments), '{"id"')["database"])


@pytest.fixture(scope="module")
def since(estate: Estate) -> dict[str, str]:
    """The databases of those who signed up since the dump that was restored, by name."""
    dump = estate.dump()
    made = {name: estate.create(name) for name in ("Hostile Ltd", "Settler Ltd", "Guest Ltd")}
    estate.restore_in_place(dump)
    return made


def test_a_hostile_database_fails_its_own_adoption_and_delays_nothing(
    estate: Estate, since: dict[str, str]
) -> None:
    database = since["Hostile Ltd"]
    role = role_of(estate, database)
    with estate.superuser(database) as owner:
        owner.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        # It lets its old owner write, and nobody else.
        owner.execute(
            sql.SQL(
                "CREATE FUNCTION picky() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN "
                "IF current_user <> {} THEN RAISE EXCEPTION 'not for you'; END IF; "
                "RETURN true; END $$"
            ).format(sql.Literal(role))
        )
        owner.execute("CREATE TABLE a_first AS SELECT 1 AS x")
        owner.execute("ALTER TABLE a_first ADD CHECK (picky())")
        # More than a pipe holds.
        owner.execute("CREATE TABLE b_big AS SELECT md5(i::text) FROM generate_series(1, 20000) i")
    with pytest.raises(ServerFailed, match="not for you"):
        adopt(estate, database, "Hostile Ltd")
    assert estate.problems()[database][0].startswith(NEWER)

    with estate.superuser(database) as owner:
        owner.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        owner.execute("DROP TABLE a_first")
        for number in range(300):
            name = sql.Identifier(f"many_{number}")
            owner.execute(sql.SQL("CREATE TABLE {} (id int PRIMARY KEY)").format(name))
    # Then its owner's sessions, and so pg_dump's, are told of each step that the server takes.
    estate.execute(f"ALTER ROLE {role} SET client_min_messages = debug5")
    new = adopt(estate, database, "Hostile Ltd")
    assert estate.value("SELECT count(*) FROM b_big", database=new) == 20_000


def test_what_their_code_sets_in_the_copy_is_taken_back(
    estate: Estate, since: dict[str, str]
) -> None:
    database, guest = since["Settler Ltd"], since["Guest Ltd"]
    with estate.superuser(database) as owner:
        owner.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role_of(estate, database))))
        owner.execute(SETTLE.format(own=database, guest=role_of(estate, guest)).encode())
        owner.execute("CREATE TABLE settled (n int, CHECK (settle()))")
        owner.execute("INSERT INTO settled VALUES (1)")
    new = adopt(estate, database, "Settler Ltd")
    query = "SELECT has_database_privilege(%s, %s, 'CONNECT')"
    assert estate.value(query, role_of(estate, guest), new) is False
    estate.manage("migrate_orgs", "--verify", "--org=Settler Ltd")
    estate.manage("check_orgs", "Settler Ltd")


def test_a_name_reused_since_the_dump_stays_with_its_new_company(
    estate: Estate,
) -> None:
    first = estate.create("Twice Named")
    dump = estate.dump()
    estate.manage("delete_org", "Twice Named", "--yes")
    assert estate.create("Twice Named") == first, "another company's database has its name"
    owner = role_of(estate, first)
    with estate.superuser() as superuser:
        superuser.execute(f"ALTER DATABASE {first} SET work_mem = '5MB'")
    estate.restore_in_place(dump)

    with pytest.raises(ServerFailed, match="problems left"):
        estate.manage("check_orgs", "--fix")
    assert role_of(estate, first) == owner
    query = (
        "SELECT count(*) FROM pg_db_role_setting AS s JOIN pg_database AS d "
        "ON d.oid = s.setdatabase WHERE datname = %s"
    )
    assert estate.value(query, first) == 1, "nothing of it was set back"
    assert estate.problems()[first][0].startswith(NEWER)

    # The old row can end; what has its database's name since stays.
    estate.manage("delete_org", "Twice Named", "--yes")
    assert role_of(estate, first) == owner
    assert adopt(estate, first, "Twice Named").startswith(first)
    estate.manage("migrate_orgs", "--verify", "--org=Twice Named")
    estate.manage("check_orgs", "Twice Named")


def test_restoring_the_same_dump_twice_adopts_the_database_twice(
    estate: Estate,
) -> None:
    dump = str(shutil.copy(estate.dump(), estate.folder / "data" / "older.dump"))
    database = estate.create("Again Ltd")
    key = estate.value("SELECT key FROM organizations WHERE name = 'Again Ltd'")
    estate.restore_in_place(dump)
    second = adopt(estate, database, "Again Ltd")
    between = estate.dump()
    estate.restore_in_place(dump)
    third = adopt(estate, second, "Again Ltd")
    estate.restore_in_place(between)

    # Its row names what was moved since. The files are those of the one that is.
    folder = estate.folder / "data" / "files" / key
    folder.mkdir(parents=True, exist_ok=True)
    assert estate.problems()[third][0].startswith(NEWER)
    old_role = role_of(estate, second)
    estate.execute(f"DROP DATABASE {second}", f"DROP ROLE {old_role}")
    estate.manage("delete_org", "Again Ltd", "--yes")
    assert folder.is_dir()
    assert third in estate.databases()
    with pytest.raises(ServerFailed, match="Use --undelete to restore it"):
        adopt(estate, third, "Again Ltd")
    assert adopt(estate, third, "Again Ltd", "--undelete") not in (second, third)
