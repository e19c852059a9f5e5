"""HTTP client of the fault tests, and which responses count as an answer."""

import http.client
import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

LIMIT_SECONDS = 10.0  # no answer may take longer
GIVE_UP_SECONDS = 20.0  # nothing is waited for longer than this


@dataclass
class Answer:
    """The result of one action: `done`, `refused` properly, `lost` with its process, or wrong."""

    kind: str
    words: str = ""
    seconds: float = 0.0
    status: int = 0
    data: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        return self.kind == "done"

    @property
    def is_a_bug(self) -> bool:
        """Whether it is a 5xx other than 503 with Retry-After, or a traceback: never allowed."""
        return self.kind == "wrong" and (self.status >= 500 or not self.status)


class Client:
    """Sends requests to the server at `port`."""

    port: int

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        form: Mapping[str, str] | None = None,
        token: str = "",
        cookies: str = "",
        success: tuple[int, ...] = (200, 201, 204),
        accept: str = "application/json",
        request_id: str = "",
        key: str = "",
    ) -> Answer:
        """Send a request. Anything but a success or a 503 with Retry-After is wrong.

        key: the Idempotency-Key.
        """
        headers = {"Accept": accept}
        if request_id:
            headers["X-Request-ID"] = request_id
        if key:
            headers["Idempotency-Key"] = key
        content: str | None = None
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            content = urlencode(form)
        elif body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if cookies:
            headers["Cookie"] = cookies
            headers["X-CSRFToken"] = cookies.partition("csrftoken=")[2].partition(";")[0]
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=GIVE_UP_SECONDS)
        try:
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            kind = "hung" if isinstance(error, TimeoutError) else "lost"
            return Answer(kind, type(error).__name__, time.monotonic() - began)
        finally:
            connection.close()
        sent = {name.lower(): value for name, value in response.getheaders()}
        cookie = [v for n, v in response.getheaders() if n.lower() == "set-cookie"]
        answer = Answer("wrong", f"{response.status} {text[:300]}", time.monotonic() - began)
        answer.status, answer.headers = response.status, {**sent, "cookies": _pairs(cookie)}
        with suppress(json.JSONDecodeError):
            answer.data = json.loads(text)
        if answer.data is None:
            answer.data = text
        if response.status in success:
            answer.kind, answer.words = "done", str(response.status)  # Not the tokens in it.
        elif response.status == 503 and sent.get("retry-after", "").isdigit():
            answer.kind = "refused"
        return answer

    def open_form(
        self,
        page: str,
        *,
        cookies: str = "",
        to: str = "",
        success: tuple[int, ...] = (302,),
        request_id: str = "",
    ) -> Callable[[Mapping[str, str]], Answer]:
        """Load a page with a form; returns a function that sends it. A redirect is a success.

        to: where it is sent, where that is not the page itself.
        """
        loaded = self.ask("GET", page, cookies=cookies, accept="text/html")
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', str(loaded.data))
        if not loaded.done or found is None:
            raise RuntimeError(f"No form at {page}: {loaded.words}")
        jar = _joined(cookies, loaded.headers["cookies"])
        token = found[1]

        def submit(fields: Mapping[str, str]) -> Answer:
            sent = {"csrfmiddlewaretoken": token, **fields}
            answer = self.ask(
                "POST",
                to or page,
                form=sent,
                cookies=jar,
                success=success,
                accept="text/html",
                request_id=request_id,
            )
            if answer.headers.get("location", "").startswith("/admin/login/"):
                answer.kind = "wrong"  # Not logged in: it was not done.
            answer.headers["cookies"] = _joined(jar, answer.headers.get("cookies", ""))
            return answer

        return submit


def _joined(*jars: str) -> str:
    """Join several cookies into one header; later values win."""
    pairs = (pair.split("=", 1) for jar in jars for pair in jar.split("; ") if "=" in pair)
    return "; ".join(f"{name}={value}" for name, value in dict(pairs).items())


def _pairs(set_cookie: list[str]) -> str:
    return "; ".join(value.partition(";")[0] for value in set_cookie)
