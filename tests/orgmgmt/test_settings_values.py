"""Values of settings, by what the environment says."""

import pytest

from .environment import refusal, settings_of

pytestmark = pytest.mark.pure


def test_production_is_the_default() -> None:
    made = settings_of()
    assert (made.DEBUG, made.ALLOWED_HOSTS, made.SIMPLE_JWT["ALGORITHM"]) == (False, [], "HS256")
    assert made.SIMPLE_JWT["ACCESS_TOKEN_LIFETIME"].total_seconds() == 1800
    assert (made.SECURE_SSL_REDIRECT, made.SECURE_HSTS_SECONDS) == (True, 31536000)
    plain = settings_of(HTTPS_ONLY="off")
    assert (plain.SECURE_SSL_REDIRECT, plain.SECURE_HSTS_SECONDS) == (False, 0)


def test_half_of_a_processs_threads_are_one_organizations_at_most() -> None:
    for threads, found in (("1", (1, 7)), ("5", (2, 9)), ("8", (4, 13))):
        made = settings_of(WEB_THREADS=threads)
        assert found == (made.ORG_MAX_THREADS, made.ORG_CONNECTION_LIMIT)


def test_an_ipv6_address_is_bound_in_brackets() -> None:
    assert settings_of(HOST="::").BIND == "[::]:8000"
    assert settings_of(HOST="192.0.2.1").BIND == "192.0.2.1:8000"


def test_a_cache_url_puts_both_caches_into_redis() -> None:
    """Without one no tenant's data are cached in the master."""
    backends = [each["BACKEND"] for each in settings_of().CACHES.values()]
    local = "django.core.cache.backends.locmem.LocMemCache"
    assert backends == [local, "organizations.throttling.master.MasterCounters"]
    url = "rediss://:p@cache.example:6380/2"
    shared = settings_of(CACHE_URL=url).CACHES.values()
    assert [each["LOCATION"] for each in shared] == [url, url]
    assert [each["BACKEND"].rpartition(".")[2] for each in shared] == [
        "RedisCache",
        "RedisCounters",
    ]


def test_a_rate_has_a_default_of_its_own_in_production_and_can_be_off() -> None:
    assert settings_of().THROTTLE_SIGNUP == "20/hour"
    assert settings_of(DEBUG="on").THROTTLE_SIGNUP == "10000/hour"
    assert settings_of(THROTTLE_SIGNUP="off").THROTTLE_SIGNUP is None
    assert settings_of(THROTTLE_SIGNUP="7/day").THROTTLE_SIGNUP == "7/day"


def test_origins_are_taken_as_browsers_send_them() -> None:
    given = "https://app.example.com, http://localhost:5173,https://[::1]:8443"
    made = settings_of(CORS_ALLOWED_ORIGINS=given)
    assert [each.strip() for each in given.split(",")] == made.CORS_ALLOWED_ORIGINS
    assert made.CORS_ALLOW_CREDENTIALS is False
    for origin in (
        *("*", "null", "https://*", "https://*.example.com", "app.example.com"),
        *("https://app.example.com/", "https://App.example.com", "ftp://app.example.com"),
        *("https://u@app.example.com", "https://app.example.com:443", "http://a.example:80"),
        "https://a.example:99999",
    ):
        said = refusal(CORS_ALLOWED_ORIGINS=f"https://a.example,{origin}")
        assert f"CORS_ALLOWED_ORIGINS has '{origin}'" in said


def test_cookies_of_production_are_bound_to_this_host_and_to_https() -> None:
    def cookies(**changes: str) -> list[object]:
        made = settings_of(**changes)
        return [
            *(made.SESSION_COOKIE_NAME, made.SESSION_COOKIE_SECURE),
            *(made.CSRF_COOKIE_NAME, made.CSRF_COOKIE_SECURE, made.CSRF_COOKIE_HTTPONLY),
            *(made.ORG_SESSION_COOKIE_NAME, made.ORG_SESSION_COOKIE_PATH),
        ]

    bound = ["__Host-sessionid", True, "__Host-csrftoken", True, True, "__Host-org_session", "/"]
    assert cookies() == bound
    plain = ["sessionid", False, "csrftoken", False, True, "org_session", "/api/"]
    assert cookies(HTTPS_ONLY="off") == plain


def test_staff_stay_logged_in_for_a_working_day() -> None:
    assert settings_of().SESSION_COOKIE_AGE == 12 * 3600
    assert settings_of(STAFF_SESSION_HOURS="1").SESSION_COOKIE_AGE == 3600


def test_looking_up_was_a_switch_and_keeps_its_spellings() -> None:
    for spelling, kept in {"": "on", "True": "on", "0": "off", "masked": "masked"}.items():
        assert kept == settings_of(ORG_PUBLIC_LOOKUP=spelling).ORG_PUBLIC_LOOKUP


def test_hsts_binds_other_hosts_and_browsers_lists_on_request_alone() -> None:
    def hsts(**changes: str) -> tuple[bool, bool]:
        made = settings_of(**changes)
        return made.SECURE_HSTS_INCLUDE_SUBDOMAINS, made.SECURE_HSTS_PRELOAD

    both = {"HSTS_INCLUDE_SUBDOMAINS": "on", "HSTS_PRELOAD": "on"}
    assert hsts() == (False, False)
    assert hsts(**both) == (True, True)
    assert hsts(**both, HTTPS_ONLY="off") == (False, False)
