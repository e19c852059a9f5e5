"""System checks of security settings: keys, TLS, CORS origins, hosts, proxies, time limits."""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core import checks

AppConfigs = Sequence[AppConfig] | None
Messages = Iterable[checks.CheckMessage]
_RANDOM = "Make a random one, such as `openssl rand -base64 48` prints"


def _guessable(key: str, *, length: int, characters: int) -> bool:
    return len(key) < length or len(set(key)) < characters


@checks.register(checks.Tags.security)
def check_keys(app_configs: AppConfigs = None, **kwargs: Any) -> Messages:
    """The keys are long, random, and not one and the same.

    With DEBUG off the settings refuse a weak one at the start; with DEBUG on this says it.
    """
    signing = {
        "SECRET_KEY": [settings.SECRET_KEY],
        "SECRET_KEY_FALLBACKS": settings.SECRET_KEY_FALLBACKS,
        "SIGNING_KEYS": settings.SIGNING_KEYS,
    }
    for name, keys in signing.items():
        if any(_guessable(key, length=32, characters=8) for key in keys):
            yield checks.Warning(
                f"{name} is too weak to sign with.",
                hint=f"{_RANDOM}, and set {name} to it.",
                id="organizations.W020",
            )
    if any(_guessable(key, length=43, characters=12) for key in settings.CREDENTIAL_KEYS):
        yield checks.Warning(
            "CREDENTIAL_KEYS holds a guessable key.",
            hint="Make one with cryptography.fernet.Fernet.generate_key(), put it first, and run "
            "`manage.py reseal_credentials`.",
            id="organizations.W020",
        )
    # The padding of base64 makes no other key of it.
    bare = {key.strip("=") for key in settings.CREDENTIAL_KEYS}
    for name, keys in signing.items():
        if any(key.strip("=") in bare for key in keys):
            yield checks.Warning(
                f"{name} holds one of CREDENTIAL_KEYS: who may sign can open database passwords.",
                hint=f"{_RANDOM}, and set {name} to it.",
                id="organizations.W021",
            )


def _is_remote(host: str) -> bool:
    """Whether the way there leaves this machine: no unix socket, no loopback address."""
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


@checks.register(checks.Tags.security, deploy=True)
def check_tls_to_the_database(app_configs: AppConfigs = None, **kwargs: Any) -> Messages:
    """A server elsewhere is one that has proved who it is."""
    entry = settings.DATABASES["default"]
    mode = entry.get("OPTIONS", {}).get("sslmode", "prefer")
    # libpq takes several hosts, with commas between.
    remote = [host for host in str(entry.get("HOST", "")).split(",") if _is_remote(host)]
    if remote and mode != "verify-full":
        yield checks.Warning(
            f"The database server {remote[0]} is reached with sslmode {mode}: whoever sits between "
            "can pretend to be it, and read every organization's rows.",
            hint="Set MASTER_DB_SSLMODE=verify-full, and MASTER_DB_SSLROOTCERT to the file of the "
            "authority that signed the server's certificate.",
            id="organizations.W022",
        )


@checks.register(checks.Tags.security, deploy=True)
def check_origins(app_configs: AppConfigs = None, **kwargs: Any) -> Messages:
    """What other sites' pages may do is said site by site, and by https."""
    everyone = getattr(settings, "CORS_ALLOW_ALL_ORIGINS", False)
    patterns = getattr(settings, "CORS_ALLOWED_ORIGIN_REGEXES", ())
    if everyone or patterns:
        yield checks.Warning(
            "CORS allows origins that nobody has named: "
            + ("every one." if everyone else "those that a pattern fits."),
            hint="Name each in CORS_ALLOWED_ORIGINS.",
            id="organizations.W023",
        )
    for name in ("CORS_ALLOWED_ORIGINS", "CSRF_TRUSTED_ORIGINS"):
        for origin in getattr(settings, name):
            if "*" in origin:
                yield checks.Warning(
                    f"{name} holds the pattern {origin}: whoever gets one such host is trusted.",
                    hint="Name each origin.",
                    id="organizations.W023",
                )
            if urlsplit(origin).scheme != "https":
                yield checks.Warning(
                    f"{name} holds {origin}, which is not https: whoever sits between decides "
                    "what its pages do.",
                    hint="Serve that site by https and name it so.",
                    id="organizations.W024",
                )


@checks.register(checks.Tags.security, deploy=True)
def check_hosts(app_configs: AppConfigs = None, **kwargs: Any) -> Messages:
    """A Host header that nobody has named is refused."""
    if "*" in settings.ALLOWED_HOSTS:
        yield checks.Warning(
            "ALLOWED_HOSTS holds *: any Host header is believed, and stands in the links that are "
            "sent.",
            hint="Name the hosts that the API is called by. /health is answered under any.",
            id="organizations.W025",
        )


@checks.register(checks.Tags.security, deploy=True)
def check_proxies(app_configs: AppConfigs = None, **kwargs: Any) -> Messages:
    """What is believed of a proxy is one picture: either it is there or it is not."""
    hops = settings.TRUSTED_PROXY_HOPS
    if settings.SECURE_PROXY_SSL_HEADER and not hops:
        yield checks.Warning(
            "TRUST_X_FORWARDED_PROTO is on and TRUSTED_PROXY_HOPS is 0: every client appears with "
            "the proxy's address, in the audit trail and for the rate limits.",
            hint="Set TRUSTED_PROXY_HOPS to the number of proxies that append to X-Forwarded-For.",
            id="organizations.W026",
        )
    if hops and settings.SECURE_SSL_REDIRECT and not settings.SECURE_PROXY_SSL_HEADER:
        yield checks.Warning(
            f"TRUSTED_PROXY_HOPS is {hops}, HTTPS_ONLY is on and TRUST_X_FORWARDED_PROTO is off: "
            "a request that the proxy took by https is redirected to https for ever.",
            hint="Set TRUST_X_FORWARDED_PROTO=on where the proxy sets or strips that header.",
            id="organizations.W026",
        )


@checks.register(checks.Tags.security, deploy=True)
def check_security_contact(app_configs: AppConfigs = None, **kwargs: Any) -> Messages:
    """Whoever finds a hole learns whom to tell."""
    if not settings.SECURITY_CONTACT:
        yield checks.Warning(
            "Nobody is named at /.well-known/security.txt, which is answered 404.",
            hint="Set SECURITY_CONTACT=mailto:security@your-domain.",
            id="organizations.W027",
        )


@checks.register
def check_time_limits(app_configs: AppConfigs = None, **kwargs: Any) -> Messages:
    """Each limit can be met before the next larger one ends the wait."""
    lock, statement = settings.LOCK_TIMEOUT_SECONDS, settings.STATEMENT_TIMEOUT_SECONDS
    request = settings.REQUEST_TIMEOUT_SECONDS
    if not lock < statement < request:
        yield checks.Warning(
            f"LOCK_TIMEOUT_SECONDS is {lock}, STATEMENT_TIMEOUT_SECONDS {statement} and "
            f"REQUEST_TIMEOUT_SECONDS {request}: the longer wait is cut off before it can be "
            "answered 503.",
            hint="Let each be less than the next.",
            id="organizations.W028",
        )
