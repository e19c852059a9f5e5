"""System checks of settings: keys, TLS, CORS origins, hosts, proxies, time limits, threads,
folders."""

import ipaddress
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core import checks

AppConfigs = Sequence[AppConfig] | None
Messages = Iterable[checks.CheckMessage]
_RANDOM = "Generate a random one, for example with `openssl rand -base64 48`"


def _guessable(key: str, *, length: int, characters: int) -> bool:
    return len(key) < length or len(set(key)) < characters


@checks.register(checks.Tags.security)
def check_keys(app_configs: AppConfigs = None, **kwargs: Any) -> Messages:
    """Keys must be long, random and different.

    With DEBUG off the settings refuse a weak key at the start; with DEBUG on this check warns.
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
            "CREDENTIAL_KEYS contains a guessable key.",
            hint="Make one with cryptography.fernet.Fernet.generate_key(), put it first, and run "
            "`manage.py reseal_credentials`.",
            id="organizations.W020",
        )
    # Base64 padding does not make it another key.
    bare = {key.strip("=") for key in settings.CREDENTIAL_KEYS}
    for name, keys in signing.items():
        if any(key.strip("=") in bare for key in keys):
            yield checks.Warning(
                f"{name} contains one of CREDENTIAL_KEYS: signers can decrypt database passwords.",
                hint=f"{_RANDOM}, and set {name} to it.",
                id="organizations.W021",
            )


def _is_remote(host: str) -> bool:
    """Whether the host is another machine: no unix socket, no loopback address."""
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


@checks.register(checks.Tags.security, deploy=True)
def check_tls_to_the_database(app_configs: AppConfigs = None, **kwargs: Any) -> Messages:
    """A remote server must prove its identity by TLS."""
    entry = settings.DATABASES["default"]
    mode = entry.get("OPTIONS", {}).get("sslmode", "prefer")
    # libpq takes several hosts, with commas between.
    remote = [host for host in str(entry.get("HOST", "")).split(",") if _is_remote(host)]
    if remote and mode != "verify-full":
        yield checks.Warning(
            f"The database server {remote[0]} is reached with sslmode {mode}: an attacker on the "
            "network can impersonate it and read every organization's data.",
            hint="Set MASTER_DB_SSLMODE=verify-full, and MASTER_DB_SSLROOTCERT to the certificate "
            "file of the authority that signed the server's certificate.",
            id="organizations.W022",
        )


@checks.register(checks.Tags.security, deploy=True)
def check_origins(app_configs: AppConfigs = None, **kwargs: Any) -> Messages:
    """Trusted origins must be listed one by one, with https."""
    everyone = getattr(settings, "CORS_ALLOW_ALL_ORIGINS", False)
    patterns = getattr(settings, "CORS_ALLOWED_ORIGIN_REGEXES", ())
    if everyone or patterns:
        yield checks.Warning(
            "CORS allows unlisted origins: "
            + ("all of them." if everyone else "those that match a pattern."),
            hint="List each in CORS_ALLOWED_ORIGINS.",
            id="organizations.W023",
        )
    for name in ("CORS_ALLOWED_ORIGINS", "CSRF_TRUSTED_ORIGINS"):
        for origin in getattr(settings, name):
            if "*" in origin:
                yield checks.Warning(
                    f"{name} contains the pattern {origin}: whoever gets such a host is trusted.",
                    hint="List each origin.",
                    id="organizations.W023",
                )
            if urlsplit(origin).scheme != "https":
                yield checks.Warning(
                    f"{name} contains {origin}, which is not https: an attacker on the network "
                    "controls its pages.",
                    hint="Serve that site by https and list it so.",
                    id="organizations.W024",
                )


@checks.register(checks.Tags.security, deploy=True)
def check_hosts(app_configs: AppConfigs = None, **kwargs: Any) -> Messages:
    """Only listed Host headers may be accepted."""
    if "*" in settings.ALLOWED_HOSTS:
        yield checks.Warning(
            "ALLOWED_HOSTS contains *: any Host header is accepted, and used in mailed links.",
            hint="List the API's host names. /health answers for any host.",
            id="organizations.W025",
        )


@checks.register(checks.Tags.security, deploy=True)
def check_proxies(app_configs: AppConfigs = None, **kwargs: Any) -> Messages:
    """The proxy settings must be consistent."""
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
            "https requests that come through the proxy are redirected in a loop.",
            hint="Set TRUST_X_FORWARDED_PROTO=on if the proxy always sets or strips that header.",
            id="organizations.W026",
        )


@checks.register(checks.Tags.security, deploy=True)
def check_security_contact(app_configs: AppConfigs = None, **kwargs: Any) -> Messages:
    """There should be a contact for vulnerability reports."""
    if not settings.SECURITY_CONTACT:
        yield checks.Warning(
            "/.well-known/security.txt names no contact and answers 404.",
            hint="Set SECURITY_CONTACT=mailto:security@your-domain.",
            id="organizations.W027",
        )


@checks.register
def check_time_limits(app_configs: AppConfigs = None, **kwargs: Any) -> Messages:
    """Each timeout must be shorter than the next larger one."""
    lock, statement = settings.LOCK_TIMEOUT_SECONDS, settings.STATEMENT_TIMEOUT_SECONDS
    request = settings.REQUEST_TIMEOUT_SECONDS
    if not lock < statement < request:
        yield checks.Warning(
            f"LOCK_TIMEOUT_SECONDS is {lock}, STATEMENT_TIMEOUT_SECONDS {statement} and "
            f"REQUEST_TIMEOUT_SECONDS {request}: the longer timeout cuts requests off before the "
            "shorter one can answer 503.",
            hint="Make each less than the next.",
            id="organizations.W028",
        )


@checks.register(checks.Tags.security, deploy=True)
def check_shares(app_configs: AppConfigs = None, **kwargs: Any) -> Messages:
    """No organization's database may block a whole process."""
    if settings.ORG_MAX_THREADS >= settings.WEB_THREADS:
        yield checks.Warning(
            f"ORG_MAX_THREADS is {settings.ORG_MAX_THREADS} of {settings.WEB_THREADS} threads: one "
            "organization with a slow database can block a whole process.",
            hint="Lower it, or raise WEB_THREADS.",
            id="organizations.W006",
        )


@checks.register
def check_aliases(app_configs: AppConfigs = None, **kwargs: Any) -> Messages:
    """Each thread of a process can work for another organization at the same time, and each
    connection needs an alias."""
    threads = settings.WEB_THREADS
    why_threads = f"a process has {threads} threads: requests will wait, or be answered 503."
    for name, least, why in (
        ("ORG_MAX_CONNECTIONS", threads, why_threads),
        ("ORG_MAX_ALIASES", threads, why_threads),
        (
            "ORG_MAX_ALIASES",
            settings.ORG_MAX_CONNECTIONS,
            f"ORG_MAX_CONNECTIONS is {settings.ORG_MAX_CONNECTIONS}: connections will be closed "
            "for lack of an alias.",
        ),
    ):
        if getattr(settings, name) < least:
            yield checks.Warning(
                f"{name} is {getattr(settings, name)}, and {why}",
                hint=f"Set it to at least {least}.",
                id="organizations.W005",
            )
            return


@checks.register
def check_exports_root(app_configs: AppConfigs = None, **kwargs: Any) -> Messages:
    """Exports must not be among the files that they contain, nor among those served to all."""
    exports = Path(settings.EXPORTS_ROOT).resolve()
    for name in ("MEDIA_ROOT", "STATIC_ROOT"):
        if exports.is_relative_to(Path(getattr(settings, name)).resolve()):
            yield checks.Error(
                f"EXPORTS_ROOT is inside {name}.",
                hint="Set EXPORTS_ROOT to a folder of its own.",
                id="organizations.E050",
            )
