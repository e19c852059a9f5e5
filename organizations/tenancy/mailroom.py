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
    """An ordered mail. The mail and its link are written when it is sent.

    user_id: the recipient; 0 is nobody, None the organization's first admin. email_version: the
    user's at the time of the order, or 0 if later changes do not matter. host_url: base of links;
    empty for PUBLIC_URL. asked_at: in seconds since 1970. by: who ordered, without a network
    address. address: the recipient's, if it is no longer the user's; to be stored encrypted.
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
    """Stores orders."""

    def take(self, order: Order) -> None:
        """Store the order until its mail is sent or no longer worth sending.

        Takes as long if the recipient is nobody. Raises what the master's database raises.
        """
        ...


_installed: Mailroom | None = None


def install(mailroom: Mailroom) -> None:
    """Use this mailroom in this process."""
    global _installed
    _installed = mailroom


def get() -> Mailroom:
    """The installed mailroom. Raises MailroomMissing."""
    if _installed is None:
        raise MailroomMissing
    return _installed


@contextmanager
def replaced(mailroom: Mailroom) -> Iterator[None]:
    """Use another mailroom inside the block, in all threads of this process."""
    before = get()
    install(mailroom)
    try:
        yield
    finally:
        install(before)
