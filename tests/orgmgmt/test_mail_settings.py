"""EMAIL_URL and PUBLIC_URL, right and wrong, in settings read by a process of their own."""

import pytest

from .test_settings_values import read, value

KINDS = "django.core.mail.backends."
_SERVER = "(s.EMAIL_HOST, s.EMAIL_PORT, s.EMAIL_HOST_USER, s.EMAIL_HOST_PASSWORD)"


def test_without_a_url_mails_are_printed_in_development_and_dropped_elsewhere() -> None:
    assert value("s.EMAIL_BACKEND", DEBUG="on") == f"{KINDS}console.EmailBackend"
    assert value("s.EMAIL_BACKEND") == f"{KINDS}dummy.EmailBackend"


@pytest.mark.parametrize(
    ("scheme", "port", "security"),
    [
        ("smtp", 25, "(False, False)"),
        ("smtp+tls", 587, "(True, False)"),
        ("smtps", 587, "(True, False)"),
        ("smtp+ssl", 465, "(False, True)"),
    ],
)
def test_a_mail_server_is_reached_as_its_url_says(scheme: str, port: int, security: str) -> None:
    url = f"{scheme}://me:p%40ss@mail.example"
    assert value(_SERVER, EMAIL_URL=url) == f"('mail.example', {port}, 'me', 'p@ss')"
    expression = "(getattr(s, 'EMAIL_USE_TLS', False), getattr(s, 'EMAIL_USE_SSL', False))"
    assert value(expression, EMAIL_URL=url) == security
    assert value("s.EMAIL_PORT", EMAIL_URL=f"{url}:2525") == "2525"


def test_mails_can_be_kept_in_a_folder() -> None:
    assert value("s.EMAIL_FILE_PATH", EMAIL_URL="filemail:///var/mails") == "/var/mails"


@pytest.mark.parametrize(
    "url", ["mail.example", "http://hush-hush@mail", "smtp://", "smtp://u:hush-hush@h:x", "smtp"]
)
def test_a_url_that_names_no_mail_server_stops_the_start(url: str) -> None:
    done = read("s.EMAIL_BACKEND", EMAIL_URL=url)
    assert done.returncode != 0
    assert "ImproperlyConfigured: EMAIL_URL " in done.stderr
    assert "hush-hush" not in done.stderr


def test_a_public_address_has_no_slash_at_its_end() -> None:
    assert value("s.PUBLIC_URL", PUBLIC_URL="https://app.example.com/") == "https://app.example.com"
    assert value("s.PUBLIC_URL") == ""


@pytest.mark.parametrize("url", ["app.example.com", "ftp://x", "https://x/?a=b", "https://u@x/"])
def test_a_public_address_that_is_none_stops_the_start(url: str) -> None:
    assert "PUBLIC_URL is " in read("s.PUBLIC_URL", PUBLIC_URL=url).stderr


def test_a_public_address_whose_links_would_be_refused_stops_the_start() -> None:
    base = {"ORG_BASE_DOMAIN": "example.com"}
    done = read("s.PUBLIC_URL", PUBLIC_URL="https://app.example.com:8443/x", **base)
    assert "PUBLIC_URL is below ORG_BASE_DOMAIN" in done.stderr
    for url in ("https://{organization}.example.com", "https://example.com", "https://other.org"):
        assert value("s.PUBLIC_URL", PUBLIC_URL=url, **base) == url


def test_mails_need_a_public_address_where_any_host_is_served() -> None:
    smtp = {"EMAIL_URL": "smtp://mail.example", "ALLOWED_HOSTS": "*"}
    assert "PUBLIC_URL is missing" in read("s.PUBLIC_URL", **smtp).stderr
    assert value("s.PUBLIC_URL", PUBLIC_URL="https://x.example", **smtp) == "https://x.example"
    assert value("s.PUBLIC_URL", ALLOWED_HOSTS="*") == ""
