"""What values may look like, in settings read by a process of their own."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from tests import processes

ROOT = Path(__file__).resolve().parents[2]


def read(expression: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What the expression prints of settings `s`."""
    code = (
        "import warnings; warnings.simplefilter('error')\n"
        f"from orgmgmt import settings as s; print({expression})"
    )
    base = {
        "PATH": os.environ["PATH"],
        "DEBUG": "off",
        "SECRET_KEY": "k9" + "abcdefghijklmnopqrstuvwxyz0123456789" * 2,
        "CREDENTIAL_KEYS": Fernet.generate_key().decode(),
        "MASTER_DB_HOST": "localhost",
    }
    return processes.run("-c", code, cwd=ROOT, env=base | environment)


def value(expression: str, **environment: str) -> str:
    done = read(expression, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_value_that_begins_with_a_dollar_sign_is_itself() -> None:
    assert value("s.DATABASES['default']['PASSWORD']", MASTER_DB_PASSWORD="$ecret") == "$ecret"


@pytest.mark.parametrize("name", ["MASTER_DB_SSLMODE"])
def test_the_tls_settings_count_beside_a_url(name: str) -> None:
    url = "postgres://u:p@db.example/m"
    options: Any = value(
        "s.DATABASES['default']['OPTIONS']", DATABASE_URL=url, **{name: "verify-full"}
    )
    assert options == "{'sslmode': 'verify-full'}"


def test_what_stands_behind_a_url_wins() -> None:
    url = "postgres://u:p@db.example/m?sslmode=require"
    assert value("s.DATABASES['default']['OPTIONS']", DATABASE_URL=url) == "{'sslmode': 'require'}"


@pytest.mark.parametrize("option", ["dbname", "host", "user", "service", "foo"])
def test_a_url_does_not_lead_elsewhere_behind_its_question_mark(option: str) -> None:
    done = read("s.DATABASES", DATABASE_URL=f"postgres://u:p@db.example/m?{option}=elsewhere")
    assert f"DATABASE_URL has unknown query parameters: {option}." in done.stderr


def test_a_file_that_is_no_text_is_named_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfe hush-hush")
    done = read("s.SECRET_KEY", SECRET_KEY="", SECRET_KEY_FILE=str(tmp_path / "key"))
    assert "SECRET_KEY_FILE names a file that cannot be read as text" in done.stderr
    assert "hush" not in done.stderr


@pytest.mark.parametrize(("host", "bind"), [("::", "[::]:8000"), ("0.0.0.0", "0.0.0.0:8000")])  # noqa: S104
def test_an_ipv6_address_is_bound_in_brackets(host: str, bind: str) -> None:
    assert value("s.BIND", HOST=host) == bind


def test_without_a_cache_url_no_tenants_data_are_cached_in_the_master() -> None:
    backends = "[c['BACKEND'] for c in s.CACHES.values()]"
    local = "django.core.cache.backends.locmem.LocMemCache"
    assert value(backends) == f"['{local}', 'organizations.throttling.master.MasterCounters']"


def test_a_cache_url_puts_both_caches_into_redis() -> None:
    caches = "[(c['BACKEND'].split('.')[-1], c['LOCATION']) for c in s.CACHES.values()]"
    url = "rediss://:p@cache.example:6380/2"
    assert value(caches, CACHE_URL=url) == f"[('RedisCache', '{url}'), ('RedisCounters', '{url}')]"


def test_a_rate_has_a_default_of_its_own_in_production_and_can_be_off() -> None:
    assert value("s.THROTTLE_SIGNUP") == "20/hour"
    assert value("s.THROTTLE_SIGNUP", DEBUG="on") == "10000/hour"
    assert value("s.THROTTLE_SIGNUP", THROTTLE_SIGNUP="off") == "None"
    assert value("s.THROTTLE_SIGNUP", THROTTLE_SIGNUP="7/day") == "7/day"


def test_origins_are_taken_as_browsers_send_them() -> None:
    given = "https://app.example.com, http://localhost:5173,https://[::1]:8443"
    assert value("s.CORS_ALLOWED_ORIGINS", CORS_ALLOWED_ORIGINS=given) == str(
        ["https://app.example.com", "http://localhost:5173", "https://[::1]:8443"]
    )
    assert value("s.CORS_ALLOWED_ORIGINS, s.CORS_ALLOW_CREDENTIALS") == "[] False"


@pytest.mark.parametrize(
    "origin",
    ["*", "https://*", "https://*.example.com", "app.example.com", "https://app.example.com/"]
    + ["null", "https://App.example.com", "ftp://app.example.com", "https://u@app.example.com"]
    + ["https://app.example.com:443", "http://app.example.com:80", "https://a.example:99999999"]
    + ["https://a.example:99999"],
)
def test_what_is_no_origin_stops_the_start(origin: str) -> None:
    done = read("s.CORS_ALLOWED_ORIGINS", CORS_ALLOWED_ORIGINS=f"https://a.example,{origin}")
    assert done.returncode != 0
    assert f"CORS_ALLOWED_ORIGINS has '{origin}'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("contact", ["security@example.com", "http://example.com", "me"])
def test_what_nobody_can_be_reached_by_stops_the_start(contact: str) -> None:
    done = read("s.SECURITY_CONTACT", SECURITY_CONTACT=contact)
    assert f"SECURITY_CONTACT contains '{contact}'" in done.stderr.splitlines()[-1]


_COOKIES = (
    "s.SESSION_COOKIE_NAME, s.CSRF_COOKIE_NAME, s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, "
    "s.CSRF_COOKIE_HTTPONLY, s.ORG_SESSION_COOKIE_NAME, s.ORG_SESSION_COOKIE_PATH"
)


def test_cookies_of_production_are_bound_to_this_host_and_to_https() -> None:
    bound = "__Host-sessionid __Host-csrftoken True True True __Host-org_session /"
    assert value(_COOKIES) == bound
    plain = "sessionid csrftoken False False True org_session /api/"
    assert value(_COOKIES, HTTPS_ONLY="off") == plain


def test_staff_stay_logged_in_for_a_working_day() -> None:
    assert value("s.SESSION_COOKIE_AGE") == str(12 * 3600)
    assert value("s.SESSION_COOKIE_AGE", STAFF_SESSION_HOURS="1") == "3600"


def test_production_promises_https_for_a_year() -> None:
    expression = "s.SECURE_SSL_REDIRECT, s.SECURE_HSTS_SECONDS"
    assert value(expression) == "True 31536000"
    assert value(expression, HTTPS_ONLY="off") == "False 0"


def test_looking_up_was_a_switch_and_keeps_its_spellings() -> None:
    expression = "s.ORG_PUBLIC_LOOKUP"
    assert value(expression) == value(expression, ORG_PUBLIC_LOOKUP="True") == "on"
    assert value(expression, ORG_PUBLIC_LOOKUP="0") == "off"
    assert value(expression, ORG_PUBLIC_LOOKUP="masked") == "masked"
    refused = read(expression, ORG_PUBLIC_LOOKUP="some").stderr.splitlines()[-1]
    assert "Set it to one of: on, masked, off." in refused


def test_other_hosts_and_browsers_lists_are_bound_by_hsts_on_request_alone() -> None:
    expression = "s.SECURE_HSTS_INCLUDE_SUBDOMAINS, s.SECURE_HSTS_PRELOAD"
    both = {"HSTS_INCLUDE_SUBDOMAINS": "on", "HSTS_PRELOAD": "on"}
    assert value(expression) == "False False"
    assert value(expression, **both) == "True True"
    assert value(expression, **both, HTTPS_ONLY="off") == "False False"
    refused = read(expression, HSTS_PRELOAD="on").stderr.splitlines()[-1]
    assert "Set HSTS_INCLUDE_SUBDOMAINS=on too" in refused
