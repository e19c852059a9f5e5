"""Plans the adoption of the FastAPI edition's organizations, and finds what prevents it."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import psycopg
from django.conf import settings
from django.core.exceptions import ValidationError
from psycopg.rows import TupleRow

from accounts.models import email_key
from accounts.validators import check_email
from organizations.errors import AdoptionRefused, FirstEditionUnreadable
from organizations.jobs.models import PendingSignUp
from organizations.models import Organization
from organizations.naming import name_key
from organizations.provisioning import ceiling
from organizations.validators import validate_name

from . import source
from .source import OldOrganization, OldUser, Source

Status = Organization.Status
# What a sign-up that stopped halfway leaves; the next one under its name undoes it.
_HALF_MADE = (Status.PROVISIONING, Status.FAILED)
# passlib's bcrypt. Its cost doubles with each step: 12 was the edition's, and of a hash of 31 one
# login would take days.
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|1[0-5])\$[./A-Za-z0-9]{53}")
_LARGEST_ID = 2**31 - 1  # SERIAL's
# Their addresses are compared in memory.
MAX_USERS = 1_000_000
# How many problems with users are named.
_NAMED = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done with one organization.

    adopted: what became of it in an earlier run. obstacles: why it cannot be taken over.
    """

    old: OldOrganization
    adopted: Organization | None = None
    users: int = 0
    admins: int = 0
    obstacles: tuple[str, ...] = ()

    @property
    def is_due(self) -> bool:
        """Whether it can be taken over, and was not yet."""
        return self.adopted is None and not self.obstacles


def plan(
    old: Source, *, names: Collection[str] = (), leave_out: Collection[str] = ()
) -> list[Plan]:
    """A plan for each organization of the old master, or for those with these very names.

    Writes nothing. Raises FirstEditionUnreadable, and AdoptionRefused for a name that is not there.
    """
    with old.open() as master:
        rows = source.organizations(master)
        known = {each.name for each in rows}
        for name in (*names, *leave_out):
            if name not in known:
                raise AdoptionRefused(name, "the FastAPI edition has no organization of this name")
        chosen = [
            each
            for each in rows
            if (not names or each.name in names) and each.name not in leave_out
        ]
        sessions = source.databases(master, {each.database for each in chosen})
    adopted = {
        each.adopted_from: each
        for each in Organization.objects.live().exclude(adopted_from="")
        if each.status not in _HALF_MADE
    }
    compared = _compared(
        [each for each in chosen if each.origin not in adopted],
        before=[each for each in rows if each.origin in adopted],
        servers=Counter(each.server for each in rows if each.database),
    )
    plans: list[Plan] = []
    for each in chosen:
        if (made := adopted.get(each.origin)) is not None:
            plans.append(Plan(each, adopted=made))
            continue
        found = look(old, each, sessions)
        obstacles = (*_of_the_row(each), *compared[each.id], *found.problems)
        plans.append(Plan(each, None, found.users, found.admins, obstacles))
    return plans


# --- The row ------------------------------------------------------------------------------------
def _of_the_row(old: OldOrganization) -> list[str]:
    """What is wrong with it, by itself and compared with what is here."""
    found = []
    for check, value in ((validate_name, old.name), (check_email, old.admin_email)):
        try:
            check(value)
        except ValidationError as error:
            found.append(f"{value!r}: {' '.join(error.messages)}")
    taken = Organization.objects.taken().known_as(old.name).first()
    if taken is not None:
        found.append(f"its name is taken here, by {taken.name!r} (id {taken.pk})")
    elif PendingSignUp.objects.open().named(old.name).exists():
        found.append("its name is reserved here, by a sign-up that waits")
    if not old.database:
        found.append("its database_url names no database")
    return found


def _compared(
    due: Collection[OldOrganization],
    *,
    before: Iterable[OldOrganization],
    servers: Counter[str],
) -> dict[int, list[str]]:
    """What is wrong with each in comparison with the others, by id.

    before: those that were adopted. servers: how many of the master's rows name each.
    """
    by_name, by_database = _Groups(), _Groups()
    for each in before:
        by_database[each.database].append(each)
    for each in due:
        by_name[name_key(each.name)].append(each)
        by_database[each.database].append(each)
    usual = max(servers, key=lambda server: servers[server], default="")
    room = settings.ORG_MAX_ORGANIZATIONS - ceiling.count()
    found: dict[int, list[str]] = {}
    for index, each in enumerate(due):
        here = found[each.id] = []
        if other := by_name.other(name_key(each.name), each):
            here.append(f"people would confuse its name with {other.name!r} (id {other.id})")
        if each.database and (other := by_database.other(each.database, each)):
            here.append(f"its database is also that of {other.name!r} (id {other.id})")
        if each.database and each.server != usual:
            here.append(
                f"its database_url names the server {each.server!r}, and most name {usual!r}"
            )
        if settings.ORG_MAX_ORGANIZATIONS and index >= room:
            here.append("ORG_MAX_ORGANIZATIONS leaves no room for it")
    return found


class _Groups(defaultdict[str, list[OldOrganization]]):
    """Those that have something in common, by what it is."""

    def __init__(self) -> None:
        super().__init__(list)

    def other(self, key: str, than: OldOrganization) -> OldOrganization | None:
        """One of them that is another."""
        return next((each for each in self[key][:2] if each.id != than.id), None)


# --- Its database -------------------------------------------------------------------------------
@dataclass(slots=True)
class Look:
    """What was found in a database: the numbers of users and of active admins, and problems."""

    users: int = 0
    admins: int = 0
    problems: list[str] = field(default_factory=list)


def look(old: Source, row: OldOrganization, sessions: Mapping[str, int]) -> Look:
    """What is in the organization's database. sessions: those with each that exists."""
    if not row.database:
        return Look()
    if row.database not in sessions:
        return Look(problems=[f"there is no database {row.database} that admits connections"])
    found = Look()
    if count := sessions[row.database]:
        found.problems.append(
            f"{count} sessions with {row.database} are open: stop the FastAPI edition, and "
            "whatever else may write there"
        )
    try:
        with old.open(row.database) as connection:
            seen = look_at_users(connection, row.database)
    except FirstEditionUnreadable as error:
        found.problems.append(str(error))
        return found
    seen.problems[:0] = found.problems
    return seen


def look_at_users(connection: psycopg.Connection[TupleRow], database: str) -> Look:
    """What is in the database's `users`. Raises FirstEditionUnreadable."""
    if why := source.unexpected_users(connection, database):
        return Look(problems=[why])
    found, last = Look(), 0
    by_key: dict[int, int] = {}
    more = 0
    for user in source.users(connection, database):
        found.users += 1
        found.admins += user.is_admin and user.is_active
        if found.users > MAX_USERS:
            found.problems.append(f"it has more than {MAX_USERS:,} users")
            break
        for problem in _of_user(user, last, by_key):
            if len(found.problems) < _NAMED:
                found.problems.append(problem)
            else:
                more += 1
        last = user.id or last
    if more:
        found.problems.append(f"{more} more problems with users")
    return found


def _of_user(user: OldUser, last: int, by_key: dict[int, int]) -> list[str]:
    """Problems with the user. last: the id before. by_key: ids by the address's hash."""
    if user.id is None or not last < user.id <= _LARGEST_ID:
        return [f"a user's id is {user.id}, after {last}"]
    found = []
    try:
        check_email(user.email)
    except ValidationError as error:
        found.append(f"user {user.id}'s address {user.email!r}: {' '.join(error.messages)}")
    # Python's hash of a text is of 64 bits with a random key: nobody can make two collide.
    twin = by_key.setdefault(hash(email_key(user.email)), user.id)
    if twin != user.id:
        found.append(
            f"users {twin} and {user.id} have one address here, {user.email!r}: case and "
            "compatibility forms do not count"
        )
    if not _BCRYPT.fullmatch(user.hashed_password):
        found.append(f"user {user.id}'s password hash is not bcrypt of at most 2^15 rounds")
    return found
