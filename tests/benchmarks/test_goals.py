"""Tests of performance goals: judged by rows of one run, and never met without a measurement."""

import pytest

from benchmarks.harness.rows import Fact, Row, Rows
from benchmarks.reporting.goals import GOALS, Judged, judge
from benchmarks.reporting.markdown import figure

pytestmark = pytest.mark.pure


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
    assert len(GOALS) == 23


def test_a_median_of_turns_is_told_with_its_spread() -> None:
    turns = Row("look-up/of bare", "ratio", (0.9, 0.7, 0.8))
    (told,) = [each.as_json() for each in judge(Rows([turns])) if each.value is not None]
    assert (told["measured"], told["low"], told["high"], told["turns"]) == (0.8, 0.7, 0.9, 3)
    assert figure(told) == "0.8 × (0.7 to 0.9 in 3 turns)"


CREATE = (row("reference/hash", 34), row("reference/create database", 50))
CEILING = row("reference/ceiling", 64)
MIGRATE = "migrate/1000"
# By a part of the goal's name and of what is wanted: rows that meet it, and rows that miss it.
CASES: dict[tuple[str, str], tuple[tuple[Row, ...], tuple[Row, ...]]] = {
    ("with a spare, sequential", "20 ms"): (
        (*CREATE, row("sign-up/spare/sequential", 53)),
        (*CREATE, row("sign-up/spare/sequential", 55)),
    ),
    ("by template, sequential", "1.5"): (
        (*CREATE, row("sign-up/template/sequential", 109)),
        (*CREATE, row("sign-up/template/sequential", 110)),
    ),
    ("100 sign-ups at concurrency 32: failures", "none"): (
        (row("sign-up/spare/concurrency 32", 20, failures=0),),
        (
            row("sign-up/template/concurrency 32", 15, failures=0),
            row("sign-up/spare/concurrency 32", 20, failures=1),
        ),
    ),
    ("100 sign-ups at concurrency 32: conn", "none"): (
        (CEILING, row("sign-up/spare/concurrency 32", 20, failures=0, most_of_a_process=64)),
        (CEILING, row("sign-up/spare/concurrency 32", 20, failures=0, most_of_a_process=65)),
    ),
    # By the worse of both distributions.
    ("100 organizations, ceiling 128", "0.95"): (
        (
            row("routed/100 uniform/ours, ceiling 128/of plain", 0.95),
            row("routed/100 zipf/ours, ceiling 128/of plain", 0.97),
        ),
        (
            row("routed/100 uniform/ours, ceiling 128/of plain", 0.94),
            row("routed/100 zipf/ours, ceiling 128/of plain", 0.97),
        ),
    ),
    ("growth of memory", "5 %"): (
        (row("round robin/growth", 0.05, organizations=3000, ceiling=64),),
        (row("round robin/growth", 0.06, organizations=3000, ceiling=64),),
    ),
    ("nothing to do", "1 s"): (
        (row(f"{MIGRATE}/nothing to do/ours", 0.99),),
        (row(f"{MIGRATE}/nothing to do/ours", 1.01),),
    ),
    ("AddField", "0.5 of psycopg"): (
        (row(f"{MIGRATE}/ours/of by hand", 0.5),),
        (row(f"{MIGRATE}/ours/of by hand", 0.49),),
    ),
    ("are migrated", "none"): (
        (row(f"{MIGRATE}/sign-ups meanwhile", 9, failures=0),),
        (row(f"{MIGRATE}/sign-ups meanwhile", 9, failures=1),),
    ),
}


def test_a_goal_is_met_up_to_its_limit_and_missed_beyond() -> None:
    found = {goal: tuple(judged(*goal, *rows).met for rows in both) for goal, both in CASES.items()}
    assert found == dict.fromkeys(CASES, (True, False))


def test_rows_of_fewer_organizations_prove_nothing() -> None:
    fewer = row("round robin/growth", 0.01, organizations=300, ceiling=64)
    assert judged("growth of memory", "5 %", fewer).met is None
    assert judged("AddField", "0.5 of psycopg", row("migrate/40/ours/of by hand", 1)).met is None


def test_a_goal_in_json_says_what_was_wanted_and_what_was_measured() -> None:
    told = judged("lookup", "0.85", row("look-up/of bare", 0.8823456)).as_json()

    assert (told["measured"], told["limit"], told["met"]) == (0.8823, 0.85, True)
