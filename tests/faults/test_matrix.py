"""`make faults-small`: each fault once for each flow, at one step. `make faults` tries all steps.

The plain sign-up and the one with a spare take turns.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import faults, flows, listing, matrix, report, steps
from tests.faults.cells import Batch, Cell, broken, untried
from tests.faults.matrix import Plan
from tests.faults.world import World

pytestmark = pytest.mark.pure

# Two processes share the machine, and a limit must fail for the product's sake alone: `make faults`
# has it for itself, and holds the limits as they are.
PATIENCE = 4.0
SEED = int(os.environ.get("FAULTS_SEED", "2"))
# The steps that nearly every flow has.
COMMON = ("write", "commit", "begin", "after")


def flows_for(fault: type[faults.Fault]) -> list[flows.Flow]:
    """All flows; of the sign-up paths by template, and in turns the plain one or the spare's.

    Each way wants a server that is configured for it.
    """
    other = (flows.PLAIN, flows.SPARE)[(SEED + faults.ALL.index(fault)) % 2]
    return [flow for flow in flows.ALL if flow.environment != other]


def plans_for(fault: type[faults.Fault]) -> list[Plan]:
    """The fault's flows at a common step chosen by the seed, or at their first step."""
    possible = [name for name in COMMON if name not in fault.not_at]
    chosen = possible[(SEED + faults.ALL.index(fault)) % len(possible)]
    at: dict[str, list[flows.Flow]] = {}
    for flow in flows_for(fault):
        step = chosen
        if chosen not in flow.steps:
            step = next(step for step in flow.steps if step not in fault.not_at)
        at.setdefault(step, []).append(flow)
    plans = [
        plan
        for step, struck in at.items()
        for plan in matrix.batches(steps.BY_NAME[step], fault, struck)
    ]
    return sorted(plans, key=lambda plan: str(plan.environment))


@pytest.fixture(scope="module")
def worlds() -> Iterator[list[World]]:
    """The current world; none if the last cell broke it."""
    kept: list[World] = []
    yield kept
    for world in kept:
        world.__exit__()


@pytest.mark.faults
@pytest.mark.timeout(400)
@pytest.mark.parametrize("fault", faults.ALL, ids=lambda fault: fault.name)
def test_every_flow_survives(fault: type[faults.Fault], worlds: list[World]) -> None:
    if not worlds:
        worlds.append(World(environment=fault.environment).__enter__())
    world = worlds[0]
    tried = set()
    for plan in plans_for(fault):
        if world.extra_environment != plan.environment:
            world.reconfigure(plan.environment)
        moments = plan.moments(SEED)
        cells = Batch(world, plan.step, fault(), plan.flows, moments, PATIENCE).run()
        if wrong := broken(cells):
            log = world.log_end()
            worlds.clear()
            world.__exit__()
            raise AssertionError(f"at the step {plan.step.name}: {wrong}\n{log}")
        world.sweep()
        tried |= {cell.flow for cell in cells}
    assert tried == {flow.name for flow in flows_for(fault)}


def test_everything_that_can_write_and_nothing_else_is_in_a_flow() -> None:
    named = {what for flow in flows.ALL for what in flow.covers} | set(flows.NO_FLOWS)
    assert (flows.uncovered(listing.listed()), named - listing.listed()) == (set(), set())


def test_the_matrix_has_every_flow_step_and_fault() -> None:
    cells = {
        (flow.name, plan.step.name, plan.fault.name)
        for plan in matrix.planned()
        for flow in plan.flows
    }
    wanted = {
        (flow.name, step, fault.name)
        for flow in flows.ALL
        for step in flow.steps
        for fault in faults.ALL
        if step not in fault.not_at
    }
    assert cells == wanted
    assert {step for _, step, _ in cells} == set(steps.BY_NAME), "a step that nothing is tried at"
    small = {flow.name for fault in faults.ALL for flow in flows_for(fault)}
    assert small == {flow.name for flow in flows.ALL}


def test_an_untried_cell_is_a_failure_of_the_xml_and_of_the_page(tmp_path: Path) -> None:
    path = tmp_path / "faults.xml"
    good = Cell("sign_up", "write", "killed", 0.5, 1.25, "lost")
    cells = [good, untried("login", "write", "killed", "why")]
    report.write(path, cells, properties={"seed": "7", "disk": "here"}, seconds=61)
    page = report.render(path)
    assert report.failures(path) == 1
    assert "seed 7, 2 cells, 1 failed, 1 minutes" in page
    assert "| sign_up | 1 · 1.2 | **untried**" in page
    assert "| login | **1 of 1 failed** |" in page
