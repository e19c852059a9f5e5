"""Facts about the machine and PostgreSQL, kept with every result."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from .cluster import PROJECT, Cluster

_SETTINGS = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "max_connections",
    "min_wal_size",
    "max_wal_size",
)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def facts(cluster: Cluster) -> dict[str, Any]:
    """The machine and the PostgreSQL of a run."""
    with cluster.superuser() as connection:
        settings = {
            name: _value(connection.execute("SELECT current_setting(%s)", (name,)).fetchone())
            for name in _SETTINGS
        }
    return {
        "cores": cores(),
        "cpu": _cpu_model(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "file_system": file_system(cluster.folder),
        "python": platform.python_version(),
        "postgresql": settings.pop("server_version").split()[0],
        "postgresql_settings": settings,
        "commit": _commit(),
    }


def file_system(folder: Path) -> str:
    """The type of the folder's file system, such as `ext4`."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, name, *_ = line.split()
        inside = folder == Path(place) or Path(place) in folder.parents
        if inside and len(place) >= len(best):
            best, kind = place, name
    return kind


def _value(row: tuple[Any, ...] | None) -> str:
    return "" if row is None else str(row[0])


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    """The measured commit, with a + if files were changed; empty without git."""
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        changed = _git(
            "status", "--porcelain", "--untracked-files=no", "--", ":!benchmarks/results"
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{name}+" if changed else name


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=PROJECT, check=True, capture_output=True, text=True, timeout=30
    )
    return done.stdout.strip()
