"""The documentation is true: its examples run as printed, its links lead somewhere, its lists are
complete."""

import ast
import json
import os
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import environ
import pytest

from organizations import services
from organizations.models import Organization
from tests import processes
from tests.http.server import WebServer, serving

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "adding-a-tenant-app.md"
PRINTED_ADDRESS = "http://127.0.0.1:8000"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_READERS = {
    *("text", "boolean", "number", "choice", "rate", "names", "signing_secrets"),
    *("origins", "contacts"),
}
# What settings.py is given by another than the person who configures it.
_PRODUCTION = {"PATH": os.environ.get("PATH", os.defpath), "DEBUG": "off"}


def section(page: Path, heading: str) -> str:
    """The text below a heading, up to the next one of its level."""
    _, _, rest = page.read_text().partition(f"\n{heading}\n")
    assert rest, f"{page.name} has no heading {heading!r}"
    level = heading.split()[0]
    return re.split(rf"^{level} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def fences(text: str) -> list[tuple[str, str]]:
    """The fenced blocks, each with the word behind its opening fence."""
    return _FENCE.findall(text)


def shape(value: Any) -> Any:
    """What two answers have in common when ids, times and tokens differ."""
    if isinstance(value, dict):
        kept = {"detail", "code", "token_type"}
        return {key: each if key in kept else shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return type(value).__name__


def settings_names() -> set[str]:
    """Every name that settings.py reads from the environment."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / "orgmgmt" / "settings.py").read_text())):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = node.func
        name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
        first = node.args[0]
        if name in _READERS and isinstance(first, ast.Constant):
            found.add(str(first.value))
    return found


@pytest.fixture(scope="module")
def server(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """gunicorn with DEBUG on, as `make run` has it."""
    with serving(tmp_path_factory.mktemp("docs") / "server.log") as running:
        yield running


@pytest.fixture
def tidy() -> Iterator[None]:
    """Delete what an example has signed up."""
    before = set(Organization.objects.values_list("pk", flat=True))
    yield
    for organization in Organization.objects.live().exclude(pk__in=before):
        services.delete_organization(organization)


@pytest.mark.usefixtures("tidy")
def test_curl_session_of_the_readme_answers_what_it_prints(server: WebServer) -> None:
    blocks = fences(section(README, "### With curl"))
    calls = [code for language, code in blocks if language == "bash"]
    printed = [json.loads(code) for language, code in blocks if language == "json"]
    assert len(calls) == len(printed) >= 10, "each block of calls is followed by its answer"

    # The README ends with a logout; the tutorial goes on with a login of its own.
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


@pytest.mark.usefixtures("tidy")
def test_python_example_of_the_readme_prints_what_it_says(
    server: WebServer, tmp_path: Path
) -> None:
    (_, code), (_, expected) = fences(section(README, "### With Python"))
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / urllib.parse.unquote(path) if path else page
        assert linked.is_file(), f"{page.name} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(linked), f"{page.name} links to {target}: no such heading"


def anchors(page: Path) -> set[str]:
    """The headings of a page, as a link names them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in headings}


def test_every_setting_is_in_the_example_of_an_env_file() -> None:
    text = (ROOT / ".env.example").read_text()
    named = set(re.findall(r"^#?([A-Z_]+)=", text, flags=re.MULTILINE))
    assert named == settings_names()


def test_every_setting_is_in_the_table_of_the_configuration() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    named = set(re.findall(r"^\| \**`([A-Z_]+)`\** \|", text, flags=re.MULTILINE))
    assert named == settings_names()


def test_every_setting_that_the_readme_names_is_one() -> None:
    table = section(README, "## Configuration")
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", table))
    assert named <= settings_names(), "a name that nothing reads"


def test_every_command_is_in_the_readme() -> None:
    folder = ROOT / "organizations" / "management" / "commands"
    for command in folder.glob("[a-z]*.py"):
        assert f"| `{command.stem}" in README.read_text(), f"README does not name {command.stem}"


def test_every_decision_is_in_the_list_of_decisions() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text())
    assert listed == sorted(path.name for path in folder.glob("0*.md"))


def start(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A start under production's settings; it asks no database."""
    return processes.run("manage.py", "server_sql", cwd=ROOT, env={**_PRODUCTION, **environment})


@pytest.mark.parametrize("name", ["SECRET_KEY", "CREDENTIAL_KEYS", "MASTER_DB_PASSWORD"])
def test_start_is_refused_while_a_secret_is_the_examples(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    example: dict[str, str] = {}
    monkeypatch.setattr(environ.Env, "ENVIRON", example)
    environ.Env.read_env(ROOT / ".env.example")
    assert example[name] == "change-me"

    own = {"SECRET_KEY": os.environ["SECRET_KEY"], "MASTER_DB_PASSWORD": "kR7-9vTq2mXz"}
    own["CREDENTIAL_KEYS"] = os.environ["CREDENTIAL_KEYS"]
    assert start({**example, **own}).returncode == 0, "the example with secrets of one's own starts"

    refused = start({**example, **own, name: "change-me"})
    assert refused.returncode == 1, f"{name}=change-me is taken"
    assert refused.stderr.startswith(f"Configuration: {name} "), refused.stderr


def test_every_promise_names_a_test_that_exists() -> None:
    promised = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/security.md").read_text())
    assert len(promised) > 40
    missing = [
        f"{path}::{name}"
        for path, name in promised
        if not (ROOT / path).is_file() or f"def {name}(" not in (ROOT / path).read_text()
    ]
    assert not missing
