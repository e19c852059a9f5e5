"""backup_orgs and verify_backups: what they print, and their exit codes."""

import json
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from organizations.backups import making
from organizations.models import BackupRun, Organization
from tests.conftest import Company

from .helpers import execute


def said(command: str, *words: str) -> dict[str, Any]:
    """The JSON document; of a command that failed too."""
    out = StringIO()
    try:
        call_command(command, *words, "--json", stdout=out, stderr=StringIO())
    except CommandError as error:
        assert error.returncode == 1
    document: dict[str, Any] = json.loads(out.getvalue())
    return document


def test_one_that_fails_does_not_keep_the_others_from_being_backed_up(
    alpha: Company, company: Callable[..., Company], folder: Path
) -> None:
    made = company()
    execute(made, "ALTER TABLE users RENAME TO mine", "CREATE VIEW users AS SELECT * FROM mine")
    document = said("backup_orgs", alpha.name, made.name)
    results = {each["organization_id"]: each for each in document["backups"]}
    good, bad = results[alpha.organization.pk], results[made.organization.pk]
    assert (document["failed"], good["error"], bad["code"]) == (1, "", "backup_obstructed")
    assert "public.users is a view" in bad["error"]

    document = said("verify_backups", alpha.name, made.name)
    results = {each["organization_id"]: each for each in document["verifications"]}
    assert results[alpha.organization.pk]["folder"] == good["folder"]
    assert results[alpha.organization.pk]["error"] == ""
    assert results[made.organization.pk]["code"] == "backup_not_found"
    assert document["failed"] == 1


def test_all_are_backed_up_and_the_unverified_ones_verified(
    alpha: Company, beta: Company, folder: Path
) -> None:
    older, lost = (making.back_up(row.organization) for row in (alpha, beta))
    out = StringIO()
    call_command("backup_orgs", "--all", "--parallel", "2", stdout=out)
    reachable = Organization.objects.reachable().count()
    assert BackupRun.objects.filter(state="good").count() == reachable + 2
    assert out.getvalue().count(f"in {alpha.organization.key}/") == 1
    shutil.rmtree(folder / lost.folder)
    document = said("verify_backups", "--all", "--unverified")
    assert (len(document["verifications"]), document["failed"]) == (reachable + 2, 1)
    assert older.folder in {each["folder"] for each in document["verifications"]}
    assert said("verify_backups", "--all", "--unverified") == {"verifications": [], "failed": 0}


def test_a_bad_one_that_was_repaired_is_good_again(alpha: Company, folder: Path) -> None:
    run = making.back_up(alpha.organization)
    dump = folder / run.folder / "database.dump"
    lost = dump.rename(dump.with_suffix(".lost"))
    for words in ([], ["--bad"]):
        assert said("verify_backups", alpha.name, *words)["failed"] == 1
        run.refresh_from_db()
        assert (run.state, run.error_code) == ("bad", "backup_damaged")
    lost.rename(dump)
    assert said("verify_backups", alpha.name, "--bad")["failed"] == 0
    run.refresh_from_db()
    assert (run.state, run.error_code, run.error) == ("good", "", "")
    assert said("verify_backups", "--all", "--bad") == {"verifications": [], "failed": 0}
    with pytest.raises(CommandError, match="--enqueue verifies only the newest"):
        call_command("verify_backups", "--all", "--bad", "--enqueue")


def test_nothing_is_done_to_all_by_mistake() -> None:
    for command in ("backup_orgs", "verify_backups"):
        for words in ([], ["Acme Corp", "--all"]):
            with pytest.raises(CommandError, match="Name organizations, or use --all"):
                call_command(command, *words)
        with pytest.raises(CommandError, match="--parallel must be 1 or more"):
            call_command(command, "--all", "--parallel", "0")
        with pytest.raises(CommandError, match="no organization called 'Nobody'"):
            call_command(command, "Nobody")
