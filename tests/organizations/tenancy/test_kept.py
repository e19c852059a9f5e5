"""Rows of one organization kept in a class, a module or a cache: refused in another."""

import asyncio
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db.models import Prefetch, QuerySet
from django.test import Client
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from accounts.api.permissions import IsMember
from accounts.api.serializers import UserOutput
from accounts.models import LoginSession, User
from organizations import tenancy
from organizations.models import Organization
from organizations.tenancy import NoTenant, WrongTenant
from orgmgmt.urls import urlpatterns as project_urlpatterns
from tests.conftest import Company


class KeptOnTheClass(GenericViewSet[User]):
    """A team's view that evaluates its class's query set, so it is fetched once for all."""

    permission_classes: Any = (IsMember,)
    queryset = User.objects.all()
    serializer_class = UserOutput

    def list(self, request: Request) -> Response:
        if not self.queryset:
            return Response([])
        return Response(UserOutput(self.queryset, many=True).data)


class KeptInAList(APIView):
    """The same with the objects themselves."""

    permission_classes = (IsMember,)
    people: list[User] = []  # noqa: RUF012

    def get(self, request: Request) -> Response:
        if not self.people:
            self.people.extend(User.objects.all())
        return Response(UserOutput(self.people, many=True).data)


class KeptForStrangers(KeptOnTheClass):
    """The same without authentication."""

    permission_classes = ()
    queryset = User.objects.all()


urlpatterns = [
    path("api/v1/kept/", KeptOnTheClass.as_view({"get": "list"})),
    path("api/v1/kept-list/", KeptInAList.as_view()),
    path("api/v1/kept-open/", KeptForStrangers.as_view({"get": "list"})),
    *project_urlpatterns,
]


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    yield
    KeptInAList.people.clear()
    for view in (KeptOnTheClass, KeptForStrangers):
        view.queryset = User.objects.all()


@pytest.mark.urls(__name__)
def test_a_view_that_keeps_betas_rows_shows_alpha_none(alpha: Company, beta: Company) -> None:
    client = Client(raise_request_exception=False)
    for where in ("kept", "kept-list"):
        for company, status in ((beta, 200), (alpha, 500), (beta, 200)):
            headers = {"Authorization": f"Bearer {company.token(Client())}"}
            answer = client.get(f"/api/v1/{where}/", headers=headers)
            assert answer.status_code == status, answer.content
            assert (beta.email in answer.content.decode()) is (company is beta)


@pytest.mark.urls(__name__)
def test_a_view_that_keeps_betas_rows_shows_a_stranger_none(beta: Company) -> None:
    client = Client(raise_request_exception=False)
    headers = {"Authorization": f"Bearer {beta.token(Client())}"}
    assert beta.email in client.get("/api/v1/kept-open/", headers=headers).content.decode()
    answer = client.get("/api/v1/kept-open/")
    assert answer.status_code == 500
    assert beta.email not in answer.content.decode()


USES: dict[str, Callable[[Any], object]] = {
    "iterate": list,
    "len": len,
    "bool": bool,
    "first row": lambda kept: kept[0],
    "slice": lambda kept: kept[:1],
    "count": lambda kept: kept.count(),
    "exists": lambda kept: kept.exists(),
    "first": lambda kept: kept.first(),
    "pickle": pickle.dumps,
    "repr": repr,
}
KINDS: dict[str, Callable[[], Any]] = {
    "objects": lambda: User.objects.order_by("pk"),
    "values": lambda: User.objects.order_by("pk").values("email"),
    "empty": lambda: User.objects.order_by("pk").filter(email="nobody"),
    "raw": lambda: User.objects.raw("SELECT * FROM users"),
}


# What a kind of query set does not have, or does without reading rows.
NOT_OF = {
    "raw": {"count", "exists", "first", "pickle", "repr"},
    "empty": {"first row", "first"},
}


def test_what_a_query_set_fetched_in_beta_is_refused_in_alpha_and_outside(
    alpha: Company, beta: Company
) -> None:
    for kind, query in KINDS.items():
        with tenancy.override(beta.tenant):
            kept = query()
            rows = list(kept)
        for name in USES.keys() - NOT_OF.get(kind, set()):
            with (
                tenancy.override(alpha.tenant),
                pytest.raises(WrongTenant, match=f"belongs to {beta.tenant.alias}"),
            ):
                USES[name](kept)
                pytest.fail(f"not refused: {name} of {kind}")
            with pytest.raises(NoTenant, match="query set of accounts.User has fetched"):
                USES[name](kept)
                pytest.fail(f"not refused outside: {name} of {kind}")
        with tenancy.override(beta.tenant):
            assert list(kept) == rows, "its own organization no longer reads it"
        if kind != "raw":
            with tenancy.override(alpha.tenant):
                assert all(beta.email not in str(row) for row in kept.all())


def test_a_pickled_query_set_stays_its_organizations(alpha: Company, beta: Company) -> None:
    with tenancy.override(beta.tenant):
        copy = pickle.loads(pickle.dumps(User.objects.all()))  # noqa: S301 - made in the line itself
        assert beta.email in {user.email for user in copy}
    with tenancy.override(alpha.tenant), pytest.raises(WrongTenant):
        list(copy)


def test_rows_that_were_prefetched_stay_their_organizations(alpha: Company, beta: Company) -> None:
    alpha.token(Client())
    beta.token(Client())
    logins = Prefetch("login_sessions", LoginSession.objects.select_related("user"))
    with tenancy.override(beta.tenant):
        user = User.objects.prefetch_related(logins).get(pk=1)
        kept = user.login_sessions.all()
        session = kept[0]
        assert session.user == user
    with tenancy.override(alpha.tenant):
        for use in (
            lambda: list(kept),
            lambda: list(user.login_sessions.all()),
            lambda: user.login_sessions.count(),
            lambda: session.user,
        ):
            with pytest.raises(WrongTenant, match=f"belongs to {beta.tenant.alias}"):
                use()
    assert session.user.email == beta.email, "outside of both it can be read as a column can"


def test_an_iterator_that_began_in_beta_goes_on_in_beta_alone(
    alpha: Company, beta: Company
) -> None:
    async def astep(steps: Any) -> Any:
        return await anext(steps)

    async def begun(tenant: tenancy.Tenant) -> Any:
        with tenancy.override(tenant):
            steps = aiter(User.objects.aiterator())
            await anext(steps)
            return steps

    async def in_turns() -> None:
        with tenancy.override(beta.tenant):
            await User.objects.acreate(email="second@beta.example")
        try:
            steps = await begun(beta.tenant)
            with tenancy.override(alpha.tenant), pytest.raises(WrongTenant):
                await astep(steps)
        finally:
            with tenancy.override(beta.tenant):
                await User.objects.filter(email="second@beta.example").adelete()

    asyncio.run(in_turns())
    with tenancy.override(beta.tenant):
        User.objects.create(email="second@beta.example")
        try:
            for begin in (User.objects.iterator, User.objects.raw("SELECT * FROM users").iterator):
                steps = iter(begin())
                next(steps)
                with tenancy.override(alpha.tenant), pytest.raises(WrongTenant):
                    next(steps)
        finally:
            User.objects.filter(email="second@beta.example").delete()


def test_rows_of_no_organization_can_be_kept(alpha: Company, beta: Company) -> None:
    with tenancy.override(beta.tenant):
        master: QuerySet[Organization] = Organization.objects.filter(pk=alpha.organization.pk)
        nothing = User.objects.none()
        assert [each.pk for each in master] == [alpha.organization.pk]
        assert not nothing
    with tenancy.override(alpha.tenant):
        assert len(master) == 1 and not nothing
    assert len(master) == 1 and not nothing


def test_a_query_set_that_is_written_through_fetches_again(alpha: Company, beta: Company) -> None:
    with tenancy.override(beta.tenant):
        kept = User.objects.filter(email="nobody")
        assert not kept
    with tenancy.override(alpha.tenant):
        assert kept.update(is_admin=False) == 0
        assert not kept, "what alpha has fetched is alpha's"


def test_betas_object_is_no_part_of_alphas_answer(alpha: Company, beta: Company) -> None:
    with tenancy.override(beta.tenant):
        user = User.objects.get(pk=1)
        assert UserOutput(user).data["email"] == beta.email
    with tenancy.override(alpha.tenant), pytest.raises(WrongTenant, match="accounts.User belongs"):
        _ = UserOutput(user).data
    with pytest.raises(NoTenant, match="accounts.User belongs to an organization"):
        _ = UserOutput([user], many=True).data
