"""Records audit events, with who acted, from where and in which request.

The master side installs where the entries go (organizations/audit.py), so that tenant apps can
record events without importing its models.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Literal, Protocol

from .context import peek
from .errors import TrailMissing


class _Active(Enum):
    ORGANIZATION = "the active one"


_ACTIVE: Final = _Active.ORGANIZATION
Fact = str | int | bool | list[str] | None


@dataclass(frozen=True, slots=True)
class Origin:
    """Who acts, and from where.

    actor: `user` is a person of the active organization and `staff` one of the platform's, both by
    primary key; `command` is somebody at the server's terminal, by the system's user number;
    `anonymous` has shown no credential; `system` is nobody: a job, a server's start.
    """

    actor: Literal["anonymous", "user", "staff", "command", "system"] = "system"
    actor_id: int | None = None
    address: str | None = None
    request_id: str = ""


class Trail(Protocol):
    """Where entries go."""

    def record(
        self,
        act: str,
        origin: Origin,
        *,
        organization_id: int | None,
        user_id: int | None,
        email: str,
        facts: Mapping[str, Fact],
    ) -> None:
        """Keep one entry, for good."""
        ...


_installed: Trail | None = None
_NOBODY = Origin()
_origin: ContextVar[Origin] = ContextVar("trail_origin", default=_NOBODY)


def install(trail: Trail) -> None:
    """Make `trail` the one that is told, in this process."""
    global _installed
    _installed = trail


def origin() -> Origin:
    """Who acts now."""
    return _origin.get()


@contextmanager
def acting(origin: Origin) -> Iterator[None]:
    """Everything recorded inside the block is `origin`'s act."""
    token = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(token)


@contextmanager
def acting_as(actor: Literal["user", "staff"], actor_id: int) -> Iterator[None]:
    """Everything recorded inside the block is this person's act, from where the request comes."""
    with acting(replace(_origin.get(), actor=actor, actor_id=actor_id)):
        yield


def identify(actor: Literal["user", "staff"], actor_id: int) -> None:
    """The request's credential has been checked: its acts are this person's from here on."""
    _origin.set(replace(_origin.get(), actor=actor, actor_id=actor_id))


def record(
    act: str,
    *,
    organization_id: int | Literal[_Active.ORGANIZATION] | None = _ACTIVE,
    user_id: int | None = None,
    email: str = "",
    facts: Mapping[str, Fact] | None = None,
) -> None:
    """Tell the trail of an act, `subject.verb`, as in `login.failed`.

    organization_id: the active one's, or none, unless it is given; None is given for what concerns
    no organization, whosever token the request carries. user_id, email: the person it is about;
    the trail keeps a keyed hash of the address and not the address. facts: what else is worth
    knowing, never a secret and nothing that names a person.
    Writes at once, in the master. Inside tenancy.atomic() as its last statement it keeps an act
    that was not recorded from being done. Raises TrailMissing, and what the database raises.
    """
    if _installed is None:
        raise TrailMissing
    if organization_id is _ACTIVE:
        tenant = peek()
        organization_id = None if tenant is None else tenant.organization_id
    _installed.record(
        act,
        _origin.get(),
        organization_id=organization_id,
        user_id=user_id,
        email=email,
        facts=facts or {},
    )
