"""Bulk writes and filters, which ask the router without an instance."""

from collections.abc import Callable

import pytest
from django.db.models import Q

from accounts import services
from accounts.models import LoginSession, User
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


@pytest.mark.parametrize(
    "condition",
    [
        lambda user: Q(user=user),
        lambda user: ~Q(user=user),
        lambda user: Q(user__in=[user]),
        lambda user: Q(kind="token") & Q(user=user),
    ],
    ids=["filter", "exclude", "in", "and"],
)
def test_an_object_of_alpha_finds_nothing_in_beta(
    alpha: Company, beta: Company, condition: Callable[[User], Q]
) -> None:
    """Its key would find the user of beta who has the same one."""
    stranger = first_user(alpha)
    with tenancy.override(beta.tenant), pytest.raises(tenancy.WrongTenant, match="Load it again"):
        LoginSession.objects.filter(condition(stranger)).exists()


def test_alphas_user_cannot_end_the_logins_of_beta(alpha: Company, beta: Company) -> None:
    stranger = first_user(alpha)
    with tenancy.override(beta.tenant), pytest.raises(tenancy.WrongTenant):
        services.end_all_sessions(stranger)


def test_ones_own_objects_find_what_is_theirs(alpha: Company) -> None:
    own = first_user(alpha)
    with tenancy.override(alpha.tenant):
        assert User.objects.filter(pk__in=User.objects.filter(pk=own.pk)).get() == own
        assert LoginSession.objects.filter(user=own).count() == own.login_sessions.count()
