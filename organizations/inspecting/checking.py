"""Compares the master's rows with the server's databases and roles, and repairs (check_orgs)."""

import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from psycopg import sql

from organizations.backups.runs import lock_of as backup_lock
from organizations.lifecycle import reconcile_organizations
from organizations.models import BackupRun, Organization
from organizations.naming import name_key as key_of
from organizations.postgres import installation
from organizations.postgres.databases import sizes_bytes
from organizations.postgres.sessions import open_session
from organizations.provisioning import code, leftovers, spares, templates, versions
from organizations.recovery import twins
from organizations.tenancy import storage

from . import backups, catalog, repairing, verdicts
from .catalog import Locks, Seen
from .verdicts import Kind, Problem, text

_RECONCILE_WAITS_SECONDS = 0.1
_STOCK_LOCKS = {"spare database": spares.LOCK, "template": templates.LOCK}


@dataclass(frozen=True)
class Finding:
    """The result for one organization, or for an orphan on the server.

    subject: its name, or the database's or role's. seen: None for an orphan. problems: those that
    remain. size_bytes: None if not requested or unknown.
    """

    subject: str
    seen: Seen | None
    problems: tuple[Problem, ...] = ()
    fixed: tuple[Problem, ...] = ()
    size_bytes: int | None = None


def check(
    ids: Collection[int] | None = None, *, fix: bool = False, sizes: bool = False
) -> Iterator[Finding]:
    """A finding for each organization, with or without problems, and then for orphans.

    ids: only these organizations, and no orphans. fix: repair what is safe for data; first
    reconcile, unless `ids` are given. sizes: of all, not only of those with a problem; PostgreSQL
    looks at each file for it. Raises ServerUnavailable, ServerRefused and what the master's
    database raises. Memory does not grow with their number.
    """
    return _Check(fix=fix, sizes=sizes).go(ids)


class _Check:
    def __init__(self, *, fix: bool, sizes: bool) -> None:
        self._fix = fix
        self._sizes = sizes
        self._application = catalog.application_role()
        self._standing = installation.standing()
        self._installation = self._standing.key
        # By fingerprint: one for each version of the code.
        self._of_schema: dict[str, tuple[str, str] | None] = {}
        # Of the page.
        self._backups: dict[str, BackupRun] = {}
        self._unverified: set[str] = set()

    def go(self, ids: Collection[int] | None) -> Iterator[Finding]:
        if self._standing.is_copy:
            what = "this master database is a copy: its server or database is not the recorded one"
            problem = Problem(Kind.INSTALLATION, what, verdicts.CLAIM)
            yield Finding("the master", None, (problem,))
        if self._fix:
            installation.require()
        if self._fix and ids is None:
            yield from self._reconciled()
        for page in catalog.pages(ids):
            yield from self._page(page)
        if ids is None:
            yield from self._databases()
            yield from self._kept()
            yield from self._roles()
            yield from self._stock()
            yield from self._files()
            yield from self._twins()

    def _reconciled(self) -> Iterator[Finding]:
        outcome = reconcile_organizations(wait_seconds=_RECONCILE_WAITS_SECONDS)
        for verb in ("undone", "deleted", "archived"):
            for name in outcome[verb]:
                problem = Problem(Kind.UNFINISHED, verb, verdicts.RECONCILE)
                yield Finding(name, None, fixed=(problem,))

    # --- Organizations --------------------------------------------------------------------------
    def _page(self, page: list[Seen]) -> Iterator[Finding]:
        self._backups = backups.newest(page)
        self._unverified = backups.overdue(page)
        problems = {seen.organization_id: self._judge(seen) for seen in page}
        doubtful = [key for key, found in problems.items() if found]
        again: dict[int, Seen] = {}
        if doubtful:
            # Look again after reading the locks: whoever was at work has either finished by now, or
            # holds its lock.
            locks = Locks()
            again = catalog.look(doubtful)
            for key in doubtful:
                problems[key] = self._confirmed(problems[key], again.get(key), locks)
        sizes = sizes_bytes(
            seen.database for seen in page if self._sizes or problems[seen.organization_id]
        )
        for seen in page:
            found = problems[seen.organization_id]
            seen = again.get(seen.organization_id, seen)
            finding = Finding(seen.name, seen, found, size_bytes=sizes.get(seen.database))
            yield self._repaired(finding) if self._fix and found else finding

    def _judge(self, seen: Seen) -> tuple[Problem, ...]:
        found = list(
            verdicts.of_server(seen, application=self._application, installation=self._installation)
        )
        if seen.status in Organization.Status.usable():
            found += self._schema(seen)
        found += backups.of_backup(seen, self._backups.get(seen.key))
        if seen.key in self._unverified:
            found.append(backups.of_verifications(seen))
        return tuple(found)

    def _confirmed(
        self, first: tuple[Problem, ...], seen: Seen | None, locks: Locks
    ) -> tuple[Problem, ...]:
        if seen is None:
            return ()
        is_held = locks.hold(key_of(seen.name))
        return tuple(
            problem
            for problem in self._judge(seen)
            if problem in first and not (is_held and problem.kind in _OF_AN_ACT)
        )

    def _schema(self, seen: Seen) -> Iterator[Problem]:
        if seen.fingerprint == code.current().fingerprint:
            return
        if seen.fingerprint not in self._of_schema:
            self._of_schema[seen.fingerprint] = _lacking(seen.fingerprint)
        said = self._of_schema[seen.fingerprint]
        if said is not None:
            what, flag = said
            words = ["manage.py", "migrate_orgs", *([flag] if flag else []), f"--org={seen.name}"]
            yield Problem(Kind.SCHEMA, what, shlex.join(words))

    # --- Repairs --------------------------------------------------------------------------------
    def _repaired(self, finding: Finding) -> Finding:
        """Repair under the organization's lock, and check again: a REVOKE that changes nothing also
        reports success."""
        assert finding.seen is not None  # noqa: S101 - of an organization
        if not any(problem.statements for problem in finding.problems):
            return finding
        key, number = key_of(finding.subject), finding.seen.organization_id
        found: list[Problem] = []
        with open_session() as session:
            if not session.try_lock(key):
                return finding
            # Twice: after a change of owner the new owner may lack privileges.
            for _ in range(2):
                again = catalog.look([number])
                if number not in again:
                    return replace(finding, problems=())
                now = again[number]
                if key_of(now.name) != key:  # Renamed meanwhile: this is not its lock.
                    return finding
                judged = self._judge(now)
                found += [problem for problem in judged if problem not in found]
                repairing.run(session, now, judged)
            now = catalog.look([number]).get(number, now)
        left = self._judge(now)
        return replace(
            finding,
            seen=now,
            problems=tuple(repairing.by_superuser(problem) for problem in left),
            fixed=tuple(problem for problem in found if problem not in left),
        )

    # --- What no row names ----------------------------------------------------------------------
    def _databases(self) -> Iterator[Finding]:
        for orphan in catalog.orphan_databases(self._installation, application=self._application):
            yield Finding(orphan.database, None, (verdicts.of_orphan(orphan),))

    def _kept(self) -> Iterator[Finding]:
        if not (found := self._badly_kept()):
            return
        # As for organizations: whoever was at work has finished by now, or holds the lock.
        locks = Locks()
        for kept, problem in self._badly_kept().items():
            is_held = locks.hold(backup_lock(kept.organization_key))
            if found.get(kept) == problem and not is_held:
                yield Finding(kept.database, None, (problem,))

    def _badly_kept(self) -> "dict[catalog.Kept, Problem]":
        where = {"application": self._application, "installation": self._installation}
        return {
            kept: problem
            for kept in catalog.kept_by_restores()
            if (problem := verdicts.of_kept(kept, **where)) is not None
        }

    def _roles(self) -> Iterator[Finding]:
        for orphan in catalog.orphan_roles(self._installation):
            role = orphan.role
            whose = f" (it was {orphan.of}'s, which is deleted)" if orphan.of else ""
            drop = sql.SQL("DROP ROLE {}").format(sql.Identifier(role))
            what = f"belongs to no organization and owns no database{whose}"
            if orphan.is_customers:
                remedy = f"if nobody needs it, as a superuser: {text(drop)}"
                yield Finding(role, None, (Problem(Kind.ORPHAN_ROLE, what, remedy),))
                continue
            if orphan.held_by:
                yield Finding(role, None, (verdicts.of_held(what, orphan.held_by),))
                continue
            problem = Problem(Kind.ORPHAN_ROLE, what, verdicts.FIX, (drop,))
            if not self._fix:
                yield Finding(role, None, (problem,))
                continue
            with open_session() as session:
                # PostgreSQL refuses if it owns anything in any database.
                is_gone = repairing.accepted(session, drop)
            if is_gone:
                yield Finding(role, None, fixed=(problem,))
            else:
                remedy = f"once nothing depends on it (pg_shdepend), as a superuser: {text(drop)}"
                yield Finding(role, None, (replace(problem, remedy=remedy),))

    def _stock(self) -> Iterator[Finding]:
        found = self._broken_stock()
        if not found:
            return
        locks = Locks()
        for stock, problem in self._broken_stock().items():
            is_worked_on = locks.hold(_STOCK_LOCKS[stock.kind]) or locks.hold(
                spares.scratch_lock(stock.key)
            )
            if found.get(stock) == problem and not is_worked_on:
                yield Finding(stock.database, None, (problem,))

    def _broken_stock(self) -> "dict[catalog.Stock, Problem]":
        return {
            stock: problem
            for stock in catalog.stock()
            if (problem := verdicts.of_stock(stock, installation=self._installation)) is not None
        }

    def _files(self) -> Iterator[Finding]:
        for key, name in leftovers.files():
            what, remedy = f"files of {name}, which is deleted", verdicts.RECONCILE
            if name is None:
                what = "files of an organization that the master does not know"
                remedy = (
                    "they may be in use if the master was restored from an older backup; if nobody "
                    "needs them, remove the folder"
                )
            for folder in storage.folders_of(key):
                yield Finding(str(folder), None, (Problem(Kind.FILES, what, remedy),))

    def _twins(self) -> Iterator[Finding]:
        for twin in twins.find(templates.obstacles()):
            migration = twin.obstacle.migration
            what = (
                f"shares random values with {twin.other} ({twin.obstacle.what}), which "
                f"{migration} made in the template that both were copied from"
            )
            remedy = (
                "give it its own values (org_command); if all should share them, set "
                f"same_for_every_organization = True in {migration}"
            )
            yield Finding(twin.name, None, (Problem(Kind.SHARED_ROWS, what, remedy),))


# Temporary while another process works on the organization, under its lock.
_OF_AN_ACT = (Kind.UNFINISHED, Kind.MEMBERSHIP, Kind.SCHEMA)


def _lacking(fingerprint: str) -> tuple[str, str] | None:
    """What is wrong with a database of this fingerprint, and migrate_orgs's flag, if it needs one.

    None: nothing is missing. A database that is ahead still serves the old code of a deploy.
    """
    if not fingerprint:
        return "its database's migrations are not recorded", "--verify"
    has = versions.migrations_of(fingerprint)
    if has is None:
        return "its recorded fingerprint is unknown", "--verify"
    missing = versions.lacking(has)
    if not missing:
        return None
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return f"outdated: it lacks {missing[0]}{more}", ""
