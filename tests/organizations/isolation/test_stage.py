"""The throw-away organizations of check_isolation: recognised, watched, and removed."""

from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.isolation import Broken, Side, rows, runner
from organizations.isolation.attempts import Attempt
from organizations.isolation.stage import (
    AnotherRun,
    Stage,
    clean,
    is_throw_away,
    remove_leftovers,
    staged,
)
from organizations.models import Organization
from tests.conftest import PASSWORD, Company

from .conftest import attempt_named


def live() -> set[str]:
    return set(Organization.objects.live().values_list("name", flat=True))


def test_nothing_is_left_when_the_block_raises() -> None:
    before = live()
    with pytest.raises(KeyboardInterrupt), staged():
        assert len(live() - before) == 2
        raise KeyboardInterrupt
    assert live() == before


def test_what_a_killed_run_has_left_is_removed_by_the_next() -> None:
    before = live()
    token = "0123456789ab"
    left = lifecycle.create_organization(
        name=f"Isolation check ours {token}",
        email=f"admin@ours-{token}.invalid",
        password=PASSWORD,
    ).organization
    assert is_throw_away(left)
    assert clean() == [left.name]
    assert live() == before


def test_an_organization_that_only_looks_like_one_is_left_alone(
    company: Callable[..., Company],
) -> None:
    customers = [
        company("Isolation check"),
        company("Isolation check ours 0123456789ac"),
        company("Isolation check Ltd", email="admin@ours-1.invalid"),
    ]
    assert remove_leftovers() == []
    assert {each.name for each in customers} <= live()


def test_rows_that_cannot_be_made_are_told_in_a_sentence(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_long(domain: str, password_hash: str) -> None:
        User.objects.create(email="a" * 300)

    monkeypatch.setattr(rows, "makers", lambda: {"accounts.User": too_long})
    with pytest.raises(rows.RowsNotMade, match="ROWS cannot make rows of accounts.User: DataError"):
        stage.plant()


def test_two_runs_do_not_remove_each_other(stage: Stage) -> None:
    with pytest.raises(AnotherRun), staged():
        pytest.fail("it began")
    with pytest.raises(AnotherRun):
        clean()
    assert stage.ours.organization.name in live()


def test_emptying_reaches_no_other_organizations_tables(stage: Stage, alpha: Company) -> None:
    before = Side(alpha.organization, "alpha.example", PASSWORD).contents()
    with tenancy.override(alpha.tenant):
        stage.ours.plant("x")
    assert Side(alpha.organization, "alpha.example", PASSWORD).contents() == before


def result_of(stage: Stage, act: Callable[[Stage, str], str]) -> tuple[str, str]:
    (result,) = runner.run(stage, chosen=(Attempt("test", "of a test", act),))
    return result.outcome, result.how


def test_a_changed_row_is_a_crossing_whatever_the_attempt_reports(stage: Stage) -> None:
    def quiet(stage: Stage, subject: str) -> str:
        with stage.theirs.direct() as connection:
            connection.execute("UPDATE users SET is_admin = true")
        return "nothing happened"

    assert result_of(stage, quiet) == ("crossed", "rows of B have changed: users")
    assert result_of(stage, lambda stage, subject: "refused") == ("refused", "refused")


def test_an_error_or_nothing_to_try_it_on_proves_nothing(stage: Stage) -> None:
    def fail(stage: Stage, subject: str) -> str:
        raise ValueError("it is not written yet")

    assert result_of(stage, fail) == ("broken", "ValueError: it is not written yet")
    empty = Attempt("test", "of a test", lambda stage, subject: "refused", over=lambda stage: [])
    (result,) = runner.run(stage, chosen=(empty,))
    assert (result.outcome, result.how) == ("broken", "nothing was found to try it on")


def test_no_result_holds_a_password(stage: Stage) -> None:
    secret = str(stage.ours.parameters()["password"])

    def tell(stage: Stage, subject: str) -> str:
        raise Broken(f"{secret} {stage.ours.password}")

    assert result_of(stage, tell) == ("broken", "*** ***")
    assert stage.ours.password not in repr(stage)


def test_a_connect_that_fails_for_another_reason_proves_nothing(
    stage: Stage, superuser: psycopg.Connection[tuple[object, ...]]
) -> None:
    """No connection is free: nobody has refused anything."""
    connects = attempt_named("A's role connects to another database")
    name = stage.ours.organization.role_name
    superuser.execute(f'ALTER ROLE "{name}" CONNECTION LIMIT 0'.encode())
    try:
        outcomes = {each.outcome for each in runner.run(stage, chosen=(connects,))}
    finally:
        superuser.execute(f'ALTER ROLE "{name}" CONNECTION LIMIT -1'.encode())
    assert outcomes == {"broken"}


def test_a_database_that_is_dropped_while_it_runs_is_no_finding(stage: Stage) -> None:
    gone = replace(
        attempt_named("A's role connects to another database"),
        over=lambda stage: ["org_dropped_a_moment_ago"],
    )
    (result,) = runner.run(stage, chosen=(gone,))
    assert (result.outcome, result.how) == ("refused", "gone since the list was made")


def test_a_sample_of_databases_always_has_the_well_known_ones(stage: Stage) -> None:
    connects = attempt_named("A's role connects to another database")
    assert connects.over is not None
    everything = set(connects.over(stage))
    stage.sample = 1
    try:
        few = set(connects.over(stage))
    finally:
        stage.sample = None
    master = "master_org_db"
    always = {"postgres", "template1", master, stage.theirs.organization.database_name}
    assert always <= few <= everything
    assert len(few) <= len(always) + 1
