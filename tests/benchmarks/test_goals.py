"""The goals are judged by rows of one run, and what was not measured is not met by silence."""

import pytest

from benchmarks.harness.rows import Fact, Row, Rows
from benchmarks.reporting.goals import GOALS, Judged, judge


def judged(what: str, wanted: str, *rows: Row) -> Judged:
    """The goal of that name, judged by these rows alone."""
    found = [
        each for each in judge(Rows(rows)) if what in each.goal.name and wanted in each.goal.wanted
    ]
    assert len(found) == 1, [each.goal.name for each in found]
    return found[0]


def row(key: str, value: float, **facts: Fact) -> Row:
    return Row(key, "", (value,), facts)


def test_nothing_measured_is_neither_met_nor_missed() -> None:
    assert {each.met for each in judge(Rows())} == {None}
    assert len(GOALS) == 21


@pytest.mark.parametrize(("p50", "met"), [(73.0, True), (75.0, False)])
def test_a_spare_may_take_40_ms_above_one_hash(p50: float, met: bool) -> None:
    rows = (row("reference/hash", 34), row("sign-up/spare/sequential", p50))

    assert judged("with a spare, sequential", "40 ms", *rows).met is met


@pytest.mark.parametrize(("p50", "met"), [(109.0, True), (110.0, False)])
def test_a_template_may_take_one_hash_and_one_and_a_half_creates(p50: float, met: bool) -> None:
    rows = (
        row("reference/hash", 34),
        row("reference/create database", 50),
        row("sign-up/template/sequential", p50),
    )
    assert judged("by template, sequential", "1.5", *rows).met is met


def test_one_failure_among_the_100_misses_the_goal() -> None:
    rows = (
        row("sign-up/template/concurrency 32", 15, failures=0),
        row("sign-up/spare/concurrency 32", 20, failures=1),
    )
    found = judged("100 sign-ups at concurrency 32: failures", "none", *rows)

    assert (found.value, found.met) == (1.0, False)


@pytest.mark.parametrize(("most", "met"), [(64, True), (65, False)])
def test_a_connection_over_the_ceiling_misses_the_goal(most: int, met: bool) -> None:
    rows = (
        row("reference/ceiling", 64),
        row("sign-up/spare/concurrency 32", 20, failures=0, most_of_a_process=most),
    )
    assert judged("100 sign-ups at concurrency 32: conn", "none", *rows).met is met


def test_the_routed_view_is_judged_by_the_worse_of_both_distributions() -> None:
    key = "routed/100 {}/ours, ceiling 128/of plain"
    found = judged(
        "100 organizations, ceiling 128",
        "0.9",
        row(key.format("uniform"), 0.89),
        row(key.format("zipf"), 0.95),
    )
    assert (found.value, found.met) == (0.89, False)


def test_the_round_robin_of_fewer_organizations_is_no_proof() -> None:
    fewer = row("round robin/growth", 0.01, organizations=300, ceiling=64)
    all_of_them = row("round robin/growth", 0.06, organizations=3000, ceiling=64)

    assert judged("growth of memory", "5 %", fewer).met is None
    assert judged("growth of memory", "5 %", all_of_them).met is False


@pytest.mark.parametrize(
    ("what", "wanted", "key", "good", "bad"),
    [
        ("nothing to do", "1 s", "nothing to do/ours", 0.99, 1.01),
        ("nothing to do, each", "0.3 ms", "nothing to do/ours/each", 0.3, 0.31),
        ("AddField", "0.5 of psycopg", "ours/of by hand", 0.5, 0.49),
        ("AddField", "4 × django-tenants", "ours/of django-tenants", 4, 3.99),
        ("memory of a run", "5 %", "memory/growth", 0.05, 0.06),
    ],
)
def test_the_migration_of_1000_is_judged_by_its_own_rows(
    what: str, wanted: str, key: str, good: float, bad: float
) -> None:
    assert judged(what, wanted, row(f"migrate/1000/{key}", good)).met is True
    assert judged(what, wanted, row(f"migrate/1000/{key}", bad)).met is False
    assert judged(what, wanted, row(f"migrate/40/{key}", good)).met is None


def test_a_sign_up_that_fails_while_organizations_are_migrated_misses_the_goal() -> None:
    key = "migrate/1000/sign-ups meanwhile"
    assert judged("are migrated", "none", row(key, 9, failures=0)).met is True
    assert judged("are migrated", "none", row(key, 9, failures=1)).met is False


def test_a_goal_in_json_says_what_was_wanted_and_what_was_measured() -> None:
    told = judged("look-up", "0.8", row("look-up/of bare", 0.8123456)).as_json()

    assert (told["measured"], told["limit"], told["met"]) == (0.8123, 0.8, True)
