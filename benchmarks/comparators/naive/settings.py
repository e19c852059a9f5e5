"""Settings of the naive comparator: the product's databases, with aliases added at run time."""

import os

from benchmarks.comparators.common import middleware, persistent, rest_framework
from orgmgmt import settings as product
from orgmgmt.settings import *  # noqa: F403

_master = product.DATABASES["default"]
DATABASES = {
    "default": persistent(_master, engine="django.db.backends.postgresql", name=_master["NAME"])
}
NAIVE_CONN_MAX_AGE = int(os.environ.get("NAIVE_CONN_MAX_AGE", "0"))
DATABASE_ROUTERS = ["benchmarks.comparators.naive.stack.AliasRouter"]
TENANT_APPS = []
MASTER_APPS = [*product.MASTER_APPS, "accounts"]
MIDDLEWARE = middleware(product.MIDDLEWARE, "benchmarks.comparators.naive.stack.AliasMiddleware")
REST_FRAMEWORK = rest_framework(product.REST_FRAMEWORK)
