"""Restoring one organization to a point in time, by the commands of docs/recovery.md as printed."""

import re
import subprocess
import time
from pathlib import Path

import pytest

from orgmgmt.embedded.system import Account
from tests.test_docs import DOCS, fences, section

from .estate import Estate

_SECONDS = 60.0


def run(estate: Estate, script: str) -> str:
    """Run it as PostgreSQL's system user, with its programs; the output."""
    where = estate.postgres.superuser_parameters()
    environment = {"PGHOST": "host", "PGUSER": "user", "PGPASSWORD": "password"}
    done = Account.of(estate.postgres.data_dir / "postgres").run(
        *("bash", "-eu", "-c", f"PATH={estate.postgres.bin_dir}:$PATH\n{script}"),
        folder=estate.folder / "own",
        environment={name: str(where[key]) for name, key in environment.items()},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(300)
def test_the_printed_commands_bring_one_organization_back_to_a_moment(graced: Estate) -> None:
    estate, own = graced, graced.folder / "own"
    (_, recover), (_, dump) = fences(
        section(DOCS / "recovery.md", "## One organization at a point in time")
    )
    database = estate.create("Acme Corp")
    (backup,) = re.findall(r"pg_basebackup.*", recover)

    def page(script: str) -> str:
        return script.replace("/scratch", f"{own}/scratch").replace("/archive", f"{own}/archive")

    run(estate, page(backup))
    estate.manage("create_admin", "Acme Corp", "--email=early@test.com")
    moment = str(estate.value("SELECT now()::text"))
    estate.manage("create_admin", "Acme Corp", "--email=late@test.com")
    estate.value("SELECT pg_switch_wal()")
    _archived(estate, own / "archive")

    *start, ask = page(recover).replace("2026-01-15 09:41:00+00", moment).strip().split("\npsql ")
    try:
        run(estate, "".join(start))
        until = time.monotonic() + _SECONDS
        while "paused" not in (said := run(estate, f"psql {ask}").replace("not paused", "")):
            assert time.monotonic() < until, said
            time.sleep(0.02)
        (role,) = re.findall(rf"^ {database} +\| (\w+)", said, re.MULTILINE)
        command, restore = page(dump).split("python manage.py ")
        run(estate, command.replace("orgrole_0123456789abcdef", role))
    finally:
        run(estate, f"pg_ctl --pgdata={own}/scratch --mode=fast stop || true")
    assert restore.strip() == 'restore_org "Acme Corp" --from acme.dump'
    estate.manage("restore_org", "Acme Corp", f"--from={own}/acme.dump", "--yes")

    query = "SELECT database_name FROM organizations WHERE name = 'Acme Corp'"
    database = str(estate.value(query))
    emails = estate.value("SELECT array_agg(email ORDER BY id) FROM users", database=database)
    assert emails == ["a@test.com", "early@test.com"]


def _archived(estate: Estate, archive: Path) -> None:
    last = (
        "SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 1) "
        "FROM pg_stat_archiver"
    )
    until = time.monotonic() + _SECONDS
    while not estate.value(last):
        assert time.monotonic() < until, subprocess.check_output(["ls", archive])
        time.sleep(0.02)
