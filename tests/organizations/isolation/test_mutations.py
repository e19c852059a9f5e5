"""Isolation attempts get through when their wall is removed, one wall after the other.

That each of these attempts is refused while the walls stand, test_catalogue.py and
test_relations.py show. Were it refused for another reason than its wall, it would be refused with
the breach too, and the test here would fail.
"""

import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jwt
import psycopg
import pytest
from django.core import signing
from django.core.cache import caches
from django.core.signing import JSONSerializer, b64_decode
from django.db.models import Field, Model, QuerySet
from django.db.models.deletion import Collector
from django.db.models.fields import related_lookups
from psycopg import sql
from pytest_django import Settings
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from accounts import letters, limits, link_tokens, logins, sessions
from accounts.api.authentication import BrowserSessionAuthentication
from accounts.api.permissions import IsMember
from accounts.api.serializers import UserOutput
from accounts.api.views import UserViewSet
from accounts.links import flows
from accounts.models import LoginSession, User
from accounts.signing_keys import KeyRingBackend
from accounts.tokens import Credential
from organizations import suspending, tenancy
from organizations.api import permissions
from organizations.isolation.stage import Stage
from organizations.models import SpareDatabase
from organizations.postgres.sessions import open_session
from organizations.provisioning import refill, templates
from organizations.tenancy import router, transaction
from organizations.tenancy.backend.base import DatabaseWrapper
from tests.conftest import Superuser
from tests.plugin import SERVER

from .conftest import Try

Patch = pytest.MonkeyPatch


ME, LIST = "GET /api/v1/me/", "GET /api/v1/users/"
# Of attempts with many subjects, those that show it.
SUBJECTS = {
    "A's credential with a header that names B": (ME,),
    "A's credential at B's host": (ME,),
    "A login of A's that has ended": (ME,),
    "A's call after the same call of B's, in one process": (ME, LIST),
    "A's call that names B in path and body": (ME, LIST, "GET /api/v1/organizations/"),
    "A header that names B without a credential": (ME, "GET /api/v1/organizations/"),
    "A's lists, filtered and searched for B": (LIST,),
    # Not a running query: if nobody ends it, its time limit does.
    "A goes on reading after it was suspended": (
        "a request with a kept connection",
        "an open transaction",
        "a streamed body",
        "an async view",
        "a job",
    ),
    "SQL injected into a raw query of A's": (
        "SET ROLE to B's",
        "CREATE ROLE",
        "COPY FROM a file",
        "COPY TO PROGRAM",
        "pg_cancel_backend of B's",
    ),
}


def outcomes(try_: Try, name: str) -> set[str]:
    return {result.outcome for result in try_(name, *SUBJECTS.get(name, ()))}


def crossed(try_: Try, *names: str) -> None:
    """Assert that each of these attempts gets through, and does not merely fail."""
    for name in names:
        assert "crossed" in outcomes(try_, name), f"{name}: the breach is not seen"


def without_the_claim(patch: Patch) -> None:
    """A login is looked up whatever organization its credential names."""
    look_up = sessions.of

    def unchecked(credential: Credential) -> LoginSession:
        own = tenancy.get().organization_id
        return look_up(replace(credential, organization_id=own))

    patch.setattr(sessions, "of", unchecked)


def without(patch: Patch, owner: Any, function: Callable[..., Any], text: str) -> None:
    """Remove lines from a function, in place. Fails if it no longer has them."""
    source = textwrap.dedent(inspect.getsource(function))
    assert text in source, f"{function.__qualname__} has changed: take out what it is now"
    names: dict[str, Any] = {}
    exec(source.replace(text, ""), function.__globals__, names)  # noqa: S102 - our own source
    patch.setattr(owner, function.__name__, names[function.__name__])


# --- The code's walls ---------------------------------------------------------------------------
def test_a_router_without_its_guard_is_found(try_: Try, monkeypatch: Patch) -> None:
    names = (
        "An instance of A saved in B",
        "An instance of A deleted or refreshed in B",
        "A row of B set as a relation in A, or used in a query",
    )
    monkeypatch.setattr(router, "refuse_other_tenant", lambda instance, alias: None)
    crossed(try_, *names)


def test_a_router_that_falls_back_is_found(try_: Try, monkeypatch: Patch) -> None:
    for method in ("db_for_read", "db_for_write"):
        monkeypatch.setattr(router.TenantRouter, method, lambda *args, **hints: "default")
    assert "refused" not in outcomes(try_, "A query while no organization is active")


def test_a_login_found_without_comparing_the_organization_is_detected(
    try_: Try, monkeypatch: Patch
) -> None:
    name = "A's credential used inside B, which has a login with the same id"
    without_the_claim(monkeypatch)
    kinds = ("access token", "refresh token", "session cookie")
    assert {result.outcome for result in try_(name, *kinds)} == {"crossed"}


def test_a_link_that_is_not_compared_with_the_user_is_found(try_: Try, monkeypatch: Patch) -> None:
    names = (
        "A's credential used inside B, which has a login with the same id",
        "A's login in a credential for B, correctly signed",
    )
    kinds = ("link for a new password", "link that verifies an address")
    monkeypatch.setattr(link_tokens, "fits", lambda link, user: link.user_id == user.pk)
    for name in names:
        assert {result.outcome for result in try_(name, *kinds)} == {"crossed"}


def test_a_mail_to_whomever_a_stranger_names_is_found(try_: Try, monkeypatch: Patch) -> None:
    name = "A's address in B's requests for a mailed link"
    unwanted = "    if not wanted:\n        return None, user\n"
    without(monkeypatch, letters, letters._write, unwanted)
    crossed(try_, name)


def test_a_middleware_that_compares_no_header_is_found(try_: Try, monkeypatch: Patch) -> None:
    names = ("A's credential with a header that names B", "A's credential at B's host")
    monkeypatch.setattr(logins, "other_organization", lambda request, tenant: None)
    crossed(try_, *names)


def test_a_log_in_that_compares_no_header_is_found(try_: Try, monkeypatch: Patch) -> None:
    name = "A's password or refresh token with a header that names B"
    for module in (logins, flows):
        monkeypatch.setattr(module, "other_organization", lambda request, tenant: None)
    assert outcomes(try_, name) == {"crossed"}


def test_a_login_that_is_not_looked_up_to_its_end_is_found(try_: Try, monkeypatch: Patch) -> None:
    also_ended = sessions._query().replace("AND ended_at IS NULL ", "")
    monkeypatch.setattr(sessions, "_query", lambda: also_ended)
    crossed(try_, "A login of A's that has ended")


def test_a_header_that_is_obeyed_is_found(stage: Stage, try_: Try, monkeypatch: Patch) -> None:
    """As products have it for their front end: what a header names is entered."""
    names = (
        "A's credential with a header that names B",
        "A's call that names B in path and body",
    )
    monkeypatch.setattr(
        logins, "tenant_of_credential", lambda request, credential, known: stage.theirs.tenant
    )
    without_the_claim(monkeypatch)
    crossed(try_, *names)


def test_a_suspension_that_ends_no_session_is_found(try_: Try, monkeypatch: Patch) -> None:
    monkeypatch.setattr(suspending, "fence", lambda organization: None)
    crossed(try_, "A goes on reading after it was suspended")


def test_a_database_wrapper_without_its_guard_is_found(try_: Try, monkeypatch: Patch) -> None:
    names = (
        "A query in B that names A's alias: using=",
        "A query in A that names B's alias: using=",
        "connections[B's alias] while A is active",
    )
    for method in ("cursor", "chunked_cursor"):
        monkeypatch.delattr(DatabaseWrapper, method)
    crossed(try_, *names)


def test_a_bulk_write_without_the_look_at_its_objects_is_found(
    try_: Try, monkeypatch: Patch
) -> None:
    for method in ("bulk_create", "bulk_update"):
        with monkeypatch.context() as patch:
            patch.setattr(QuerySet, method, getattr(QuerySet, method).__wrapped__)
            assert outcomes(try_, "Instances of A written in bulk in B") == {"crossed"}, method


def test_a_filter_without_the_look_at_its_value_is_found(try_: Try, monkeypatch: Patch) -> None:
    name = "A row of B set as a relation in A, or used in a query"
    guarded: Any = related_lookups.get_normalized_value
    monkeypatch.setattr(related_lookups, "get_normalized_value", guarded.__wrapped__)
    # The condition that was written with it is looked at again where it runs.
    assert outcomes(try_, name) == {"refused"}
    lookup: Any = related_lookups.RelatedLookupMixin
    monkeypatch.setattr(lookup, "as_sql", lookup.as_sql.__wrapped__)
    crossed(try_, name)


KEPT = "Rows fetched by a query set in B, read in A"
GIVEN = "An instance of A used in B's queries and forms"
ANSWERED = "An instance of B in a response of A's"
UNCOVERED = "A write of A's inside a bare transaction.atomic()"
REPEATED = "A's call after the same call of B's, in one process"


def test_a_query_set_that_forgets_whose_its_rows_are_is_found(
    try_: Try, monkeypatch: Patch
) -> None:
    monkeypatch.delattr(QuerySet, "_result_cache")
    crossed(try_, KEPT)


def test_a_way_of_an_instance_without_the_look_at_it_is_found(
    try_: Try, monkeypatch: Patch
) -> None:
    ways: tuple[tuple[Any, str], ...] = (
        (QuerySet, "contains"),
        (Model, "save_base"),
        (Model, "refresh_from_db"),
        (Model, "validate_unique"),
        (Model, "__eq__"),
        (Field, "value_from_object"),
        (Collector, "add"),
    )
    for owner, name in ways:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, getattr(owner, name).__wrapped__)
            # What hangs on the instance is sought by a Collector, too.
            wanted = {"refused", "crossed"} if owner is Collector else {"crossed"}
            assert outcomes(try_, GIVEN) == wanted, name


def test_an_update_without_the_look_at_its_value_is_found(try_: Try, monkeypatch: Patch) -> None:
    name = "A row of B set as a relation in A, or used in a query"
    looked: Any = Model.prepare_database_save
    monkeypatch.setattr(Model, "prepare_database_save", looked.__wrapped__)
    crossed(try_, name)


def test_serializers_that_look_at_nothing_are_found(try_: Try, monkeypatch: Patch) -> None:
    looked: Any = Serializer.to_representation
    monkeypatch.setattr(Serializer, "to_representation", looked.__wrapped__)
    crossed(try_, ANSWERED)


def test_a_write_that_a_bare_block_would_not_roll_back_is_found(
    try_: Try, monkeypatch: Patch, settings: Settings
) -> None:
    settings.ORG_BARE_ATOMIC = "warn"
    assert outcomes(try_, UNCOVERED) == {"broken"}
    settings.ORG_BARE_ATOMIC = "refuse"
    monkeypatch.setattr(transaction, "_refuse", lambda reason: None)
    crossed(try_, UNCOVERED)


def test_a_view_that_keeps_what_it_answered_is_found(try_: Try, monkeypatch: Patch) -> None:
    """Plain values: no wall of the code's sees whose they are."""
    answer = UserViewSet.list
    kept: list[Any] = []

    def keeping(self: UserViewSet, request: Any, *args: Any, **kwargs: Any) -> Any:
        if not kept:
            kept.append(answer(self, request, *args, **kwargs).data)
        return Response(kept[0])

    monkeypatch.setattr(UserViewSet, "list", keeping)
    crossed(try_, REPEATED)


def test_a_view_that_keeps_its_query_set_is_found(try_: Try, monkeypatch: Patch) -> None:
    """The wall stands, so nothing crosses, and the endpoint is broken for the second."""
    rows = User.objects.order_by("pk")

    def keeping(self: UserViewSet, request: Any, *args: Any, **kwargs: Any) -> Any:
        return Response({"results": UserOutput(rows, many=True).data})

    monkeypatch.setattr(UserViewSet, "list", keeping)
    assert outcomes(try_, REPEATED) == {"refused", "broken"}


def test_a_cookie_whose_signature_is_not_checked_is_found(try_: Try, monkeypatch: Patch) -> None:
    name = "A's credential with B's id written into it"
    monkeypatch.setattr(
        signing,
        "loads",
        lambda raw, **_: JSONSerializer().loads(b64_decode(raw.split(":")[0].encode())),
    )
    assert {r.subject for r in try_(name) if r.outcome == "crossed"} == {"session cookie"}


def test_tokens_whose_signature_is_not_checked_are_found(try_: Try, monkeypatch: Patch) -> None:
    monkeypatch.setattr(
        KeyRingBackend,
        "decode",
        lambda self, raw, verify=True: jwt.decode(raw, options={"verify_signature": False}),
    )
    crossed(try_, "An unsigned token for B (alg none)")
    results = try_("A's credential with B's id written into it")
    found = {result.subject for result in results if result.outcome == "crossed"}
    assert found == {"access token", "refresh token"}


def test_a_browser_that_needs_no_csrf_token_is_found(try_: Try, monkeypatch: Patch) -> None:
    name = "A's cookie without the page's CSRF token"
    monkeypatch.setattr(BrowserSessionAuthentication, "check", lambda self, request: None)
    crossed(try_, name)


def test_cache_keys_without_compartments_are_found(try_: Try, monkeypatch: Patch) -> None:
    name = "A reads and deletes B's cache key"
    cache = caches["default"]
    monkeypatch.setattr(cache, "key_func", lambda key, prefix, version: f"{version}:{key}")
    crossed(try_, name)


def test_a_limit_that_does_not_count_by_organization_is_found(
    try_: Try, monkeypatch: Patch
) -> None:
    take, shared_by_all = limits.take, ("MEMBER", "LOGIN_ACCOUNT", "MAIL_ACCOUNT")

    def shared(limit: str, *counted_by: str | int, **about: Any) -> None:
        take(limit, *(counted_by[1:] if limit in shared_by_all else counted_by), **about)

    monkeypatch.setattr(limits, "take", shared)
    results = try_(
        "B limited by A's requests, one limit at a time",
        *(f"THROTTLE_{name}" for name in shared_by_all),
    )
    assert [result.outcome for result in results] == ["crossed"] * 3


def test_an_endpoint_that_anybody_may_ask_is_found(try_: Try, monkeypatch: Patch) -> None:
    name = "A header that names B without a credential"
    monkeypatch.setattr(IsMember, "has_permission", lambda self, request, view: True)
    monkeypatch.setattr(permissions.StaffMay, "has_permission", lambda self, request, view: True)
    crossed(try_, name, "A's call that names B in path and body")


def test_an_answer_that_holds_something_of_theirs_is_found(
    stage: Stage, try_: Try, monkeypatch: Patch
) -> None:
    names = ("A's call that names B in path and body", "A's lists, filtered and searched for B")
    finalize: Any = APIView.finalize_response

    def leaking(self: APIView, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, UserViewSet) and isinstance(response.data, dict):
            response.data["results"] = [{"email": stage.theirs.admin_email}]
        return finalize(self, request, response, *args, **kwargs)

    monkeypatch.setattr(UserViewSet, "finalize_response", leaking)
    crossed(try_, *names)


# --- The server's walls -------------------------------------------------------------------------
@pytest.fixture
def breach(superuser: Superuser) -> Iterator[Callable[[str, str], None]]:
    """Runs a statement as the server's superuser, and another one after the test."""
    undo: list[str] = []

    def run(statement: str, back: str) -> None:
        superuser.execute(statement.encode())
        undo.append(back)

    yield run
    for statement in undo:
        superuser.execute(statement.encode())


CONNECTS = "A's role connects to another database"
CATALOG = "The catalog lets A's role connect to another database"
STATEMENT = "SQL injected into a raw query of A's"


def quoted(name: str) -> str:
    return sql.Identifier(name).as_string()


def test_connect_that_is_left_to_public_is_found(
    stage: Stage, try_: Try, breach: Callable[[str, str], None]
) -> None:
    names = {stage.theirs.organization.database_name, "postgres", "template1", "master_org_db"}
    for name in names:
        right = f"CONNECT ON DATABASE {quoted(name)}"
        breach(f"GRANT {right} TO PUBLIC", f"REVOKE {right} FROM PUBLIC")
    assert {r.subject for r in try_(CONNECTS) if r.outcome == "crossed"} == names
    (by_catalog,) = try_(CATALOG)
    found = by_catalog.how.removeprefix("4: ").split(", ")
    assert (by_catalog.outcome, {*found}) == ("crossed", names)


def test_a_spare_database_that_is_left_to_public_is_found(
    try_: Try, breach: Callable[[str, str], None], settings: Settings
) -> None:
    settings.ORG_SPARE_DATABASES = 1
    with open_session() as session:
        refill.fill(session)
    try:
        name = SpareDatabase.objects.get().database_name
        right = f"CONNECT ON DATABASE {quoted(name)}"
        breach(f"GRANT {right} TO PUBLIC", "SELECT 1")
        assert [r.subject for r in try_(CONNECTS) if r.outcome == "crossed"] == [name]
        crossed(try_, CATALOG)
    finally:
        settings.ORG_SPARE_DATABASES = 0
        with open_session() as session:
            refill.fill(session)


def test_a_template_that_is_left_to_public_is_found(
    try_: Try, breach: Callable[[str, str], None]
) -> None:
    template = templates.ready()
    assert template is not None
    right = f"CONNECT ON DATABASE {quoted(template.database_name)}"
    breach(f"GRANT {right} TO PUBLIC", f"REVOKE {right} FROM PUBLIC")
    (by_catalog,) = try_(CATALOG)
    assert (by_catalog.outcome, by_catalog.how) == ("crossed", f"1: {template.database_name}")


def test_a_role_that_may_do_more_is_found(
    stage: Stage, try_: Try, breach: Callable[[str, str], None]
) -> None:
    names = ("A's role has an additional attribute", STATEMENT)
    role = quoted(stage.ours.organization.role_name)
    breach(f"ALTER ROLE {role} CREATEROLE", f"ALTER ROLE {role} NOCREATEROLE")
    crossed(try_, *names)


def test_a_role_that_is_a_member_of_theirs_is_found(
    stage: Stage, try_: Try, breach: Callable[[str, str], None]
) -> None:
    names = ("A's role is a member of another role", STATEMENT)
    a, b = (quoted(side.organization.role_name) for side in (stage.ours, stage.theirs))
    breach(f"GRANT {b} TO {a} WITH INHERIT FALSE", f"REVOKE {b} FROM {a}")
    crossed(try_, *names)
    found = {r.subject for r in try_(STATEMENT, *SUBJECTS[STATEMENT]) if r.outcome == "crossed"}
    assert found == {"SET ROLE to B's"}


def test_a_role_with_a_right_over_the_server_is_found(
    stage: Stage, try_: Try, superuser: Superuser
) -> None:
    role = quoted(stage.ours.organization.role_name)
    for right, name in (
        ("pg_read_all_stats", "The text of B's queries in pg_stat_activity"),
        ("pg_read_server_files", STATEMENT),
        ("pg_execute_server_program", STATEMENT),
        ("pg_signal_backend", STATEMENT),
    ):
        superuser.execute(f"GRANT {right} TO {role}".encode())
        try:
            crossed(try_, name, "A's role is a member of another role")
        finally:
            superuser.execute(f"REVOKE {right} FROM {role}".encode())


def test_a_function_with_anothers_rights_is_found(
    try_: Try, breach: Callable[[str, str], None]
) -> None:
    name = "A SECURITY DEFINER function of another role can be called"
    # In the master, where A could call it as soon as it got in.
    master = {**SERVER.superuser_parameters(), "dbname": "master_org_db"}
    with psycopg.connect(**master, autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute(
            "CREATE FUNCTION public.too_much() RETURNS int LANGUAGE sql SECURITY DEFINER "
            "AS 'SELECT 1'"
        )
        try:
            assert outcomes(try_, name) == {"refused"}
            right = "CONNECT ON DATABASE master_org_db"
            breach(f"GRANT {right} TO PUBLIC", f"REVOKE {right} FROM PUBLIC")
            crossed(try_, name)
        finally:
            connection.execute("DROP FUNCTION public.too_much()")
