"""restore_org and its undoing: what comes back, what is void, what is kept, who is refused."""

from pathlib import Path

from django.test import Client

from accounts import link_tokens
from accounts.link_tokens import Purpose
from accounts.models import LoginSession, User
from organizations import lifecycle, tenancy
from organizations.backups import making
from organizations.inspecting import checking
from organizations.models import AuditEntry, Restore
from tests.conftest import Company, Superuser

from .helpers import add, can_log_in, contents, emails, me, owner_of, row_of, write_file

State = Restore.State


def test_a_backup_takes_the_place_of_what_serves_which_is_kept_aside(
    made: Company, folder: Path, superuser: Superuser, client: Client
) -> None:
    before = made.organization
    add(made, "ada@test.com")
    write_file(made, "a/plan.txt", "then")
    token = made.token(client)
    run = making.back_up(before)
    add(made, "late@test.com")
    write_file(made, "a/plan.txt", "now")
    write_file(made, "late.txt", "late")
    assert me(client, token) == 200

    restore = lifecycle.restore_organization(row_of(made))

    assert (restore.state, restore.backup) == (State.DONE, run.key)
    assert emails(made) == [made.email, "ada@test.com"]
    assert contents(before.key) == {"a/plan.txt": "then"}
    assert contents(restore.key) == {"a/plan.txt": "now", "late.txt": "late"}
    now = row_of(made)
    assert now.role_name != before.role_name and now.database_name != before.database_name
    assert (now.key, now.slug, now.status) == (before.key, before.slug, "active")
    assert owner_of(superuser, before.database_name) == ("orgmgmt", False)
    assert not can_log_in(superuser, before.role_name)
    assert me(client, token) == 401
    assert me(client, made.token(client)) == 200
    (finding,) = checking.check([now.pk])
    assert finding.problems == ()
    problems = {each.subject: each.problems for each in checking.check(None) if each.problems}
    assert not {before.database_name, before.role_name} & problems.keys(), problems
    assert not [each for each in problems if restore.key in each], problems
    (entry,) = AuditEntry.objects.filter(organization_id=now.pk, act="organization.restored")
    assert entry.facts == {"restore": restore.key, "backup": run.key, "gone": 1}

    undone = lifecycle.undo_restore(row_of(made))

    assert (undone.state, undone.is_undo) == (State.DONE, True)
    assert emails(made) == [made.email, "ada@test.com", "late@test.com"]
    assert contents(before.key) == {"a/plan.txt": "now", "late.txt": "late"}
    assert contents(undone.key) == {"a/plan.txt": "then"}
    assert row_of(made).place == before.place
    assert owner_of(superuser, before.database_name) == (before.role_name, True)
    assert me(client, token) == 200, "a log-in of before the restore"
    (finding,) = checking.check([now.pk])
    assert finding.problems == ()


def test_tokens_cookies_and_links_of_before_are_void(made: Company, client: Client) -> None:
    token = made.token(client)
    refresh = made.login(client)["refresh"]
    with tenancy.override(made.tenant):
        user = User.objects.get()
        links = {purpose: link_tokens.token_for(user, purpose=purpose) for purpose in Purpose}
        assert LoginSession.objects.count() == 2
    making.back_up(made.organization)
    lifecycle.restore_organization(row_of(made))
    assert me(client, token) == 401
    answer = client.post(
        "/api/v1/auth/token/refresh/", {"refresh": refresh}, content_type="application/json"
    )
    assert answer.status_code == 401
    with tenancy.override(row_of(made).tenant):
        user = User.objects.get()
        assert not LoginSession.objects.exists()
        for purpose, link in links.items():
            assert not link_tokens.fits(link_tokens.read(link, purpose=purpose), user), purpose
