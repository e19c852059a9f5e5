"""Judges an organization's database and role: problems, remedies and the SQL that repairs them."""

import re
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from django.conf import settings
from psycopg import sql

from organizations.errors import CredentialUnreadable
from organizations.models import Organization
from organizations.naming import RESERVED_PREFIX, ROLE_PATTERN
from organizations.postgres.identity import (
    NEWER,
    Identity,
    State,
    disagreement,
    expected_of,
    of_key,
)
from organizations.postgres.roles import READ_ONLY, read_only, role_settings
from organizations.secrets import unseal

from .catalog import Kept, Orphan, Seen, Stock


class Kind(StrEnum):
    """The kind of a problem."""

    INSTALLATION = "installation"
    IDENTITY = "identity"
    UNFINISHED = "unfinished"
    DATABASE = "database"
    OWNER = "owner"
    PRIVILEGES = "privileges"
    SETTINGS = "settings"
    ROLE = "role"
    MEMBERSHIP = "membership"
    SCHEMA = "schema"
    ORPHAN_DATABASE = "orphan database"
    ORPHAN_ROLE = "orphan role"
    STOCK = "stock"
    FILES = "files"
    SHARED_ROWS = "shared rows"
    BACKUP = "backup"


@dataclass(frozen=True)
class Problem:
    """remedy: what a person should do. statements: the SQL that repairs it without risk to data, if
    there is any."""

    kind: Kind
    what: str
    remedy: str
    statements: tuple[sql.Composed, ...] = ()


FIX = "manage.py check_orgs --fix"
RECONCILE = "manage.py reconcile_orgs"
IDENTIFY = "manage.py identify_orgs"
_NEWER_DUMP = 'restore a newer dump of the master; docs/operations.md, "Identity"'
CLAIM = "manage.py claim_installation --help"


def of_server(seen: Seen, *, application: str, installation: str) -> Iterator[Problem]:
    """Differences between the server and what provisioning made.

    application: the application's role. installation: this one's key. A deleted one that is kept
    must be out of reach, and nothing else; an archived one must have its backup. Another one that
    is not usable, or whose restore did not end, is reported as unfinished, and nothing else.
    """
    status = Organization.Status
    if (problem := _archived_since(seen, installation)) is not None:
        yield problem
        return
    if seen.status == status.ARCHIVED or (
        seen.status == status.TRASHED and seen.archive is not None
    ):
        yield from _archived(seen, installation)
        return
    if seen.status == Organization.Status.TRASHED:
        yield from _kept(seen, application=application, installation=installation)
        return
    if seen.status not in Organization.Status.usable():
        yield _unfinished(seen, installation)
        return
    if seen.is_switching:
        # Its database is shut until that is done, and nothing else may open it.
        yield Problem(Kind.UNFINISHED, "a restore switched it, and did not end", RECONCILE)
        return
    doubts = list(_identity(seen, installation))
    yield from doubts
    if seen.identity is not None and _disagreement(seen, installation):
        return  # Another installation's problems are neither reported nor repaired.
    is_certain = seen.attributes is not None and not doubts
    for problem in (*_database(seen, application), *_role(seen, application)):
        yield problem if is_certain else _if_it_is_ours(problem)


def _if_it_is_ours(problem: Problem) -> Problem:
    """For a person to decide: the database may belong to somebody else."""
    if not problem.statements:
        return problem
    remedy = f"if it is the organization's, as a superuser: {text(*problem.statements)}"
    return replace(problem, remedy=remedy, statements=())


def _disagreement(seen: Seen, installation: str) -> str:
    expected = expected_of(
        seen.name,
        key=seen.key,
        role=seen.role,
        database=seen.database,
        status=seen.status,
        deletion=seen.deletion,
        has_archive=seen.archive is not None,
    )
    return disagreement(seen.identity, expected, installation=installation)


def _unfinished(seen: Seen, installation: str) -> Problem:
    why = _disagreement(seen, installation)
    if seen.attributes is None or not why:
        return Problem(
            Kind.UNFINISHED, f"{seen.status}, and no process is working on it", RECONCILE
        )
    if seen.identity is not None and seen.identity.state == State.LET_IN:
        return Problem(Kind.IDENTITY, f"{NEWER}: {seen.status}, and {why}", adopt(seen.database))
    return Problem(Kind.IDENTITY, f"{seen.status}, and {why}", _look_into(seen.database))


def _kept(seen: Seen, *, application: str, installation: str) -> Iterator[Problem]:
    if seen.owner is None or seen.attributes is None or not seen.is_whole:
        give_up = f"manage.py delete_org --id {seen.organization_id} --now --without-backup"
        remedy = f"restore it from a backup, or give it up: {give_up}"
        yield Problem(Kind.DATABASE, "deleted and kept, but it is missing or broken", remedy)
        return
    if seen.identity is not None and seen.identity.state == State.LET_IN:
        what = f"{NEWER}: {seen.status}, and {_disagreement(seen, installation)}"
        yield Problem(Kind.IDENTITY, what, adopt(seen.database, was_deleted=True))
        return
    yield from (doubts := list(_identity(seen, installation)))
    is_open = seen.accepts or seen.owner != application or "NOLOGIN" not in seen.attributes
    if is_open and not doubts:
        what = "deleted and kept, but it is not out of reach"
        yield Problem(Kind.UNFINISHED, what, RECONCILE)


def _archived_since(seen: Seen, installation: str) -> Problem | None:
    """An older master does not know its last archive: its database is not lost, but in a backup."""
    whose = seen.identity
    if seen.attributes is not None and (whose is None or whose.state != State.ARCHIVED):
        return None
    if whose is not None and not _disagreement(seen, installation):
        return None
    found = [each for _, each in of_key(seen.key) if each.installation == installation]
    if [each.state for each in found] != [State.ARCHIVED]:
        return None
    status = Organization.Status
    can_thaw = seen.status in (*status.usable(), *status.archival())
    what = f"{NEWER}: {seen.status}, and the identity says {State.ARCHIVED!s}"
    remedy = shlex.join(["manage.py", "thaw_org", seen.name]) if can_thaw else _NEWER_DUMP
    return Problem(Kind.IDENTITY, what, remedy)


def _archived(seen: Seen, installation: str) -> Iterator[Problem]:
    if not seen.archive:
        what = "archived, and its backup is gone or no longer verified"
        yield Problem(Kind.BACKUP, what, "manage.py verify_backups --bad; docs/operations.md")
    if seen.attributes is None:
        in_use = [role for role, each in of_key(seen.key) if each.state != State.ARCHIVED]
        what = f"archived, and the role {seen.role} is missing"
        if in_use:
            remedy = f"manage.py adopt_org, with the database of {in_use[0]}"
            what = f"{NEWER}: {what}, and its role is now {in_use[0]}"
            yield Problem(Kind.IDENTITY, what, remedy)
        else:
            yield Problem(Kind.ROLE, what, "thaw_org works")
    elif why := _disagreement(seen, installation):
        yield Problem(Kind.IDENTITY, f"{seen.status}, and {why}", _look_into(seen.database))


def _identity(seen: Seen, installation: str) -> Iterator[Problem]:
    if seen.attributes is None:
        return
    identity = seen.identity
    if identity is None:
        yield Problem(Kind.IDENTITY, f"the role {seen.role} has no identity yet", IDENTIFY)
        return
    if why := _disagreement(seen, installation):
        yield Problem(Kind.IDENTITY, why, _look_into(seen.database))
    elif seen.oid is not None and seen.oid not in identity.databases:
        again = shlex.join(["manage.py", "identify_orgs", seen.name])
        yield Problem(
            Kind.IDENTITY,
            f"{seen.database} is not the database that was created (was it restored?)",
            f"if it is the organization's: {again}",
        )


def adopt(database: str, *, was_deleted: bool = False) -> str:
    """The command that adopts a database that the master does not know."""
    undelete = " --undelete" if was_deleted else ""
    return f"{shlex.join(['manage.py', 'adopt_org', database])} --name … --email …{undelete}"


def _look_into(database: str) -> str:
    return f'it is kept. Look at what is in {database}; see docs/operations.md, "Identity"'


def of_stock(stock: Stock, *, installation: str) -> Problem | None:
    """The problem with a template or a spare database, if any."""
    identity = Identity.read(stock.comment)
    if identity is not None:
        why = disagreement(identity, stock.expected, installation=installation)
        if why and identity.state != State.MADE:
            return Problem(
                Kind.IDENTITY,
                f"{NEWER}: an organization has this {stock.kind}",
                "adopt_org restores the organization; this row is not used",
            )
        if why:
            return Problem(Kind.IDENTITY, f"a {stock.kind}, and {why}", "it is kept")
    if not stock.is_ready or not stock.is_there:
        what = f"a {stock.kind} that is {'half made' if stock.is_there else 'gone'}"
        return Problem(Kind.STOCK, what, RECONCILE)
    if identity is None:
        return Problem(Kind.IDENTITY, f"a {stock.kind} without an identity", IDENTIFY)
    return None


def of_kept(kept: Kept, *, application: str, installation: str) -> Problem | None:
    """The problem with a database that a restore keeps, if any."""
    beginning = f"kept by a restore of organization {kept.organization_id}"
    identity = Identity.read(kept.comment)
    if kept.oid is None or kept.is_open is None:
        what = f"{beginning}, but it is missing or broken"
        return Problem(Kind.DATABASE, what, "restore_org --undo cannot bring it back")
    if why := disagreement(identity, kept.expected, installation=installation):
        return Problem(Kind.IDENTITY, f"{beginning}, and {why}", _look_into(kept.database))
    if identity is not None and kept.oid not in identity.databases:
        what = f"{beginning}, but it is not the database that was created"
        return Problem(Kind.IDENTITY, what, _look_into(kept.database))
    if kept.is_open or kept.owner != application:
        return Problem(Kind.UNFINISHED, f"{beginning}, but it is not out of reach", RECONCILE)
    return None


def of_orphan(orphan: Orphan) -> Problem:
    """The problem with a database that no row names. It is always kept."""
    drop = text(sql.SQL("DROP DATABASE {}").format(sql.Identifier(orphan.database)))
    if orphan.of_database is not None:
        what = f"belongs to the role of {orphan.of}, whose database is {orphan.of_database}"
        return Problem(
            Kind.ORPHAN_DATABASE, what, f"look at what is in it. To drop it, as a superuser: {drop}"
        )
    if orphan.identity is not None and orphan.identity.state == State.LET_IN:
        return Problem(
            Kind.ORPHAN_DATABASE,
            f"{NEWER}: it was in use, and no row names it",
            adopt(orphan.database),
        )
    if orphan.identity is not None and orphan.identity.state == State.ASIDE:
        # restoring/switching.py: the key of a restore is its deletion too.
        is_restores = orphan.identity.deletion == orphan.identity.key
        why = "a restore replaced it" if is_restores else "it was deleted"
        return Problem(
            Kind.ORPHAN_DATABASE,
            f"{NEWER}: {why}, and is kept aside, and no row says so",
            f"to bring it back: {adopt(orphan.database, was_deleted=True)}",
        )
    if orphan.identity is not None and orphan.identity.state == State.MOVED:
        what = "adopt_org moved its content into another database"
    elif orphan.database.startswith(RESERVED_PREFIX):
        what = "a template or spare database that no row names"
    else:
        whose = f" (the deleted {orphan.of}'s)" if orphan.of else ""
        what = f"no organization's; its owner is {orphan.owner}{whose}"
    remedy = f"it may contain data. If nobody needs it, as a superuser: {drop}"
    return Problem(Kind.ORPHAN_DATABASE, what, remedy)


def is_ours(role: str) -> bool:
    """Whether the name is one that provisioning gives to roles."""
    return re.fullmatch(ROLE_PATTERN, role) is not None


def _database(seen: Seen, application: str) -> Iterator[Problem]:
    database, role = sql.Identifier(seen.database), sql.Identifier(seen.role)
    if seen.owner is None:
        remedy = f"restore {seen.database} from a backup, or give it up: {_delete(seen)}"
        yield Problem(Kind.DATABASE, f"the database {seen.database} is missing", remedy)
        return
    if not seen.is_whole:
        yield Problem(
            Kind.DATABASE,
            f"the database {seen.database} is broken: its DROP DATABASE was interrupted",
            f"drop it, restore it from a backup, or give it up: {_delete(seen)}",
        )
        return
    if not seen.accepts:
        allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(database)
        yield Problem(
            Kind.DATABASE,
            f"the database {seen.database} accepts no connections",
            f"unless that is intended, as a superuser: {text(allow)}",
        )
    if seen.owner != seen.role and seen.attributes is not None:
        owner = sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, role)
        # With another owner it may be another database that has the name of ours.
        is_safe = seen.owner == application or is_ours(seen.owner)
        yield Problem(
            Kind.OWNER,
            f"the database {seen.database} belongs to {seen.owner}, not to {seen.role}",
            FIX if is_safe else f"if it is the organization's, as a superuser: {text(owner)}",
            (owner,) if is_safe else (),
        )
    yield from _ways_in(seen)
    yield from _privileges(seen, application)


def _ways_in(seen: Seen) -> Iterator[Problem]:
    """Settings by which the owner can lock others, or itself, out of the database."""
    database, role = sql.Identifier(seen.database), sql.Identifier(seen.role)
    if seen.is_template:
        no_template = sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(database)
        what = f"the database {seen.database} is a template, which others can copy"
        yield Problem(Kind.SETTINGS, what, FIX, (no_template,))
    if seen.connection_limit != -1:
        unlimited = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1").format(database)
        what = f"the database {seen.database} accepts at most {seen.connection_limit} connections"
        yield Problem(Kind.SETTINGS, what, FIX, (unlimited,))
    wanted = role_settings() | ({READ_ONLY: "on"} if seen.is_read_only else {})
    if seen.is_read_only and ["role", READ_ONLY] not in [each[:2] for each in seen.settings]:
        what = f"the role {seen.role} can write, and its organization is read-only"
        yield Problem(Kind.SETTINGS, what, FIX, (read_only(seen.role),))
    for of, name, value in seen.settings:
        setting = sql.Identifier(*name.split("."))
        if of == "database":
            what = f"the database {seen.database} has a {name} of its own"
            reset = sql.SQL("ALTER DATABASE {} RESET {}").format(database, setting)
        elif of == "both":
            what = f"the role {seen.role} has a {name} of its own in {seen.database}"
            reset = sql.SQL("ALTER ROLE {} IN DATABASE {} RESET {}").format(role, database, setting)
        elif (made := wanted.get(name)) is None:
            what = f"the role {seen.role} has a {name} of its own"
            reset = sql.SQL("ALTER ROLE {} RESET {}").format(role, setting)
        elif value != made:
            what = f"the role {seen.role} has a {name} of {value}, not of {made}"
            reset = sql.SQL("ALTER ROLE {} SET {} = {}").format(role, setting, sql.Literal(made))
        else:
            continue
        yield Problem(Kind.SETTINGS, what, FIX, (reset,))


def _privileges(seen: Seen, application: str) -> Iterator[Problem]:
    """Grants to other organizations and PUBLIC. Grants to foreign roles are left alone."""
    database = sql.Identifier(seen.database)
    granted: dict[str, list[str]] = {}
    for grantee, privilege in seen.grants:
        granted.setdefault(grantee, []).append(privilege)
    for grantee, privileges in granted.items():
        if grantee and (grantee in (seen.role, seen.owner) or not is_ours(grantee)):
            continue
        whom = sql.Identifier(grantee) if grantee else sql.SQL("PUBLIC")
        yield Problem(
            Kind.PRIVILEGES,
            f"{grantee or 'PUBLIC'} has {' and '.join(privileges)} on {seen.database}",
            FIX,
            (sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(database, whom),),
        )
    # A new owner gets the privileges of the old one.
    theirs = seen.role if seen.owner == seen.role else None
    for role, needed in ((theirs, ("CONNECT", "CREATE", "TEMPORARY")), (application, ("CONNECT",))):
        lacking = [each for each in needed if role and each not in granted.get(role, [])]
        if role is not None and lacking:
            privileges_sql = sql.SQL(", ").join(map(sql.SQL, lacking))
            grant = sql.SQL("GRANT {} ON DATABASE {} TO {}")
            yield Problem(
                Kind.PRIVILEGES,
                f"{role} lacks {' and '.join(lacking)} on {seen.database}",
                FIX,
                (grant.format(privileges_sql, database, sql.Identifier(role)),),
            )


def _role(seen: Seen, application: str) -> Iterator[Problem]:
    role = sql.Identifier(seen.role)
    if seen.attributes is None:
        yield Problem(
            Kind.ROLE,
            f"the role {seen.role} is missing",
            "restore the server's roles from a backup (pg_dumpall --roles-only), or give it up: "
            + _delete(seen),
        )
        return
    try:
        unseal(seen.sealed_password, owner=seen.name)
    except CredentialUnreadable:
        yield Problem(
            Kind.ROLE,
            f"no key of CREDENTIAL_KEYS can decrypt the stored password of {seen.role}",
            "add the key that encrypted it; if it is lost: "
            + shlex.join(["manage.py", "reset_credentials", "--", seen.name]),
        )
    for attribute in seen.attributes:
        opposite = "LOGIN" if attribute == "NOLOGIN" else f"NO{attribute}"
        what = "cannot log in" if attribute == "NOLOGIN" else f"has {attribute}"
        statement = sql.SQL("ALTER ROLE {} {}").format(role, sql.SQL(opposite))
        problem = Problem(Kind.ROLE, f"the role {seen.role} {what}", FIX, (statement,))
        if attribute == "NOLOGIN" and seen.status != Organization.Status.ACTIVE:
            remedy = f"unless that is intended, as a superuser: {text(statement)}"
            problem = replace(problem, remedy=remedy, statements=())
        yield problem
    if seen.role_limit != (most := settings.ORG_CONNECTION_LIMIT):
        few = sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format(role, sql.Literal(most))
        has = "any number of" if seen.role_limit == -1 else str(seen.role_limit)
        what = f"the role {seen.role} may have {has} connections, not {most}"
        yield Problem(Kind.ROLE, what, FIX, (few,))
    for other, grantor in seen.member_of:
        revoke = sql.SQL("REVOKE {} FROM {} GRANTED BY {}")
        names = map(sql.Identifier, (other, seen.role, grantor))
        yield Problem(
            Kind.MEMBERSHIP,
            f"the role {seen.role} is a member of {other}",
            FIX,
            (revoke.format(*names),),
        )
    if seen.is_open_to_application:
        me = sql.Identifier(application)
        yield Problem(
            Kind.MEMBERSHIP,
            f"{application} is still a member of {seen.role}",
            FIX,
            (sql.SQL("REVOKE {} FROM {} GRANTED BY {}").format(role, me, me),),
        )


def text(*statements: sql.Composed) -> str:
    """The statements as typed in psql."""
    return " ".join(f"{statement.as_string()};" for statement in statements)


def _delete(seen: Seen) -> str:
    return shlex.join(["manage.py", "delete_org", "--", seen.name])


def of_held(what: str, databases: Collection[str]) -> Problem:
    """For a role that another organization's role has granted something or named in a policy."""
    names = ", ".join(sorted(databases)[:_NAMED])
    more = f" and {len(databases) - _NAMED} more" if len(databases) > _NAMED else ""
    return Problem(
        Kind.ORPHAN_ROLE,
        f"{what}; it stays because something in {names}{more} refers to it",
        f"{RECONCILE} drops it once that is gone; or as a superuser, in each of these "
        "databases: DROP OWNED BY the role",
    )


_NAMED = 3
