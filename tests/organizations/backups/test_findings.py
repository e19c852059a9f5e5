"""check_orgs names organizations whose newest backup failed, is bad or could not be verified."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from pytest_django import Settings

from organizations.backups import making, verifying
from organizations.errors import OrganizationError
from organizations.inspecting import checking
from organizations.inspecting.verdicts import Kind
from tests.conftest import Company

from .helpers import execute
from .test_encryption import new_key


def findings(company: Company) -> list[tuple[str, str]]:
    """What is said of its backups, and what to do."""
    (finding,) = checking.check([company.organization.pk])
    assert {problem.kind for problem in finding.problems} <= {Kind.BACKUP}
    return [(problem.what, problem.remedy) for problem in finding.problems]


def test_why_a_backup_fails_is_a_finding_until_one_is_made(
    company: Callable[..., Company], folder: Path
) -> None:
    made = company()
    assert findings(made) == [], "none was ever made"
    secured = "ALTER TABLE users {} ROW LEVEL SECURITY"
    execute(made, secured.format("ENABLE"), secured.format("FORCE"))
    for statements, named in (
        ([], "(row security): row security hides rows of public.users"),
        (
            [secured.format("NO FORCE"), 'CREATE TABLE "a\x1b[2J" ()']
            + ['REVOKE ALL ON "a\x1b[2J" FROM CURRENT_USER'],
            r'(no privilege): its own role may not read public."a\x1b[2J"',
        ),
    ):
        execute(made, *statements)
        with suppress(OrganizationError):
            making.back_up(made.organization)
        ((what, remedy),) = findings(made)
        assert "its last backup, from 20" in what and "failed: backup_obstructed: " in what
        assert named in what
        assert remedy.startswith("remove the cause, then manage.py backup_orgs -- ")
    execute(made, 'DROP TABLE "a\x1b[2J"')
    making.back_up(made.organization)
    assert findings(made) == []


def test_what_a_verification_found_is_a_finding(
    alpha: Company, beta: Company, folder: Path, settings: Settings
) -> None:
    keys = settings.BACKUP_ENCRYPTION_KEYS = [str(new_key())]
    run = making.back_up(alpha.organization)
    making.back_up(beta.organization)
    settings.BACKUP_ENCRYPTION_KEYS = [str(new_key())]
    with pytest.raises(OrganizationError):
        verifying.verify(run, name=alpha.name)
    ((what, remedy),) = findings(alpha)
    assert what.startswith("its newest backup could not be verified: backup_key_missing: ")
    assert "manage.py verify_backups -- " in remedy
    settings.BACKUP_ENCRYPTION_KEYS = keys
    (folder / run.folder / "database.dump").unlink()
    with pytest.raises(OrganizationError):
        verifying.verify(run, name=alpha.name)
    ((what, remedy),) = findings(alpha)
    assert what.startswith("its newest backup is bad: backup_damaged: ")
    assert findings(beta) == []
