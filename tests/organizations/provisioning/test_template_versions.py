"""Templates of other code versions, and half-built ones."""

import threading
from datetime import timedelta

import psycopg
import pytest
from django.utils import timezone

from organizations import lifecycle
from organizations.lifecycle import Created
from organizations.models import Template
from organizations.postgres.sessions import open_session
from organizations.provisioning import templates
from tests.conftest import PASSWORD, leftovers
from tests.organizations.helpers import Code, Superuser, together, wait_for
from tests.plugin import SERVER

from .test_templates import as_superuser


# --- Other code ----------------------------------------------------------------------------------
@pytest.mark.usefixtures("no_template")
def test_a_new_migration_gets_a_template_of_its_own_while_sign_ups_go_on(
    code: Code, superuser: Superuser
) -> None:
    """Those of the old code and those of the new run side by side, as in a rolling deployment."""
    made: list[Created] = []
    stop = threading.Event()

    def keep_signing_up(thread: int) -> None:
        for number in range(1000):
            if stop.is_set():
                return
            made.append(
                lifecycle.create_organization(
                    name=f"Rolling {thread} {number}", email="admin@test.com", password=PASSWORD
                )
            )

    def deploy() -> None:
        try:
            while len(made) < 2:
                stop.wait(0.01)
            code.add("CREATE TABLE added (id int)")
            before = len(made)
            while len(made) < before + 5:
                stop.wait(0.01)
        finally:
            stop.set()

    outcome = together(*(lambda t=t: keep_signing_up(t) for t in range(2)), deploy)
    assert outcome == [None, None, None]
    has_table = {}
    for created in made:
        with as_superuser(created.organization.database_name) as connection:
            found = connection.execute("SELECT to_regclass('added') IS NOT NULL").fetchone()
        has_table[created.organization.name] = found == (True,)
        lifecycle.delete_organization(created.organization)
    assert set(has_table.values()) == {True, False}
    assert Template.objects.filter(ready=True).count() == 2
    assert leftovers(superuser) == (set(), set())


@pytest.mark.usefixtures("no_template")
def test_a_template_of_other_code_is_dropped_after_a_day_unused(
    template: Template, code: Code
) -> None:
    code.add("CREATE TABLE newer (id int)")
    lifecycle.reconcile_organizations()
    assert Template.objects.filter(pk=template.pk).exists(), "two versions run at once for a time"
    Template.objects.update(used_at=timezone.now() - timedelta(days=1, minutes=1))
    lifecycle.reconcile_organizations()
    assert not Template.objects.exists()


def test_a_use_is_noted_once_an_hour(template: Template) -> None:
    before = timezone.now() - timedelta(minutes=30)
    Template.objects.update(used_at=before)
    with open_session() as session:
        templates.ensure(session)
        assert Template.objects.get(pk=template.pk).used_at == before
        Template.objects.update(used_at=before - timedelta(hours=1))
        templates.ensure(session)
    assert Template.objects.get(pk=template.pk).used_at > before


# --- Killed --------------------------------------------------------------------------------------
@pytest.mark.usefixtures("no_template")
def test_an_interrupted_build_leaves_nothing_after_the_next(superuser: Superuser) -> None:
    """The role is made, and the session with the master dies in CREATE DATABASE."""
    blocked = threading.Event()

    def cut() -> None:
        with psycopg.connect(**SERVER.superuser_parameters()) as blocker:  # type: ignore[arg-type]
            blocker.execute("LOCK TABLE pg_database IN SHARE ROW EXCLUSIVE MODE")
            blocked.set()
            query = (
                "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                "AND starts_with(query, 'CREATE DATABASE')"
            )
            (pid,) = wait_for(superuser, query)
            superuser.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))

    def build() -> None:
        blocked.wait(10)
        with open_session() as session:
            session.lock(templates.LOCK, name="template", timeout_seconds=5)
            templates.build(session)

    _, error = together(cut, build)
    assert isinstance(error, Exception)
    assert Template.objects.filter(ready=False).exists(), "its row knows what is left"
    outcome = lifecycle.reconcile_organizations()
    assert [name for name in outcome["undone"] if name.startswith("template orgmgmt_building_")]
    assert not Template.objects.exists()
    assert leftovers(superuser) == (set(), set())
