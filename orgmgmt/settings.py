"""All settings. The only file that reads the environment.

Order, first found wins: the process's environment, `.env` beside manage.py, and for development
`development.env` in DATA_DIR, which `make run` writes. Each name also works as <NAME>_FILE, a file
that holds the value. An invalid value stops the start with one sentence.
"""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import environ
from corsheaders.defaults import default_headers
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from orgmgmt import __version__, development

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.FileAwareEnv()
env.read_env(BASE_DIR / ".env")


def text(name: str, *, default: str = "") -> str:
    """The value, or that of <NAME>_FILE without its final newline."""
    try:
        # Not env.str(): it takes a value starting with a dollar sign for another variable.
        value: str = env.ENVIRON.get(name, default)
    except (OSError, UnicodeError):
        # `from None`: the undecodable bytes may be the secret.
        raise ImproperlyConfigured(
            f"{name}_FILE names a file that cannot be read as text."
        ) from None
    return value.rstrip("\r\n")


def boolean(name: str, *, default: bool) -> bool:
    """on/off, true/false, yes/no, 1/0; any other value stops the start."""
    raw = text(name).strip().lower()
    if raw in {"on", "true", "yes", "1"}:
        return True
    if raw in {"off", "false", "no", "0"}:
        return False
    if raw:
        raise ImproperlyConfigured(f"{name} is {raw!r}. Set it to on or off.")
    return default


def number(name: str, *, default: int, at_most: int, at_least: int = 1) -> int:
    """A whole number from `at_least` to `at_most`; any other value stops the start."""
    raw = text(name).strip() or str(default)
    plausible = raw.isascii() and raw.isdigit() and len(raw) < 12
    if not plausible or not at_least <= int(raw) <= at_most:
        raise ImproperlyConfigured(
            f"{name} is {raw[:40]!r}. Set it to a whole number from {at_least} to {at_most}."
        )
    return int(raw)


def choice(name: str, *, default: str, among: tuple[str, ...]) -> str:
    """One of a few words; any other value stops the start. on/off also have their synonyms."""
    raw = text(name).strip() or default
    if {"on", "off"} <= set(among):
        raw = {"true": "on", "yes": "on", "1": "on", "false": "off", "no": "off", "0": "off"}.get(
            raw.lower(), raw
        )
    if raw not in among:
        raise ImproperlyConfigured(f"{name} is {raw!r}. Set it to one of: {', '.join(among)}.")
    return raw


def rate(name: str, *, default: str = "off", development: str = "off") -> str | None:
    """A rate such as `100/min`, or None for `off`; any other value stops the start.

    development: the default with DEBUG on.
    """
    raw = text(name).strip() or (development if DEBUG else default)
    if raw == "off":
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,8}/(s|sec|m|min|h|hour|d|day)", raw):
        raise ImproperlyConfigured(
            f"{name} is {raw[:40]!r}. Set it to a rate like 100/min, or off."
        )
    return raw


def names(name: str, *, default: str = "") -> list[str]:
    """A comma-separated list."""
    return [part.strip() for part in text(name, default=default).split(",") if part.strip()]


def origins(name: str) -> list[str]:
    """Comma-separated origins as a browser sends them; any other value stops the start."""
    found = names(name)
    for origin in found:
        shaped = re.fullmatch(
            r"(https?)://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?", origin
        )
        port = int(shaped[2] or 0) if shaped else 0
        if not shaped or port > 65_535 or (shaped[1], port) in (("http", 80), ("https", 443)):
            raise ImproperlyConfigured(
                f"{name} has {origin[:80]!r}. Write each origin as https://app.example.com: in "
                "lower case, with a port only if it is not the default, and with nothing after it. "
                "Patterns are not supported: name each origin."
            )
    return found


def contacts(name: str) -> list[str]:
    """Comma-separated addresses as RFC 9116 wants them; any other value stops the start."""
    found = names(name)
    for contact in found:
        if not re.fullmatch(r"(mailto:[^@\s]+@[^@\s]+|https://\S+|tel:\+?[0-9.()-]+)", contact):
            raise ImproperlyConfigured(
                f"{name} contains {contact[:80]!r}. Write mailto:security@example.com, an https:// "
                "address, or tel: and a number."
            )
    return found


# --- Development or production ------------------------------------------------------------------
DATA_DIR = Path(text("DATA_DIR") or BASE_DIR / ".data").absolute()
_DATABASE_CONFIGURED = any(
    text(name)
    for name in (
        "DATABASE_URL",
        *(f"MASTER_DB_{part}" for part in ("HOST", "PORT", "NAME", "USER")),
    )
)
# `make run` sets it: first create what a checkout lacks, its own keys and an embedded server.
_DEVELOPMENT_SETUP = boolean("DEVELOPMENT_SETUP", default=False)
_DEBUG_WANTED = boolean("DEBUG", default=_DEVELOPMENT_SETUP)
if _DEVELOPMENT_SETUP and _DEBUG_WANTED:
    development.ensure_environment(DATA_DIR)
# With a database configured, a leftover `development.env` must not switch DEBUG on.
if _DEBUG_WANTED or (not _DATABASE_CONFIGURED and boolean("DEBUG", default=True)):
    _development_file = DATA_DIR / development.FILE_NAME
    if _development_file.exists() and not os.access(_development_file, os.R_OK):
        raise ImproperlyConfigured(
            f"{_development_file} belongs to {_development_file.owner()}, and you may not read it. "
            "Run as that user, or set DATA_DIR to another folder."
        )
    env.read_env(_development_file)

DEBUG = boolean("DEBUG", default=False)
# Off only for plain http with DEBUG off: a trial on one's own machine.
HTTPS_ONLY = boolean("HTTPS_ONLY", default=not DEBUG)

# --- Secrets ------------------------------------------------------------------------------------
_WELL_KNOWN = (
    "your-super-secret-key-change-this-in-production",
    "change-me",
    "changeme",
    "change-this",
    "change_me",
    "django-insecure",
    "your-secret-key",
    "your_secret_key",
    "replace-me",
    "insecure",
    "secretkey",
)


_PLACEHOLDERS = frozenset({"change-me", "changeme", "change_me", "replace-me", "your-password"})


_RANDOM_CHARACTERS = "50 random characters or more, for example from `openssl rand -base64 48`"


def signing_secret() -> str:
    """SECRET_KEY, or an error that says what to set."""
    secret: str = text("SECRET_KEY")
    if not secret:
        raise ImproperlyConfigured(
            f"SECRET_KEY is missing. Set SECRET_KEY to {_RANDOM_CHARACTERS}; for development "
            "use `make run`."
        )
    refuse_weak("SECRET_KEY", secret)
    return secret


def refuse_weak(name: str, secret: str) -> None:
    """With DEBUG off, stop the start if the signing key is guessable."""
    how = f"Set {name} to {_RANDOM_CHARACTERS}"
    if DEBUG:
        return
    if any(word in secret.lower() for word in _WELL_KNOWN):
        raise ImproperlyConfigured(f"{name} is a well-known example value. {how}.")
    if len(secret) < 32 or len(set(secret)) < 8:
        raise ImproperlyConfigured(f"{name} is too weak to sign tokens. {how}.")


def signing_secrets(name: str, *, default: tuple[str, ...] = ()) -> list[str]:
    """A comma-separated list of secrets, none of them weak."""
    secrets = names(name)
    for secret in secrets:
        refuse_weak(name, secret)
    return secrets or list(default)


def sealing_keys() -> list[str]:
    """CREDENTIAL_KEYS: Fernet keys; the first encrypts, all decrypt."""
    how = (
        "Set CREDENTIAL_KEYS to the output of `python -c 'from cryptography.fernet import Fernet; "
        "print(Fernet.generate_key().decode())'`"
    )
    keys = names("CREDENTIAL_KEYS")
    if not keys:
        raise ImproperlyConfigured(
            f"CREDENTIAL_KEYS is missing. {how}, and keep it safe: without it the organizations' "
            "database passwords cannot be decrypted. For development use `make run`."
        )
    for key in keys:
        try:
            Fernet(key)
        except ValueError as error:
            raise ImproperlyConfigured(f"CREDENTIAL_KEYS has an invalid key. {how}.") from error
        if not DEBUG and len(set(key)) < 12:
            raise ImproperlyConfigured(f"CREDENTIAL_KEYS contains a guessable key. {how}.")
    return keys


def database_password() -> str:
    """MASTER_DB_PASSWORD, unless it is an example's placeholder."""
    password = text("MASTER_DB_PASSWORD")
    refuse_placeholder("MASTER_DB_PASSWORD", password)
    return password


def refuse_placeholder(name: str, password: str) -> None:
    """With DEBUG off, stop the start if an example was copied and not filled in."""
    if not DEBUG and password.lower() in _PLACEHOLDERS:
        raise ImproperlyConfigured(
            f"{name} is still an example's placeholder. Set it to the database role's password."
        )


SECRET_KEY = signing_secret()
# Still accepted for cookies and links; new ones are signed with SECRET_KEY.
SECRET_KEY_FALLBACKS = signing_secrets("SECRET_KEY_FALLBACKS")
# For access and refresh tokens: the first signs, all are accepted.
SIGNING_KEYS = signing_secrets("SIGNING_KEYS", default=(SECRET_KEY, *SECRET_KEY_FALLBACKS))
CREDENTIAL_KEYS = sealing_keys()


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
    if _DATABASE_CONFIGURED:
        return common | {
            "HOST": text("MASTER_DB_HOST", default="localhost"),
            "PORT": str(number("MASTER_DB_PORT", default=5432, at_most=65_535)),
            "NAME": text("MASTER_DB_NAME", default="master_org_db"),
            "USER": text("MASTER_DB_USER", default="postgres"),
            "PASSWORD": database_password(),
            "OPTIONS": tls_options(),
        }
    return common | embedded_database()


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
        if _DEVELOPMENT_SETUP and not server.is_initialised():
            with server:
                pass
        parameters = server.connection_parameters()
    except postgres.EmbeddedError as error:
        if _DEVELOPMENT_SETUP:
            raise ImproperlyConfigured(str(error)) from error
        raise missing from error
    return {
        "HOST": parameters["host"],
        "PORT": str(parameters["port"]),
        "NAME": parameters["dbname"],
        "USER": parameters["user"],
        "PASSWORD": parameters["password"],
    }


EMBEDDED_POSTGRES = not _DATABASE_CONFIGURED
DATABASES = {"default": master_database()}
# The same database bypassing a transaction pooler, which loses advisory locks and LISTEN. None:
# `default` is a direct connection.
MASTER_DB_DIRECT: dict[str, Any] | None = (
    database_url("MASTER_DB_DIRECT_URL") if text("MASTER_DB_DIRECT_URL") else None
)
if MASTER_DB_DIRECT is not None:
    # Server-side cursors belong to a session, and a pooler may use another for the next statement.
    DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = True
DATABASE_ROUTERS = ["organizations.tenancy.TenantRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Organizations ------------------------------------------------------------------------------
# Apps whose tables are in every organization's database, and apps whose tables are in the master.
# An app with models must be in one of them: a forgotten one would mix all organizations' rows.
TENANT_APPS = ["accounts"]
MASTER_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "organizations",
    "organizations.jobs",
    "procrastinate.contrib.django",
]
# Who may create an organization over HTTP; commands always may.
ORG_SIGNUP = choice("ORG_SIGNUP", default="open", among=("open", "staff", "off"))
# Maximum number of organizations, including waiting sign-ups; 0: unlimited.
ORG_MAX_ORGANIZATIONS = number("ORG_MAX_ORGANIZATIONS", default=0, at_least=0, at_most=10_000_000)
# What strangers learn from a name: `on` what the first edition told, `masked` all but the first
# admin's address, `off` not even whether the organization exists.
ORG_PUBLIC_LOOKUP = choice("ORG_PUBLIC_LOOKUP", default="on", among=("on", "masked", "off"))
# Per process: maximum open connections to organizations' databases, how long an idle one stays
# open, and how long a request waits if all are in use.
ORG_MAX_CONNECTIONS = number("ORG_MAX_CONNECTIONS", default=32, at_most=100_000)
ORG_CONNECTION_IDLE_SECONDS = number("ORG_CONNECTION_IDLE_SECONDS", default=300, at_most=86_400)
ORG_CONNECTION_WAIT_SECONDS = number("ORG_CONNECTION_WAIT_SECONDS", default=5, at_most=60)
# An alias holds no connection by itself, and some kilobytes of memory.
ORG_MAX_ALIASES = number("ORG_MAX_ALIASES", default=1_000, at_most=100_000)
ORG_DATABASE_NAMES = choice("ORG_DATABASE_NAMES", default="readable", among=("readable", "opaque"))
# The folder of pg_dump and pg_restore, at least as new as the server. Empty: those of the embedded
# PostgreSQL, else of PATH.
POSTGRES_BIN = text("POSTGRES_BIN") or embedded_programs()
# Off: migrations make each organization's tables, instead of copying a template. For measuring.
ORG_TEMPLATES = boolean("ORG_TEMPLATES", default=True)
# How many spare databases a worker keeps ready for sign-ups.
ORG_SPARE_DATABASES = number(
    "ORG_SPARE_DATABASES", default=4 if DEBUG else 0, at_least=0, at_most=1_000
)
# If an organization's database lacks a migration that the code needs: answer 503 (strict), or serve
# anyway (serve), for code that also works with the older schema.
ORG_VERSION_SKEW = choice("ORG_VERSION_SKEW", default="strict", among=("strict", "serve"))
# For a migration's statements in an organization's database: lock timeout, statement timeout (0:
# none), and how often it is tried if it hits one of them.
MIGRATION_LOCK_TIMEOUT_SECONDS = number("MIGRATION_LOCK_TIMEOUT_SECONDS", default=2, at_most=3_600)
MIGRATION_STATEMENT_TIMEOUT_SECONDS = number(
    "MIGRATION_STATEMENT_TIMEOUT_SECONDS", default=0, at_least=0, at_most=86_400
)
# Client-side timeout of each batch of a migration, since an organization can lift the server's (0:
# none).
MIGRATION_DEADLINE_SECONDS = number(
    "MIGRATION_DEADLINE_SECONDS", default=3_600, at_least=0, at_most=864_000
)
MIGRATION_TRIES = number("MIGRATION_TRIES", default=5, at_most=100)
# A write to an organization's database inside a bare transaction.atomic(), which is the master's
# and does not cover it: refuse it, or log a warning and do it.
ORG_BARE_ATOMIC = choice("ORG_BARE_ATOMIC", default="refuse", among=("refuse", "warn"))
# With `example.com`, the host `acme.example.com` names the organization with the slug `acme`.
ORG_BASE_DOMAIN = text("ORG_BASE_DOMAIN").strip(".").lower()

# --- Jobs (organizations/jobs/) -----------------------------------------------------------------
# How many jobs one worker runs at a time.
WORKER_CONCURRENCY = number("WORKER_CONCURRENCY", default=2, at_most=64)
# How often a worker polls for jobs, besides being notified.
JOB_POLL_SECONDS = number("JOB_POLL_SECONDS", default=1, at_most=60)
# A worker silent for this long counts as dead, and its jobs go to others.
JOB_STALLED_SECONDS = number("JOB_STALLED_SECONDS", default=20, at_least=2, at_most=3_600)
# How often a job is tried, with growing pauses, and how long ended jobs are kept.
JOB_TRIES = number("JOB_TRIES", default=5, at_most=100)
JOB_RETENTION_HOURS = number("JOB_RETENTION_HOURS", default=168, at_most=87_600)
# How long a sign-up that was answered 202 reserves its name without being processed.
ORG_SIGNUP_EXPIRY_MINUTES = number("ORG_SIGNUP_EXPIRY_MINUTES", default=60, at_most=10_080)
# How long a stopping worker waits for its running jobs.
WORKER_STOP_SECONDS = number("WORKER_STOP_SECONDS", default=25, at_most=3_600)

# --- Applications -------------------------------------------------------------------------------
INSTALLED_APPS = [
    "organizations.staff.config.PlatformAdminConfig",  # django.contrib.admin
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_filters",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "corsheaders",
    # Before the apps with tasks: its ready() collects them.
    "procrastinate.contrib.django",
    "organizations",
    "organizations.jobs",
    "accounts",
]
AUTH_USER_MODEL = "organizations.Staff"
MIDDLEWARE = [
    "orgmgmt.edge.middleware.FreshContextMiddleware",
    "orgmgmt.edge.headers.SecurityHeadersMiddleware",
    "orgmgmt.edge.origin.OriginMiddleware",
    # Outside EdgeMiddleware: allowed origins must be able to read its refusals too.
    "corsheaders.middleware.CorsMiddleware",
    "orgmgmt.edge.middleware.EdgeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "orgmgmt.edge.pages.Files",
    "orgmgmt.edge.pages.Session",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "orgmgmt.edge.pages.Authentication",
    "orgmgmt.edge.pages.Messages",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "organizations.middleware.TenantMiddleware",
]
ROOT_URLCONF = "orgmgmt.urls"
WSGI_APPLICATION = "orgmgmt.wsgi.application"
# EdgeMiddleware accepts both forms; a redirect would lose the body of a POST.
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "orgmgmt" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

# --- The web server (orgmgmt/gunicorn.py) -------------------------------------------------------
HOST = text("HOST") or ("127.0.0.1" if DEBUG else "0.0.0.0")  # noqa: S104
PORT = number("PORT", default=8000, at_most=65_535)
BIND = f"[{HOST}]:{PORT}" if ":" in HOST else f"{HOST}:{PORT}"
WEB_CONCURRENCY = number("WEB_CONCURRENCY", default=2, at_most=1_000)
WEB_THREADS = number("WEB_THREADS", default=4, at_most=1_000)
# From a request's first byte to its response's last (orgmgmt/edge/worker.py).
REQUEST_TIMEOUT_SECONDS = number("REQUEST_TIMEOUT_SECONDS", default=60, at_most=3_600)
# For one statement, and for its wait for a lock (orgmgmt/edge/timeouts.py).
STATEMENT_TIMEOUT_SECONDS = number("STATEMENT_TIMEOUT_SECONDS", default=8, at_most=3_600)
LOCK_TIMEOUT_SECONDS = number("LOCK_TIMEOUT_SECONDS", default=5, at_most=3_600)
# The number of hosts that run these processes.
WEB_HOSTS = number("WEB_HOSTS", default=1, at_most=1_000)
# Maximum threads of one process for one organization. Half: with all but one, a CPU-bound database
# made others wait more than twice as long.
ORG_MAX_THREADS = number("ORG_MAX_THREADS", default=max(1, WEB_THREADS // 2), at_most=1_000)
# Connection limit of an organization's role: for its threads and jobs, and a few for migrations and
# operators.
ORG_CONNECTION_LIMIT = number(
    "ORG_CONNECTION_LIMIT",
    default=WEB_HOSTS * WEB_CONCURRENCY * ORG_MAX_THREADS + WORKER_CONCURRENCY + 3,
    at_most=100_000,
)
# For the result of one statement in an organization's database, which is read as a whole.
ORG_MAX_ANSWER_ROWS = number("ORG_MAX_ANSWER_ROWS", default=200_000, at_most=1_000_000_000)
ORG_MAX_ANSWER_BYTES = number(
    "ORG_MAX_ANSWER_BYTES", default=64_000_000, at_least=100_000, at_most=100_000_000_000
)

# --- The edge -----------------------------------------------------------------------------------
ALLOWED_HOSTS = names("ALLOWED_HOSTS", default=f"localhost,127.0.0.1,[::1],{HOST}" if DEBUG else "")
CSRF_TRUSTED_ORIGINS = names("CSRF_TRUSTED_ORIGINS")
CSRF_FAILURE_VIEW = "orgmgmt.edge.exceptions.csrf_failure"
DATA_UPLOAD_MAX_MEMORY_SIZE = number("MAX_BODY_BYTES", default=1_000_000, at_most=1_000_000_000)
SECURE_SSL_REDIRECT = HTTPS_ONLY
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS_ONLY else 0
# Both affect other hosts, and preloading cannot be undone for months.
SECURE_HSTS_INCLUDE_SUBDOMAINS = boolean("HSTS_INCLUDE_SUBDOMAINS", default=False) and HTTPS_ONLY
SECURE_HSTS_PRELOAD = boolean("HSTS_PRELOAD", default=False) and HTTPS_ONLY
if SECURE_HSTS_PRELOAD and not SECURE_HSTS_INCLUDE_SUBDOMAINS:
    raise ImproperlyConfigured(
        "HSTS_PRELOAD is on, but browsers' preload lists require subdomains. Set "
        "HSTS_INCLUDE_SUBDOMAINS=on too, or HSTS_PRELOAD=off."
    )
# Silences Django's advice to switch them on.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS_ONLY
# How long staff stay logged in to Django admin.
SESSION_COOKIE_AGE = number("STAFF_SESSION_HOURS", default=12, at_most=8_760) * 3_600
# `__Host-`: a browser accepts it only by https, and from no other host of the domain.
SESSION_COOKIE_NAME = "__Host-sessionid" if HTTPS_ONLY else "sessionid"
CSRF_COOKIE_NAME = "__Host-csrftoken" if HTTPS_ONLY else "csrftoken"
# The browsable API's. Without https its path keeps it away from the admin, which never reads it.
ORG_SESSION_COOKIE_NAME = "__Host-org_session" if HTTPS_ONLY else "org_session"
ORG_SESSION_COOKIE_PATH = "/" if HTTPS_ONLY else "/api/"
# Scripts read the token from the page.
CSRF_COOKIE_HTTPONLY = True
# Only if a proxy in front always sets or strips it.
SECURE_PROXY_SSL_HEADER = (
    ("HTTP_X_FORWARDED_PROTO", "https")
    if boolean("TRUST_X_FORWARDED_PROTO", default=False)
    else None
)
# How many proxies in front append to X-Forwarded-For; entries before theirs are the client's.
TRUSTED_PROXY_HOPS = number("TRUSTED_PROXY_HOPS", default=0, at_least=0, at_most=10)
X_FRAME_OPTIONS = "DENY"
# Origins whose pages may call the API and read its responses. No patterns and no cookies: such a
# page sends a token.
CORS_ALLOWED_ORIGINS = origins("CORS_ALLOWED_ORIGINS")
CORS_ALLOW_CREDENTIALS = False
CORS_URLS_REGEX = r"^/(api/v1(/.*)?|org/.*|admin/login|health/?|openapi\.json/?)?$"
CORS_EXPOSE_HEADERS = ["Location", "Preference-Applied", "Retry-After", "X-Request-ID"]
CORS_ALLOW_HEADERS = [*default_headers, "prefer"]
CORS_PREFLIGHT_MAX_AGE = 600
SECURITY_CONTACT = contacts("SECURITY_CONTACT")
LOGIN_URL = "rest_framework:login"

STATIC_URL = "/static/"
STATIC_ROOT = Path(text("STATIC_ROOT") or BASE_DIR / "staticfiles")
WHITENOISE_USE_FINDERS = DEBUG
WHITENOISE_AUTOREFRESH = DEBUG
# Organizations' uploads: one folder each, none served directly.
MEDIA_ROOT = Path(text("MEDIA_ROOT") or DATA_DIR / "files").absolute()
STORAGES = {
    "default": {
        "BACKEND": "organizations.tenancy.storage.TenantStorage",
        # Readable only by the server's own user.
        "OPTIONS": {"file_permissions_mode": 0o600, "directory_permissions_mode": 0o700},
    },
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
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


CACHES = caches()

# --- Throttles (accounts/limits.py) -------------------------------------------------------------
# Off only for load tests: check --deploy refuses it.
THROTTLES = boolean("THROTTLES", default=True)
# High enough for a load test on a developer's machine.
THROTTLE_LOGIN_ADDRESS = rate("THROTTLE_LOGIN_ADDRESS", default="100/min", development="10000/min")
THROTTLE_LOGIN_ACCOUNT = rate("THROTTLE_LOGIN_ACCOUNT", default="30/min", development="3000/min")
THROTTLE_LOGIN_ORGANIZATION = rate(
    "THROTTLE_LOGIN_ORGANIZATION", default="600/min", development="10000/min"
)
THROTTLE_SIGNUP = rate("THROTTLE_SIGNUP", default="20/hour", development="10000/hour")
THROTTLE_LOOKUP = rate("THROTTLE_LOOKUP", default="60/min", development="10000/min")
THROTTLE_REFRESH = rate("THROTTLE_REFRESH", default="300/min", development="10000/min")
THROTTLE_MAIL_ADDRESS = rate("THROTTLE_MAIL_ADDRESS", default="20/hour", development="1000/hour")
THROTTLE_MAIL_ACCOUNT = rate("THROTTLE_MAIL_ACCOUNT", default="5/hour", development="100/hour")
THROTTLE_MAIL_ORGANIZATION = rate(
    "THROTTLE_MAIL_ORGANIZATION", default="100/hour", development="1000/hour"
)
THROTTLE_MAIL_RECIPIENT = rate(
    "THROTTLE_MAIL_RECIPIENT", default="20/hour", development="1000/hour"
)
# Off by default: each counted request costs a write in the master.
THROTTLE_MEMBER = rate("THROTTLE_MEMBER")
THROTTLE_ORGANIZATION = rate("THROTTLE_ORGANIZATION")
# Login back-off: the growing delay after failed log-ins.
LOGIN_FREE_FAILURES = number("LOGIN_FREE_FAILURES", default=5, at_most=100)
LOGIN_LONGEST_DELAY_SECONDS = number("LOGIN_LONGEST_DELAY_SECONDS", default=900, at_most=86_400)
# With ORG_PUBLIC_LOOKUP off, the minimum time of a failed log-in: longer than any hash takes.
LOGIN_FLOOR_MS = number("LOGIN_FLOOR_MS", default=400, at_least=0, at_most=10_000)

# --- Passwords and tokens -----------------------------------------------------------------------
PASSWORD_HASHERS = [
    "accounts.hashers.Argon2idHasher",
    "accounts.hashers.BareBcryptHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    "django.contrib.auth.hashers.ScryptPasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator",
        "OPTIONS": {"user_attributes": ("email", "username", "first_name", "last_name")},
    },
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
SIMPLE_JWT = {
    "ALGORITHM": choice("ALGORITHM", default="HS256", among=("HS256", "HS384", "HS512")),
    # accounts.signing_keys signs; simplejwt's own code must neither sign nor accept anything.
    "SIGNING_KEY": None,
    "ISSUER": "organization-management-api",
    "AUDIENCE": "organization-management-api",
    # Allowed clock difference between hosts, in seconds.
    "LEEWAY": 20,
    "ACCESS_TOKEN_LIFETIME": timedelta(
        minutes=number("ACCESS_TOKEN_EXPIRE_MINUTES", default=30, at_most=525_600)
    ),
    "REFRESH_TOKEN_LIFETIME": timedelta(
        days=number("REFRESH_TOKEN_EXPIRE_DAYS", default=14, at_most=3_650)
    ),
}
# How long users stay logged in to the browsable API.
ORG_SESSION_LIFETIME = timedelta(hours=12)

PASSWORD_RESET_MINUTES = number("PASSWORD_RESET_MINUTES", default=60, at_most=1_440)
EMAIL_VERIFICATION_HOURS = number("EMAIL_VERIFICATION_HOURS", default=72, at_most=720)


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


def public_url() -> str:
    """PUBLIC_URL without a trailing slash: the base of links in mails."""
    url = text("PUBLIC_URL").strip().rstrip("/")
    if url and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", url):
        raise ImproperlyConfigured(
            f"PUBLIC_URL is {url[:80]!r}. Set it to an address such as https://app.example.com."
        )
    host = re.sub(r"(:\d+)?(/.*)?$", "", url.partition("://")[2]).lower()
    below = ORG_BASE_DOMAIN and host.endswith(f".{ORG_BASE_DOMAIN}")
    if below and not host.startswith("{organization}."):
        raise ImproperlyConfigured(
            f"PUBLIC_URL is below ORG_BASE_DOMAIN, where a host names an organization: its links "
            f"would be refused. Set it to https://{{organization}}.{ORG_BASE_DOMAIN}, or to a host "
            "outside that domain."
        )
    if not url and not DEBUG and "*" in ALLOWED_HOSTS and text("EMAIL_URL"):
        raise ImproperlyConfigured(
            "PUBLIC_URL is missing, and ALLOWED_HOSTS accepts any host: a stranger could make "
            "mailed links lead to their own host. Set PUBLIC_URL, or list the hosts."
        )
    return url


globals().update(mail_settings())
# If a mail server hangs, so does the one thread that sends.
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = text("DEFAULT_FROM_EMAIL") or "webmaster@localhost"
PUBLIC_URL = public_url()

# --- The audit trail ----------------------------------------------------------------------------
# The database enforces the minimum: its prune function refuses younger entries.
AUDIT_RETENTION_DAYS = number("AUDIT_RETENTION_DAYS", default=400, at_least=30, at_most=36_500)

# --- The API ------------------------------------------------------------------------------------
REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.api.authentication.BearerAuthentication",
        "accounts.api.authentication.BrowserSessionAuthentication",
        "organizations.api.authentication.StaffSessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.api.permissions.IsMember"],
    "DEFAULT_THROTTLE_CLASSES": [
        "accounts.api.throttling.MemberThrottle",
        "accounts.api.throttling.OrganizationThrottle",
    ],
    "DEFAULT_PARSER_CLASSES": [
        "accounts.api.parsers.StrictJSONParser",
        "rest_framework.parsers.FormParser",
        "rest_framework.parsers.MultiPartParser",
    ],
    "DEFAULT_RENDERER_CLASSES": [
        "rest_framework.renderers.JSONRenderer",
        "accounts.api.renderers.BrowsableAPIRenderer",
    ],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "accounts.api.negotiation.PageOrJson",
    "DEFAULT_PAGINATION_CLASS": "accounts.api.pagination.Pages",
    # An organization's file has no URL, but a view that checks access.
    "UPLOADED_FILES_USE_URL": False,
    "DEFAULT_SCHEMA_CLASS": "orgmgmt.schema.Operation",
    "EXCEPTION_HANDLER": "orgmgmt.edge.exceptions.handle",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Organization Management API",
    "DESCRIPTION": "Each organization that signs up gets its own PostgreSQL database.",
    "VERSION": __version__,
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": r"/api/v1",
}

_LOG_LEVEL = choice(
    "LOG_LEVEL", default="INFO", among=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"tenant": {"()": "orgmgmt.logging.TenantFilter"}},
    "formatters": {
        "line": {
            "()": "orgmgmt.logging.LineFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s [%(tenant)s %(request_id)s] %(message)s",
        }
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["tenant"],
        }
    },
    "root": {"handlers": ["console"], "level": _LOG_LEVEL},
    "loggers": {
        # Django's own handlers would print lines twice; 4xx responses are not logged.
        "django": {"handlers": [], "propagate": True},
        "django.request": {"level": "ERROR"},
        # At each start they log the list of tasks.
        "procrastinate.blueprints": {"level": "WARNING"},
        "procrastinate.periodic": {"level": "WARNING"},
    },
}
