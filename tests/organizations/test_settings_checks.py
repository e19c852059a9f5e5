"""System checks of settings that matter in public: keys, hosts, origins, proxies, TLS."""

from collections.abc import Callable, Iterable
from typing import Any
from unittest.mock import patch

import pytest
from django.conf import settings as configured
from django.core import checks
from django.test import override_settings
from pytest_django import Settings

from organizations.checks import settings as edge

pytestmark = pytest.mark.pure

DEPLOYMENT = (
    edge.check_tls_to_the_database,
    edge.check_origins,
    edge.check_hosts,
    edge.check_proxies,
    edge.check_security_contact,
)
ALWAYS = (edge.check_keys, edge.check_time_limits)
Check = Callable[[], Iterable[checks.CheckMessage]]


def said(check: Check) -> list[str]:
    """Ids and messages; each has a hint."""
    messages = list(check())
    assert all(message.hint for message in messages)
    return [f"{message.id} {message.msg}" for message in messages]


def assert_each_warns(check: Check, *cases: tuple[dict[str, Any], str]) -> None:
    """Each case's settings give one message that begins with this; none if it is empty."""
    wrong = {}
    for changes, beginning in cases:
        with override_settings(**changes):
            messages = said(check)
        if len(messages) != bool(beginning) or not "".join(messages).startswith(beginning):
            wrong[str(changes)] = messages
    assert wrong == {}


def test_the_settings_of_a_test_run_give_no_cause() -> None:
    assert [message for check in (*DEPLOYMENT, *ALWAYS) for message in said(check)] == []


def test_what_only_a_deployment_needs_is_said_by_check_deploy_alone() -> None:
    assert checks.registry.registry.deployment_checks >= {*DEPLOYMENT}
    assert checks.registry.registry.registered_checks >= {*ALWAYS}


def test_weak_and_shared_keys_are_warned_of() -> None:
    sealing = configured.CREDENTIAL_KEYS[0]
    assert_each_warns(
        edge.check_keys,
        *(
            ({name: secret}, f"organizations.W020 {name} is too weak to sign with.")
            for name, secret in (
                ("SECRET_KEY", "short"),
                ("SECRET_KEY", "abcabc" * 10),
                ("SECRET_KEY_FALLBACKS", ["a" * 60]),
                ("SIGNING_KEYS", ["a" * 60]),
            )
        ),
        (
            {"CREDENTIAL_KEYS": ["0" * 43 + "="]},
            "organizations.W020 CREDENTIAL_KEYS contains a guessable key.",
        ),
        (
            {"SECRET_KEY": sealing.rstrip("=")},
            "organizations.W021 SECRET_KEY contains one of CREDENTIAL_KEYS",
        ),
    )


def test_a_remote_database_server_must_prove_who_it_is() -> None:
    wrong = {}
    for host, mode, remote in (
        ("db.example", "disable", "db.example"),
        ("10.0.0.7", "prefer", "10.0.0.7"),
        ("2001:db8::7", "require", "2001:db8::7"),
        ("db.example", "verify-ca", "db.example"),
        ("/run/pg,db.example", "prefer", "db.example"),
        ("db.example", "verify-full", ""),
        *((host, "prefer", "") for host in ("localhost", "127.0.0.9", "::1", "/run/pg", "")),
    ):
        entry = {"HOST": host, "OPTIONS": {"sslmode": mode}}
        with patch.dict(configured.DATABASES["default"], entry):
            messages = said(edge.check_tls_to_the_database)
        expected = f"organizations.W022 The database server {remote} is reached with sslmode {mode}"
        if [each.partition(": an attacker")[0] for each in messages] != [expected] * bool(remote):
            wrong[host, mode] = messages
    assert wrong == {}


def test_unlisted_origins_and_hosts_are_warned_of() -> None:
    assert_each_warns(
        edge.check_origins,
        (
            {"CORS_ALLOW_ALL_ORIGINS": True},
            "organizations.W023 CORS allows unlisted origins: all of them.",
        ),
        (
            {"CORS_ALLOWED_ORIGIN_REGEXES": [r".*"]},
            "organizations.W023 CORS allows unlisted origins: those that match a pattern.",
        ),
        (
            {"CSRF_TRUSTED_ORIGINS": ["https://*.example.com"]},
            "organizations.W023 CSRF_TRUSTED_ORIGINS contains the pattern",
        ),
        *(
            (
                {name: ["https://a.example", "http://b.example"]},
                f"organizations.W024 {name} contains http://b.example",
            )
            for name in ("CORS_ALLOWED_ORIGINS", "CSRF_TRUSTED_ORIGINS")
        ),
    )
    assert_each_warns(
        edge.check_hosts,
        ({"ALLOWED_HOSTS": ["*"]}, "organizations.W025 ALLOWED_HOSTS contains *"),
    )


def test_half_a_proxy_is_warned_of() -> None:
    def proxy(hops: int, header: object, redirect: bool) -> dict[str, Any]:
        return {
            "TRUSTED_PROXY_HOPS": hops,
            "SECURE_PROXY_SSL_HEADER": header,
            "SECURE_SSL_REDIRECT": redirect,
        }

    proto = ("HTTP_X_FORWARDED_PROTO", "https")
    assert_each_warns(
        edge.check_proxies,
        (proxy(0, None, True), ""),
        (proxy(1, proto, True), ""),
        (proxy(1, None, False), ""),
        (proxy(0, proto, True), "organizations.W026 TRUST_X_FORWARDED_PROTO is on"),
        (proxy(1, None, True), "organizations.W026 TRUSTED_PROXY_HOPS is 1"),
    )


def test_a_missing_security_contact_is_warned_of() -> None:
    assert_each_warns(
        edge.check_security_contact,
        ({"SECURITY_CONTACT": []}, "organizations.W027 /.well-known/security.txt names no contact"),
    )


def test_a_time_limit_that_can_never_be_met_is_warned_of() -> None:
    assert_each_warns(
        edge.check_time_limits,
        *(
            (
                {
                    "LOCK_TIMEOUT_SECONDS": lock,
                    "STATEMENT_TIMEOUT_SECONDS": statement,
                    "REQUEST_TIMEOUT_SECONDS": request,
                },
                f"organizations.W028 LOCK_TIMEOUT_SECONDS is {lock}",
            )
            for lock, statement, request in ((30, 30, 60), (5, 60, 60), (9, 8, 7))
        ),
    )


def test_exports_among_the_files_that_they_contain_are_an_error() -> None:
    assert_each_warns(
        edge.check_exports_root,
        ({"MEDIA_ROOT": "/srv/files", "EXPORTS_ROOT": "/srv/exports"}, ""),
        (
            {"MEDIA_ROOT": "/srv/files", "EXPORTS_ROOT": "/srv/files"},
            "organizations.E050 EXPORTS_ROOT is inside MEDIA_ROOT.",
        ),
        (
            {"STATIC_ROOT": "/srv/static", "EXPORTS_ROOT": "/srv/static/exports"},
            "organizations.E050 EXPORTS_ROOT is inside STATIC_ROOT.",
        ),
    )


def test_a_share_of_all_threads_is_warned_of_by_check_deploy_alone(settings: Settings) -> None:
    assert list(edge.check_shares()) == []
    settings.ORG_MAX_THREADS = settings.WEB_THREADS
    assert [message.id for message in edge.check_shares()] == ["organizations.W006"]
    assert edge.check_shares in checks.registry.registry.deployment_checks


def test_ceilings_below_what_threads_use_are_warned_of(settings: Settings) -> None:
    settings.WEB_THREADS = 4
    assert list(edge.check_aliases()) == []
    for kept, aliases, said in (
        (3, 1_000, "ORG_MAX_CONNECTIONS is 3, and a process has 4 threads"),
        (32, 3, "ORG_MAX_ALIASES is 3, and a process has 4 threads"),
        (32, 31, "ORG_MAX_ALIASES is 31, and ORG_MAX_CONNECTIONS is 32"),
    ):
        settings.ORG_MAX_CONNECTIONS, settings.ORG_MAX_ALIASES = kept, aliases
        (message,) = edge.check_aliases()
        assert message.id == "organizations.W005"
        assert message.msg.startswith(said)
