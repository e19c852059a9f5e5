"""Bulk writes, which ask the router without an instance."""

import pytest

from accounts.models import User
from organizations import tenancy
from tests.conftest import Company


def first_user(company: Company) -> User:
    with tenancy.override(company.tenant):
        return User.objects.get(pk=1)


def test_bulk_update_of_alphas_objects_in_beta_is_refused(alpha: Company, beta: Company) -> None:
    stranger = first_user(alpha)
    stranger.email_key = "overwritten"
    with (
        tenancy.override(beta.tenant),
        pytest.raises(tenancy.WrongTenant, match=f"belongs to {alpha.tenant.alias}"),
    ):
        User.objects.bulk_update([stranger], ["email_key"])
    assert first_user(beta).email_key == beta.email


def test_bulk_create_of_alphas_objects_in_beta_is_refused(alpha: Company, beta: Company) -> None:
    stranger = first_user(alpha)
    stranger.pk = None
    with tenancy.override(beta.tenant):
        with pytest.raises(tenancy.WrongTenant, match="Load it again"):
            User.objects.bulk_create(iter([stranger]))
        assert not User.objects.filter(email_key=alpha.email).exists()


def test_bulk_writes_of_ones_own_objects_go_through(alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        made = User.objects.bulk_create(
            User(email=f"bulk{number}@alpha.example", email_key=f"bulk{number}@alpha.example")
            for number in range(2)
        )
        made[0].is_admin = True
        assert User.objects.bulk_update(made, ["is_admin"]) == 2
        User.objects.filter(pk__in=[user.pk for user in made]).delete()


def test_bulk_create_without_an_organization_is_refused() -> None:
    with pytest.raises(tenancy.NoTenant, match="none is active"):
        User.objects.bulk_create([User(email="nobody@test.com")])
