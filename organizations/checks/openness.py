"""System checks of what strangers may do and see: passwords, mails, sign-up and lookup."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks

_WELL_KNOWN_PASSWORDS = {"postgres", "password", "admin", "root", "secret", "changeme", "123456"}


@checks.register(checks.Tags.security, deploy=True)
def check_database_password(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> Iterable[checks.CheckMessage]:
    """The master's password must not be a well-known one."""
    if settings.DATABASES["default"].get("PASSWORD", "").lower() in _WELL_KNOWN_PASSWORDS:
        yield checks.Warning(
            "The master database's password is a well-known one.",
            hint="Give the role a random password and set MASTER_DB_PASSWORD to it.",
            id="organizations.W002",
        )


@checks.register(checks.Tags.security, deploy=True)
def check_mails(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> Iterable[checks.CheckMessage]:
    """E-mail must be sent, with links to a fixed host."""
    if settings.ORG_EMAIL_BACKEND.endswith((".dummy.EmailBackend", ".console.EmailBackend")):
        yield checks.Warning(
            "E-mail is not configured: users cannot reset passwords or verify addresses.",
            hint="Set EMAIL_URL to your mail server: smtp+tls://USER:PASSWORD@HOST:587.",
            id="organizations.W040",
        )
        return
    if not settings.PUBLIC_URL:
        yield checks.Warning(
            "PUBLIC_URL is not set: links in e-mails use whichever host of ALLOWED_HOSTS the "
            "request named.",
            hint="Set it to the address that people use, such as https://app.example.com.",
            id="organizations.W041",
        )
    if settings.DEFAULT_FROM_EMAIL == "webmaster@localhost":
        yield checks.Warning(
            "E-mails come from webmaster@localhost, which most mail servers reject.",
            hint="Set DEFAULT_FROM_EMAIL, such as Acme <noreply@example.com>.",
            id="organizations.W042",
        )


@checks.register(checks.Tags.security, deploy=True)
def check_openness(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> Iterable[checks.CheckMessage]:
    """What strangers may do, and how often."""
    if not settings.THROTTLES:
        yield checks.Error(
            "THROTTLES is off: passwords can be guessed without limit.",
            hint="Remove it; it is for load tests only. Each rate has its own setting.",
            id="organizations.E030",
        )
    if settings.ORG_SIGNUP == "open":
        yield checks.Warning(
            "Anybody may sign up, and each sign-up creates a database.",
            hint="Set ORG_SIGNUP=staff. If open sign-up is intended, set ORG_MAX_ORGANIZATIONS to "
            "what the disk can hold.",
            id="organizations.W031",
        )
    if settings.ORG_PUBLIC_LOOKUP == "on":
        yield checks.Warning(
            "Anybody can look up organizations and their first admins' e-mail addresses.",
            hint="Set ORG_PUBLIC_LOOKUP=masked or off, unless clients of the first edition need "
            "the addresses.",
            id="organizations.W032",
        )
