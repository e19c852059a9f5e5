"""Random sequences of operations: each organization sees its own rows and nobody else's.

FUZZ_SEED chooses the order, FUZZ_SECONDS how long it goes on (`make fuzz`), FUZZ_SHRINK=on looks
for the shortest order that fails.
"""

import gc
import os
import time
from collections.abc import Callable

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from organizations.tenancy import pool

from .base import World
from .machine import Walls

SEED = int(os.environ.get("FUZZ_SEED", "3"))
SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
STEPS = 2_000
STEPS_OF_A_RUN = 50
RUNS = 20
PHASES = {Phase.explicit, Phase.generate} | (
    {Phase.shrink} if os.environ.get("FUZZ_SHRINK") == "on" else set()
)


def run(seed: int) -> None:
    """Some runs of the machine, in the seed's order."""
    run_state_machine_as_test(
        hypothesis.seed(seed)(Walls),
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS_OF_A_RUN,
            deadline=None,
            database=None,
            phases=tuple(PHASES),
            suppress_health_check=tuple(HealthCheck),
            print_blob=False,
        ),
    )


@pytest.mark.fuzz
# Dropped, a cursor whose connection the server has cut complains where nobody can catch it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(max(300, SECONDS * 2 + 300))
def test_no_order_of_steps_shows_one_organization_anothers_rows(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    Walls.world = world
    seed, started, evictions = SEED, time.monotonic(), pool.shared.evictions
    try:
        while True:
            print(f"seed {seed}")
            run(seed)
            if world.counts.total() >= STEPS and time.monotonic() - started >= SECONDS:
                break
            seed += 1
    finally:
        gc.collect()
        record_property("seed", SEED)
        record_property("last seed", seed)
        record_property("steps", world.counts.total())
        record_property("seconds", round(time.monotonic() - started, 1))
        for name, count in sorted(world.counts.items()):
            record_property(f"steps: {name}", count)
        closed = pool.shared.evictions - evictions
        record_property("connections closed for others", closed)
        for failure in world.failures[:1]:
            print(f"The first failure, {failure}")
        print(f"{closed} connections closed for others")
        print(f"{world.counts.total()} steps: {dict(sorted(world.counts.items()))}")
    assert world.counts.total() >= STEPS
    never = {rule.function.__name__ for rule in Walls.setup_state().rules} - set(world.counts)
    assert not never, f"never tried: {never}"
