"""The examples of the documentation run as printed, and its pages load from this server."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.test_docs import DOCS, ROOT, fences, section

from .server import WebServer

API = DOCS / "api.md"
TUTORIAL = DOCS / "adding-a-tenant-app.md"
PRINTED_ADDRESS = "http://127.0.0.1:8000"


def shape(value: Any) -> Any:
    """What two answers have in common when ids, times and tokens differ."""
    if isinstance(value, dict):
        kept = {"detail", "code", "token_type"}
        return {key: each if key in kept else shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return type(value).__name__


def test_curl_session_of_the_api_page_answers_what_it_prints(server: WebServer) -> None:
    blocks = fences(section(API, "## With curl"))
    calls = [code for language, code in blocks if language == "bash"]
    printed = [json.loads(code) for language, code in blocks if language == "json"]
    assert len(calls) == len(printed) >= 10, "each block of calls is followed by its answer"

    # The session ends with a logout; the tutorial goes on with a login of its own.
    (login,) = [code for _, code in fences(TUTORIAL.read_text()) if code.startswith("TOKEN=")]
    calls.append(f'{login}curl -sS $URL/api/v1/me/ -H "Authorization: Bearer $TOKEN"\n')
    printed.append(next(each for each in printed if "email_verified_at" in each))

    script = "".join(f"{code}printf '\\n<end>\\n'\n" for code in calls)
    done = subprocess.run(
        ["bash", "-eu", "-c", script.replace(PRINTED_ADDRESS, server.url(""))],
        capture_output=True,
        text=True,
        timeout=100,
        env={"PATH": os.environ["PATH"], "no_proxy": "*"},
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(part) for part in done.stdout.split("<end>\n")[:-1]]
    for call, answer, expected in zip(calls, answers, printed, strict=True):
        assert shape(answer) == shape(expected), f"{call}\nis answered with {answer}"


def test_python_example_of_the_api_page_prints_what_it_says(
    server: WebServer, tmp_path: Path
) -> None:
    (_, code), (_, expected) = fences(section(API, "## With Python"))
    program = tmp_path / "example.py"
    program.write_text(code.replace(PRINTED_ADDRESS, server.url("")))
    done = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=100,
        env={"PATH": os.environ["PATH"], "no_proxy": "*"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == expected
    lint = [sys.executable, "-m", "ruff", "check", "--config", str(ROOT / "pyproject.toml")]
    linted = subprocess.run([*lint, str(program)], capture_output=True, text=True)
    assert linted.returncode == 0, f"saved in the checkout it breaks make lint:\n{linted.stdout}"


def test_the_documentation_pages_load_from_this_server_alone(hurried: WebServer) -> None:
    for path in ("/docs", "/docs/", "/redoc", "/redoc/"):
        page = hurried.get(path)
        assert page.status_code == 200, path
        # Namespaces of SVG are names, and nothing is loaded from them.
        outside = set(re.findall(r"https?://[^\s\"'<>)]+", page.text))
        assert outside <= {"http://www.w3.org/2000/svg"}, path
        assets = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
        assert assets, path
        for asset in assets:
            assert asset.startswith("/"), asset
            loaded = hurried.get(asset)
            assert loaded.status_code == 200, asset
            # A bundle that would load a picture from elsewhere must be kept from it.
            if "https://cdn." in loaded.text:
                policy = page.headers.get("Content-Security-Policy", "")
                assert "default-src 'self'" in policy or "img-src 'self'" in policy, asset
