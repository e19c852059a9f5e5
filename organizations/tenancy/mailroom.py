"""Protocol for ordering e-mails. The master side installs its implementation.

So tenant apps can order a mail without importing the jobs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from .errors import MailroomMissing
from .trail import Origin


@dataclass(frozen=True, slots=True)
class Order:
    """A mail that somebody is to be sent. The mail is written, and its link made, when it is sent.

    user_id: whom; 0 is nobody, None the organization's first admin. email_version: the user's when
    the mail was asked for, or 0 where no change since then matters. host_url: where links lead, or
    empty for PUBLIC_URL. asked_at: in seconds since 1970. by: who asked, without a network address.
    address: where it goes, for what goes to an address that is the user's no longer; whoever keeps
    the order keeps this where nobody can read it.
    """

    kind: str
    organization_id: int
    user_id: int | None
    email_version: int = 0
    host_url: str = ""
    asked_at: int = 0
    by: Origin = field(default_factory=Origin)
    address: str = field(default="", repr=False)


class Mailroom(Protocol):
    """What keeps orders."""

    def take(self, order: Order) -> None:
        """Keep the order until its mail is sent or not worth sending any more.

        Takes as long for nobody as for somebody. Raises what the master's database raises.
        """
        ...


_installed: Mailroom | None = None


def install(mailroom: Mailroom) -> None:
    """Make `mailroom` the one that takes orders, in this process."""
    global _installed
    _installed = mailroom


def get() -> Mailroom:
    """The installed mailroom. Raises MailroomMissing."""
    if _installed is None:
        raise MailroomMissing
    return _installed


@contextmanager
def replaced(mailroom: Mailroom) -> Iterator[None]:
    """Inside the block orders go to `mailroom`, in all of this process's threads."""
    before = get()
    install(mailroom)
    try:
        yield
    finally:
        install(before)
