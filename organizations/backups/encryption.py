"""Encrypts the parts of backups by age as they are stored, and decrypts them as they are read.

age (https://age-encryption.org) encrypts chunks of 64 KiB, none of which can be changed, moved or
cut off unnoticed. What is stored is a file of its format, which `age --decrypt` reads too. A key's
id is its public half, `age1…`.
"""

import threading
from collections.abc import Callable, Generator
from contextlib import closing
from queue import SimpleQueue

import pyrage
from django.conf import settings
from pyrage import x25519

from organizations.errors import BackupDamaged, BackupKeyMissing

Chunks = Generator[bytes, None, None]


def key_ids() -> list[str]:
    """The ids of BACKUP_ENCRYPTION_KEYS: the first encrypts, all decrypt."""
    return list(_identities())


def encrypted(chunks: Chunks, key: str) -> Chunks:
    """The chunks, encrypted for the key with this id."""
    recipients = [x25519.Recipient.from_str(key)]
    return _through(lambda file: pyrage.encrypt_io(file, file, recipients), chunks)


def decrypted(chunks: Chunks, key: str, *, backup: str, name: str) -> Chunks:
    """The chunks, decrypted with the key that has this id.

    backup, name: of the backup and its part, for errors. Raises BackupKeyMissing, BackupDamaged
    and what the chunks raise. What came before an error was whole.
    """
    with closing(chunks):
        identity = _identities().get(key)
        if identity is None:
            raise BackupKeyMissing(backup, key)
        try:
            yield from _through(lambda file: pyrage.decrypt_io(file, file, [identity]), chunks)
        except _Refused as error:
            raise BackupDamaged(backup, f"{name} cannot be decrypted") from error


def _identities() -> dict[str, x25519.Identity]:
    found = [x25519.Identity.from_str(key) for key in settings.BACKUP_ENCRYPTION_KEYS]
    return {str(identity.to_public()): identity for identity in found}


class _Refused(Exception):
    """age refused what it read."""


class _Stopped(Exception):
    """Nobody reads the result any more."""


class _File:
    """What age reads from and writes to, in a thread of its own.

    age takes no chunk: it reads and writes files until it is done. One thread waits while the
    other runs: so all else happens in the caller's, and one chunk is in memory.
    """

    def __init__(self) -> None:
        self._requests: SimpleQueue[bool] = SimpleQueue()
        self._replies: SimpleQueue[bytes | None] = SimpleQueue()
        self._chunk = memoryview(b"")
        self._written: list[bytes] = []

    # --- The caller's side ---
    def wants_more(self) -> bool:
        """Wait until age has used the last chunk. False: it is done."""
        return self._requests.get()

    def taken(self) -> bytes:
        """What age has written since the last time."""
        content, self._written = b"".join(self._written), []
        return content

    def give(self, chunk: bytes | None) -> None:
        """The next chunk; an empty one is the last, and None stops it."""
        self._replies.put(chunk)

    # --- age's side ---
    def read(self, size: int) -> bytes:
        if not self._chunk:
            self._requests.put(True)
            reply = self._replies.get()
            if reply is None:
                raise _Stopped
            self._chunk = memoryview(reply)
        content, self._chunk = self._chunk[:size], self._chunk[size:]
        return bytes(content)

    def write(self, content: bytes) -> int:
        self._written.append(content)
        return len(content)

    def flush(self) -> None:
        pass

    def end(self) -> None:
        self._requests.put(False)


def _through(work: Callable[[_File], None], chunks: Chunks) -> Chunks:
    """What the work writes while it reads the chunks. Raises _Refused, and what they raise."""
    file = _File()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work(file)
        except BaseException as error:  # Also a panic of Rust's: what it left is incomplete.
            failures.append(error)
        finally:
            file.end()

    thread = threading.Thread(target=run, name="age", daemon=True)
    with closing(chunks):
        # An empty one is not the last.
        full = filter(None, chunks)
        thread.start()
        try:
            while file.wants_more():
                yield file.taken()
                file.give(next(full, b""))
            yield file.taken()
            if failures:
                raise _Refused from failures[0]
        finally:
            file.give(None)
            thread.join()
