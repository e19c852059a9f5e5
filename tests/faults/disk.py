"""Makes a small disk for PostgreSQL's data, and fills it."""

import os
import subprocess
from pathlib import Path

DISK_MEGABYTES = 448


def mount(folder: str) -> bool:
    """Mount a small disk there; False if this process may not mount."""
    if os.environ.get("FAULTS_NO_MOUNT"):
        return False
    size = f"size={DISK_MEGABYTES}m,mode=0711"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], capture_output=True, check=False
    )
    return done.returncode == 0


def fill(folder: Path) -> Path:
    """Write a file that takes all free space, to the last page."""
    path = folder / "filler"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        size, step = 0, 64 * 1024 * 1024
        while step >= 4096:
            try:
                os.posix_fallocate(descriptor, size, step)
                size += step
            except OSError:
                step //= 2
    finally:
        os.close(descriptor)
    return path


def limit_files(data: Path, *, bytes_: int) -> None:
    """If no disk can be mounted: limit the size of files that PostgreSQL's processes write."""
    lines = (data / "postmaster.pid").read_text().splitlines()
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", lines[0]], capture_output=True, text=True, check=False
    )
    limit = "unlimited" if bytes_ < 0 else str(bytes_)
    for pid in (lines[0], *listed.stdout.split()):
        subprocess.run(["prlimit", "--pid", pid, f"--fsize={limit}:unlimited"], check=False)
