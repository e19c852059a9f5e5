"""A pytest plugin that searches everything the tests write for every secret they make.

A pytest plugin, loaded by tests.plugin. What is made is noted where it is made, in the libraries'
own functions: a new kind of token is noted too. What is written is what pytest captures of each
test (stdout, stderr, log records), errors' messages, answers with a status of 400 and above, mails,
and the logs of the servers. A hit fails the test, or at the end the run, with the KIND of secret
and never its value.
"""

import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

KEY_LENGTH = 12
_ENVIRONMENT = (
    *("SECRET_KEY", "SECRET_KEY_FALLBACKS", "SIGNING_KEYS", "CREDENTIAL_KEYS"),
    *("BACKUP_ENCRYPTION_KEYS", "MASTER_DB_PASSWORD", "DATABASE_URL"),
)
_URLS = ("EMAIL_URL", "CACHE_URL")
_COOKIES = tuple(
    f"{host}{name}" for host in ("", "__Host-") for name in ("org_session", "sessionid")
)
_JWT = re.compile(r"eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{20,}")
# A signed value is what a mail's link is made of: it is for who gets the mail, and the page that
# the link opens sends it back.
_MEANT_FOR_PERSON = "signed value"
# As Django's console backend writes it, which development's settings have.
_MAIL_ON_CONSOLE = re.compile(r"^Content-Type: text/.*?^-{79}$", re.MULTILINE | re.DOTALL)
# What a server that was told to log every statement says, as one test tells it to.
_STATEMENT = re.compile(r"^.* LOG:  statement: .*$", re.MULTILINE)


class Secrets:
    """Every secret so far, by its last characters: a token's first ones are all alike."""

    def __init__(self) -> None:
        self._by_key: dict[str, dict[str, str]] = defaultdict(dict)

    def add(self, kind: str, value: object) -> None:
        """Note a secret, unless it is short or one repeated letter: those could mean anything."""
        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        if len(text) >= KEY_LENGTH and len(set(text)) > 1:
            self._by_key[text[-KEY_LENGTH:]][text] = kind

    def kinds_in(self, text: str) -> set[str]:
        """The kinds of secrets in the text, whole or as a token's signature."""
        found = set()
        for line in set(text.splitlines()):
            for start in range(len(line) - KEY_LENGTH + 1):
                for secret, kind in self._by_key.get(line[start : start + KEY_LENGTH], {}).items():
                    if secret.rpartition(".")[2] in line or secret in line:
                        found.add(kind)
        return found


SECRETS = Secrets()
# What was written since the last test's end, beside what pytest captures; and what was sent.
WRITTEN: list[str] = []
# The same of what goes to one person: mails, and answers.
ADDRESSED: list[str] = []
# What the servers have written; whole, because a secret may become one later.
LOGS: dict[str, str] = {}
# What was found at the end, by place.
FOUND: list[str] = []


def keep_logs(folder: Path) -> None:
    """Keep the text of a folder's logs before it is deleted."""
    for path in folder.rglob("*.log*"):
        if path.is_file():
            LOGS[f"{path.parent.name}/{path.name}"] = path.read_text(errors="replace")


def note_text(text: str) -> None:
    """Note the tokens in an answer."""
    for token in _JWT.findall(text):
        SECRETS.add("token", token)


def note_environment(variables: dict[str, str] | None) -> None:
    for name in _ENVIRONMENT:
        for value in (variables or {}).get(name, "").split(","):
            SECRETS.add(name, value)
    for name in _URLS:
        with suppress(ValueError):
            SECRETS.add(name, urlsplit((variables or {}).get(name, "")).password or "")


def _after(owner: Any, name: str, note: Callable[..., None]) -> None:
    """Call `note(result, *arguments)` after every call of the function."""
    function = getattr(owner, name)

    @wraps(function)
    def noted(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        note(result, *args, **kwargs)
        return result

    setattr(owner, name, noted)


def _listen() -> None:
    """Note every secret that libraries make, and everything that is written."""
    import jwt
    import requests
    from cryptography.fernet import Fernet, MultiFernet
    from django.contrib.auth import hashers
    from django.core.mail.backends.base import BaseEmailBackend
    from django.core.mail.backends.locmem import EmailBackend
    from django.core.signing import Signer
    from django.test.client import ClientHandler

    from accounts.errors import AccountError
    from organizations.errors import OrganizationError
    from organizations.tenancy import TenancyError

    def sealed(result: object, self: object, secret: bytes, *args: Any, **kwargs: Any) -> None:
        unsealed(secret)
        SECRETS.add("seal of a secret", result)

    def unsealed(secret: bytes, *args: Any, **kwargs: Any) -> None:
        # An address is sealed in the master, and read by many elsewhere.
        if b"@" not in secret:
            SECRETS.add("sealed secret", secret)

    for fernet in (Fernet, MultiFernet):
        _after(fernet, "encrypt", sealed)
        _after(fernet, "decrypt", unsealed)
    # The module's function is a method that was bound when the module was loaded.
    for owner in (jwt, jwt.PyJWT):
        _after(owner, "encode", lambda result, *a, **k: SECRETS.add("token", result))
    _after(Signer, "sign", lambda result, *a, **k: SECRETS.add(_MEANT_FOR_PERSON, result))
    for hasher in hashers.get_hashers():
        _after(type(hasher), "encode", _note_hash)
    _after(subprocess.Popen, "__init__", lambda r, *a, env=None, **k: note_environment(env))
    _after(requests.Session, "send", _note_answer)
    _after(ClientHandler, "__call__", _note_test_answer)
    _after(EmailBackend, "send_messages", _note_mails)
    assert issubclass(EmailBackend, BaseEmailBackend)
    for root in (AccountError, OrganizationError, TenancyError):
        _after(root, "__init__", lambda r, self, *a, **k: WRITTEN.append(f"{self!r} {self}"))


def _note_hash(result: str, self: object, password: object, *args: Any, **kwargs: Any) -> None:
    SECRETS.add("password", password)
    SECRETS.add("password hash", result)


def _note_answer(response: Any, *args: Any, **kwargs: Any) -> None:
    for name in _COOKIES:
        SECRETS.add("cookie", response.cookies.get(name) or "")
    if "json" in response.headers.get("Content-Type", ""):
        note_text(response.text)
        if response.status_code >= 400:
            ADDRESSED.append(response.text)


def _note_test_answer(response: Any, *args: Any, **kwargs: Any) -> None:
    for name in _COOKIES:
        if name in response.cookies:
            SECRETS.add("cookie", response.cookies[name].value)
    if response.status_code >= 400 and not response.streaming:
        ADDRESSED.append(response.content.decode(errors="replace"))


def _note_mails(count: object, self: object, messages: Iterable[Any]) -> None:
    ADDRESSED.extend(message.message().as_string() for message in messages)


def _kinds(written: str, addressed: str) -> set[str]:
    """The kinds of secrets in a test's output, and in what was meant for one person."""
    addressed = "\n".join([addressed, *_MAIL_ON_CONSOLE.findall(written)])
    written = _MAIL_ON_CONSOLE.sub("", written)
    return SECRETS.kinds_in(written) | (SECRETS.kinds_in(addressed) - {_MEANT_FOR_PERSON})


# --- pytest's hooks -----------------------------------------------------------------------------
def pytest_sessionstart(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput") or not session.config.getoption("numprocesses", None):
        _listen()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "teardown":
        captured = "\n".join(content for _, content in report.sections)
        kinds = _kinds("\n".join([captured, *WRITTEN]), "\n".join(ADDRESSED))
        WRITTEN.clear()
        ADDRESSED.clear()
        if kinds:
            report.outcome = "failed"
            # Not its output: it is in there.
            report.sections = []
            report.longrepr = f"what this test has written holds a secret: {sorted(kinds)}"
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Read the servers' logs; an xdist worker reports its findings to the controller."""
    from tests.plugin import FOLDER, SERVER

    note_environment(dict(os.environ))
    if SERVER.is_initialised():
        for parameters in (SERVER.connection_parameters(), SERVER.superuser_parameters()):
            SECRETS.add("database password", parameters["password"])
    keep_logs(FOLDER)
    factory = getattr(session.config, "_tmp_path_factory", None)
    if factory is not None and factory._basetemp is not None:
        keep_logs(factory.getbasetemp())
    for place, text in LOGS.items():
        text = _STATEMENT.sub("", text)
        if kinds := _kinds(text, ""):
            FOUND.append(f"the log {place} holds a secret: {sorted(kinds)}")
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["secrets_found"] = FOUND
    elif FOUND and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    FOUND.extend(getattr(node, "workeroutput", {}).get("secrets_found", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for found in FOUND:
        terminalreporter.write_line(f"SECRET: {found}", red=True)
