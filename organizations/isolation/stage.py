"""Creates, compares and removes the two test organizations of check_isolation."""

import re
import secrets
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import psycopg
from django.contrib.auth.hashers import make_password
from django.db import connections

from organizations import lifecycle
from organizations.models import Organization
from organizations.postgres.sessions import ServerSession, open_session

from .outcome import Crossed
from .sides import Connection, Contents, Side, contents

# Names that no real organization has. `.invalid` is a reserved domain.
_PREFIX = "Isolation check "
_OURS = re.compile(_PREFIX + "(ours|theirs) ([0-9a-f]{12})")
_DOMAIN = "{}-{}.invalid"
# Lock held by a running check: what it made is no leftover. No organization has this key.
_LOCK = "\x00isolation check"


class AnotherRun(Exception):
    """Another check_isolation is running on this installation."""


@dataclass
class Stage:
    """The two organizations: A attacks (`ours`), B must not notice (`theirs`).

    server: a session as the application's role, for the catalogs.
    """

    ours: Side
    theirs: Side
    server: ServerSession
    password_hash: str = field(repr=False)
    sample: int | None = None
    _readers: dict[str, Connection] = field(default_factory=dict, repr=False)
    _before: dict[str, Contents] = field(default_factory=dict, repr=False)

    def reopen(self) -> None:
        """Open the connections by which rows are compared; a suspension ends A's."""
        self.close()
        for side in (self.ours, self.theirs):
            self._readers[side.domain] = psycopg.connect(**side.parameters(), autocommit=True)

    def close(self) -> None:
        """Close them."""
        for reader in self._readers.values():
            reader.close()

    def plant(self) -> None:
        """Put equal rows with equal primary keys into both."""
        for side in (self.ours, self.theirs):
            side.plant(self.password_hash)
        self._before = self._now()

    def forgive(self) -> None:
        """Call after an action of B's own: what that changed is no crossing."""
        if self._now() != self._before:
            self.plant()

    def without_secrets(self, text: str) -> str:
        """The text with both sides' passwords masked."""
        for side in (self.ours, self.theirs):
            for secret in (side.password, side.parameters()["password"]):
                text = text.replace(secret, "***")
        return text

    def settle(self) -> None:
        """Compare both with the planted rows, and plant again. Raises Crossed if B has changed."""
        now = self._now()
        changed = [
            table
            for table, found in now[self.theirs.domain].items()
            if found != self._before[self.theirs.domain].get(table)
        ]
        if now != self._before:
            self.plant()
        if changed:
            raise Crossed(f"rows of B have changed: {', '.join(changed)}")

    def _now(self) -> dict[str, Contents]:
        return {domain: contents(reader) for domain, reader in self._readers.items()}


@contextmanager
def staged(*, sample: int | None = None) -> Iterator[Stage]:
    """The stage, always removed after the block. Raises AnotherRun."""
    password = secrets.token_urlsafe(24)
    with open_session() as session, ExitStack() as scope:
        if not session.try_lock(_LOCK):
            raise AnotherRun
        remove_leftovers()
        scope.callback(remove_leftovers)
        # An interrupted login is kept alive by the traceback, and blocks every DROP DATABASE.
        scope.push(lambda kind, error, frames: traceback.clear_frames(frames))
        ours, theirs = (_make(word, password) for word in ("ours", "theirs"))
        stage = Stage(ours, theirs, session, make_password(password), sample)
        stage.reopen()
        scope.callback(stage.close)
        stage.plant()
        yield stage


def clean() -> list[str]:
    """Remove what a killed run left. Returns the names. Raises AnotherRun."""
    with open_session() as session:
        if not session.try_lock(_LOCK):
            raise AnotherRun
        return remove_leftovers()


def remove_leftovers() -> list[str]:
    """Delete all organizations made by this module, and no others. Returns their names."""
    removed = []
    # An interrupt during a query can have left a broken connection.
    connections.close_all()
    for organization in Organization.objects.live().filter(name__startswith=_PREFIX):
        if is_throw_away(organization):
            lifecycle.delete_organization(organization, now=True, without_backup=True)
            removed.append(organization.name)
    return removed


def is_throw_away(organization: Organization) -> bool:
    """Whether it was made here: name and address contain the same token."""
    match = _OURS.fullmatch(organization.name)
    return (
        match is not None and organization.admin_email == f"admin@{_DOMAIN.format(*match.groups())}"
    )


def _make(word: str, password: str) -> Side:
    token = secrets.token_hex(6)
    domain = _DOMAIN.format(word, token)
    organization = lifecycle.create_organization(
        name=f"{_PREFIX}{word} {token}", email=f"admin@{domain}", password=password
    ).organization
    return Side(organization, domain, password)
