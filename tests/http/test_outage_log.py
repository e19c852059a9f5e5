"""What the log says while PostgreSQL is away: a line for each failed request, few tracebacks."""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from orgmgmt.logging import LineFormatter
from tests.real_server import RealServer

pytestmark = pytest.mark.timeout(300)
PASSWORD = "correct horse battery"
EMAIL = "admin@test.com"
LOGIN = {"email": EMAIL, "password": PASSWORD}
BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"
# "2026-01-01 00:00:00,000 ERROR logger [org_1 request-id] message"
LINE = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ (\w+) (\S+) \[(\S+) (\S+)\] (.*)")


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with RealServer(environment={"WEB_CONCURRENCY": "1"}) as running:
        running.manage("collectstatic", "--noinput", "--verbosity", "0")  # For the page.
        assert running.sign_up("Acme", email=EMAIL, password=PASSWORD)[0] == 201
        yield running


def send(server: RealServer, request_id: str, kind: str, token: str) -> int:
    method, path, body, headers = {
        "member": ("GET", "/api/v1/users/", None, {"Authorization": f"Bearer {token}"}),
        "write": ("PATCH", "/api/v1/me/", LOGIN, {"Authorization": f"Bearer {token}"}),
        "page": (
            "GET",
            "/api/v1/users/",
            None,
            {"Authorization": f"Bearer {token}", "Accept": BROWSER},
        ),
        "look-up": ("POST", "/org/get", {"organization_name": "Acme"}, {}),
        "log-in": ("POST", "/admin/login?organization_name=Acme", LOGIN, {}),
        "sign-up": ("POST", "/org/create", {**LOGIN, "organization_name": "New"}, {}),
        "staff": ("GET", "/admin/", None, {"Cookie": "sessionid=abcdefghijklmnop"}),
        "reset": (
            "POST",
            "/api/v1/auth/password-reset/",
            {"organization": "Acme", "email": EMAIL},
            {},
        ),
    }[kind]
    with requests.Session() as session:
        session.trust_env = False
        response = session.request(
            method,
            server.address + path,
            json=body,
            headers={"X-Request-ID": request_id, **headers},
            timeout=60,
        )
    return response.status_code


KINDS = ("member", "write", "page", "look-up", "log-in", "sign-up", "staff", "reset")


def test_an_outage_is_a_line_for_each_failed_request_and_few_tracebacks(
    server: RealServer,
) -> None:
    token = server.log_in("Acme", email=EMAIL, password=PASSWORD)[1]["access_token"]
    log = server.folder / "server.log"
    before = len(log.read_text().splitlines())
    server.kill_postgres()
    sent = [(f"{kind}-{number}", kind) for number in range(8) for kind in KINDS]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda each: send(server, each[0], each[1], token), sent))
    text = log.read_text().splitlines()[before:]
    server.restart_postgres()
    found = [match for line in text if (match := LINE.fullmatch(line))]
    assert answers == [503] * len(sent), "\n".join(text)[-5_000:]
    failed = Counter(match[4] for match in found if match[1] == "ERROR")
    assert failed == Counter(request_id for request_id, _ in sent), "not one line for each"
    for match in found:
        kind = match[4].rpartition("-")[0]
        assert (match[3] == "org_1") == (kind in ("member", "write", "page")), match[0]
        assert "path='/" in match[5] and "status=503" in match[5], match[0]
    # A connection that breaks, and one that is refused: in the master and in the organization.
    assert sum(line.startswith("Traceback") for line in text) <= 12, "\n".join(text)
    assert len(text) < 10 * len(sent), len(text)


def test_an_error_that_is_its_own_cause_is_logged_like_any_other() -> None:
    error = ValueError("a circle")
    error.__cause__ = error
    record = logging.makeLogRecord({"exc_info": (ValueError, error, None)})
    assert "a circle" in LineFormatter().format(record)
