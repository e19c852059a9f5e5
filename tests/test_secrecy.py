"""The secrecy plugin: each way of leaking a secret fails a test run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.secrecy import Secrets

pytestmark = pytest.mark.pure
ROOT = Path(__file__).resolve().parent.parent
MAKE = """
import logging, secrets, sys, django.core.mail
from django.contrib.auth.hashers import make_password
from django.core import signing
from cryptography.fernet import Fernet
import jwt

def password():
    value = secrets.token_urlsafe(20)
    make_password(value)
    return value
"""
LEAKS = {
    "a token in a log record": (
        "logging.getLogger('x').warning(jwt.encode({'a': secrets.token_hex()}, 'k' * 64))",
        "token",
    ),
    "a password on stdout": ("print('it is', password())", "password"),
    "a hash on stderr": ("print(make_password('x' * 20), file=sys.stderr)", "password hash"),
    "a cookie on stdout": ("print(signing.dumps(secrets.token_hex(), salt='s'))", "signed value"),
    "a sealed password on stdout": (
        "v = secrets.token_hex(); Fernet(Fernet.generate_key()).encrypt(v.encode()); print(v)",
        "sealed secret",
    ),
    "a password in a mail": (
        "django.core.mail.send_mail('s', password(), 'a@b.de', ['c@d.de'])",
        "password",
    ),
    "a password in an error": (
        "from organizations.errors import OrganizationError; OrganizationError(password())",
        "password",
    ),
}


MAIL_WITH_A_LINK = "signing.dumps(secrets.token_hex(), salt='s')"


def run(folder: Path, bodies: list[str]) -> subprocess.CompletedProcess[str]:
    """Run pytest separately with one test for each body: test_0, test_1, …"""
    path = folder / "test_leaks.py"
    tests = [f"def test_{n}(tmp_path):\n    {body}\n" for n, body in enumerate(bodies)]
    path.write_text("\n".join([MAKE, *tests]))
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml"), "-p"]
        + ["no:cacheprovider", f"--basetemp={folder / 'made'}", "-n", "1", str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_a_test_or_a_server_that_leaks_a_secret_fails_the_run(tmp_path: Path) -> None:
    innocent = f"django.core.mail.send_mail('s', {MAIL_WITH_A_LINK}, 'a@b.de', ['c@d.de'])"
    log = "(tmp_path / 'server.log').write_text(password())"
    done = run(tmp_path, [*(body for body, _ in LEAKS.values()), innocent, log])
    assert done.returncode == 1, done.stdout + done.stderr
    unnoticed = [
        leak
        for number, (leak, (_, kind)) in enumerate(LEAKS.items())
        if not re.search(
            rf"test_{number} _+\n(?:\[gw0\].*\n)?.* holds a secret: \['{kind}'\]\n", done.stdout
        )
    ]
    assert unnoticed == [], done.stdout
    assert f"test_{len(LEAKS)} _" not in done.stdout, "a mail may hold its link"
    assert "SECRET: the log" in done.stdout, "the server's log was not read"


def test_a_secret_is_found_inside_other_text() -> None:
    secrets = Secrets()
    secrets.add("key", "0123456789abcdef")
    secrets.add("token", "eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.signature-of-it")
    secrets.add("word", "short")
    assert secrets.kinds_in("x\ny password=0123456789abcdef; z") == {"key"}
    assert secrets.kinds_in("…signature-of-it") == {"token"}, "a token's signature alone"
    assert secrets.kinds_in("56789abcdef short") == set()
