"""Creates `development.env` in DATA_DIR: DEBUG on and random keys for this checkout."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from cryptography.fernet import Fernet

FILE_NAME = "development.env"


def ensure_environment(data_dir: Path) -> None:
    """Write `development.env`, readable only by this user, unless it exists.

    It switches DEBUG on and contains random keys. settings.py reads it; if a database is
    configured, only with DEBUG on.
    """
    target = data_dir / FILE_NAME
    if target.exists():
        return
    data_dir.mkdir(parents=True, exist_ok=True)
    lines = (
        "# Made by `make run` for this checkout. Not for production.",
        "DEBUG=on",
        f"SECRET_KEY={secrets.token_urlsafe(48)}",
        f"CREDENTIAL_KEYS={Fernet.generate_key().decode()}",
    )
    # Written atomically and never replaced: two processes that start at once both read what the
    # first one wrote.
    draft = target.with_name(f".{FILE_NAME}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join(lines) + "\n")
    try:
        with suppress(FileExistsError):
            os.link(draft, target)
    finally:
        draft.unlink()
