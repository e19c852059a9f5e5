"""`manage.py check_isolation` with a few attempts. isolation/test_catalogue.py runs all."""

import json
import re
import signal
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from organizations.isolation import runner
from organizations.models import Organization
from tests.conftest import Superuser, leftovers
from tests.organizations.helpers import Fork, wait_for


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the attempts on the server."""
    asked = tuple(each for each in runner.attempts() if each.family == "server")
    monkeypatch.setattr(runner, "attempts", lambda: asked)


@pytest.mark.usefixtures("few")
def test_json_is_one_document_and_what_was_made_is_removed(
    superuser: Superuser, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("check_isolation", "--json")
    document = json.loads(capsys.readouterr().out)
    outcomes = [each["outcome"] for each in document["attempts"]]
    assert set(outcomes) == {"refused", "visible"}
    assert document["counts"] == {word: outcomes.count(word) for word in set(outcomes)}
    subjects = {each["subject"] for each in document["attempts"]}
    assert {"postgres", "template1", "master_org_db"} <= subjects
    nothing_is_left(superuser)


def nothing_is_left(superuser: Superuser) -> None:
    assert not Organization.objects.live().filter(name__startswith="Isolation check ").exists()
    assert leftovers(superuser) == (set(), set())


@pytest.mark.usefixtures("few")
def test_a_table_counts_what_was_refused_and_a_crossing_ends_with_1(
    superuser: Superuser, capsys: pytest.CaptureFixture[str]
) -> None:
    superuser.execute("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
    try:
        with pytest.raises(SystemExit) as ended:
            call_command("check_isolation")
    finally:
        superuser.execute("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
    assert ended.value.code == 1
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "family attempt outcome"
    assert [line for line in lines if "CROSSED" in line] == [
        "server A's role connects to another database: postgres CROSSED: connected",
        "server The catalog lets A's role connect to another database CROSSED: 1: postgres",
    ]
    assert re.fullmatch(
        r"server A's role connects to another database refused \d+ of \d+: permission denied .*",
        lines[1],
    )
    assert re.fullmatch(
        r"\d+ attempts, \d+ refused, 2 crossed, 0 broken, 1 visible by nature", lines[-1]
    )


def test_a_run_that_is_terminated_removes_what_it_made(
    superuser: Superuser, tmp_path: Path
) -> None:
    said = tmp_path / "said"

    def run() -> None:
        with said.open("w") as file:
            call_command("check_isolation", stderr=file)

    with Fork(run) as child:
        made = "SELECT 1 FROM pg_database WHERE datname LIKE 'org\\_isolation\\_check\\_theirs%'"
        wait_for(superuser, made)
        child.send(signal.SIGTERM)
        assert child.wait(60) == 130
    assert "Interrupted. What was made has been removed." in said.read_text()
    nothing_is_left(superuser)


# The server notices a bit later that a killed process is gone, and until then its locks are held.
_ENDED = """
SELECT true WHERE NOT EXISTS (
    SELECT FROM pg_stat_activity WHERE backend_type = 'client backend' AND backend_start > %s
)
"""


def test_clean_removes_what_a_killed_run_left(superuser: Superuser) -> None:
    (began,) = superuser.execute("SELECT clock_timestamp()").fetchone() or ()
    with Fork(lambda: call_command("check_isolation")) as child:
        wait_for(
            superuser,
            "SELECT 1 FROM pg_stat_activity WHERE datname LIKE 'org\\_isolation\\_check\\_theirs%'",
        )
        child.send(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    wait_for(superuser, _ENDED, began)
    call_command("check_isolation", clean=True)
    nothing_is_left(superuser)


def test_a_sample_that_is_no_number_is_refused_in_a_sentence() -> None:
    for wrong in ("0", "-1", "many"):
        with pytest.raises(CommandError, match=f"{wrong} is not a number of 1 or more"):
            call_command("check_isolation", f"--sample={wrong}")
