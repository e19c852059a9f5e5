"""Writes docs/performance.md from the results; every sentence has at least one measured figure.

`{key}` is the row's median with its unit, `{key:fact}` another fact of that row. A sentence whose
row is missing is left out. Nothing else is written by hand, so the page cannot claim what was not
measured; tests/benchmarks/test_performance.py checks that.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.rows import Row, Rows

from . import markdown

RESULTS = "../benchmarks/results"
_PLACEHOLDER = re.compile(r"\{([^{}:]+)(?::(\w+))?\}")
_UNITS = {"/s": " a second", "ms": " ms", "µs": " µs", "MB": " MB", "ratio": "", "connections": ""}


@dataclass(frozen=True)
class Section:
    """A heading, its sentences, and the plots below them, by result and name."""

    heading: str
    sentences: tuple[str, ...]
    plots: tuple[tuple[str, str], ...] = ()


SECTIONS = (
    Section(
        "Sign-up",
        (
            "One password hash took {reference/hash} and one bare `CREATE DATABASE … TEMPLATE … "
            "STRATEGY WAL_LOG` {reference/create database} in the same run.",
            "A sign-up over HTTP, one after the other, took {sign-up/plain/sequential} by the "
            "plain path.",
            "By template it took {sign-up/template/sequential}.",
            "With a spare database it took {sign-up/spare/sequential}, and "
            "{sign-up/spare/sequential, refilled meanwhile} while spares were refilled.",
            "At concurrency 8 the plain path reached {sign-up/plain/concurrency 8}.",
            "The template path reached {sign-up/template/concurrency 8}.",
            "With spares refilled meanwhile, sign-ups reached {sign-up/spare/concurrency 8}.",
            "Of {sign-up/template/concurrency 32:sign_ups} sign-ups by template at concurrency 32, "
            "{sign-up/template/concurrency 32:failures} failed.",
            "Of {sign-up/spare/concurrency 32:sign_ups} with spares, "
            "{sign-up/spare/concurrency 32:failures} failed.",
        ),
        (("bench", "sign-up"), ("bench", "sign-up-rate"), ("bench", "sign-up-steps")),
    ),
    Section(
        "Login and lookup",
        (
            "Logins at concurrency 8 reached {login/concurrency 8}; the cores could compute hashes "
            "at {login/hashes that the cores could compute}.",
            "Its hash is {login/of the hashes} of a login's processor time, which is "
            "{login/concurrency 8/processor}.",
            "Lookups reached {look-up/ours}; a bare DRF view with the same body and one query "
            "reached {look-up/bare} with `startproject`'s middleware and "
            "{look-up/bare, no middleware} without any.",
            "In processor time ours took {look-up/ours/processor}, and the bare ones "
            "{look-up/bare/processor} and {look-up/bare, no middleware/processor}: the ratios are "
            "{look-up/of bare} and {look-up/of bare, no middleware}.",
        ),
    ),
    Section(
        "Routed view",
        (
            "The ratios compare processor time, of the web processes and PostgreSQL together. With "
            "100 organizations a request took {routed/100 uniform/ours, ceiling 128/processor}, "
            "{routed/100 uniform/ours, ceiling 128/processor:postgres_ms} ms of it in PostgreSQL; "
            "plain took {routed/100 uniform/plain/processor}, "
            "{routed/100 uniform/plain/processor:postgres_ms} ms of it in PostgreSQL.",
            "With one organization the view reached {routed/1 uniform/ours, ceiling 128/of plain} "
            "of plain.",
            "With 10 it reached {routed/10 uniform/ours, ceiling 128/of plain} uniformly and "
            "{routed/10 zipf/ours, ceiling 128/of plain} by Zipf.",
            "With 100 and a ceiling of 128 it reached "
            "{routed/100 uniform/ours, ceiling 128/of plain} uniformly and "
            "{routed/100 zipf/ours, ceiling 128/of plain} by Zipf, and held "
            "{routed/100 uniform/ours, ceiling 128:connections} connections in two processes.",
            "By rate that was {routed/100 uniform/ours, ceiling 128/rate of plain} and "
            "{routed/100 zipf/ours, ceiling 128/rate of plain}.",
            "Of what `startproject`, DRF and simplejwt take for the same view it reached "
            "{routed/100 uniform/ours, ceiling 128/of startproject} uniformly, and plain reached "
            "{routed/100 uniform/plain/of startproject}.",
            "With 100 and a ceiling of 64 it reached "
            "{routed/100 uniform/ours, ceiling 64/of plain} uniformly and "
            "{routed/100 zipf/ours, ceiling 64/of plain} by Zipf.",
            "django-tenants reached {routed/100 uniform/django-tenants/of plain} of plain over 100 "
            "schemas.",
            "Naive aliases with CONN_MAX_AGE=0 reached "
            "{routed/100 uniform/naive, CONN_MAX_AGE=0/of plain} of plain.",
            "With CONN_MAX_AGE=60 they reached "
            "{routed/100 uniform/naive, CONN_MAX_AGE=60/of plain}, held "
            "{routed/100 uniform/naive, CONN_MAX_AGE=60:connections} connections and answered "
            "{routed/100 uniform/naive, CONN_MAX_AGE=60:errors} requests with an error.",
            "Over 1,000 organizations by Zipf, with a ceiling of 64 in each process, the view "
            "reached {routed/1000 zipf/ours, ceiling 64/of plain} of plain and "
            "{routed/1000 zipf/ours, ceiling 64/of naive} times naive with CONN_MAX_AGE=0, with "
            "{routed/1000 zipf/ours, ceiling 64:errors} errors.",
            "There {routed/1000 zipf/ours, ceiling 64:hit_rate} of the requests needed no new "
            "connection.",
            "In the first seconds after a start, with no connection open, it reached "
            "{routed/1000 zipf/ours, ceiling 64/cold of plain} with that ceiling and "
            "{routed/1000 zipf/ours, ceiling 256/cold of plain} with one of 256.",
            "With a ceiling of 256 it reached {routed/1000 zipf/ours, ceiling 256/of plain} of "
            "plain by Zipf and {routed/1000 uniform/ours, ceiling 256/of plain} uniformly.",
            "By rate, over 1,000 organizations, it reached "
            "{routed/1000 zipf/ours, ceiling 64/rate of plain} of plain by Zipf with a ceiling of "
            "64 and {routed/1000 uniform/ours, ceiling 256/rate of plain} uniformly with one of "
            "256, and django-tenants {routed/1000 zipf/django-tenants/rate of plain} and "
            "{routed/1000 uniform/django-tenants/rate of plain}.",
            "Over 3,000 organizations by Zipf it reached "
            "{routed/3000 zipf/ours, ceiling 64/of plain} of plain with a ceiling of 64.",
        ),
        (("bench", "routed"), ("bench-large", "routed")),
    ),
    Section(
        "Migrations",
        (
            "An AddField over 1,000 organizations, with {migrate/1000/ours:parallel} at a time, "
            "reached {migrate/1000/ours}.",
            "psycopg by hand, with the same SQL and equally many at a time, reached "
            "{migrate/1000/by hand}, and django-tenants' multiprocessing executor, with equally "
            "many processes, {migrate/1000/django-tenants}.",
            "The ratios are {migrate/1000/ours/of by hand} and "
            "{migrate/1000/ours/of django-tenants}.",
            "With nothing to do a run over 1,000 took {migrate/1000/nothing to do/ours}, which is "
            "{migrate/1000/nothing to do/ours/each} for each, and django-tenants "
            "{migrate/1000/nothing to do/django-tenants}.",
            "The process used {migrate/1000/memory/1 of 4} after a quarter of the organizations "
            "and {migrate/1000/memory/4 of 4} after all.",
            "Of {migrate/1000/sign-ups meanwhile:sign_ups} sign-ups during a run "
            "{migrate/1000/sign-ups meanwhile:failures} failed.",
        ),
    ),
    Section(
        "Many organizations",
        (
            "Django's work at the start and end of a request took {request end/ours/1} after one "
            "organization and {request end/ours/3000} after 3,000.",
            "With a permanent alias for each organization it took {request end/naive/1} and "
            "{request end/naive/3000}.",
            "A sign-up with 100 existing databases and roles took {existing/100/of 10} times as "
            "long as with 10.",
            "With 1,000 it took {existing/1000/of 10} times as long.",
            "With 3,000 it took {existing/3000/of 10} times as long.",
            "A process that served {round robin/growth:organizations} organizations in turn had "
            "{round robin/500} of memory at the 500th and {round robin/3000} at the 3,000th, and "
            "at most {round robin/connections} connections.",
        ),
        (("bench", "request-end"), ("bench-large", "existing"), ("bench-large", "round-robin")),
    ),
)


def render(results: Mapping[str, Mapping[str, Any]], plots: Mapping[str, set[str]]) -> str:
    """The page. results: by name, `bench` and `bench-large`; plots: the existing ones by name."""
    rows = Rows()
    for name in ("bench-large", "bench"):  # The smaller run wins if both have it.
        if name in results:
            rows.add(
                *(Row.from_json(each) for each in results[name]["rows"] if not each.get("missing"))
            )
    parts = [
        "# Performance",
        "",
        "<!-- Made by `make bench` and `make bench-large`; benchmarks/README.md says how. -->",
    ]
    for name, result in results.items():
        parts += ["", f"## {result['title']}", "", markdown.machine(result)]
        parts += ["", f"[All rows]({RESULTS}/{name}.md)."]
    parts += ["", "## Goals", "", markdown.goals(_goals(results))]
    for section in SECTIONS:
        told = [each for each in (fill(text, rows) for text in section.sentences) if each]
        shown = [
            f"![{section.heading}]({RESULTS}/{result}-{name}.svg)"
            for result, name in section.plots
            if name in plots.get(result, ())
        ]
        if told or shown:
            parts += ["", f"## {section.heading}", ""]
            parts += ["\n\n".join(["\n".join(f"- {each}" for each in told), *shown]).strip()]
    return "\n".join(parts) + "\n"


def fill(text: str, rows: Rows) -> str:
    """The sentence with its figures; empty if one of them was not measured."""
    complete = True

    def figure(found: re.Match[str]) -> str:
        nonlocal complete
        row = rows.find(found[1])
        fact = found[2]
        value = None if row is None else row.facts.get(fact) if fact else row.median
        if row is None or not isinstance(value, int | float):
            complete = False
            return ""
        if fact == "hit_rate":
            return f"{value:.1%}"
        return markdown.number(value) + ("" if fact else _UNITS.get(row.unit, f" {row.unit}"))

    filled = _PLACEHOLDER.sub(figure, text)
    return filled if complete else ""


def _goals(results: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Each goal once, from the run that measured it."""
    chosen: dict[tuple[str, str], Mapping[str, Any]] = {}
    for result in results.values():
        for goal in result["goals"]:
            key = (goal["goal"], goal["wanted"])
            if key not in chosen or chosen[key]["met"] is None:
                chosen[key] = goal
    return list(chosen.values())
