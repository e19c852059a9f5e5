"""The settings EMAIL_URL and PUBLIC_URL, right and wrong."""

import pytest

from .environment import refusal, settings_of

pytestmark = pytest.mark.pure

KINDS = "django.core.mail.backends."


def test_without_email_url_mails_are_printed_in_development_or_dropped() -> None:
    assert f"{KINDS}console.EmailBackend" == settings_of(DEBUG="on").ORG_EMAIL_BACKEND
    assert f"{KINDS}dummy.EmailBackend" == settings_of().ORG_EMAIL_BACKEND


def test_a_mail_server_is_reached_as_its_url_says() -> None:
    for scheme, port, tls, ssl in (
        ("smtp", 25, False, False),
        ("smtp+tls", 587, True, False),
        ("smtps", 587, True, False),
        ("smtp+ssl", 465, False, True),
    ):
        url = f"{scheme}://me:p%40ss@mail.example"
        made = settings_of(EMAIL_URL=url)
        server = (made.EMAIL_HOST, made.EMAIL_HOST_USER, made.EMAIL_HOST_PASSWORD)
        assert server == ("mail.example", "me", "p@ss"), scheme
        secured = (getattr(made, "EMAIL_USE_TLS", False), getattr(made, "EMAIL_USE_SSL", False))
        assert (made.EMAIL_PORT, *secured) == (port, tls, ssl), scheme
        assert settings_of(EMAIL_URL=f"{url}:2525").EMAIL_PORT == 2525
    assert settings_of(EMAIL_URL="filemail:///var/mails").EMAIL_FILE_PATH == "/var/mails"


def test_a_url_that_names_no_mail_server_stops_the_start() -> None:
    for url in ("mail.example", "http://hush-hush@mail", "smtp://", "smtp://u:hush-hush@h:x"):
        said = refusal(EMAIL_URL=url)
        assert said.startswith("EMAIL_URL ") and "hush-hush" not in said, url


def test_a_public_address_is_kept_without_the_slash_at_its_end() -> None:
    assert settings_of().PUBLIC_URL == ""
    made = settings_of(PUBLIC_URL="https://app.example.com/")
    assert made.PUBLIC_URL == "https://app.example.com"
    for url in ("app.example.com", "ftp://x", "https://x/?a=b", "https://u@x/"):
        assert "PUBLIC_URL is " in refusal(PUBLIC_URL=url), url


def test_a_public_address_whose_links_would_be_refused_stops_the_start() -> None:
    base = {"ORG_BASE_DOMAIN": "example.com"}
    said = refusal(PUBLIC_URL="https://app.example.com:8443/x", **base)
    assert "PUBLIC_URL is below ORG_BASE_DOMAIN" in said
    for url in ("https://{organization}.example.com", "https://example.com", "https://other.org"):
        assert url == settings_of(PUBLIC_URL=url, **base).PUBLIC_URL


def test_mails_need_a_public_address_where_any_host_is_served() -> None:
    smtp = {"EMAIL_URL": "smtp://mail.example", "ALLOWED_HOSTS": "*"}
    assert "PUBLIC_URL is missing" in refusal(**smtp)
    assert settings_of(PUBLIC_URL="https://x.example", **smtp).PUBLIC_URL == "https://x.example"
    assert settings_of(ALLOWED_HOSTS="*").PUBLIC_URL == ""
