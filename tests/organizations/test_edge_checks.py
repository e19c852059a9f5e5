"""The system checks of the settings that face the world."""

from collections.abc import Callable, Iterable

import pytest
from django.conf import settings as configured
from django.core import checks
from pytest_django import Settings

from organizations.checks import settings as edge


def said(check: Callable[[], Iterable[checks.CheckMessage]]) -> list[str]:
    """Ids and messages; each has a hint."""
    messages = list(check())
    assert all(message.hint for message in messages)
    return [f"{message.id} {message.msg}" for message in messages]


def test_the_settings_of_a_test_run_give_no_cause() -> None:
    for check in (
        edge.check_keys,
        edge.check_tls_to_the_database,
        edge.check_origins,
        edge.check_hosts,
        edge.check_proxies,
        edge.check_security_contact,
        edge.check_time_limits,
    ):
        assert said(check) == []


@pytest.mark.parametrize("secret", ["short", "a" * 60, "abcabc" * 10])
@pytest.mark.parametrize("name", ["SECRET_KEY", "SECRET_KEY_FALLBACKS", "SIGNING_KEYS"])
def test_a_weak_signing_key_is_warned_of(name: str, secret: str, settings: Settings) -> None:
    setattr(settings, name, secret if name == "SECRET_KEY" else [secret])
    assert said(edge.check_keys) == [f"organizations.W020 {name} is too weak to sign with."]


def test_a_guessable_sealing_key_is_warned_of(settings: Settings) -> None:
    settings.CREDENTIAL_KEYS = ["0" * 43 + "="]
    assert said(edge.check_keys) == ["organizations.W020 CREDENTIAL_KEYS contains a guessable key."]


def test_one_key_for_both_is_warned_of(settings: Settings) -> None:
    settings.SECRET_KEY = settings.CREDENTIAL_KEYS[0].rstrip("=")
    (message,) = said(edge.check_keys)
    assert message.startswith("organizations.W021 SECRET_KEY contains one of CREDENTIAL_KEYS")


@pytest.mark.parametrize("host", ["db.example", "10.0.0.7", "2001:db8::7", "/run/pg,db.example"])
@pytest.mark.parametrize("mode", ["disable", "prefer", "require", "verify-ca"])
def test_a_remote_server_without_proof_of_who_it_is_is_warned_of(
    host: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(configured.DATABASES["default"], "HOST", host)
    monkeypatch.setitem(configured.DATABASES["default"], "OPTIONS", {"sslmode": mode})
    (message,) = said(edge.check_tls_to_the_database)
    assert message.startswith("organizations.W022 The database server ")
    assert f"sslmode {mode}" in message


@pytest.mark.parametrize(
    ("host", "mode"),
    [
        ("db.example", "verify-full"),
        ("localhost", "prefer"),
        ("127.0.0.9", "prefer"),
        ("::1", "disable"),
        ("/run/postgresql", "prefer"),
        ("", "prefer"),
    ],
)
def test_a_server_that_is_here_or_has_proved_itself_is_not(
    host: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(configured.DATABASES["default"], "HOST", host)
    monkeypatch.setitem(configured.DATABASES["default"], "OPTIONS", {"sslmode": mode})
    assert said(edge.check_tls_to_the_database) == []


def test_origins_that_nobody_named_are_warned_of(settings: Settings) -> None:
    settings.CORS_ALLOW_ALL_ORIGINS = True
    assert said(edge.check_origins) == [
        "organizations.W023 CORS allows unlisted origins: all of them."
    ]
    settings.CORS_ALLOW_ALL_ORIGINS = False
    settings.CORS_ALLOWED_ORIGIN_REGEXES = [r".*"]
    (message,) = said(edge.check_origins)
    assert message.endswith("those that match a pattern.")


def test_a_pattern_in_the_origins_of_forms_is_warned_of(settings: Settings) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["https://*.example.com"]
    (message,) = said(edge.check_origins)
    assert message.startswith("organizations.W023 CSRF_TRUSTED_ORIGINS contains the pattern")


@pytest.mark.parametrize("name", ["CORS_ALLOWED_ORIGINS", "CSRF_TRUSTED_ORIGINS"])
def test_an_origin_without_tls_is_warned_of(name: str, settings: Settings) -> None:
    setattr(settings, name, ["https://a.example", "http://b.example"])
    (message,) = said(edge.check_origins)
    assert message.startswith(f"organizations.W024 {name} contains http://b.example")


def test_a_host_of_any_name_is_warned_of(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    (message,) = said(edge.check_hosts)
    assert message.startswith("organizations.W025 ALLOWED_HOSTS contains *")


PROTO = ("HTTP_X_FORWARDED_PROTO", "https")


@pytest.mark.parametrize(
    ("hops", "header", "redirect", "warned"),
    [
        (0, None, True, False),
        (1, PROTO, True, False),
        (1, None, False, False),
        (0, PROTO, True, True),
        (1, None, True, True),
    ],
)
def test_half_a_proxy_is_warned_of(
    hops: int, header: object, redirect: bool, warned: bool, settings: Settings
) -> None:
    settings.TRUSTED_PROXY_HOPS, settings.SECURE_PROXY_SSL_HEADER = hops, header
    settings.SECURE_SSL_REDIRECT = redirect
    messages = said(edge.check_proxies)
    assert [message[:18] for message in messages] == ["organizations.W026"] * warned


def test_nobody_to_tell_about_a_hole_is_warned_of(settings: Settings) -> None:
    settings.SECURITY_CONTACT = []
    (message,) = said(edge.check_security_contact)
    assert message.startswith("organizations.W027 /.well-known/security.txt names no contact")


@pytest.mark.parametrize(("lock", "statement", "request_"), [(30, 30, 60), (5, 60, 60), (9, 8, 7)])
def test_a_limit_that_can_never_be_met_is_warned_of(
    lock: int, statement: int, request_: int, settings: Settings
) -> None:
    settings.LOCK_TIMEOUT_SECONDS, settings.STATEMENT_TIMEOUT_SECONDS = lock, statement
    settings.REQUEST_TIMEOUT_SECONDS = request_
    (message,) = said(edge.check_time_limits)
    assert message.startswith("organizations.W028 LOCK_TIMEOUT_SECONDS is ")


def test_what_only_a_deployment_needs_is_said_by_check_deploy_alone() -> None:
    for check in (
        edge.check_tls_to_the_database,
        edge.check_origins,
        edge.check_hosts,
        edge.check_proxies,
        edge.check_security_contact,
    ):
        assert check in checks.registry.registry.deployment_checks
    for check in (edge.check_keys, edge.check_time_limits):
        assert check in checks.registry.registry.registered_checks
