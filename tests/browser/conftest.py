"""A real server with production's settings, and Debian's Chromium.

Nothing here uses Django in this process: Playwright runs an event loop in the thread of the tests,
where Django refuses to ask a database. What has to exist is made over HTTP and by manage.py.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

from tests.real_server import RealServer

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 30_000
expect.set_options(timeout=WAIT_MS)
PASSWORD = "correct horse battery"
STAFF = "steward"
ORGANIZATION = "Browser Works"
ADMIN = "ada@browser.example"

_screenshots = pytest.StashKey[Path]()


@pytest.fixture(autouse=True)
def _database() -> None:
    """Replaces the fixture of all tests: these have their own server and database."""


@pytest.fixture(scope="session")
def screenshots(pytestconfig: pytest.Config) -> Path:
    """The folder that screenshots are saved in: SCREENSHOTS, or a temporary one."""
    wanted = os.environ.get("SCREENSHOTS", "")
    folder = Path(wanted or tempfile.mkdtemp(prefix="orgmgmt-screenshots-"))
    folder.mkdir(parents=True, exist_ok=True)
    pytestconfig.stash[_screenshots] = folder
    return folder


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say where the screenshots are."""
    if folder := config.stash.get(_screenshots, None):
        terminalreporter.write_line(f"Screenshots: {folder}")


@pytest.fixture(scope="session")
def server() -> Iterator[RealServer]:
    """A server with one member of staff and one organization."""
    with RealServer() as server:
        server.manage("collectstatic", "--noinput", "--verbosity", "0")
        server.manage(
            *("createsuperuser", "--noinput", "--username", STAFF, "--email", "staff@example.com"),
            environment={"DJANGO_SUPERUSER_PASSWORD": PASSWORD},
        )
        # whitenoise lists the static files when it starts.
        server.stop()
        server.start()
        status, answer = server.sign_up(ORGANIZATION, email=ADMIN, password=PASSWORD)
        assert status == 201, answer
        yield server


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.fail(f"{CHROMIUM} is absent: install it (as root: apt-get install chromium).")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=ARGUMENTS, timeout=WAIT_MS
        )
        yield browser
        browser.close()


class Visit:
    """A page in a new browser, with its requests and console errors."""

    def __init__(self, page: Page, address: str, folder: Path) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.address = address
        self._folder = folder
        page.set_default_timeout(WAIT_MS)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", self._hear_of_failure)

    def open(self, path: str) -> None:
        """Go to a path of the server, which must not answer with an error."""
        response = self.page.goto(self.address + path)
        assert response is not None and response.ok, f"{path}: {response and response.status}"

    def save(self, name: str, *, full_page: bool = True) -> None:
        """Save a screenshot."""
        self.page.screenshot(path=self._folder / f"{name}.png", full_page=full_page)

    @property
    def strangers(self) -> list[str]:
        """Requests to other hosts."""
        own = (f"{self.address}/", "data:", "blob:")
        return [url for url in self.requests if not url.startswith(own)]

    def assert_quiet(self) -> None:
        """No request went to another host, and the browser reported no error."""
        assert self.strangers == [], "asked of another host"
        assert self.complaints == [], "said on the browser's console"

    def _hear_of_failure(self, request: Request) -> None:
        # Aborted: the page was left while this was still on its way, and nobody wants it any more.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"{request.url} failed: {request.failure}")

    def _listen(self, message: ConsoleMessage) -> None:
        # Chromium asks for /favicon.ico by itself, once, where a page names no icon.
        url = message.location["url"]
        if message.type in ("error", "warning") and not url.endswith("/favicon.ico"):
            self.complaints.append(f"{message.text} ({url})")


@pytest.fixture
def new_visit(
    chromium: Browser, server: RealServer, screenshots: Path
) -> Iterator[Callable[[], Visit]]:
    """Makes visits by strangers who share nothing."""
    contexts: list[BrowserContext] = []

    def make() -> Visit:
        context = chromium.new_context(viewport={"width": 1280, "height": 900})
        contexts.append(context)
        return Visit(context.new_page(), server.address, screenshots)

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def visit(new_visit: Callable[[], Visit]) -> Visit:
    """A visit by a stranger."""
    return new_visit()


@pytest.fixture
def staff_visit(visit: Visit) -> Visit:
    """A visit by staff, logged in to Django admin."""
    visit.open("/admin/")
    visit.page.get_by_label("Username").fill(STAFF)
    visit.page.get_by_label("Password").fill(PASSWORD)
    visit.page.get_by_role("button", name="Log in").click()
    visit.page.get_by_role("heading", name="Master records").wait_for()
    return visit


@pytest.fixture
def admin_visit(visit: Visit) -> Visit:
    """A visit by an organization's admin, logged in to the browsable API."""
    visit.open("/api/login/?next=/api/v1/users/")
    visit.page.get_by_label("Organization").fill("browser-works")
    visit.page.get_by_label("E-mail").fill(ADMIN)
    visit.page.get_by_label("Password").fill(PASSWORD)
    visit.page.get_by_role("button", name="Log in").click()
    visit.page.wait_for_url("**/api/v1/users/")
    return visit
