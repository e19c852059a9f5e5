"""The two models that django-tenants needs."""

from django_tenants.models import DomainMixin, TenantMixin


class Client(TenantMixin):
    """An organization with its schema."""

    auto_create_schema = True

    class Meta:
        app_label = "bench_tenants"


class Domain(DomainMixin):
    """The host name of an organization."""

    class Meta:
        app_label = "bench_tenants"
