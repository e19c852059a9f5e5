"""`manage.py check_isolation`, as an operator runs it: in a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command

from organizations.isolation import runner
from organizations.models import Organization
from tests.conftest import Superuser, leftovers
from tests.organizations.helpers import REPOSITORY, manage, process_environment, wait_for


@pytest.mark.timeout(300)
def test_every_attempt_is_refused_here_and_nothing_is_left_or_told(superuser: Superuser) -> None:
    """One run for all of it: no sign-up, a base domain, and a throttle that it would meet."""
    done = subprocess.run(
        [sys.executable, "manage.py", "check_isolation", "--json"],
        cwd=REPOSITORY,
        env=process_environment(
            ORG_BASE_DOMAIN="example.com", ORG_SIGNUP="off", THROTTLE_MEMBER="1/day"
        ),
        capture_output=True,
        text=True,
        timeout=280,
    )
    results: list[dict[str, str]] = json.loads(done.stdout)["attempts"]
    failed = [each for each in results if each["outcome"] not in ("refused", "visible")]
    assert not failed, failed
    assert done.returncode == 0, done.stderr
    subjects = {each["subject"] for each in results}
    assert {"postgres", "template1", "master_org_db"} <= subjects
    assert {"GET /api/v1/me/", "POST /org/create", "accounts.User", "access token"} <= subjects

    nothing_is_left(superuser)

    printed = done.stdout + done.stderr
    for name in ("SECRET_KEY", "CREDENTIAL_KEYS", "MASTER_DB_PASSWORD"):
        assert process_environment()[name] not in printed
    assert "eyJ" not in printed, "a token"
    assert "argon2" not in printed


def nothing_is_left(superuser: Superuser) -> None:
    assert not Organization.objects.live().filter(name__startswith="Isolation check ").exists()
    assert leftovers(superuser) == (set(), set())


def test_a_table_counts_what_was_refused_and_a_crossing_ends_with_1(
    superuser: Superuser, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = tuple(each for each in runner.attempts() if each.family == "server")
    monkeypatch.setattr(runner, "attempts", lambda: asked)
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


def test_a_run_that_is_terminated_removes_what_it_made(superuser: Superuser) -> None:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "check_isolation"],
        cwd=REPOSITORY,
        env=process_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        made = "SELECT 1 FROM pg_database WHERE datname LIKE 'org\\_isolation\\_check\\_theirs%'"
        wait_for(superuser, made)
        os.kill(process.pid, signal.SIGTERM)
        errors = process.communicate(timeout=60)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, errors
    assert b"Interrupted. What was made has been removed." in errors
    nothing_is_left(superuser)


def test_a_killed_run_is_cleaned_up_by_hand(superuser: Superuser) -> None:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "check_isolation"],
        cwd=REPOSITORY,
        env=process_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    active = "SELECT 1 FROM pg_stat_activity WHERE datname LIKE 'org\\_isolation\\_check\\_theirs%'"
    wait_for(superuser, active)
    process.kill()
    process.wait()
    done = manage("check_isolation", "--clean")
    assert done.returncode == 0, done.stderr
    nothing_is_left(superuser)


@pytest.mark.parametrize("wrong", ["0", "-1", "many"])
def test_a_sample_that_is_no_number_is_refused_in_a_sentence(wrong: str) -> None:
    with pytest.raises(CommandError, match=f"{wrong} is not a number of 1 or more"):
        call_command("check_isolation", f"--sample={wrong}")
