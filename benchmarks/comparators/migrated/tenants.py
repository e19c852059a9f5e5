"""The django-tenants comparator's settings with the added migration."""

import os

from benchmarks.comparators.migrated import MODULES
from benchmarks.comparators.tenants.settings import *  # noqa: F403

MIGRATION_MODULES = MODULES
TENANT_MULTIPROCESSING_MAX_PROCESSES = int(os.environ.get("BENCH_PARALLEL", "4"))
