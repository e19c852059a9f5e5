"""The product's settings with the added migration."""

from benchmarks.comparators.migrated import MODULES
from orgmgmt.settings import *  # noqa: F403

MIGRATION_MODULES = MODULES
