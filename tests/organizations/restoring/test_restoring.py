"""restore_org and --undo: what comes back, becomes invalid, is kept, and is refused."""

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone
from psycopg import sql
from pytest_django import Settings

from accounts import link_tokens, sessions, tokens
from accounts.link_tokens import Purpose
from accounts.models import LoginSession, User
from organizations import lifecycle, tenancy
from organizations.background import pruning
from organizations.backups import making
from organizations.errors import (
    AdoptionRefused,
    BackupNotFound,
    FilesUnknown,
    NothingToUndo,
    RestoreDeclined,
    RestoreFailed,
)
from organizations.inspecting import checking
from organizations.models import AuditEntry, Installation, Organization, Restore
from organizations.postgres import identity
from organizations.postgres.sessions import open_session
from organizations.provisioning import code
from organizations.provisioning.kept import expected_kept
from organizations.recovery.adopting import adopt_organization
from organizations.recovery.claiming import claim_installation
from organizations.restoring import comparing, switching
from organizations.restoring.comparing import Changes, Goes
from organizations.tenancy import storage
from tests.conftest import Company, Superuser
from tests.organizations.backups.helpers import LARGE
from tests.organizations.backups.test_encryption import new_key
from tests.organizations.helpers import as_role_of
from tests.organizations.migrating import added

from .helpers import (
    add,
    can_log_in,
    contents,
    emails,
    execute_as_superuser,
    me,
    owner_of,
    row_of,
    the_restore,
    write_file,
)

State = Restore.State


def test_a_backup_takes_the_place_of_what_serves_which_is_kept_aside(
    made: Company, folder: Path, superuser: Superuser, client: Client
) -> None:
    before = made.organization
    add(made, "ada@test.com")
    write_file(made, "a/plan.txt", LARGE)
    token = made.token(client)
    run = making.back_up(before)
    add(made, "late@test.com")
    write_file(made, "a/plan.txt", "now")
    write_file(made, "late.txt", "late")
    assert me(client, token) == 200

    restore = lifecycle.restore_organization(row_of(made))

    assert (restore.state, restore.backup) == (State.DONE, run.key)
    assert emails(made) == [made.email, "ada@test.com"]
    assert contents(before.key) == {"a/plan.txt": LARGE}
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
    assert contents(undone.key) == {"a/plan.txt": LARGE}
    back = row_of(made)
    assert (back.database_name, back.role_name) == (before.database_name, before.role_name)
    assert owner_of(superuser, before.database_name) == (before.role_name, True)
    assert me(client, token) == 401, "a log-in of before the restore"
    (finding,) = checking.check([now.pk])
    assert finding.problems == ()


def test_an_encrypted_backup_is_restored_with_its_files(
    made: Company, folder: Path, settings: Settings
) -> None:
    settings.BACKUP_ENCRYPTION_KEYS = [str(new_key())]
    write_file(made, "plan.txt", LARGE)
    making.back_up(made.organization)
    write_file(made, "plan.txt", "now")
    settings.BACKUP_ENCRYPTION_KEYS = [str(new_key()), *settings.BACKUP_ENCRYPTION_KEYS]
    add(made, "late@test.com")
    lifecycle.restore_organization(row_of(made))
    assert emails(made) == [made.email]
    assert contents(made.organization.key) == {"plan.txt": LARGE}


def test_log_ins_and_links_of_before_are_void_after_a_restore_another_and_an_undo(
    made: Company, folder: Path, client: Client
) -> None:
    refresh_token = made.login(client)["refresh"]
    before = handed_out(made, client)
    making.back_up(made.organization)
    assert all(before().values()), before()
    lifecycle.restore_organization(row_of(made))
    assert not any(before().values()), before()
    answer = client.post(
        "/api/v1/auth/token/refresh/", {"refresh": refresh_token}, content_type="application/json"
    )
    assert answer.status_code == 401
    with tenancy.override(row_of(made).tenant):
        assert not LoginSession.objects.exists()

    since, restored = handed_out(made, client), row_of(made)
    assert all(since().values()), since()
    lifecycle.restore_organization(row_of(made))
    assert not any(since().values()), since()

    # What the kept database has may have been ended since, for example by an undeletion.
    late = add(made, "late@test.com").pk
    lifecycle.undo_restore(row_of(made))
    assert row_of(made).database_name == restored.database_name
    assert row_of(made).sealed_password != restored.sealed_password
    assert not any((before() | since()).values()), (before(), since())
    assert me(client, made.token(client)) == 200
    # The audit trail names users by their ids.
    assert add(made, "after@test.com").pk > late


def handed_out(company: Company, client: Client) -> Callable[[], dict[str, bool]]:
    """Logs in by token and by cookie, and has links mailed. What of that is valid, whenever it is
    called."""
    token = company.token(client)
    with tenancy.override(row_of(company).tenant):
        user = User.objects.earliest("pk")
        links = {purpose: link_tokens.token_for(user, purpose=purpose) for purpose in Purpose}
        session = sessions.start(user, kind=LoginSession.Kind.BROWSER)
    cookie = tokens.sign_cookie(session, row_of(company).tenant)

    def valid() -> dict[str, bool]:
        browser = Client()  # Another forgets a cookie that was refused.
        browser.cookies[settings.ORG_SESSION_COOKIE_NAME] = cookie
        by_cookie = browser.get("/api/v1/me/").status_code == 200
        found = {"token": me(client, token) == 200, "cookie": by_cookie}
        with tenancy.override(row_of(company).tenant):
            user = User.objects.earliest("pk")
            for purpose, link in links.items():
                read = link_tokens.read(link, purpose=purpose)
                found[purpose.name] = link_tokens.fits(read, user)
        return found

    return valid


def test_ids_of_users_that_were_removed_or_cannot_be_read_do_not_come_again(
    made: Company, folder: Path, superuser: Superuser
) -> None:
    before = add_and_remove(made)
    making.back_up(made.organization)
    lifecycle.restore_organization(row_of(made))
    since = add_and_remove(made)
    assert since > before
    lifecycle.restore_organization(row_of(made))
    lost = add(made, "lost@test.com").pk
    assert lost > since
    execute_as_superuser(superuser, "DROP DATABASE {} WITH (FORCE)", row_of(made).database_name)
    lifecycle.restore_organization(row_of(made))
    assert add(made, "ada@test.com").pk > lost


def add_and_remove(company: Company) -> int:
    """The id of a user who was there for a moment."""
    number = add(company, "removed@test.com").pk
    with tenancy.override(row_of(company).tenant):
        User.objects.filter(pk=number).delete()
    return number


def test_who_goes_back_is_told_before_anything_is_switched(
    made: Company, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "_PAGE", 2)
    users = {
        name: add(made, f"{name}@test.com").pk
        for name in ("password", "rights", "address", "removed", "same")
    }
    making.back_up(made.organization)
    with tenancy.override(made.tenant):
        User.objects.filter(pk=users["password"]).update(password="x")
        User.objects.filter(pk=users["rights"]).update(is_admin=True)
        User.objects.filter(pk=users["address"]).update(email="new@test.com", email_key="new")
        User.objects.filter(pk=users["removed"]).delete()
    late = add(made, "late@test.com").pk
    told: list[Changes] = []

    def no(changes: Changes) -> bool:
        told.append(changes)
        return False

    with pytest.raises(RestoreDeclined, match="nothing was changed"):
        lifecycle.restore_organization(row_of(made), confirm=no)
    (changes,) = told
    assert changes.users == (
        Goes(users["password"], "password@test.com", ("password",)),
        Goes(users["rights"], "rights@test.com", ("rights",)),
        Goes(users["address"], "new@test.com", ("address",)),
        Goes(users["removed"], "removed@test.com", ("returns",)),
        Goes(late, "late@test.com", ("gone",)),
    )
    assert changes.unknown == ""
    assert row_of(made).place == made.organization.place
    restore = lifecycle.restore_organization(row_of(made))
    numbers = dict.fromkeys(("password", "rights", "address", "returns", "gone"), 1)
    assert restore.users == numbers
    # The audit trail names users by their ids.
    assert add(made, "new@test.com").pk > late


def test_an_older_backup_is_migrated_to_this_code_and_so_is_what_an_undo_brings_back(
    made: Company,
    folder: Path,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    making.back_up(made.organization)
    before = code.current().fingerprint
    package = f"added_{secrets.token_hex(4)}"
    added.write(tmp_path / package, add='migrations.RunSQL("CREATE TABLE added (n int)")')
    monkeypatch.syspath_prepend(str(tmp_path))
    settings.MIGRATION_MODULES = {"accounts": package}
    assert code.current().fingerprint != before
    lifecycle.restore_organization(row_of(made))
    for _ in range(2):
        row = row_of(made)
        assert row.fingerprint == code.current().fingerprint
        with as_role_of(row) as connection:
            assert connection.execute("SELECT count(*) FROM added").fetchone() == (0,)
        lifecycle.undo_restore(row)


def test_the_backup_of_a_time_is_the_newest_of_before(made: Company, folder: Path) -> None:
    early = making.back_up(made.organization)
    add(made, "ada@test.com")
    later = making.back_up(made.organization)
    add(made, "late@test.com")
    at = early.started_at + timedelta(microseconds=1)
    assert lifecycle.restore_organization(row_of(made), at=at).backup == early.key
    assert emails(made) == [made.email]
    assert lifecycle.restore_organization(row_of(made), at=later.started_at).backup == later.key
    with pytest.raises(BackupNotFound, match="There is no good backup of .* until 2"):
        at = early.started_at - timedelta(seconds=1)
        lifecycle.restore_organization(row_of(made), at=at)
    # Undone from the newest to the oldest, and then the newest undo.
    for expected in ([made.email], [made.email, "ada@test.com", "late@test.com"]):
        lifecycle.undo_restore(row_of(made))
        assert emails(made) == expected
    lifecycle.undo_restore(row_of(made))
    assert emails(made) == [made.email]


def test_an_organization_that_is_migrated_meanwhile_is_not_switched(
    made: Company, folder: Path
) -> None:
    making.back_up(made.organization)
    before = row_of(made)

    def migrate(changes: Changes) -> bool:
        Organization.objects.filter(pk=before.pk).update(fingerprint="f" * 64)
        return True

    with pytest.raises(RestoreFailed, match="it was migrated meanwhile"):
        lifecycle.restore_organization(row_of(made), confirm=migrate)
    assert row_of(made).place == before.place
    Organization.objects.filter(pk=before.pk).update(fingerprint=before.fingerprint)


def test_a_suspension_stays_exports_go_and_a_repeat_does_nothing(
    made: Company, folder: Path, settings: Settings, tmp_path: Path
) -> None:
    """An admin of the backup may have lost the rights since. A job is tried again if its worker
    dies."""
    settings.EXPORTS_ROOT = tmp_path / "exports"
    export = settings.EXPORTS_ROOT / made.organization.key / f"{'a' * 32}.zip"
    export.parent.mkdir(parents=True)
    export.touch()
    making.back_up(made.organization)
    lifecycle.suspend_organization(row_of(made))
    first = lifecycle.restore_organization(row_of(made), key="a" * 32)
    assert not export.exists()
    assert row_of(made).status == "suspended"
    lifecycle.resume_organization(row_of(made))
    assert emails(made) == [made.email]
    add(made, "late@test.com")
    assert lifecycle.restore_organization(row_of(made), key="a" * 32) == first
    assert emails(made) == [made.email, "late@test.com"]


def test_files_that_the_backup_lacks_come_back_but_on_no_host_without_them(
    made: Company, folder: Path, tmp_path: Path, settings: Settings
) -> None:
    making.back_up(made.organization)
    write_file(made, "late.txt", "late")
    lifecycle.restore_organization(row_of(made))
    assert contents(made.organization.key) == {}
    media, settings.MEDIA_ROOT = settings.MEDIA_ROOT, tmp_path / "elsewhere"
    with pytest.raises(RestoreFailed, match="not on this host"):
        lifecycle.undo_restore(row_of(made))
    settings.MEDIA_ROOT = media
    assert emails(made) == [made.email], "it is served"
    assert lifecycle.undo_restore(row_of(made)).state == State.DONE
    assert contents(made.organization.key) == {"late.txt": "late"}


def test_a_backup_with_files_or_none_is_not_restored_where_media_root_is_not_mounted(
    made: Company, folder: Path, settings: Settings, tmp_path: Path
) -> None:
    for names in ((), ("plan.txt",)):
        for name in names:
            write_file(made, name, "then")
        making.back_up(made.organization)
        mounted, settings.MEDIA_ROOT = settings.MEDIA_ROOT, tmp_path / "unmounted" / "files"
        with pytest.raises(FilesUnknown, match="Mount the disk"):
            lifecycle.restore_organization(row_of(made))
        assert row_of(made).place == made.organization.place, names
        assert not (tmp_path / "unmounted").exists(), names
        settings.MEDIA_ROOT = mounted


# --- What is kept ---------------------------------------------------------------------------------
def test_what_was_kept_long_enough_is_dropped_and_can_come_back_no_more(
    made: Company, folder: Path, superuser: Superuser, settings: Settings
) -> None:
    write_file(made, "plan.txt", "now")
    making.back_up(made.organization)
    before = made.organization
    restore = lifecycle.restore_organization(row_of(made))

    assert pruning.prune() == []
    outcome = lifecycle.reconcile_organizations()
    assert not any(outcome.values()), outcome
    found = [each for each in checking.check(None, fix=True) if each.problems or each.fixed]
    assert not [each for each in found if restore.key in each.subject], found
    with pytest.raises(AdoptionRefused, match="a restore keeps it"):
        adopt_organization(database=before.database_name, name="Another", email="a@test.com")
    assert owner_of(superuser, before.database_name) == ("orgmgmt", False)
    assert contents(restore.key) == {"plan.txt": "now"}

    days = timedelta(days=settings.ORG_RESTORE_KEEP_DAYS)
    assert restore.kept_until is not None
    assert abs(restore.kept_until - timezone.now() - days) < timedelta(minutes=1)
    Restore.objects.update(kept_until=timezone.now())
    assert pruning.prune() == []
    assert owner_of(superuser, before.database_name) is None
    assert not storage.folder_of(restore.key).exists()
    assert not can_log_in(superuser, before.role_name)
    with pytest.raises(NothingToUndo):
        lifecycle.undo_restore(row_of(made))
    assert emails(made) == [made.email]


def test_what_row_identity_oid_and_owner_do_not_agree_on_is_never_dropped(
    made: Company, folder: Path, superuser: Superuser
) -> None:
    making.back_up(made.organization)
    lifecycle.restore_organization(row_of(made))
    kept = the_restore(made)
    database, role = sql.Identifier(kept.database_name), sql.Identifier(kept.role_name)
    comment = "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s"
    (said,) = superuser.execute(comment, (kept.role_name,)).fetchone() or ("",)
    write = sql.SQL("COMMENT ON ROLE {} IS {}")
    another = sql.Identifier(f"{kept.database_name}_x")
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    owner = sql.SQL("ALTER DATABASE {} OWNER TO {}")
    Restore.objects.update(kept_until=timezone.now())
    for doubts, ends in (
        (
            [write.format(role, str(said).replace(kept.key, "0" * 32))],
            [write.format(role, str(said))],
        ),
        (
            [owner.format(database, sql.Identifier("postgres"))],
            [owner.format(database, sql.Identifier("orgmgmt"))],
        ),
        (
            [
                rename.format(database, another),
                sql.SQL("CREATE DATABASE {} OWNER orgmgmt").format(database),
            ],
            [sql.SQL("DROP DATABASE {}").format(database), rename.format(another, database)],
        ),
    ):
        for statement in doubts:
            superuser.execute(statement)
        assert switching.prune() == [f"restores of organization {made.organization.pk}"], doubts
        assert owner_of(superuser, kept.database_name) is not None, doubts
        assert the_restore(made).database_name == kept.database_name
        for statement in ends:
            superuser.execute(statement)
    assert switching.prune() == []
    assert owner_of(superuser, kept.database_name) is None


def test_what_was_kept_for_a_deleted_organization_goes_with_it(
    made: Company, folder: Path, superuser: Superuser
) -> None:
    making.back_up(made.organization)
    lifecycle.restore_organization(row_of(made))
    kept = the_restore(made)
    # As one that an older version dropped.
    Organization.objects.filter(pk=made.organization.pk).update(status="deleted")
    assert lifecycle.reconcile_organizations()["failed"] == []
    assert owner_of(superuser, kept.database_name) is None
    Organization.objects.filter(pk=made.organization.pk).update(status="active")


def test_what_is_kept_is_recognised_on_another_server(
    made: Company, folder: Path, superuser: Superuser
) -> None:
    """There every database has another OID."""
    making.back_up(made.organization)
    lifecycle.restore_organization(row_of(made))
    here = Installation.objects.get().system_identifier
    for is_half_aside in (False, True):
        kept = the_restore(made)
        with open_session() as session:
            found = identity.require(session, expected_kept(kept))
            session.execute(replace(found, databases=(1,)).comment(kept.role_name))
        if is_half_aside:
            change = "ALTER DATABASE {} OWNER TO {}"
            execute_as_superuser(superuser, change, kept.database_name, kept.role_name)
        Installation.objects.update(system_identifier=1)
        try:
            claim_installation(new=False)
        finally:
            Installation.objects.update(system_identifier=here)
        lifecycle.undo_restore(row_of(made))
        assert row_of(made).database_name == kept.database_name, is_half_aside
