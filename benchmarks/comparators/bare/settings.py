"""Settings as `startproject` and DRF's tutorial write them, for one view.

BARE_MIDDLEWARE=none removes the middleware too.
"""

import os

from benchmarks.comparators.common import persistent
from orgmgmt import settings as product

# What orgmgmt/gunicorn.py and orgmgmt/edge/worker.py ask for.
BIND = product.BIND
WEB_CONCURRENCY = product.WEB_CONCURRENCY
WEB_THREADS = product.WEB_THREADS
REQUEST_TIMEOUT_SECONDS = product.REQUEST_TIMEOUT_SECONDS
STATEMENT_TIMEOUT_SECONDS = product.STATEMENT_TIMEOUT_SECONDS
LOCK_TIMEOUT_SECONDS = product.LOCK_TIMEOUT_SECONDS

SECRET_KEY = product.SECRET_KEY
ALLOWED_HOSTS = product.ALLOWED_HOSTS
DATABASES = {
    "default": persistent(
        product.DATABASES["default"], engine="django.db.backends.postgresql", name="bench_bare"
    )
}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
]
_STARTPROJECT = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
MIDDLEWARE = [] if os.environ.get("BARE_MIDDLEWARE") == "none" else _STARTPROJECT
ROOT_URLCONF = "benchmarks.comparators.bare.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
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
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
}
