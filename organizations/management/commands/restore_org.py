"""`manage.py restore_org NAME`: restores an organization from a backup, or undoes a restore."""

import sys
from argparse import ArgumentParser
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from django.db import connections
from django.utils.dateparse import parse_datetime

from organizations import lifecycle
from organizations.errors import RestoreDeclined
from organizations.management.acts import ActCommand
from organizations.management.interrupts import terminated_as_interrupted
from organizations.models import Organization, Restore, random_key
from organizations.restoring.comparing import Changes

_MOST_NAMED = 50


class Command(ActCommand):
    """As POST /api/v1/organizations/{id}/restore/, without a worker; lists users that change."""

    help = (
        "Restore an organization from its newest good backup. First it lists the users that will "
        "change. The previous database is kept for ORG_RESTORE_KEEP_DAYS; --undo switches back."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        what = parser.add_mutually_exclusive_group()
        what.add_argument(
            "--at", metavar="TIME", help="from the newest good backup up to this time (ISO 8601)"
        )
        what.add_argument(
            "--from",
            metavar="FILE",
            dest="file",
            help="from a dump by pg_dump --format=custom; the files stay",
        )
        what.add_argument(
            "--undo", action="store_true", help="switch back to what the newest restore kept"
        )
        parser.add_argument(
            "--beside",
            action="store_true",
            help="make a read-only organization instead, dropped after ORG_BESIDE_DAYS",
        )
        parser.add_argument("--as", metavar="NAME", dest="new", help="with --beside: its name")
        parser.add_argument("--yes", action="store_true", help="switch without asking")
        parser.add_argument(
            "--dry-run", action="store_true", help="only list the users that would change"
        )

    def act(self, organization: Organization, options: dict[str, Any]) -> str:
        self._options, self._restore = options, None
        self._made: Organization | None = None
        self._changes: Changes | None = None
        if options["dry_run"] and options["undo"]:
            raise CommandError("--dry-run is for a restore from a backup.")
        if options["beside"]:
            return self._beside(organization)
        if options["new"]:
            raise CommandError("--as needs --beside.")
        if not (options["yes"] or options["dry_run"] or self._may_ask()):
            raise CommandError("There is no terminal to ask at: use --yes, or --dry-run.")
        if options["undo"]:
            return self._undo(organization)
        try:
            self._restore = lifecycle.restore_organization(
                organization,
                at=_time(options["at"]),
                file=Path(options["file"]) if options["file"] else None,
                confirm=self._confirm,
                tell=self._tell,
            )
        except RestoreDeclined as error:
            if options["dry_run"]:
                return f"Dry run of {organization.name}: nothing was switched."
            raise CommandError(str(error)) from error
        organization.refresh_from_db()
        return f"Restored organization {organization.name}. {_kept(self._restore)}"

    def facts(self, organization: Organization) -> dict[str, Any]:
        if self._made is not None:
            until = _iso(self._made.read_only_until)
            more = {"cloned_from": organization.pk, "read_only_until": until}
            return {**super().facts(self._made), **more}
        changes, row = self._changes, self._restore
        users = None if changes is None else [asdict(user) for user in changes.users]
        return {
            **super().facts(organization),
            "restore": None if row is None else row.key,
            "backed_up_at": _iso(None if row is None else row.backed_up_at),
            "undo_until": _iso(None if row is None else row.kept_until),
            "users": users,
            "users_unknown": "" if changes is None else changes.unknown,
        }

    def _undo(self, organization: Organization) -> str:
        if not self._options["yes"] and not _says_yes(
            "What was written since the restore is kept aside. Switch back?"
        ):
            raise CommandError(str(RestoreDeclined(organization.name)))
        self._restore = lifecycle.undo_restore(organization)
        organization.refresh_from_db()
        return f"Undid the restore of organization {organization.name}. {_kept(self._restore)}"

    def _beside(self, organization: Organization) -> str:
        options = self._options
        if options["undo"] or options["dry_run"]:
            raise CommandError("--beside switches nothing: there is nothing to undo or to list.")
        key = random_key()
        try:
            with terminated_as_interrupted():
                made = lifecycle.restore_beside(
                    organization,
                    name=options["new"] or "",
                    at=_time(options["at"]),
                    file=Path(options["file"]) if options["file"] else None,
                    key=key,
                    tell=self._tell,
                )
        except BaseException as error:
            # After the last commit, or with its answer lost, it exists.
            found = _made_by(key)
            if found is None and isinstance(error, KeyboardInterrupt):
                self.stderr.write("Interrupted. Nothing of it is left.")
                sys.exit(130)
            if found is None:
                raise
            made = found
        self._made = made
        return (
            f"Restored a backup of {organization.name} as the organization {made.name}. It is "
            "read-only, sends no mail, and is dropped after "
            f"{made.read_only_until:%Y-%m-%d %H:%M} UTC. Its users log in with the backup's "
            "passwords."
        )

    def _may_ask(self) -> bool:
        return sys.stdin.isatty() and not self._options["json"]

    def _tell(self, step: str) -> None:
        self.stderr.write(f"{step} …")

    def _confirm(self, changes: Changes) -> bool:
        self._changes = changes
        if not self._options["json"]:
            self._list(changes)
        if self._options["dry_run"]:
            return False
        return self._options["yes"] or _says_yes("Switch?")

    def _list(self, changes: Changes) -> None:
        if changes.unknown:
            self.stdout.write(f"Cannot tell which users change: {changes.unknown}.")
            return
        self.stdout.write(f"{len(changes.users)} users will change.")
        for user in changes.users[:_MOST_NAMED]:
            self.stdout.write(f"  {user.user_id} {user.email!r}: {', '.join(user.what)}")
        if len(changes.users) > _MOST_NAMED:
            self.stdout.write(f"  and {len(changes.users) - _MOST_NAMED} more (--json has all)")


def _made_by(key: str) -> Organization | None:
    """What the restore of this key has made beside."""
    connections["default"].close()  # Django would keep one that was cut.
    done = Restore.objects.filter(key=key, state=Restore.State.DONE)
    return Organization.objects.filter(pk__in=done.values("beside_id")).first()


def _says_yes(question: str) -> bool:
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise CommandError("--at must be a time such as 2026-01-15T09:00:00Z.")
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _kept(row: Restore) -> str:
    if not row.database_name or row.kept_until is None:
        return "There was no database to keep."
    return (
        f"The previous database is kept until {row.kept_until:%Y-%m-%d %H:%M} UTC; --undo "
        "switches back."
    )
