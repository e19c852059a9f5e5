from django.apps import AppConfig


class BenchTenantsConfig(AppConfig):
    """Which schemas there are."""

    name = "benchmarks.comparators.tenants"
    label = "bench_tenants"
    default_auto_field = "django.db.models.BigAutoField"
