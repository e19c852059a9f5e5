"""Records audit events, with who acted, from where and in which request.

The master side installs where the entries go (organizations/audit), so that tenant apps can
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

    actor: `user` of the active organization or `staff` of the platform, by primary key; `command`
    at a terminal, by the system's user id; `anonymous` without a credential; `system` for a job or
    a server's start.
    """

    actor: Literal["anonymous", "user", "staff", "command", "system"] = "system"
    actor_id: int | None = None
    address: str | None = None
    request_id: str = ""


class Trail(Protocol):
    """Stores entries."""

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
        """Store an entry permanently."""
        ...


_installed: Trail | None = None
_NOBODY = Origin()
_origin: ContextVar[Origin] = ContextVar("trail_origin", default=_NOBODY)


def install(trail: Trail) -> None:
    """Use this trail in this process."""
    global _installed
    _installed = trail


def origin() -> Origin:
    """The current origin."""
    return _origin.get()


@contextmanager
def acting(origin: Origin) -> Iterator[None]:
    """Attribute everything recorded inside the block to `origin`."""
    token = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(token)


@contextmanager
def acting_as(actor: Literal["user", "staff"], actor_id: int) -> Iterator[None]:
    """Attribute everything recorded inside the block to this person, at the request's address."""
    with acting(replace(_origin.get(), actor=actor, actor_id=actor_id)):
        yield


def identify(actor: Literal["user", "staff"], actor_id: int) -> None:
    """Attribute the rest of the request to this person, whose credential has been checked."""
    _origin.set(replace(_origin.get(), actor=actor, actor_id=actor_id))


def record(
    act: str,
    *,
    organization_id: int | Literal[_Active.ORGANIZATION] | None = _ACTIVE,
    user_id: int | None = None,
    email: str = "",
    facts: Mapping[str, Fact] | None = None,
) -> None:
    """Record an event.

    act: its name, `subject.verb`, such as `login.failed`. organization_id: by default the active
    one; pass None for what concerns no organization, even if the request has a token. user_id,
    email: the person concerned; only a keyed hash of the address is stored. facts: further facts,
    without secrets and names of persons.
    Writes at once, in the master. As the last statement inside tenancy.atomic() it undoes what
    could not be recorded. Raises TrailMissing, and what the database raises.
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
