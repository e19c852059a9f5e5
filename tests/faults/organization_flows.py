"""Flows that create, change, suspend and delete organizations."""

import secrets
from collections.abc import Callable
from typing import Any

from psycopg import sql

from tests.faults.attempts import DONE, NOTHING, Attempt, command, without_trace
from tests.faults.client import Answer
from tests.faults.world import PASSWORD, World

_ADD = "/admin/organizations/organization/add/"
SPARES_WANTED = "6"
_LIST = "/admin/organizations/organization/"
_ROW = "SELECT id, status, database_name, role_name FROM organizations WHERE {} ORDER BY id DESC"


def _name() -> str:
    return f"Company {secrets.token_hex(5)}"


def _exists(world: World, row: tuple[Any, ...]) -> tuple[bool, bool]:
    """Whether the row's database and role exist."""
    (found,) = world.rows(
        "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = %s), "
        "EXISTS (SELECT 1 FROM pg_roles WHERE rolname = %s)",
        (row[2], row[3]),
    )
    return bool(found[0]), bool(found[1])


# --- Making -------------------------------------------------------------------------------------
def _made(world: World, name: str) -> str:
    rows = world.rows(_ROW.format("name = %s"), (name,))
    if not rows:
        return NOTHING  # A role or database that it left is found among the orphans.
    row = rows[0]
    if row[1] != "active" or _exists(world, row) != (True, True):
        return f"the row says {row[1]}; database and role exist: {_exists(world, row)}"
    admins = world.tenant_rows("SELECT email FROM users WHERE is_admin", database=row[2])
    return DONE if admins else "active, and has no admin"


def _body(name: str) -> dict[str, str]:
    return {"organization_name": name, "email": "admin@made.example", "password": PASSWORD}


def sign_up(world: World) -> Attempt:
    name = _name()
    return Attempt(
        lambda: world.ask("POST", "/org/create", _body(name)),
        lambda: _made(world, name),
        makes=name,
    )


def staff_create(world: World) -> Attempt:
    name = _name()
    return Attempt(
        lambda: world.ask(
            "POST", "/api/v1/organizations/", _body(name), cookies=world.staff_cookies
        ),
        lambda: _made(world, name),
        makes=name,
    )


def admin_add(world: World) -> Attempt:
    name = _name()
    submit = world.open_form(_ADD, cookies=world.staff_cookies)
    return Attempt(lambda: submit(_body(name)), lambda: _made(world, name), makes=name)


def create_org(world: World) -> Attempt:
    name = _name()
    arguments = ("create_org", name, "--email", "admin@made.example", "--password-stdin")
    return Attempt(
        lambda: command(world, *arguments, typed=f"{PASSWORD}\n"),
        lambda: _made(world, name),
        makes=name,
    )


def with_spares(prepare: Callable[[World], Attempt]) -> Callable[[World], Attempt]:
    """The same with spare databases ready."""

    def prepared(world: World) -> Attempt:
        attempt = prepare(world)
        filled = command(world, "refill_spares")
        if not filled.done:
            raise RuntimeError(f"No spare databases: {filled.words}")
        return attempt

    return prepared


# --- Made ahead -----------------------------------------------------------------------------------
def build_template(world: World) -> Attempt:
    query = "SELECT id FROM templates WHERE ready"
    before = world.rows(query)

    def effect() -> str:
        now = world.rows(query)
        if now and now != before:
            return DONE
        # In between none is ready, and sign-ups take the plain way.
        return NOTHING

    return Attempt(lambda: command(world, "build_template", "--rebuild"), effect)


def refill_spares(world: World) -> Attempt:
    wanted = int(SPARES_WANTED)
    world.rows("UPDATE spare_databases SET ready = false")

    def effect() -> str:
        ((ready, all_),) = world.rows(
            "SELECT count(*) FILTER (WHERE ready), count(*) FROM spare_databases"
        )
        return DONE if (ready, all_) == (wanted, wanted) else NOTHING

    return Attempt(lambda: command(world, "refill_spares"), effect)


# --- Ending -------------------------------------------------------------------------------------
def _existing(world: World) -> tuple[str, tuple[Any, ...]]:
    """Make an organization; its name and row."""
    name = _name()
    answer = world.ask("POST", "/org/create", _body(name))
    if not answer.done:
        raise RuntimeError(f"No sign-up: {answer.words}")
    return name, world.rows(_ROW.format("name = %s"), (name,))[0]


def _ended(world: World, row: tuple[Any, ...], *, before: str) -> str:
    now = world.rows(_ROW.format("id = %s"), (row[0],))
    status = now[0][1] if now else "deleted"
    there = _exists(world, row)
    if status == "deleted" and there == (False, False):
        return DONE
    if status == before and there == (True, True):
        return NOTHING
    return f"the row says {status}; database and role exist: {there}"


def delete_org(world: World) -> Attempt:
    name, row = _existing(world)
    world.token("admin@made.example", organization=name)  # Leaves a session to end.
    return Attempt(
        lambda: command(world, "delete_org", name, "--yes"),
        lambda: _ended(world, row, before="active"),
        database=row[2],
    )


def reconcile(world: World) -> Attempt:
    _, row = _existing(world)
    # As it is before anybody was let in, by the row and by the role's identity: nothing to fence.
    world.rows("UPDATE organizations SET status = 'provisioning' WHERE id = %s", (row[0],))
    world.rows("UPDATE organizations SET pending_fence = '' WHERE id = %s", (row[0],))
    ((identity,),) = world.rows(
        "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s", (row[3],)
    )
    made = sql.Literal(identity.replace('"let in"', '"made"'))
    world.rows(sql.SQL("COMMENT ON ROLE {} IS {}").format(sql.Identifier(row[3]), made).as_string())

    def act() -> Answer:
        # Not 10 s for those that somebody else of the batch is at work on.
        return command(world, "reconcile_orgs", "--wait", "3")

    return Attempt(act, lambda: _ended(world, row, before="provisioning"), database=row[2])


# --- Changing -----------------------------------------------------------------------------------
def suspend(world: World) -> Attempt:
    return _moved(world, "suspend", before="active", after="suspended")


def resume(world: World) -> Attempt:
    return _moved(world, "resume", before="suspended", after="active")


def staff_suspend(world: World) -> Attempt:
    name, after, key = "Moved by REST", "suspended", secrets.token_hex(8)
    row = _standing(world, name, "active")
    path = f"/api/v1/organizations/{row[0]}/suspend/"
    return Attempt(
        lambda: world.ask("POST", path, {}, cookies=world.staff_cookies, key=key),
        _status(world, row, before="active", after=after),
        database=row[2],
    )


def staff_rename(world: World) -> Attempt:
    name, new, key = _name(), _name(), secrets.token_hex(8)
    made = world.ask("POST", "/org/create", _body(name))
    if not made.done:
        raise RuntimeError(f"No sign-up: {made.words}")
    row = world.rows(_ROW.format("name = %s"), (name,))[0]
    path = f"/api/v1/organizations/{row[0]}/rename/"
    world.token("admin@made.example", organization=name)  # Leaves a session to end.

    def effect() -> str:
        ((now, fence),) = world.rows(
            "SELECT name, pending_fence FROM organizations WHERE id = %s", (row[0],)
        )
        ((held,),) = world.rows(
            "SELECT count(*) FROM former_names WHERE organization_id = %s", (row[0],)
        )
        found = {(name, 0, ""): NOTHING, (new, 1, ""): DONE}
        return found.get((now, held, fence), f"the row says {now}; {held} held; {bool(fence)}")

    return Attempt(
        lambda: world.ask("POST", path, {"name": new}, cookies=world.staff_cookies, key=key),
        effect,
        database=row[2],
    )


def _standing(world: World, name: str, status: str) -> tuple[int, str, str]:
    row = world.standing_organization(name)
    world.rows("UPDATE organizations SET status = 'active' WHERE id = %s", (row[0],))
    world.token("admin@tenant.example", organization=name)  # Leaves a session to end.
    world.rows("UPDATE organizations SET status = %s WHERE id = %s", (status, row[0]))
    return row


def _moved(world: World, action: str, *, before: str, after: str) -> Attempt:
    row = _standing(world, f"Moved by {action}", before)
    submit = world.open_form(_LIST, cookies=world.staff_cookies)
    fields = {"action": action, "_selected_action": str(row[0]), "confirmed": "yes"}
    effect = _status(world, row, before=before, after=after)
    return Attempt(lambda: submit(fields), effect, database=row[2])


def _status(
    world: World, row: tuple[int, str, str], *, before: str, after: str
) -> Callable[[], str]:
    def effect() -> str:
        ((status, fence),) = world.rows(
            "SELECT status, pending_fence FROM organizations WHERE id = %s", (row[0],)
        )
        if fence and after == "suspended":
            return f"the row says {status}, and its sessions were not ended"
        return {after: DONE, before: NOTHING}.get(status, f"the row says {status}")

    return effect


def reseal(world: World) -> Attempt:
    row = world.standing_organization("Resealed")
    query = "SELECT sealed_password FROM organizations WHERE id = %s"
    before = world.rows(query, (row[0],))
    return Attempt(
        lambda: command(world, "reseal_credentials"),
        lambda: NOTHING if world.rows(query, (row[0],)) == before else DONE,
    )


def prune_audit(world: World) -> Attempt:
    ((pk,),) = world.rows(
        "INSERT INTO audit_entries (at, act, actor, person, request_id, facts) "
        "VALUES (now() - interval '10 years', 'matrix.old', 'system', '', '', '{}') RETURNING id"
    )
    query = "SELECT 1 FROM audit_entries WHERE id = %s"
    return Attempt(
        lambda: command(world, "prune_audit"),
        lambda: NOTHING if world.rows(query, (pk,)) else DONE,
    )


# --- Migrations ---------------------------------------------------------------------------------
def migrate(world: World) -> Attempt:
    # What a migration of the master ends with: Django writes the permissions that are missing.
    where = "codename = 'view_logentry'"
    world.rows(f"DELETE FROM auth_permission WHERE {where}")  # noqa: S608
    query = f"SELECT 1 FROM auth_permission WHERE {where}"  # noqa: S608
    return Attempt(
        lambda: command(world, "migrate"), lambda: DONE if world.rows(query) else NOTHING
    )


def migrate_orgs(world: World) -> Attempt:
    row = world.standing_organization("Migrated")
    query = "SELECT app, name FROM django_migrations ORDER BY app, name"
    wanted = world.tenant_rows(query)
    back = command(world, "migrate_orgs", "--yes", "Migrated", "accounts", "0001")
    if not back.done:
        raise RuntimeError(f"Cannot go back: {back.words}")
    return Attempt(
        lambda: command(world, "migrate_orgs", "Migrated"),
        lambda: DONE if world.tenant_rows(query, database=row[2]) == wanted else NOTHING,
        database=row[2],
    )


# --- Asking about them --------------------------------------------------------------------------
def lookup(world: World) -> Attempt:
    body = {"organization_name": world.tenant}
    return without_trace(lambda: world.ask("POST", "/org/get", body))
