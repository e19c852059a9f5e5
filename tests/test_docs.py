"""The documentation is true: links work, lists are complete. Examples: http/test_examples.py."""

import ast
import json
import os
import re
import subprocess
import urllib.parse
from itertools import chain
from pathlib import Path
from typing import Any

import environ
import pytest
from django.db import models
from django.test.utils import isolate_apps
from rest_framework.decorators import api_view
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory, force_authenticate

from accounts.models import User
from organizations import tenancy
from tests import processes
from tests.conftest import Company

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_READERS = {
    *("text", "boolean", "number", "choice", "rate", "names", "signing_secrets"),
    *("origins", "contacts", "addresses"),
}
_READING = ("settings", "env", "connections")
# Written as settings are, and none of settings.py's.
_NO_SETTINGS = {
    *("TENANT_APPS", "MASTER_APPS", "ATOMIC_REQUESTS"),
    *("ORG_ADMIN_PASSWORD", "DJANGO_SETTINGS_MODULE"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),  # The client of S3 reads them.
    *("ACME_CORP", "CONN_MAX_AGE", "IS_TEMPLATE", "SCRIPT_NAME"),
}
# What settings.py is given by another than the person who configures it.
_PRODUCTION = {"PATH": os.environ.get("PATH", os.defpath), "DEBUG": "off"}


def section(page: Path, heading: str) -> str:
    """The text below a heading, up to the next of the same level."""
    _, _, rest = page.read_text().partition(f"\n{heading}\n")
    assert rest, f"{page.name} has no heading {heading!r}"
    level = heading.split()[0]
    return re.split(rf"^{level} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def fences(text: str) -> list[tuple[str, str]]:
    """The fenced blocks, each with the word after its opening fence."""
    return _FENCE.findall(text)


def settings_names() -> set[str]:
    """Every name that the settings read from the environment."""
    found: set[str] = set()
    read = [ast.parse((ROOT / "orgmgmt" / f"{name}.py").read_text()) for name in _READING]
    for node in chain.from_iterable(ast.walk(tree) for tree in read):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = node.func
        name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
        first = node.args[0]
        if name in _READERS and isinstance(first, ast.Constant):
            found.add(str(first.value))
    return found


@pytest.mark.pure
def test_every_relative_link_leads_somewhere() -> None:
    broken = []
    for page in PAGES:
        text = _FENCE.sub("", page.read_text())
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            linked = page.parent / urllib.parse.unquote(path) if path else page
            if not linked.is_file() or (anchor and anchor not in anchors(linked)):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in headings}


@pytest.mark.pure
def test_every_setting_is_documented_and_every_documented_one_exists() -> None:
    read = settings_names()
    example = (ROOT / ".env.example").read_text()
    assert set(re.findall(r"^#?([A-Z_]+)=", example, flags=re.MULTILINE)) == read
    table = (DOCS / "configuration.md").read_text()
    assert set(re.findall(r"^\| \**`([A-Z_]+)`\** \|", table, flags=re.MULTILINE)) == read
    for page in [*ROOT.glob("*.md"), *DOCS.glob("*.md")]:
        if page.name != "CHANGELOG.md":
            named = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", page.read_text()))
            unknown = named - read - _NO_SETTINGS
            assert not unknown, f"{page.name} names what nothing reads"


@pytest.mark.pure
def test_every_command_is_in_the_list_of_commands() -> None:
    text = (DOCS / "commands.md").read_text()
    folder = ROOT / "organizations" / "management" / "commands"
    for command in folder.glob("[a-z]*.py"):
        assert re.search(rf"^\|[^|]*`{command.stem}\b", text, re.MULTILINE), command.stem


def test_the_readmes_code_reaches_two_databases(alpha: Company, beta: Company) -> None:
    (_, code), (_, printed) = fences(section(README, "## Your code: two databases, no `using()`"))
    names: dict[str, Any] = {"__name__": "accounts.readme", "models": models}
    names |= {"api_view": api_view, "Response": Response}
    with isolate_apps("accounts"):
        exec(code, names)  # noqa: S102
    invoice = names["Invoice"]

    def answer(company: Company) -> Any:
        request = APIRequestFactory().get("/api/v1/invoices/")
        force_authenticate(request, User.objects.get(email=company.email))
        return names["invoices"](request).data

    shown = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    numbers = [each["invoices"] for each in shown]
    companies = (alpha, beta)
    try:
        for company, own in zip(companies, numbers, strict=True):
            with tenancy.override(company.tenant):
                with tenancy.connection().schema_editor() as editor:
                    editor.create_model(invoice)
                invoice.objects.bulk_create(invoice(number=each, amount=1) for each in own)
        for company, own in zip(companies, numbers, strict=True):
            with tenancy.override(company.tenant):
                assert answer(company) == {"user": company.email, "invoices": own}
        with pytest.raises(tenancy.NoTenant):
            invoice.objects.all().count()
    finally:
        for company in companies:
            with tenancy.override(company.tenant), tenancy.connection().cursor() as cursor:
                cursor.execute(f"DROP TABLE IF EXISTS {invoice._meta.db_table}")


@pytest.mark.pure
def test_the_readmes_numbers_are_the_measured_ones() -> None:
    text = section(README, "## Numbers")
    results = ROOT / "benchmarks" / "results"
    measured = (DOCS / "performance.md").read_text()
    goals = re.findall(r"\| (yes|\*\*no\*\*) \|$", measured, re.MULTILINE)
    missed = [line for line in measured.splitlines() if line.endswith("| **no** |")]
    assert f"{len(missed)} of {len(goals)} goals are missed" in " ".join(text.split())
    for line in missed:
        (value,) = re.findall(r"\| \+?([\d.]+)[ %][^|]*\| \*\*no", line)
        assert value in text, f"README keeps silent about: {line}"
    measured += (results / "bench.md").read_text() + (results / "bench-large.md").read_text()
    measured += (ROOT / "requirements" / "bench.txt").read_text()
    unknown = set(re.findall(r"\d+\.[\d.]*\d", text)) - set(re.findall(r"\d+\.[\d.]*\d", measured))
    assert not unknown, "no result says so"


@pytest.mark.pure
def test_every_make_target_in_a_page_exists_and_is_listed() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    groups = [re.findall(r"^  make ([a-z-]+)", each, re.MULTILINE) for each in listed.split("\n\n")]
    assert len(groups[0]) == 10, "those used first"
    targets = {target for group in groups for target in group}
    text = "".join(page.read_text() for page in [*PAGES, ROOT / "benchmarks" / "README.md"])
    assert set(re.findall(r"(?:`|^\$ |^)make ([a-z-]+)", text, re.MULTILINE)) <= targets


@pytest.mark.pure
def test_every_decision_is_in_the_list_of_decisions() -> None:
    folder = DOCS / "decisions"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text())
    assert listed == sorted(path.name for path in folder.glob("0*.md"))


def start(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Start with production's settings, without a database."""
    return processes.run("manage.py", "server_sql", cwd=ROOT, env={**_PRODUCTION, **environment})


@pytest.mark.pure
def test_a_start_is_refused_while_a_secret_is_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    example: dict[str, str] = {}
    monkeypatch.setattr(environ.Env, "ENVIRON", example)
    environ.Env.read_env(ROOT / ".env.example")
    own = {name: os.environ[name] for name in ("SECRET_KEY", "CREDENTIAL_KEYS")}
    own["MASTER_DB_PASSWORD"] = "kR7-9vTq2mXz"
    assert start({**example, **own}).returncode == 0, "the example with secrets of one's own starts"
    for name in own:
        assert example[name] == "change-me"
        refused = start({**example, **own, name: "change-me"})
        assert refused.returncode == 1, f"{name}=change-me is accepted"
        assert refused.stderr.startswith(f"Configuration: {name} "), refused.stderr


@pytest.mark.pure
def test_every_promise_names_a_test_that_exists() -> None:
    promises = (ROOT / "tests" / "PROMISES.md").read_text()
    promised = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", promises)
    assert len(promised) > 40
    missing = [
        f"{path}::{name}"
        for path, name in promised
        if not (ROOT / path).is_file() or f"def {name}(" not in (ROOT / path).read_text()
    ]
    assert not missing
