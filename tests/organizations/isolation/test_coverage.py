"""Isolation coverage: every endpoint, credential and tenant app has an attempt."""

import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.apps import AppConfig, apps
from django.conf import settings as project
from django.db import models
from django.test.utils import isolate_apps
from django.urls import get_resolver, path
from pytest_django import Settings
from rest_framework_simplejwt.tokens import Token

from accounts import tokens
from accounts.models import LoginSession
from organizations.isolation import calls, keys, kinds, rows, runner
from organizations.isolation.stage import Stage
from orgmgmt import urls
from orgmgmt.edge.health import RootView

from .conftest import Try, attempt_named

SIGNED_IN = "A's credential used inside B, which has a login with the same id"


def test_every_kind_of_credential_is_tried() -> None:
    missing = kinds.untried()
    assert not missing, (
        f"Not tried: {sorted(missing)}. Add each to KINDS in organizations/isolation/kinds.py or "
        "in the app's isolation.py."
    )


def test_no_kind_is_tried_that_is_gone() -> None:
    covered = {name for kind in kinds.all_kinds().values() for name in kind.covers}
    gone = (covered | kinds.NO_CREDENTIALS) - kinds.existing()
    assert not gone, f"Remove {sorted(gone)} from KINDS."


def test_what_exists_is_read_off_the_code() -> None:
    assert {
        "token:access",
        "token:refresh",
        "login:token",
        "login:browser",
        "salt:accounts.browser-session",
        "link:reset",
        "link:verification",
    } <= kinds.existing()


def test_a_new_class_of_tokens_would_be_noticed(
    stage: Stage, try_: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    class InviteToken(Token):
        token_type = "invite"

    monkeypatch.setattr(tokens, "InviteToken", InviteToken, raising=False)
    assert kinds.untried() == {"token:invite"}
    over = attempt_named(SIGNED_IN).over
    assert over is not None and "token:invite" in over(stage)
    (result,) = try_(SIGNED_IN, "token:invite")
    assert result.outcome == "broken"
    assert result.how.startswith("not tried: add it to KINDS in organizations/isolation/kinds.py")


def test_a_new_kind_of_login_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Kind(models.TextChoices):
        TOKEN = "token"
        BROWSER = "browser"
        APP = "app"

    monkeypatch.setattr(LoginSession, "Kind", Kind)
    assert kinds.untried() == {"login:app"}


def test_a_new_salt_would_be_noticed(tmp_path: Path) -> None:
    module = ModuleType("signs")
    vars(module)["SALT"] = "named"
    for source, found in (
        ("dumps(1, salt='new')", "salt:new"),
        ("SALT = 'named'\ndef f(): return dumps(1, salt=SALT)", "salt:named"),
        ("def f(x): return TimestampSigner(salt=x.salt)", "salt:x.salt"),
        ("def f(x): return salted_hmac('positional', x)", "salt:positional"),
        ("def f(x): return signing.dumps(x)", "unsalted:signs"),
        ("def f(x): return signing.Signer().sign(x)", "unsalted:signs"),
    ):
        module.__file__ = str(tmp_path / f"{secrets.token_hex(4)}.py")
        Path(module.__file__).write_text(source)
        assert list(kinds._salts(module)) == [found]


def test_a_new_endpoint_would_be_noticed(try_: Try, monkeypatch: pytest.MonkeyPatch) -> None:
    added = path("api/v1/invites/", RootView.as_view())
    monkeypatch.setattr(urls, "urlpatterns", [added, *urls.urlpatterns])
    get_resolver("orgmgmt.urls").__dict__.pop("url_patterns", None)
    try:
        assert calls.endpoints() - set(calls.all_calls()) == {"GET /api/v1/invites/"}
        result = try_("A's call that names B in path and body", "GET /api/v1/invites/")[-1]
        assert result.outcome == "broken"
        assert result.how.startswith("not tried: add it to CALLS")
    finally:
        monkeypatch.undo()
        get_resolver("orgmgmt.urls").__dict__.pop("url_patterns", None)


@isolate_apps("accounts")
def test_a_new_model_would_be_noticed(try_: Try, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unknown(models.Model):
        class Meta:
            app_label = "accounts"

    monkeypatch.setattr(rows, "tenant_models", lambda: [Unknown])
    (result,) = try_("An instance of A saved in B", "accounts.Unknown")
    assert result.outcome == "broken"
    assert result.how.startswith("not tried: add it to ROWS")


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[str]:
    """A tenant app with a module `isolation`, as a team adds one."""
    package = tmp_path / "invoices_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "isolation.py").write_text(
        "from organizations.isolation import Call\n"
        "ROWS = {'invoices.Invoice': print}\n"
        "CALLS = {'GET /api/v1/invoices/': Call('member', 200)}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module = ModuleType(package.name)
    module.__path__ = [str(package)]
    config = AppConfig(package.name, __import__(package.name))
    found = [*apps.get_app_configs(), config]
    monkeypatch.setattr(apps, "get_app_configs", lambda: found)
    settings.TENANT_APPS = [*settings.TENANT_APPS, package.name]
    yield package.name
    for name in (package.name, f"{package.name}.isolation"):
        sys.modules.pop(name, None)


def test_a_tenant_app_brings_its_own_crossings(app: str) -> None:
    assert "invoices.Invoice" in rows.makers()
    own: Any = calls.all_calls()["GET /api/v1/invoices/"]
    assert (own.audience, own.status) == ("member", 200)


def test_every_limit_is_tried_or_counts_addresses() -> None:
    limits = {name for name in dir(project) if name.startswith("THROTTLE_")}
    assert limits == ({*keys.LIMITS} - {"LOGIN_FREE_FAILURES"}) | keys.ADDRESS_LIMITS


def test_every_attempt_has_a_name_of_its_own() -> None:
    names = [(each.family, each.name) for each in runner.attempts()]
    assert len(set(names)) == len(names)


def test_every_attempt_is_in_the_document_and_no_other() -> None:
    page = (Path(__file__).parents[3] / "docs" / "isolation.md").read_text()
    listed = {
        (cells[1].strip(), cells[2].strip())
        for cells in (line.split("|") for line in page.splitlines() if line.startswith("| "))
        if len(cells) > 3
    }
    tried = {(each.family, each.name) for each in runner.attempts()}
    assert not tried - listed, "add them to docs/isolation.md"
    assert not {row for row in listed if row[0] in {f for f, _ in tried}} - tried, "they are gone"
