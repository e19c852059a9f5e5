"""Output and questions of `manage.py migrate_orgs`, and `org_command NAME -- migrate`."""

import io
import json
import re
import shlex
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from rich.console import Console

from organizations.management.commands import migrate
from organizations.management.commands.migrate_orgs import Command
from organizations.migrating import progress
from organizations.migrating.engine import Target
from organizations.migrating.results import Kind, Progress, Report, Result
from organizations.provisioning import code
from tests.organizations.helpers import as_role_of

from .added import ADD_FIELD, STRICT_ADDRESSES
from .conftest import REAL, Add, Fleet
from .test_fleet import BAD, GOOD, ask, columns


class Ended:
    """One finished run of the command over the four. code: its exit code."""

    def __init__(self, four: Fleet, *words: str, **options: Any) -> None:
        out, err = io.StringIO(), io.StringIO()
        self.code, self.error = 0, ""
        names = [each.name for each in four.organizations]
        try:
            call_command("migrate_orgs", *names, *words, **options, stdout=out, stderr=err)
        except CommandError as error:
            self.code, self.error = error.returncode, str(error)
        self.out, self.err = out.getvalue(), err.getvalue()


def test_a_failure_shows_its_error_and_the_command_to_retry(four: Fleet, add: Add) -> None:
    bad = four.rows[2]
    ask(bad, BAD)
    add(strict=STRICT_ADDRESSES)
    ended = Ended(four, "--parallel", "2")
    assert ended.code == 1
    assert re.search(rf"{bad.name} +│ CheckViolation: check constraint", ended.out)
    assert re.search(r"migrated +│ 3 ", ended.out)
    assert ended.err.startswith(f"{bad.slug}: CheckViolation")
    again = ended.error.partition("1 failed. Fix the cause, then run: manage.py migrate_orgs ")[2]
    assert again.endswith("--retry-failed --parallel 2")

    ask(bad, GOOD)
    four.query.filter(pk=four.rows[0].pk).update(fingerprint="")  # Outdated, and nobody's failure.
    out, err = io.StringIO(), io.StringIO()
    call_command("migrate_orgs", *shlex.split(again), stdout=out, stderr=err)
    assert err.getvalue() == ""
    assert out.getvalue().startswith(f"{bad.slug}: accounts.0004_strict (")
    assert re.search(r"up to date +│ 2 ", out.getvalue())


def test_canaries_wait_for_yes(four: Fleet, add: Add) -> None:
    add(note=ADD_FIELD)
    ended = Ended(four, "--canary", "25%")
    assert ended.code == 3
    assert "The canaries are done, and 3 wait. To continue: manage.py migrate_orgs" in ended.error
    assert "--canary" not in ended.error
    assert ["note" in columns(each) for each in four.rows] == [True, False, False, False]
    assert Ended(four, "--canary", "25%", "--yes").code == 0
    assert all("note" in columns(each) for each in four.rows)


def test_a_person_at_a_terminal_is_asked(
    four: Fleet, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["n", KeyboardInterrupt(), EOFError(), "y"])
    questions = []

    def say(question: str) -> str:
        questions.append(question)
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return str(answer)

    add(note=ADD_FIELD)
    monkeypatch.setattr("builtins.input", say)
    monkeypatch.setattr(Command, "_asks", lambda self: True)
    # Each time the canary is migrated, and the others wait.
    assert [Ended(four, "--canary", "1").code for _ in range(3)] == [3, 3, 3]
    four.run(target=Target("accounts", REAL))
    assert Ended(four, "--canary", "1").code == 0
    asked = "The canaries are done: 1, none failed. Continue with the other 3? [y/N] "
    assert (questions[0], questions[-1]) == (asked, asked)


def test_a_plan_shows_the_sql_and_does_nothing(four: Fleet, add: Add) -> None:
    add(note=ADD_FIELD)
    ended = Ended(four, "--plan")
    assert f"-- 4 at {four.rows[0].fingerprint[:12]}, such as {four.rows[0].slug}" in ended.out
    assert "-- accounts.0004_note" in ended.out
    assert 'ALTER TABLE "users" ADD COLUMN "note"' in ended.out
    (plan,) = json.loads(Ended(four, "--plan", "--json").out)["plans"]
    assert plan["organizations"] == 4
    assert plan["migrations"][0]["migration"] == "accounts.0004_note"
    assert "note" not in columns(four.rows[0])


def test_a_rollback_is_announced_before_it_is_done(four: Fleet, add: Add) -> None:
    add(note=ADD_FIELD)
    Ended(four)
    ended = Ended(four, "accounts", REAL)
    assert ended.code == 3
    assert "This unapplies accounts.0004_note where applied, and deletes their data" in ended.error
    _, meant = ended.error.split("To do it: manage.py migrate_orgs ")
    assert meant.endswith(f" --yes accounts {REAL}"), "options between the names and the app"
    out = io.StringIO()
    call_command("migrate_orgs", *shlex.split(meant), stdout=out)
    assert out.getvalue().count("accounts.0004_note unapplied") == 4


def test_a_manual_migration_is_recorded(four: Fleet, add: Add) -> None:
    add(note=ADD_FIELD)
    call_command("org_command", four.rows[0].name, "migrate", "accounts", "--verbosity", "0")
    assert "note" in columns(four.rows[0])
    assert four.rows[0].fingerprint == code.current().fingerprint
    assert re.search(r"migrated +│ 3 ", Ended(four).out)


def test_a_manual_migration_backwards_is_refused_and_says_what_does_it(
    four: Fleet, add: Add
) -> None:
    add(note=ADD_FIELD)
    Ended(four)
    one = four.rows[0]
    with pytest.raises(CommandError, match="requests would meet the older schema") as refused:
        call_command("org_command", one.name, "migrate", "accounts", "0003")
    assert "note" in columns(one) and four.rows[0].migration_attempts == 0
    instead = str(refused.value).partition(": manage.py ")[2]
    call_command(*shlex.split(instead), "--yes", stdout=io.StringIO())
    assert "note" not in columns(one)
    assert four.rows[0].fingerprint != code.current().fingerprint


def test_a_history_changed_by_hand_is_recorded_and_ends_the_sessions_from_before(
    four: Fleet, add: Add
) -> None:
    """`--fake` changes no schema, so it may go backwards."""
    add(note=ADD_FIELD)
    Ended(four)
    one = four.rows[0]
    with as_role_of(one) as opened:
        call_command("org_command", one.name, "migrate", "accounts", "0003", "--fake")
        with pytest.raises(psycopg.OperationalError):
            opened.execute("SELECT 1")
    assert four.rows[0].fingerprint != code.current().fingerprint
    ask(one, "ALTER TABLE users DROP COLUMN note")


def test_a_manual_migration_is_found_by_the_next_run(
    four: Fleet, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it was killed before it could record anything."""
    add(note=ADD_FIELD)
    Ended(four)
    one = four.rows[0]

    class Killed(BaseException):
        pass

    def be_killed(*args: Any, **options: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(migrate, "take", be_killed)
        with pytest.raises(Killed):
            call_command("org_command", one.name, "migrate", "accounts", "0003", "--fake")
    ask(one, "ALTER TABLE users DROP COLUMN note")
    assert four.rows[0].fingerprint == code.current().fingerprint
    assert re.search(r"migrated +│ 1 ", Ended(four).out)
    assert "note" in columns(one)


def test_json_is_one_document(four: Fleet, add: Add) -> None:
    add(note=ADD_FIELD)
    document = json.loads(Ended(four, "--json").out)
    assert [each["applied"] for each in document["organizations"]] == [["accounts.0004_note"]] * 4
    assert document["counts"]["migrated"] == 4
    assert json.loads(Ended(four, "--json").out)["counts"]["in step before"] == 4


def test_a_contradictory_command_is_refused(four: Fleet) -> None:
    assert "--canary takes" in Ended(four, "--canary", "many").error
    assert "must be 1 or more" in Ended(four, "--parallel", "-1").error
    assert "no one migration '0999'" in Ended(four, "accounts", "0999").error


def test_a_terminal_has_a_bar_with_rate_time_left_and_failures() -> None:
    file = io.StringIO()
    view = progress.Terminal(file)
    view._console = Console(file=file, force_terminal=True, width=100)
    failed = Result(1, "Acme", "acme", Kind.FAILED, error="ValueError: [bad] data")
    report = Report(considered=2)
    for result in (failed, Result(2, "Globex", "globex", Kind.MIGRATED)):
        report.add(result)
        view.show(Progress(report.done, 2, report.failures, result))
    view.end(report)
    said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    assert "acme: ValueError: [bad] data\n" in said
    assert re.search(r"2/2 +[\d.]*(/s)? +0:00:00 left [\d:-]+ 1 failed", said)
    assert re.search(r"│ Acme +│ ValueError: \[bad\] data", said)
