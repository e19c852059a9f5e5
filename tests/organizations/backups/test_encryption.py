"""Encrypted backups: what is stored, how keys change, and what counts as damaged."""

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage
import pytest
from pyrage import x25519
from pytest_django import Settings

from organizations.backups import encryption, making, verifying
from organizations.checks.backups import check_keys
from organizations.errors import BackupDamaged, BackupKeyMissing, BackupTooLarge
from organizations.models import BackupRun
from tests.conftest import Company
from tests.secrecy import SECRETS

from .helpers import files_in, fill
from .test_storage import keep
from .test_verifying import cut, flip_a_bit, rewritten

State = BackupRun.State
# age's: https://github.com/C2SP/C2SP/blob/main/age.md#payload
_CHUNK = 64 * 1024 + 16
_NONCE = 16


def new_key() -> x25519.Identity:
    made = x25519.Identity.generate()
    SECRETS.add("backup key", str(made))
    return made


@pytest.fixture
def key(settings: Settings) -> x25519.Identity:
    made = new_key()
    settings.BACKUP_ENCRYPTION_KEYS = [str(made)]
    return made


def id_of(key: x25519.Identity) -> str:
    return str(key.to_public())


# --- What is stored -------------------------------------------------------------------------------
def test_dump_and_files_are_stored_encrypted_and_age_itself_reads_them(
    alpha: Company, folder: Path, settings: Settings, key: x25519.Identity
) -> None:
    keep(alpha, settings, folder)
    run = making.back_up(alpha.organization)
    assert run.encryption_key == BackupRun.objects.get().encryption_key == id_of(key)
    where = folder / run.folder
    for name, begins in (("database.dump", b"PGDMP"), ("files.tar", b"plans/a.txt")):
        stored = (where / name).read_bytes()
        assert stored.startswith(b"age-encryption.org/v1\n") and begins not in stored
        assert pyrage.decrypt(stored, [key]).startswith(begins)
    document = json.loads((where / "manifest.json").read_text())
    assert {part["key"] for part in document["manifest"]["parts"]} == {id_of(key)}
    assert document["format"] == 2, "code that cannot decrypt it refuses it"
    assert str(key) not in str(document)
    verifying.verify(run, name=alpha.name)


def test_without_a_key_nothing_is_encrypted_and_older_code_reads_it(
    alpha: Company, folder: Path, key: x25519.Identity, settings: Settings
) -> None:
    settings.BACKUP_ENCRYPTION_KEYS = []
    run = making.back_up(alpha.organization)
    where = folder / run.folder
    assert (where / "database.dump").read_bytes().startswith(b"PGDMP")
    document = json.loads((where / "manifest.json").read_text())
    assert (document["format"], run.encryption_key) == (1, "")
    assert [set(part) for part in document["manifest"]["parts"]] == [{"name", "bytes", "sha256"}]
    settings.BACKUP_ENCRYPTION_KEYS = [str(key)]
    verifying.verify(run, name=alpha.name)


def test_a_backup_can_be_read_as_long_as_its_key_is_listed(
    alpha: Company, folder: Path, key: x25519.Identity, settings: Settings
) -> None:
    def said() -> list[str]:
        return [str(message.msg) for message in check_keys(databases=["default"])]

    old = making.back_up(alpha.organization)
    other = new_key()
    settings.BACKUP_ENCRYPTION_KEYS = [str(other), str(key)]
    new = making.back_up(alpha.organization)
    assert new.encryption_key == id_of(other)
    verifying.verify(old, name=alpha.name)
    assert said() == []
    settings.BACKUP_ENCRYPTION_KEYS = [str(other)]
    with pytest.raises(BackupKeyMissing, match=f"for the key {id_of(key)}. Add its secret key"):
        verifying.verify(old, name=alpha.name)
    old.refresh_from_db()
    assert (old.state, old.error_code) == (State.GOOD, "backup_key_missing"), "it is no fault of it"
    (warning,) = said()
    assert "1 backups" in warning and id_of(key) in warning
    verifying.verify(new, name=alpha.name)


# --- What is not whole ----------------------------------------------------------------------------
def chunks_of(path: Path) -> tuple[bytes, list[bytes]]:
    """What comes before the chunks, and these."""
    content = path.read_bytes()
    begin = content.index(b"\n", content.index(b"\n---")) + 1 + _NONCE
    return content[:begin], [content[at : at + _CHUNK] for at in range(begin, len(content), _CHUNK)]


def without_its_last_chunk(path: Path) -> None:
    head, chunks = chunks_of(path)
    path.write_bytes(head + b"".join(chunks[:-1]))


def with_two_chunks_in_another_order(path: Path) -> None:
    head, (first, second, *others) = chunks_of(path)
    path.write_bytes(head + second + first + b"".join(others))


def for_another_key(path: Path) -> None:
    path.write_bytes(pyrage.encrypt(b"PGDMP", [x25519.Identity.generate().to_public()]))


def in_clear(path: Path) -> None:
    path.write_bytes(b"PGDMP")


CHANGES = (
    cut,
    without_its_last_chunk,
    with_two_chunks_in_another_order,
    flip_a_bit,
    for_another_key,
    in_clear,
)


def test_what_was_changed_is_refused_even_if_its_hash_was_changed_and_signed_too(
    company: Callable[..., Company], folder: Path, key: x25519.Identity
) -> None:
    made = company()
    fill(made)
    run = making.back_up(made.organization)
    dump, manifest = (folder / run.folder / name for name in ("database.dump", "manifest.json"))
    whole = dump.read_bytes()

    def follow(document: dict[str, Any]) -> None:
        content = dump.read_bytes()
        (part,) = document["manifest"]["parts"]
        part |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    for change in CHANGES:
        dump.write_bytes(whole)
        change(dump)
        rewritten(manifest, follow, signed=True)
        with pytest.raises(BackupDamaged, match=r"database\.dump cannot be decrypted"):
            verifying.verify(run, name=made.name)
        run.refresh_from_db()
        assert run.state == State.BAD, change
    dump.write_bytes(whole)
    rewritten(manifest, follow, signed=True)
    verifying.verify(run, name=made.name)


# --- Streams --------------------------------------------------------------------------------------
def source(count: int, given: list[int]) -> encryption.Chunks:
    for number in range(count):
        given.append(number)
        yield b""
        yield bytes([number]) * 200_000


@pytest.mark.pure
def test_one_chunk_is_read_at_a_time_and_empty_ones_end_nothing(key: x25519.Identity) -> None:
    given: list[int] = []
    stored = []
    for number, chunk in enumerate(encryption.encrypted(source(40, given), id_of(key))):
        assert len(given) <= number + 1 and len(chunk) < 400_000
        stored.append(chunk)
    read = encryption.decrypted((each for each in stored), id_of(key), backup="b", name="n")
    assert b"".join(read) == b"".join(source(40, []))


@pytest.mark.pure
def test_a_stream_that_nobody_reads_on_leaves_no_thread(key: x25519.Identity) -> None:
    given: list[int] = []
    stream = encryption.encrypted(source(40, given), id_of(key))
    for _ in range(3):
        next(stream)
    assert "age" in {thread.name for thread in threading.enumerate()}
    stream.close()
    assert "age" not in {thread.name for thread in threading.enumerate()}
    assert len(given) < 5


def test_what_ends_a_backup_ends_an_encrypted_one_too(
    alpha: Company, folder: Path, settings: Settings, key: x25519.Identity
) -> None:
    settings.BACKUP_MAX_BYTES = 2_000
    with pytest.raises(BackupTooLarge):
        making.back_up(alpha.organization)
    assert files_in(folder) == set()
    assert "age" not in {thread.name for thread in threading.enumerate()}
