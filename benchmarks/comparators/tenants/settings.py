"""Settings of the django-tenants comparator: a schema for each organization, found by host name.

TENANT_LIMIT_SET_CALLS is on, as its documentation recommends for speed. By default it sets the
search path before every query.
"""

import os

from benchmarks.comparators.common import STACK, middleware, persistent, rest_framework
from orgmgmt import settings as product
from orgmgmt.settings import *  # noqa: F403

DATABASES = {
    "default": persistent(
        product.DATABASES["default"],
        engine="django_tenants.postgresql_backend",
        name="bench_tenants",
    )
}
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
TENANT_LIMIT_SET_CALLS = os.environ.get("LIMIT_SET_CALLS", "on") == "on"
TENANT_MODEL = "bench_tenants.Client"
TENANT_DOMAIN_MODEL = "bench_tenants.Domain"
SHARED_APPS = ["django_tenants", "benchmarks.comparators.tenants", "django.contrib.contenttypes"]
TENANT_APPS = ["accounts"]
INSTALLED_APPS = [
    "django_tenants",
    "benchmarks.comparators.tenants.apps.BenchTenantsConfig",
    *product.INSTALLED_APPS,
]
ALLOWED_HOSTS = ["*"]
MIDDLEWARE = [
    # At the very top, as its documentation asks.
    "django_tenants.middleware.main.TenantMainMiddleware",
    *middleware(product.MIDDLEWARE, f"{STACK}.TokenMiddleware"),
]
REST_FRAMEWORK = rest_framework(product.REST_FRAMEWORK)
