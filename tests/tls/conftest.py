"""Fixture: Debian's PostgreSQL with TLS and its own certificates, in a temporary folder.

The wheel that all other tests use is built without TLS. Debian's version may be older than the
application accepts; TLS works the same there.
"""

import datetime
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PROJECT = Path(__file__).resolve().parent.parent.parent
SECONDS = 60.0
PASSWORD = "a password for TLS"
DATABASE = "master_org_db"
ROLE = "orgmgmt"
Key = ec.EllipticCurvePrivateKey


@pytest.fixture(autouse=True)
def _database() -> None:
    """Replaces the fixture of all tests: these have their own server."""


def _certificate(
    name: str, key: Key, *, issuer: str, issuer_key: Key, host: str | None = None
) -> bytes:
    """A certificate in PEM: a server's for `host`, or an authority's."""
    now = datetime.datetime.now(datetime.UTC)

    def named(common_name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
    )
    if host is not None:
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def _pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@dataclass(frozen=True)
class TlsServer:
    """A running PostgreSQL that takes no connection without TLS, except on its unix socket.

    Its certificate names `localhost`, and not the address 127.0.0.1 that it listens on too.
    """

    folder: Path
    port: int
    version: int
    root_certificate: Path
    other_root_certificate: Path

    def environment(self, **changes: str) -> dict[str, str]:
        """The application's environment to reach it."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "DJANGO_SETTINGS_MODULE": "orgmgmt.settings",
            "DEBUG": "on",
            "DATA_DIR": str(self.folder / "nothing-here"),
            "SECRET_KEY": "of a test",
            "CREDENTIAL_KEYS": Fernet.generate_key().decode(),
            "MASTER_DB_HOST": "localhost",
            "MASTER_DB_PORT": str(self.port),
            "MASTER_DB_NAME": DATABASE,
            "MASTER_DB_USER": ROLE,
            "MASTER_DB_PASSWORD": PASSWORD,
            "MASTER_DB_SSLMODE": "verify-full",
            "MASTER_DB_SSLROOTCERT": str(self.root_certificate),
            **changes,
        }

    def python(self, script: str, **changes: str) -> str:
        """Run a script in a process with Django set up for this server; its output."""
        done = run(
            [sys.executable, "-c", f"import django; django.setup()\n{script}"],
            env=self.environment(**changes),
            cwd=PROJECT,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def run(command: list[Any], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        **options,
    )


def _bin_dir() -> Path:
    """The programs of the newest PostgreSQL that Debian has installed here."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if not found:
        pytest.fail(
            "There is no /usr/lib/postgresql/*/bin/initdb: install Debian's PostgreSQL "
            "(as root: apt-get install postgresql), as `make test-tls` does."
        )
    return found[-1].parent


def _as_account() -> tuple[dict[str, Any], int, int]:
    """How to run as the user of the server, and its ids: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}, os.geteuid(), os.getegid()
    entry = pwd.getpwnam("postgres")
    options = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    return options, entry.pw_uid, entry.pw_gid


def _write_certificates(folder: Path, owner: tuple[int, int]) -> None:
    authority, server, other = _new_key(), _new_key(), _new_key()
    files = {
        "root.crt": _certificate("Root", authority, issuer="Root", issuer_key=authority),
        "other.crt": _certificate("Other", other, issuer="Other", issuer_key=other),
        "server.crt": _certificate(
            "server", server, issuer="Root", issuer_key=authority, host="localhost"
        ),
        "server.key": _pem(server),
    }
    for name, content in files.items():
        path = folder / name
        path.write_bytes(content)
        if name == "server.key":
            path.chmod(0o600)
            os.chown(path, *owner)
        else:
            path.chmod(0o644)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def tls_server() -> Iterator[TlsServer]:
    """The server, started for the run in a temporary folder."""
    bin_dir = _bin_dir()
    account, *owner = _as_account()
    # In /tmp: a unix socket's path may not be long.
    folder = Path(tempfile.mkdtemp(prefix="orgmgmt-tls-"))
    folder.chmod(0o755)
    data = folder / "data"
    options: Mapping[str, Any] = {"cwd": "/", **account}
    try:
        _write_certificates(folder, (owner[0], owner[1]))
        data.mkdir(mode=0o700)
        os.chown(data, *owner)
        port = _free_port()
        _succeed(
            [bin_dir / "initdb", "-D", data, "--auth=trust", "-U", "postgres", "--no-sync"], options
        )
        (data / "pg_hba.conf").write_text(
            "local all postgres peer map=test\nhostssl all all localhost scram-sha-256\n"
        )
        user = pwd.getpwuid(owner[0]).pw_name
        (data / "pg_ident.conf").write_text(f"test {user} postgres\n")
        with (data / "postgresql.conf").open("a") as configuration:
            configuration.write(
                f"listen_addresses = 'localhost'\nport = {port}\nfsync = off\n"
                f"unix_socket_directories = '{data}'\npassword_encryption = 'scram-sha-256'\n"
                f"ssl = on\nssl_cert_file = '{folder}/server.crt'\n"
                f"ssl_key_file = '{folder}/server.key'\n"
            )
        pg_ctl = [bin_dir / "pg_ctl", "-D", data, "-w"]
        _succeed([*pg_ctl, "-l", data / "log", "start"], options)
        try:
            for statement in (
                f"CREATE ROLE {ROLE} LOGIN CREATEDB CREATEROLE PASSWORD '{PASSWORD}'",
                f"CREATE DATABASE {DATABASE} OWNER {ROLE}",
            ):
                psql = [bin_dir / "psql", "-h", data, "-p", port, "-U", "postgres", "-c", statement]
                _succeed(psql, options)
            version = int((data / "PG_VERSION").read_text())
            yield TlsServer(folder, port, version, folder / "root.crt", folder / "other.crt")
        finally:
            _succeed([*pg_ctl, "-m", "immediate", "stop"], options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _succeed(command: list[Any], options: Mapping[str, Any]) -> None:
    """Run a PostgreSQL program; the test fails with its output."""
    done = run([str(part) for part in command], **options)
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
