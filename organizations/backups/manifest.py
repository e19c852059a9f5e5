"""The signed manifest of a backup: what it holds. Written last: without one there is no backup."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from organizations import secrets
from organizations.errors import BackupDamaged, BackupForeign, BackupNewer, BackupUnsigned
from organizations.models import BackupRun

NAME = "manifest.json"
# Format 1 has no encrypted parts. Code that knows only that one refuses format 2 by its number.
_PLAIN, FORMAT = 1, 2
# It lists the tables; no project's manifest is larger.
MOST_BYTES = 20_000_000
_SALT = "organizations.backups.manifest"


@dataclass(frozen=True, slots=True)
class Part:
    """A stored file. name: in the backup's folder. bytes, sha256: as stored. key: the id of the key
    that encrypted it; empty if it is not encrypted."""

    name: str
    bytes: int
    sha256: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """installation, organization: their random keys. backup: the run's key. database_oid: of the
    dumped database. fingerprint, migrations (`app.name`), tables (schema, name, rows): as in the
    dump's snapshot. server_version as 180006; client_version: pg_dump's major version. files: how
    many the organization had.
    """

    installation: str
    organization: str
    backup: str
    started_at: str
    database_oid: int
    server_version: int
    client_version: int
    fingerprint: str
    migrations: list[str]
    tables: list[tuple[str, str, int]]
    parts: list[Part]
    files: int = 0

    def write(self) -> bytes:
        """As JSON, with its signature."""
        content = asdict(self)
        if not self.key:
            for part in content["parts"]:
                del part["key"]
        said = {"format": FORMAT if self.key else _PLAIN, "manifest": content}
        signed = {**said, "signature": secrets.sign(_canonical(said), salt=_SALT)}
        return json.dumps(signed, indent=1).encode()

    @property
    def key(self) -> str:
        """The id of the key that encrypted its parts, all by the same one; or empty."""
        return next((part.key for part in self.parts), "")

    @property
    def bytes_stored(self) -> int:
        """The size of its parts."""
        return sum(part.bytes for part in self.parts)

    def rows(self) -> dict[tuple[str, str], int]:
        """The number of rows of each table."""
        return {(schema, table): rows for schema, table, rows in self.tables}


def read(content: bytes, run: BackupRun, *, installation: str) -> Manifest:
    """The manifest of the run's backup, whose signature is right.

    Raises BackupDamaged, BackupNewer, BackupForeign and BackupUnsigned.
    """
    document, said = _parse(content, run)
    if (version := document.get("format")) not in (_PLAIN, FORMAT):
        found = str(version)[:20]
        raise BackupNewer(run.folder, f"its format is {found}, and this version reads {FORMAT}")
    # Before the signature, which may be another installation's: this only refuses.
    if said.get("installation") != installation:
        raise BackupForeign(run.folder, "another installation")
    signed = _canonical({"format": version, "manifest": said})
    if not secrets.is_signed(signed, str(document.get("signature")), salt=_SALT):
        raise BackupUnsigned(run.folder)
    if said["organization"] != run.organization_key:
        raise BackupForeign(run.folder, "another organization")
    if said["backup"] != run.key:
        raise BackupForeign(run.folder, "another backup")
    parts = [Part(**part) for part in said["parts"]]
    tables = [(schema, table, rows) for schema, table, rows in said["tables"]]
    return Manifest(**{**said, "parts": parts, "tables": tables})


def named_in(content: bytes, run: BackupRun) -> str:
    """The backup's key, by a manifest whose signature `read` checks. Raises BackupDamaged."""
    return str(_parse(content, run)[1].get("backup"))


def _parse(content: bytes, run: BackupRun) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    try:
        document = json.loads(content)
        said = document["manifest"]
        if isinstance(document, dict) and isinstance(said, dict):
            return document, said
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise BackupDamaged(run.folder, "its manifest cannot be read")


def _canonical(said: Mapping[str, Any]) -> bytes:
    """The same bytes for the same content."""
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
