"""The two models that django-tenants asks for."""

from django_tenants.models import DomainMixin, TenantMixin


class Client(TenantMixin):
    """An organization, which has a schema."""

    auto_create_schema = True

    class Meta:
        app_label = "bench_tenants"


class Domain(DomainMixin):
    """The host by which it is found."""

    class Meta:
        app_label = "bench_tenants"
