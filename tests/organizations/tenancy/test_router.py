"""The router: which database a query goes to, and what is refused."""

import pickle
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from django.apps import apps
from django.conf import settings
from django.db import router
from django.db.models import prefetch_related_objects

from accounts.models import LoginSession, User
from organizations import tenancy
from organizations.models import Organization, Server, Staff
from organizations.tenancy import NoTenant, TenantRouter, WrongTenant
from tests.conftest import Company

from .conftest import TWIN_ID, Twins, rows

LATER = datetime(2100, 1, 1, tzinfo=UTC)

# What tenant code does with a table: each fails where no organization is active.
QUERIES: dict[str, Callable[[], object]] = {
    "list": lambda: list(User.objects.all()),
    "iterate": lambda: list(User.objects.iterator()),
    "get": lambda: User.objects.get(pk=1),
    "count": lambda: User.objects.count(),
    "exists": lambda: User.objects.exists(),
    "raw": lambda: list(User.objects.raw("SELECT * FROM users")),
    "create": lambda: User.objects.create(email="x@x.example"),
    "save": lambda: User(email="x@x.example").save(),
    "get_or_create": lambda: User.objects.get_or_create(email="x@x.example"),
    "bulk_create": lambda: User.objects.bulk_create([User(email="x@x.example")]),
    "update": lambda: User.objects.update(is_admin=False),
    "delete": lambda: User.objects.all().delete(),
    "lock": lambda: list(User.objects.select_for_update()),
}

# What can be done with one that was loaded in alpha; each is refused in beta.
USES: dict[str, Callable[[User], object]] = {
    "ask where to read": lambda user: router.db_for_read(User, instance=user),
    "ask where to write": lambda user: router.db_for_write(User, instance=user),
    "save": lambda user: user.save(),
    "save some fields": lambda user: user.save(update_fields=["email"]),
    "save as new": lambda user: user.save(force_insert=True),
    "delete": lambda user: user.delete(),
    "refresh": lambda user: user.refresh_from_db(),
    "follow a relation": lambda user: list(user.login_sessions.all()),
    "create through a relation": lambda user: user.login_sessions.create(expires_at=LATER),
    "prefetch": lambda user: prefetch_related_objects([user], "login_sessions"),
    "assign": lambda user: LoginSession(user=user),
    "assign and create": lambda user: LoginSession.objects.create(user=user, expires_at=LATER),
    "bulk_update": lambda user: User.objects.bulk_update([user], ["email"]),
    "bulk_create over a row": lambda user: User.objects.bulk_create(
        [user], update_conflicts=True, unique_fields=["id"], update_fields=["email"]
    ),
}


@pytest.fixture
def alpha_login(alpha: Company, twins: Twins) -> Iterator[LoginSession]:
    """A login of alpha's twin; deleted with the twin."""
    with tenancy.override(alpha.tenant):
        login = LoginSession.objects.create(user=twins.alpha, kind="token", expires_at=LATER)
    return (yield login)


def test_a_tenant_query_without_an_organization_is_refused() -> None:
    for query, act in QUERIES.items():
        with pytest.raises(NoTenant, match="belongs to an organization, but none is active"):
            act()
            pytest.fail(f"not refused: {query}")


def test_a_master_model_goes_to_the_master_whoever_is_active(alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        for model in (Organization, Server, Staff):
            assert router.db_for_read(model) == router.db_for_write(model) == "default"
            assert model._default_manager.db == "default"


def test_each_organization_reads_its_own_rows(alpha: Company, beta: Company, twins: Twins) -> None:
    for company, twin in ((alpha, twins.alpha), (beta, twins.beta)):
        with tenancy.override(company.tenant):
            assert User.objects.get(pk=TWIN_ID).email == twin.email
            assert User._default_manager.db == company.tenant.alias


def test_a_queryset_reads_where_it_runs_and_not_where_it_was_built(
    alpha: Company, beta: Company, twins: Twins
) -> None:
    with tenancy.override(alpha.tenant):
        query = User.objects.filter(pk=TWIN_ID)
    with tenancy.override(beta.tenant):
        assert [user.email for user in query] == ["twin@beta.example"]
    with tenancy.override(alpha.tenant):
        built = User.objects.filter(pk=TWIN_ID).values_list("email", flat=True)
    with pytest.raises(NoTenant):
        list(built)


def test_updating_another_organizations_query_set_stays_in_the_active_one(
    alpha: Company, beta: Company, twins: Twins
) -> None:
    before = rows(alpha)
    with tenancy.override(alpha.tenant):
        query = User.objects.filter(pk=TWIN_ID)
    with tenancy.override(beta.tenant):
        assert query.update(is_admin=True) == 1
        assert query.delete()[0] == 1
    assert rows(alpha) == before, "alpha's rows changed from beta"


def test_an_object_of_alpha_is_refused_in_beta_and_no_row_changes(
    alpha: Company, beta: Company, twins: Twins
) -> None:
    before = rows(alpha), rows(beta)
    why = f"belongs to {alpha.tenant.alias}, but"
    for use, act in USES.items():
        twins.alpha.email = "overwritten@alpha.example"
        with tenancy.override(beta.tenant), pytest.raises(WrongTenant, match=why):
            act(twins.alpha)
            pytest.fail(f"not refused: {use}")
        assert (rows(alpha), rows(beta)) == before, f"{use} changed rows"
    for use in ("save", "delete", "refresh", "follow a relation", "assign"):
        with pytest.raises(NoTenant):
            USES[use](twins.alpha)
            pytest.fail(f"not refused where nobody is active: {use}")


def test_relations_across_organizations_cannot_be_assigned(
    beta: Company, twins: Twins, alpha_login: LoginSession
) -> None:
    with tenancy.override(beta.tenant):
        with pytest.raises(WrongTenant):
            alpha_login.user = twins.beta
        with pytest.raises(WrongTenant):
            twins.beta.login_sessions.add(alpha_login, bulk=False)
        login = LoginSession(user=twins.beta, id=uuid.uuid4(), kind="token", expires_at=LATER)
        with pytest.raises(WrongTenant):
            login.user = twins.alpha


def test_relations_between_the_two_sides_are_refused(alpha: Company, twins: Twins) -> None:
    with tenancy.override(alpha.tenant):
        assert TenantRouter().allow_relation(twins.alpha, alpha.organization) is False
        assert TenantRouter().allow_relation(alpha.organization, twins.alpha) is False
        assert TenantRouter().allow_relation(twins.alpha, twins.alpha) is True
    assert TenantRouter().allow_relation(alpha.organization, Server()) is True


def test_a_deferred_field_of_alpha_is_not_read_from_beta(
    alpha: Company, beta: Company, twins: Twins
) -> None:
    with tenancy.override(alpha.tenant):
        user = User.objects.only("id").get(pk=TWIN_ID)
    with tenancy.override(beta.tenant), pytest.raises(WrongTenant):
        _ = user.email


def test_a_relation_of_alpha_is_not_followed_in_beta(
    alpha: Company, beta: Company, alpha_login: LoginSession
) -> None:
    with tenancy.override(alpha.tenant):
        login = LoginSession.objects.get(pk=alpha_login.pk)
    with tenancy.override(beta.tenant), pytest.raises(WrongTenant):
        _ = login.user


def test_a_pickled_object_stays_its_organizations(beta: Company, twins: Twins) -> None:
    copy = pickle.loads(pickle.dumps(twins.alpha))  # noqa: S301 - made in the line itself
    before = rows(beta)
    with tenancy.override(beta.tenant), pytest.raises(WrongTenant):
        copy.save()
    assert rows(beta) == before, "beta's row was overwritten"


def test_an_object_that_was_never_saved_goes_where_it_is_saved(
    alpha: Company, beta: Company
) -> None:
    with tenancy.override(alpha.tenant):
        user = User(email="new@x.example")
    with tenancy.override(beta.tenant):
        user.save()
        assert user._state.db == beta.tenant.alias
        user.delete()


def test_tables_are_made_on_their_side_alone() -> None:
    allow = TenantRouter().allow_migrate
    tenants = {app.label for app in apps.get_app_configs() if app.name in settings.TENANT_APPS}
    masters = {app.label for app in apps.get_app_configs() if app.name not in settings.TENANT_APPS}
    assert "accounts" in tenants and {"organizations", "auth", "sessions"} <= masters
    masters.add("anything")
    assert all(allow("org_7", label) for label in tenants), "an organization lacks an app"
    assert not any(allow("default", label) for label in tenants), "a tenant app is in the master"
    assert all(allow("default", label) for label in masters), "the master lacks an app"
    assert not any(allow("org_7", label) for label in masters), "a master app is let in"
