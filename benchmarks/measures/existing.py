"""Measures how the time of a sign-up grows with the number of existing databases and roles.

Two PostgreSQL servers run side by side, one with 10 organizations and one with many, and sign-ups
alternate between them: measured one after the other they would compare two moments of the machine.
"""

from benchmarks.harness import contract
from benchmarks.harness.budget import Clock
from benchmarks.harness.cluster import Cluster
from benchmarks.harness.rows import Row, by_round
from benchmarks.harness.web import WebServer

from .sign_up import TEMPLATE

FEW = 10
# Spares would hide what a database costs.
_ENVIRONMENT = TEMPLATE.environment


def measure(
    few: Cluster,
    many: Cluster,
    clock: Clock,
    *,
    count: int,
    rounds: int,
    each: int,
    seconds: float,
) -> list[Row]:
    """Median milliseconds with `count` databases, with 10, and the ratio."""
    took: dict[str, list[float]] = {"few": [], "many": []}
    failures = 0
    with (
        WebServer(few, "existing-few", environment=_ENVIRONMENT) as small,
        WebServer(many, "existing-many", environment=_ENVIRONMENT) as large,
    ):
        for cluster in (few, many):
            cluster.settle()
        for server in (small, large):
            contract.sign_up(server.address, ["load-existing-first", "load-existing-second"])
        for number in clock.rounds(rounds, seconds=seconds):
            clock.say(f"sign-ups with {FEW} and with {count} databases, round {number + 1}")
            turns = [("few", small), ("many", large)]
            for which, server in turns if number % 2 == 0 else reversed(turns):
                names = [f"load-existing-{number}-{one}" for one in range(each)]
                outcome = contract.sign_up(server.address, names)
                failures += len(outcome.failures)
                took[which].append(outcome.milliseconds(0.5))
            for cluster in (few, many):
                cluster.task_quietly("drop", f"load-existing-{number}-")
    for cluster in (few, many):
        cluster.task_quietly("drop", "load-")
    facts = {"failures": failures, "sign_ups_a_round": each}
    return [
        Row(f"existing/{count}", "ms", tuple(took["many"]), facts),
        Row(f"existing/{FEW} beside {count}", "ms", tuple(took["few"]), facts),
        by_round(f"existing/{count}/of {FEW}", "ratio", took["many"], took["few"]),
    ]
