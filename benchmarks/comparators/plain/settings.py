"""Settings of the plain comparator: all users in one table, and no organizations."""

from benchmarks.comparators.common import STACK, middleware, persistent, rest_framework
from orgmgmt import settings as product
from orgmgmt.settings import *  # noqa: F403

DATABASES = {
    "default": persistent(
        product.DATABASES["default"], engine="django.db.backends.postgresql", name="bench_plain"
    )
}
DATABASE_ROUTERS = []
# accounts becomes an app like any other: with no tenant app there are no walls to look at.
TENANT_APPS = []
MASTER_APPS = [*product.MASTER_APPS, "accounts"]
MIDDLEWARE = middleware(product.MIDDLEWARE, f"{STACK}.TokenMiddleware")
REST_FRAMEWORK = rest_framework(product.REST_FRAMEWORK)
