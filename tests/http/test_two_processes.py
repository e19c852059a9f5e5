"""Two web processes and a worker: they share the limits, and mails arrive."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from organizations.models import ThrottleCounter
from tests.conftest import Company

from .server import WebServer, assert_no_traceback, assert_one_shape, serving, working

RESET = "/api/v1/auth/password-reset/"
EMAIL, PASSWORD = "ada@wire.example", "an even better passphrase"


@pytest.fixture(scope="module")
def mails(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mails")


@pytest.fixture(scope="module")
def pair(
    django_db_setup: None, mails: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebServer]:
    """Two processes with limits that are soon reached, and a worker whose mails are files."""
    folder = tmp_path_factory.mktemp("gunicorn")
    environment = {
        "EMAIL_URL": f"filemail://{mails}",
        "THROTTLES": "on",
        "THROTTLE_LOOKUP": "10/hour",
        "THROTTLE_LOGIN_ACCOUNT": "7/hour",
        "LOGIN_FREE_FAILURES": "100",
    }
    with (
        serving(folder / "pair.log", WEB_CONCURRENCY="2", **environment) as running,
        working(folder / "worker.log", **environment),
    ):
        yield running
    assert_no_traceback(running)
    written = (folder / "worker.log").read_text()
    assert "Traceback" not in written
    assert not [secret for secret in running.secrets if secret in written]


@pytest.fixture(autouse=True)
def _uncounted() -> Iterator[None]:
    ThrottleCounter.objects.all().delete()
    yield
    ThrottleCounter.objects.all().delete()


def test_twenty_clients_of_two_processes_get_one_limit_exactly(pair: WebServer) -> None:
    def ask(_: int) -> int:
        return pair.post("/org/get", {"organization_name": "Nobody Ltd"}).status_code

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(60)))
    assert answers.count(404) == 10
    assert answers.count(429) == 50


def test_twenty_log_ins_over_two_processes_get_one_limit_exactly(
    pair: WebServer, alpha: Company
) -> None:
    def ask(_: int) -> int:
        body = {"organization": alpha.name, "email": alpha.email, "password": "wrong password"}
        return pair.post("/api/v1/auth/token/", body).status_code

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(20)))
    assert answers.count(401) == 7
    assert answers.count(429) == 13


def token_mailed(server: WebServer, mails: Path, subject: str, email: str = EMAIL) -> str:
    """The token of a link with this subject; the server's log must not hold it."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for message in messages(mails):
            if message["Subject"] == subject and message["To"] == email:
                link = re.search(r"^http\S+$", message.get_content(), flags=re.MULTILINE)
                assert link is not None, message
                address = urlsplit(link[0])
                token: str = parse_qs(address.query)["token"][0]
                server.secrets.add(token)
                # A proxy or a log could take the address from here.
                assert server.get(f"{address.path}?{address.query}").status_code == 200
                return token
        time.sleep(0.05)
    raise AssertionError(f"no mail {subject!r} to {email}")


def messages(mails: Path) -> Iterator[EmailMessage]:
    """Every mail so far; those of one second can share a file."""
    for file in mails.iterdir():
        for part in file.read_bytes().split(b"-" * 79 + b"\n")[:-1]:
            yield message_from_bytes(part, policy=policy.default)


def test_a_mailed_link_sets_a_new_password_once(pair: WebServer, mails: Path) -> None:
    name = "Wire Works"
    assert pair.sign_up(name, email=EMAIL).status_code == 201
    token = token_mailed(pair, mails, f"Confirm your e-mail address for {name}")
    assert pair.post("/api/v1/auth/email/verify/", {"token": token}).status_code == 204
    before = pair.log_in(name, email=EMAIL).json()

    asked = [
        pair.post(RESET, {"organization": name, "email": email})
        for email in (EMAIL, "nobody@wire.example")
    ]
    assert {(each.status_code, each.content) for each in asked} == {(202, asked[0].content)}
    token = token_mailed(pair, mails, f"Set a new password for {name}")
    body = {"token": token, "new_password": PASSWORD}
    assert pair.post(f"{RESET}confirm/", body).status_code == 204
    used = pair.post(f"{RESET}confirm/", body)
    assert assert_one_shape(used, 400)["code"] == "invalid_link"

    assert pair.log_in(name, email=EMAIL).status_code == 401
    assert pair.log_in(name, email=EMAIL, password=PASSWORD).status_code == 200
    headers = {"Authorization": f"Bearer {before['access_token']}"}
    assert pair.get("/api/v1/me/", headers=headers).status_code == 401
    assert not [each for each in messages(mails) if "nobody@" in each["To"]]


def test_a_browser_confirms_an_address_by_the_page(pair: WebServer, mails: Path) -> None:
    name, email = "Page Works", "bea@wire.example"
    assert pair.sign_up(name, email=email).status_code == 201
    token = token_mailed(pair, mails, f"Confirm your e-mail address for {name}", email)
    browser = requests.Session()
    browser.trust_env = False
    address = pair.url("/api/email/verify/")
    page = browser.get(address, params={"token": token}, timeout=30)
    assert page.headers["Referrer-Policy"] == "strict-origin"
    form = {"token": token, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
    done = browser.post(address, data=form, timeout=30)
    assert (done.status_code, "is confirmed" in done.text) == (200, True)
