"""A master that is older than an archive or a thaw undoes neither."""

from dataclasses import replace
from typing import Any

import pytest
from django.utils import timezone

from organizations import lifecycle
from organizations.archiving import reconciling
from organizations.errors import DatabaseKept, FilesKept, WrongState
from organizations.inspecting import catalog, checking
from organizations.models import Organization, random_key
from organizations.postgres.identity import State
from organizations.postgres.sessions import open_session
from organizations.recovery import adopting
from organizations.tenancy import storage
from tests.conftest import Company, Superuser
from tests.organizations.restoring.helpers import contents, emails, row_of, write_file

from .helpers import Status, archive, on_server, problems, thaw


def said(company: Company) -> dict[str, Any]:
    """What the master says about it."""
    return dict(Organization.objects.filter(pk=company.organization.pk).values().get())


def say(company: Company, values: dict[str, Any], **others: Any) -> None:
    """As if the master were restored from that time."""
    Organization.objects.filter(pk=company.organization.pk).update(**{**values, **others})


def remedies(company: Company) -> list[str]:
    (finding,) = checking.check([company.organization.pk])
    return [problem.remedy for problem in finding.problems]


def test_a_thaw_that_the_master_does_not_know_keeps_its_files(made: Company) -> None:
    archive(made)
    archived = said(made)
    now = said(made) if thaw(made) else {}
    archiving = {"status": Status.ARCHIVING, "deletion": random_key()}
    elsewhere = {"database_name": "org_other"}
    for others in ({}, elsewhere, {**elsewhere, **archiving}, archiving):
        say(made, archived, **others)
        reconciling._not_before.clear()
        outcome = lifecycle.reconcile_organizations()
        assert made.name in outcome["failed"], outcome
        assert contents(made.organization.key) == {"deep/plan.txt": "ours"}
        if not others or others is elsewhere:
            assert any("adopt_org" in each for each in remedies(made))
            with pytest.raises(DatabaseKept, match="newer than the master"):
                thaw(made)
    with open_session() as session:  # adopt_org takes it also while the row says `archiving`.
        assert adopting._find(session, now["database_name"], undelete=False).role
    say(made, now)
    assert emails(made) == [made.email] and problems(made) == []


def test_an_archive_that_the_master_does_not_know_is_thawed_from_its_backup(made: Company) -> None:
    before = said(made)
    first = archive(made)
    installation = on_server(first).identity
    assert installation is not None
    say(made, said(made), role_name="orgrole_0123456789abcdef")
    orphans = list(catalog.orphan_roles(installation.installation))
    assert [each.is_customers for each in orphans if each.role == first.role_name] == [True]
    say(made, said(made), role_name=first.role_name)
    thaw(made)
    between = said(made)
    lifecycle.rename_organization(row_of(made), name=f"{made.name} renamed")
    write_file(made, "deep/plan.txt", "newer")
    for older in (
        between,
        {**between, "status": Status.ARCHIVING, "archived_from": "active"},
        before,
        {**before, "status": Status.ARCHIVED, "archived_backup_id": first.archived_backup_id},
    ):
        last = archive(made)
        assert first.role_name != last.role_name
        say(made, older)
        assert last.archived_backup is not None
        last.archived_backup.delete()
        what_to_do = remedies(made)
        assert any("thaw_org" in each for each in what_to_do)
        assert not any("delete_org" in each for each in what_to_do)
        lifecycle.reconcile_organizations()
        row = row_of(made)
        if row.is_usable:
            for now in (False, True):
                with pytest.raises(DatabaseKept):
                    lifecycle.delete_organization(row_of(made), now=now, without_backup=True)
            with pytest.raises(DatabaseKept):
                lifecycle.restore_organization(row_of(made))
        thaw(made)
        assert contents(row.key) == {"deep/plan.txt": "newer"}
        assert emails(made) == [made.email] and problems(made) == []


def test_files_that_are_in_no_backup_stay(made: Company) -> None:
    row = archive(made)
    for name, content in (("deep/plan.txt", "0urs"), ("other.txt", "x")):
        write_file(made, name, content)
        reconciling._not_before.clear()
        assert made.name in lifecycle.reconcile_organizations()["failed"]
        with pytest.raises(FilesKept):
            thaw(made)
        assert contents(row.key) == {name: content}
        assert storage.remove(row.key)
    reconciling._not_before.clear()
    write_file(made, "deep/plan.txt", "ours")  # As a killed removal, or thaw, leaves it.
    assert made.name not in lifecycle.reconcile_organizations()["failed"]
    assert storage.folders_of(row.key) == []
    assert thaw(made).status == Status.ACTIVE


def test_one_that_was_deleted_when_the_master_was_dumped_keeps_its_archive(made: Company) -> None:
    lifecycle.delete_organization(row_of(made))
    trashed = said(made)
    lifecycle.undelete_organization(row_of(made), name=made.name)
    archive(made)
    archived = said(made)
    say(made, trashed, kept_until=timezone.now())
    lifecycle.reconcile_organizations()
    assert not any("delete_org" in each for each in remedies(made))
    with pytest.raises(DatabaseKept):
        lifecycle.delete_organization(row_of(made), now=True, without_backup=True)
    with pytest.raises(WrongState, match="trashed"):
        thaw(made)
    found = on_server(row_of(made)).identity
    assert found is not None and found.state == State.ARCHIVED
    say(made, archived)
    assert thaw(made).status == Status.ACTIVE


def test_a_database_that_an_identity_does_not_list_is_not_taken_for_an_archived_ones(
    made: Company, superuser: Superuser
) -> None:
    row = row_of(made)
    whose = on_server(row).identity
    assert whose is not None
    # identify_orgs wrote it while the database was missing; then it was restored by hand.
    superuser.execute(replace(whose, databases=()).comment(row.role_name))
    with pytest.raises(DatabaseKept, match="not the one that was created"):
        lifecycle.delete_organization(row)
    superuser.execute(whose.comment(row.role_name))
    assert emails(made) == [made.email]
