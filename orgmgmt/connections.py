"""Reads the settings of the master database, caches, e-mail and PUBLIC_URL for settings.py."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from .env import (
    DATA_DIR,
    DATABASE_CONFIGURED,
    DEBUG,
    DEVELOPMENT_SETUP,
    choice,
    env,
    number,
    refuse_placeholder,
    text,
)

# --- The master database ------------------------------------------------------------------------
# Query parameters allowed in a DATABASE_URL: how to connect, not where or as whom.
_URL_OPTIONS = frozenset(
    {"sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "channel_binding", "connect_timeout"}
    | {"keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"}
    | {"tcp_user_timeout", "target_session_attrs"}
)


def tls_options() -> dict[str, str]:
    """libpq's TLS options: MASTER_DB_SSLMODE and MASTER_DB_SSLROOTCERT."""
    sslmode = choice(
        "MASTER_DB_SSLMODE",
        default="prefer",
        among=("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    )
    options = {"sslmode": sslmode}
    if root_certificate := text("MASTER_DB_SSLROOTCERT"):
        options["sslrootcert"] = root_certificate
    return options


def master_database() -> dict[str, Any]:
    """The `default` entry: from DATABASE_URL, from MASTER_DB_*, or the embedded server's."""
    common = {
        "ENGINE": "organizations.master_backend",
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }
    if text("DATABASE_URL"):
        return database_url("DATABASE_URL") | common
    if DATABASE_CONFIGURED:
        return common | {
            "HOST": text("MASTER_DB_HOST", default="localhost"),
            "PORT": str(number("MASTER_DB_PORT", default=5432, at_most=65_535)),
            "NAME": text("MASTER_DB_NAME", default="master_org_db"),
            "USER": text("MASTER_DB_USER", default="postgres"),
            "PASSWORD": database_password(),
            "OPTIONS": tls_options(),
        }
    return common | embedded_database()


def database_password() -> str:
    """MASTER_DB_PASSWORD, unless it is an example's placeholder."""
    password = text("MASTER_DB_PASSWORD")
    refuse_placeholder("MASTER_DB_PASSWORD", password)
    return password


def database_url(name: str) -> dict[str, Any]:
    """A DATABASES entry without engine, from the URL in a setting."""
    url = text(name)
    if not url.startswith(("postgres://", "postgresql://")):
        raise ImproperlyConfigured(
            f"{name} does not name a PostgreSQL database, and no other kind is supported, such "
            "as SQLite: each organization gets its own database and role. Write "
            "postgres://USER:PASSWORD@HOST:PORT/NAME."
        )
    try:
        parsed: dict[str, Any] = env.db_url_config(url)
    except Exception:
        # `from None`: the parser's error can contain the password.
        raise ImproperlyConfigured(
            f"{name} cannot be parsed. Write postgres://USER:PASSWORD@HOST:PORT/NAME, with "
            "special characters in the password percent-encoded."
        ) from None
    if not parsed.get("NAME"):
        raise ImproperlyConfigured(
            f"{name} names no database. Write postgres://USER:PASSWORD@HOST:PORT/NAME."
        )
    refuse_placeholder(name, parsed.get("PASSWORD") or "")
    unknown = set(parsed.get("OPTIONS", {})) - _URL_OPTIONS
    if unknown:
        raise ImproperlyConfigured(
            f"{name} has unknown query parameters: {', '.join(sorted(unknown))}. Allowed are: "
            f"{', '.join(sorted(_URL_OPTIONS))}."
        )
    return {**parsed, "OPTIONS": {**tls_options(), **parsed.get("OPTIONS", {})}}


def embedded_programs() -> str:
    """The folder of the embedded PostgreSQL's programs; empty without them."""
    from .embedded import postgres, system

    if not postgres.available():
        return ""
    return str(system.wheel_folder() / "pginstall" / "bin")


def embedded_database() -> dict[str, Any]:
    """The DATABASES entry of the embedded PostgreSQL (orgmgmt/embedded/postgres.py)."""
    from .embedded import postgres

    missing = ImproperlyConfigured(
        "No database is configured. Set DATABASE_URL, or MASTER_DB_HOST and the like. For "
        "development, `make run` sets up its own PostgreSQL."
    )
    if not DEBUG or not postgres.available():
        raise missing
    server = postgres.EmbeddedPostgres(DATA_DIR)
    try:
        if DEVELOPMENT_SETUP and not server.is_initialised():
            with server:
                pass
        parameters = server.connection_parameters()
    except postgres.EmbeddedError as error:
        if DEVELOPMENT_SETUP:
            raise ImproperlyConfigured(str(error)) from error
        raise missing from error
    return {
        "HOST": parameters["host"],
        "PORT": str(parameters["port"]),
        "NAME": parameters["dbname"],
        "USER": parameters["user"],
        "PASSWORD": parameters["password"],
    }


# --- Caches -------------------------------------------------------------------------------------
def redis_url() -> str:
    """CACHE_URL, which names a Redis; empty if unset."""
    url = text("CACHE_URL").strip()
    how = "Write redis://:PASSWORD@HOST:PORT/NUMBER, or rediss:// for TLS"
    if url and not url.startswith(("redis://", "rediss://")):
        raise ImproperlyConfigured(f"CACHE_URL does not name a Redis. {how}.")
    try:
        parts = urlsplit(url)
        complete = bool(parts.hostname) and parts.port != 0
    except ValueError:
        complete = False
    if url and not (complete and re.fullmatch(r"(/[0-9]{0,3})?", parts.path)):
        # Without quoting it: it can contain the password.
        raise ImproperlyConfigured(
            f"CACHE_URL cannot be parsed. {how}, with special characters percent-encoded."
        )
    if url:
        refuse_placeholder("CACHE_URL", unquote(parts.password or ""))
    return url


def caches() -> dict[str, dict[str, Any]]:
    """`default` for the apps, and `throttles`, the counters shared by all processes."""
    # Without CACHE_URL `default` is local to each process: organizations' data must not be in the
    # master database.
    default: dict[str, Any] = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    throttles: dict[str, Any] = {"BACKEND": "organizations.throttling.master.MasterCounters"}
    if url := redis_url():
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        # If Redis is down, answer 503 at once instead of waiting.
        options = {
            "socket_timeout": 2,
            "socket_connect_timeout": 2,
            "retry": Retry(NoBackoff(), 1),
        }
        redis = {"LOCATION": url, "OPTIONS": options}
        default = redis | {"BACKEND": "django.core.cache.backends.redis.RedisCache"}
        throttles = redis | {"BACKEND": "organizations.throttling.redis.RedisCounters"}
    return {
        "default": default | {"KEY_FUNCTION": "organizations.tenancy.cache.make_key"},
        "throttles": throttles | {"KEY_FUNCTION": "organizations.tenancy.counters.hashed_key"},
    }


# --- Mails --------------------------------------------------------------------------------------
def mail_settings() -> dict[str, Any]:
    """Django's EMAIL_* from EMAIL_URL. Unset: print mails in development, send none otherwise."""
    url = text("EMAIL_URL")
    if not url:
        kind = "console" if DEBUG else "dummy"
        return {"EMAIL_BACKEND": f"django.core.mail.backends.{kind}.EmailBackend"}
    how = (
        "Write smtp+tls://USER:PASSWORD@HOST:587 (STARTTLS), smtp+ssl://…:465 or smtp://HOST:25, "
        "with special characters in the password percent-encoded; consolemail:// prints mails, "
        "filemail:///FOLDER keeps them, dummymail:// drops them"
    )
    try:
        parsed: dict[str, Any] = env.email_url_config(url)
    except Exception:
        # `from None`: the parser's error can contain the password.
        raise ImproperlyConfigured(f"EMAIL_URL cannot be parsed. {how}.") from None
    scheme = url.partition(":")[0].lower()
    is_smtp = scheme.startswith("smtp")
    if parsed.pop("OPTIONS", None) or (is_smtp and not parsed["EMAIL_HOST"]):
        raise ImproperlyConfigured(f"EMAIL_URL names no mail server. {how}.")
    if scheme == "filemail":
        parsed["EMAIL_FILE_PATH"] = f"/{parsed['EMAIL_FILE_PATH']}"
    ports = {"smtp": 25, "smtps": 587, "smtp+tls": 587, "smtp+ssl": 465}
    parsed["EMAIL_PORT"] = parsed["EMAIL_PORT"] or ports.get(scheme, 25)
    return parsed


def public_url(*, base_domain: str, allowed_hosts: Sequence[str]) -> str:
    """PUBLIC_URL without a trailing slash: the base of links in mails."""
    url = text("PUBLIC_URL").strip().rstrip("/")
    if url and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", url):
        raise ImproperlyConfigured(
            f"PUBLIC_URL is {url[:80]!r}. Set it to an address such as https://app.example.com."
        )
    host = re.sub(r"(:\d+)?(/.*)?$", "", url.partition("://")[2]).lower()
    below = base_domain and host.endswith(f".{base_domain}")
    if below and not host.startswith("{organization}."):
        raise ImproperlyConfigured(
            f"PUBLIC_URL is below ORG_BASE_DOMAIN, where a host names an organization: its links "
            f"would be refused. Set it to https://{{organization}}.{base_domain}, or to a host "
            "outside that domain."
        )
    if not url and not DEBUG and "*" in allowed_hosts and text("EMAIL_URL"):
        raise ImproperlyConfigured(
            "PUBLIC_URL is missing, and ALLOWED_HOSTS accepts any host: a stranger could make "
            "mailed links lead to their own host. Set PUBLIC_URL, or list the hosts."
        )
    return url
