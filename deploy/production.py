"""Runs commands with production settings, random secrets, and a new, empty PostgreSQL.

deploy/production.py "manage.py check --deploy" …: runs each command of this project, in order,
until one fails: then the exit code is 1.
"""

import base64
import os
import secrets
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orgmgmt.embedded.postgres import EmbeddedPostgres

PROJECT = Path(__file__).resolve().parent.parent


def random_secrets() -> dict[str, str]:
    """A value for each secret that the settings need."""
    return {
        "SECRET_KEY": secrets.token_urlsafe(64),
        "CREDENTIAL_KEYS": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    }


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A temporary folder that the system's other users can enter but not list."""
    with tempfile.TemporaryDirectory(prefix="orgmgmt-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


@contextmanager
def master_database(folder: Path) -> Iterator[dict[str, str]]:
    """Yields the MASTER_DB_* settings of a new, empty PostgreSQL in `folder`."""
    with EmbeddedPostgres(folder) as server:
        parameters = server.connection_parameters()
        yield {
            "MASTER_DB_HOST": str(parameters["host"]),
            "MASTER_DB_PORT": str(parameters["port"]),
            "MASTER_DB_NAME": str(parameters["dbname"]),
            "MASTER_DB_USER": str(parameters["user"]),
            "MASTER_DB_PASSWORD": str(parameters["password"]),
        }


def main(commands: list[str]) -> int:
    with reachable_folder() as folder, master_database(folder / "data") as database:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "DEBUG": "off",
            "ALLOWED_HOSTS": "example.com",
            "EMAIL_URL": "smtp+tls://mail.example.com",
            "DEFAULT_FROM_EMAIL": "noreply@example.com",
            "PUBLIC_URL": "https://example.com",
            # check --deploy warns if strangers are let in.
            "ORG_SIGNUP": "staff",
            "ORG_PUBLIC_LOOKUP": "off",
            "SECURITY_CONTACT": "mailto:security@example.com",
            "CORS_ALLOWED_ORIGINS": "https://app.example.com",
            "TRUST_X_FORWARDED_PROTO": "on",
            "TRUSTED_PROXY_HOPS": "1",
            **random_secrets(),
            **database,
        }
        for command in commands:
            arguments = [sys.executable, "-W", "error", *shlex.split(command)]
            if subprocess.run(arguments, cwd=PROJECT, env=environment).returncode:
                print(f"Failed under production settings: {command}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
