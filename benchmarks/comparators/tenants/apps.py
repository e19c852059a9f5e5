"""App config of the django-tenants comparator."""

from django.apps import AppConfig


class BenchTenantsConfig(AppConfig):
    """The table of schemas."""

    name = "benchmarks.comparators.tenants"
    label = "bench_tenants"
    default_auto_field = "django.db.models.BigAutoField"
