"""`make faults`: every flow that writes, at every step, under every fault.

    python -m tests.faults.matrix --seed 7
    python -m tests.faults.matrix --only "sign_up:killed" --only ":disk full"

Exit code 1 if a cell failed or was not tried. The seed decides random moments and the order; what
a moment meets is up to the machine.
"""

import argparse
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tests.faults import faults, flows, report, steps
from tests.faults.cells import Batch, Cell, broken, untried
from tests.faults.world import World
from tests.real_server import PROJECT

XML = PROJECT / "test-results" / "faults.xml"
PAGE = PROJECT / "tests" / "faults" / "RESULTS.md"
BATCH_SECONDS = 120.0
# A batch that could not be brought to its step is tried once more, in a new world.
TRIES = 2


@dataclass(frozen=True)
class Plan:
    """One batch: a step, a fault, and the flows that have the step."""

    step: steps.Step
    fault: type[faults.Fault]
    flows: tuple[flows.Flow, ...]

    @property
    def environment(self) -> dict[str, str]:
        """The world's environment, which is the same for all flows of a plan."""
        return {**self.fault.environment, **self.flows[0].environment}

    def moments(self, seed: int) -> random.Random:
        return random.Random(f"{seed} {self.step.name} {self.fault.name}")


def planned(wanted: Sequence[tuple[str, str]] = (), *, step: str = "") -> list[Plan]:
    """Every batch of the matrix, grouped by environment. wanted: (flow, fault) pairs."""
    plans: list[Plan] = []
    for fault in faults.ALL:
        for place in steps.ALL:
            chosen = tuple(
                flow
                for flow in flows.ALL
                if place.name in flow.steps and _is_wanted(wanted, flow.name, fault.name)
            )
            if place.name not in fault.not_at and step in ("", place.name):
                plans += batches(place, fault, chosen)
    return sorted(plans, key=lambda plan: str(plan.environment))


def batches(
    step: steps.Step, fault: type[faults.Fault], chosen: Sequence[flows.Flow]
) -> Iterator[Plan]:
    """Flows grouped by environment, except those that are tried alone."""
    together: dict[str, list[flows.Flow]] = {}
    for flow in chosen:
        if not flow.alone:
            together.setdefault(str(flow.environment), []).append(flow)
    yield from (Plan(step, fault, tuple(each)) for each in together.values())
    yield from (Plan(step, fault, (flow,)) for flow in chosen if flow.alone)


def _is_wanted(wanted: Sequence[tuple[str, str]], flow: str, fault: str) -> bool:
    return not wanted or any(f in ("", flow) and g in ("", fault) for f, g in wanted)


@dataclass
class Run:
    """Runs batches in a few worlds at a time."""

    seed: int
    plans: deque[Plan]
    cells: list[Cell] = field(default_factory=list)
    disk: str = ""
    worlds: set[World] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def work(self) -> None:
        """Run batch after batch; replace a world in which a cell failed."""
        world: World | None = None
        try:
            while True:
                with self._lock:
                    if not self.plans:
                        return
                    plan = self.plans.popleft()
                failed: dict[str, Cell] = {}
                for tries_left in reversed(range(TRIES)):
                    world, cells = self._try(world, plan)
                    failed |= {c.flow: c for c in cells if c.problems and not _is_untried(c)}
                    if tries_left == 0 or not any(_is_untried(cell) for cell in cells):
                        break
                # A failure stays one, though what was untried beside it was tried again.
                cells = [failed.get(cell.flow, cell) for cell in cells]
                with self._lock:
                    self.cells += cells
                    _print(plan, cells, left=len(self.plans))
        finally:
            if world is not None:
                self._leave(world)

    def _try(self, world: World | None, plan: Plan) -> tuple[World | None, list[Cell]]:
        try:
            if world is None:
                world = World(environment=plan.environment)
                self.worlds.add(world)
                world.__enter__()
                self.disk = disk_of(world)
            elif world.extra_environment != plan.environment:
                world.reconfigure(plan.environment)
            batch = Batch(world, plan.step, plan.fault(), plan.flows, plan.moments(self.seed))
            cells = batch.run()
            if not broken(cells):
                world.sweep()
                return world, cells
            _keep_log(world, plan)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            names = (plan.step.name, plan.fault.name)
            cells = [untried(flow.name, *names, why) for flow in plan.flows]
        if world is not None:
            self._leave(world)
        return None, cells

    def _leave(self, world: World) -> None:
        self.worlds.discard(world)
        with suppress(Exception):
            world.__exit__()

    def leave_all(self) -> None:
        """Stop every remaining server; there is one only after an interruption."""
        for world in tuple(self.worlds):
            self._leave(world)


def disk_of(world: World) -> str:
    """The kind of disk that PostgreSQL's data are on, in words."""
    if world.has_own_disk:
        return "on a separate small tmpfs"
    return (
        "no disk could be mounted, so a full one was played by a limit on the size of PostgreSQL's "
        "files"
    )


def _is_untried(cell: Cell) -> bool:
    return any(problem.startswith("untried") for problem in cell.problems)


def _keep_log(world: World, plan: Plan) -> None:
    folder = XML.parent / "faults"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{plan.step.name} {plan.fault.name}.log".replace(" ", "-").replace("'", "")
    (folder / name).write_text(world.log_end(400))


def _print(plan: Plan, cells: Sequence[Cell], *, left: int) -> None:
    wrong = broken(cells)
    slowest = max((cell.recovery_seconds for cell in cells), default=0.0)
    state = f"{len(wrong)} FAILED" if wrong else f"recovered in {slowest:.1f} s"
    print(
        f"{plan.step.name} + {plan.fault.name}: {len(cells)} flows, {state}; {left} left",
        flush=True,
    )
    for name, problems in wrong.items():
        for problem in problems:
            print(f"  {name}: {' '.join(problem.split())[:600]}", flush=True)


def coverage(environment: dict[str, str]) -> list[Cell]:
    """A failed cell for everything that can write and is in no flow."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.listing"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    missing = flows.uncovered(set(json.loads(done.stdout)))
    return [untried(what, "any", "any", "it can write and is in no flow") for what in missing]


def listing_environment() -> dict[str, str]:
    """Settings that load without a database."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "DEBUG": "on",
        "DATABASE_URL": "postgres://lint@localhost/lint",
        "SECRET_KEY": "lint",
        "CREDENTIAL_KEYS": "0" * 43 + "=",
    }


def run(*, seed: int, plans: Iterable[Plan], worlds: int) -> Run:
    """Run the plans."""
    work = Run(seed, deque(plans))
    threads = [threading.Thread(target=work.work, daemon=True) for _ in range(worlds)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        # Interrupted: the batch that is under way comes to its end, and its world with it.
        work.plans.clear()
        for thread in threads:
            thread.join(BATCH_SECONDS)
        work.leave_all()
    return work


def _terminated(number: int, frame: object) -> None:
    """Like Ctrl-C: stop the servers and unmount their disks. A second signal does not stop that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.matrix")
    parser.add_argument("--seed", type=int, help="of the random moments (default: a new one)")
    parser.add_argument("--only", action="append", default=[], metavar="FLOW:FAULT")
    parser.add_argument("--step", default="", help="only this step")
    parser.add_argument("--worlds", type=int, default=1, help="servers at a time (default: 1)")
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    wanted = [tuple(pair.partition(":")[::2]) for pair in options.only]
    plans = planned(wanted, step=options.step)
    count = sum(len(plan.flows) for plan in plans)
    print(f"{count} cells in {len(plans)} strikes, seed {seed}", flush=True)
    signal.signal(signal.SIGTERM, _terminated)
    began = time.monotonic()
    done = run(seed=seed, plans=plans, worlds=options.worlds)
    cells = done.cells + coverage(listing_environment())
    seconds = time.monotonic() - began
    whole = not wanted and not options.step
    path = XML if whole else XML.with_name("faults-part.xml")
    properties = {"seed": str(seed), "disk": done.disk, "seconds": f"{seconds:.0f}"}
    report.write(path, cells, properties=properties, seconds=seconds)
    if whole:
        PAGE.write_text(report.render(path))
    failed = report.failures(path)
    print(f"{len(cells)} cells, {failed} failed, {seconds:.0f} s, PostgreSQL's data {done.disk}")
    print(f"{path.relative_to(PROJECT)}{' and tests/faults/RESULTS.md' if whole else ''} written")
    return 1 if failed or not cells else 0


if __name__ == "__main__":
    sys.exit(main())
