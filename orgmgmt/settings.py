"""All settings. env.py reads the environment for them."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from corsheaders.defaults import default_headers
from django.core.exceptions import ImproperlyConfigured

from orgmgmt import __version__

from .connections import (
    caches,
    database_url,
    embedded_programs,
    mail_settings,
    master_database,
    public_url,
)
from .env import (
    BASE_DIR,
    DATA_DIR,
    DATABASE_CONFIGURED,
    DEBUG,
    addresses,
    backup_keys,
    boolean,
    choice,
    contacts,
    names,
    number,
    origins,
    rate,
    sealing_keys,
    signing_secret,
    signing_secrets,
    text,
)

# --- Development or production ------------------------------------------------------------------
# Switch off only to try production over plain http, on your own machine.
HTTPS_ONLY = boolean("HTTPS_ONLY", default=not DEBUG)

# --- Secrets ------------------------------------------------------------------------------------
SECRET_KEY = signing_secret()
# Still accepted for cookies and links; new ones are signed with SECRET_KEY.
SECRET_KEY_FALLBACKS = signing_secrets("SECRET_KEY_FALLBACKS")
# For access and refresh tokens: the first signs, all are accepted.
SIGNING_KEYS = signing_secrets("SIGNING_KEYS", default=(SECRET_KEY, *SECRET_KEY_FALLBACKS))
CREDENTIAL_KEYS = sealing_keys()


# --- The master database ------------------------------------------------------------------------
EMBEDDED_POSTGRES = not DATABASE_CONFIGURED
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
# How long a renamed organization's old name leads to it, and nobody else can take it.
ORG_NAME_HOLD_DAYS = number("ORG_NAME_HOLD_DAYS", default=30, at_least=0, at_most=3_650)
# How long a deleted organization is kept, and can come back. 0: it is dropped at once.
ORG_DELETION_GRACE_DAYS = number("ORG_DELETION_GRACE_DAYS", default=30, at_least=0, at_most=3_650)
# What strangers learn from a name: `on` what the first edition showed, `masked` all but the first
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
# Client-side timeout of each batch of a migration, since an organization can disable the server's
# (0: none).
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
# How often a worker polls for jobs, in addition to notifications.
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
# From the end of a request's header to its response's last byte (orgmgmt/edge/worker.py).
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
# Limits on the result of one statement in an organization's database, which is read as a whole.
ORG_MAX_ANSWER_ROWS = number("ORG_MAX_ANSWER_ROWS", default=200_000, at_most=1_000_000_000)
ORG_MAX_ANSWER_BYTES = number(
    "ORG_MAX_ANSWER_BYTES", default=64_000_000, at_least=100_000, at_most=100_000_000_000
)

# --- The edge -----------------------------------------------------------------------------------
ALLOWED_HOSTS = names("ALLOWED_HOSTS", default=f"localhost,127.0.0.1,[::1],{HOST}" if DEBUG else "")
CSRF_TRUSTED_ORIGINS = names("CSRF_TRUSTED_ORIGINS")
CSRF_FAILURE_VIEW = "orgmgmt.edge.handlers.csrf_failure"
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
# Their exports, likewise.
EXPORTS_ROOT = Path(text("EXPORTS_ROOT") or DATA_DIR / "exports").absolute()
# Limits of one export: its time, and its content before it is compressed.
EXPORT_DEADLINE_SECONDS = number("EXPORT_DEADLINE_SECONDS", default=3_600, at_most=864_000)
EXPORT_MAX_BYTES = number(
    "EXPORT_MAX_BYTES", default=50_000_000_000, at_least=1_000, at_most=99_999_999_999
)
STORAGES: dict[str, dict[str, Any]] = {
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


# --- Backups (organizations/backups/) -----------------------------------------------------------
# The folder of STORAGES["backups"], outside MEDIA_ROOT. Any other Django storage works too.
BACKUP_ROOT = Path(text("BACKUP_ROOT") or DATA_DIR / "backups").absolute()
STORAGES["backups"] = {
    "BACKEND": "django.core.files.storage.FileSystemStorage",
    "OPTIONS": {
        "location": BACKUP_ROOT,
        "file_permissions_mode": 0o600,
        "directory_permissions_mode": 0o700,
    },
}
# age's secret keys: the first encrypts backups, all decrypt. None: they are not encrypted.
BACKUP_ENCRYPTION_KEYS = backup_keys()
# Workers back up every organization each night.
BACKUP_NIGHTLY = boolean("BACKUP_NIGHTLY", default=False)
# With it, each organization's newest backup is verified at least once in this many days; 0: never.
BACKUP_VERIFY_DAYS = number("BACKUP_VERIFY_DAYS", default=30, at_least=0, at_most=3_660)
# For how many days, weeks and months the newest good backup of each is kept.
BACKUP_KEEP_DAILY = number("BACKUP_KEEP_DAILY", default=7, at_most=3_660)
BACKUP_KEEP_WEEKLY = number("BACKUP_KEEP_WEEKLY", default=4, at_least=0, at_most=520)
BACKUP_KEEP_MONTHLY = number("BACKUP_KEEP_MONTHLY", default=6, at_least=0, at_most=120)
# How long a dropped organization's last backups are kept.
BACKUP_KEEP_DELETED_DAYS = number(
    "BACKUP_KEEP_DELETED_DAYS", default=90, at_least=0, at_most=36_600
)
# Back up a deleted organization once more before it is dropped.
BACKUP_BEFORE_DROP = boolean("BACKUP_BEFORE_DROP", default=False)
# How long a restore keeps the previous database, so that it can be undone.
ORG_RESTORE_KEEP_DAYS = number("ORG_RESTORE_KEEP_DAYS", default=7, at_least=1, at_most=3_650)
# How long a read-only organization, made by restore_org --beside, exists.
ORG_BESIDE_DAYS = number("ORG_BESIDE_DAYS", default=7, at_least=1, at_most=365)
# For one backup, verification, clone, thaw or restore.
BACKUP_DEADLINE_SECONDS = number("BACKUP_DEADLINE_SECONDS", default=3_600, at_most=864_000)
# Maximum size of each part of a backup: the dump, and the files.
BACKUP_MAX_BYTES = number(
    "BACKUP_MAX_BYTES", default=50_000_000_000, at_least=1_000, at_most=99_999_999_999
)


# --- Caches -------------------------------------------------------------------------------------
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
THROTTLE_EXPORT = rate("THROTTLE_EXPORT", default="10/hour", development="1000/hour")
# Off by default: each counted request costs a write in the master.
THROTTLE_MEMBER = rate("THROTTLE_MEMBER")
THROTTLE_ORGANIZATION = rate("THROTTLE_ORGANIZATION")
# Login back-off: the growing delay after failed logins.
LOGIN_FREE_FAILURES = number("LOGIN_FREE_FAILURES", default=5, at_most=100)
LOGIN_LONGEST_DELAY_SECONDS = number("LOGIN_LONGEST_DELAY_SECONDS", default=900, at_most=86_400)
# With ORG_PUBLIC_LOOKUP off, the minimum time of a failed login: longer than any hash takes.
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
_mails = mail_settings()
globals().update(_mails)
# Drops a clone's mails, and gives the others to ORG_EMAIL_BACKEND.
EMAIL_BACKEND = "organizations.tenancy.mail.EmailBackend"
ORG_EMAIL_BACKEND = _mails["EMAIL_BACKEND"]
# If a mail server hangs, so does the one thread that sends.
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = text("DEFAULT_FROM_EMAIL") or "webmaster@localhost"
# Told about backups that were not verified (organizations/background/mails.py).
ADMINS = [("", address) for address in addresses("ADMINS")]
PUBLIC_URL = public_url(base_domain=ORG_BASE_DOMAIN, allowed_hosts=ALLOWED_HOSTS)

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
    # An organization's file has no URL; a view that checks access returns it.
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
    # Two answers have all of these states, others only some.
    "ENUM_NAME_OVERRIDES": {"JobStateEnum": ["none", "waiting", "running", "done", "failed"]},
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
