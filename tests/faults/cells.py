"""Runs one step with one fault for many flows at once: each flow is a cell of the matrix.

The flows are brought to the step, the fault strikes once, ends, and each flow is judged alone: what
it was answered, how long it took, when it worked again, and what the databases say.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg

from tests.faults import steps
from tests.faults.attempts import DONE, NOTHING, Attempt
from tests.faults.client import GIVE_UP_SECONDS, LIMIT_SECONDS
from tests.faults.faults import Fault
from tests.faults.flows import Flow
from tests.faults.holder import Holder, NotHeld
from tests.faults.kill_storm import leftovers
from tests.faults.world import World
from tests.real_server import START_SECONDS

RECOVERY_SECONDS = 5.0
LONGEST_MOMENT_SECONDS = 0.25


@dataclass
class Cell:
    """One flow at one step with one fault. It passed if it has no problems."""

    flow: str
    step: str
    fault: str
    seconds: float = 0.0  # from the strike to the answer
    recovery_seconds: float = 0.0  # from the fault's end to the beginning of a try that succeeded
    outcome: str = "untried"
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.flow} / {self.step} / {self.fault}"


@dataclass
class Batch:
    """The flows of one step and fault.

    patience: what the limits are multiplied by, 1 where the machine has nothing else to do.
    """

    world: World
    step: steps.Step
    fault: Fault
    flows: Sequence[Flow]
    moments: random.Random
    patience: float = 1.0
    cells: dict[str, Cell] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    struck: float = 0.0

    def run(self) -> list[Cell]:
        for flow in self.flows:
            self.cells[flow.name] = Cell(flow.name, self.step.name, self.fault.name)
        holder = Holder(self.world, self.attempts)
        try:
            self._prepare()
            self._strike(holder)
            self._collect()
        finally:
            holder.release()
            self.fault.end(self.world)
        ended = time.monotonic()
        self._wait_for_health()
        self._each(lambda flow: self._recover(flow, ended))
        self._judge_leftovers()
        return list(self.cells.values())

    # --- Up to the answers ------------------------------------------------------------------------
    def _prepare(self) -> None:
        def prepare(flow: Flow) -> None:
            self.attempts[flow.name] = flow.prepare(self.world)

        self._each(prepare)
        if len(self.attempts) < len(self.flows):
            raise RuntimeError("A flow could not be prepared: " + self._all_problems())

    def _strike(self, holder: Holder) -> None:
        held = True
        if self.step is steps.BEGIN and not self.fault.instant:
            self._hit()
            self._start()
        elif self.step is steps.BEGIN:
            self._start()
            time.sleep(self.moments.uniform(0, LONGEST_MOMENT_SECONDS))
            self._hit()
        elif self.step is steps.AFTER:
            self._start()
            self._wait(GIVE_UP_SECONDS)
            self._hit()
        else:
            held = self._hold(holder)
            for name, attempt in self.attempts.items():
                # Where waiting is the fault, it can have struck before the last flow was held.
                struck = self.fault.holds and attempt.answer and attempt.answer.kind == "refused"
                if attempt.is_over and held and not struck:
                    self._blame(name, "untried: it was over before it came to the step")
            self._hit()
        if not self.fault.holds:
            holder.release()

    def _hold(self, holder: Holder) -> bool:
        try:
            assert self.step.first is not None
            self.step.first(holder)
            self._start()
            holder.wait_until_held()
            if self.step.then is not None:
                self.step.then(holder)
        except (NotHeld, psycopg.Error) as error:
            for name in self.attempts:
                self._blame(name, f"untried: it could not be held at the step ({error})")
            return False
        return True

    def _start(self) -> None:
        for attempt in self.attempts.values():
            attempt.start()

    def _hit(self) -> None:
        self.struck = time.monotonic()
        self.fault.strike(self.world, self.attempts)

    def _collect(self) -> None:
        self._wait(LIMIT_SECONDS * self.patience + 2)
        for name, attempt in self.attempts.items():
            cell = self.cells[name]
            if attempt.answer is None:
                cell.outcome = "hung"
                self._blame(name, f"no answer after {LIMIT_SECONDS * self.patience:.0f} s")
                continue
            answer = attempt.answer
            since = (
                max(self.struck, attempt.began) if self.step is not steps.AFTER else attempt.began
            )
            cell.seconds = max(0.0, attempt.ended - since)
            cell.outcome = answer.kind
            if cell.seconds > LIMIT_SECONDS * self.patience:
                self._blame(name, f"answered after {cell.seconds:.1f} s")
            if answer.kind == "lost" and not (self.fault.loses or attempt.streams):
                self._blame(name, f"no answer: {answer.words}")
            if answer.kind in ("wrong", "hung"):
                self._blame(name, f"answered {answer.words}")

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        for attempt in self.attempts.values():
            attempt.wait(until)

    # --- After the fault --------------------------------------------------------------------------
    def _wait_for_health(self) -> None:
        """Poll gunicorn from one thread: thirty at once would slow its start."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and not self.world.ask("GET", "/health").done:
            time.sleep(0.05)

    def _recover(self, flow: Flow, ended: float) -> None:
        """Try again what was not done; if it was done, do another of the same kind."""
        cell, attempt = self.cells[flow.name], self.attempts[flow.name]
        attempt.wait(time.monotonic() + GIVE_UP_SECONDS)
        effect, words = self._effect(attempt, ended), ""
        acknowledged = attempt.answer is not None and attempt.answer.done
        if acknowledged and effect != DONE:
            self._blame(flow.name, f"answered as done, and is {effect}")
        refused = attempt.answer is not None and attempt.answer.kind == "refused"
        if refused and attempt.makes and self.fault.lets_clean_up and effect not in (DONE, NOTHING):
            self._blame(flow.name, f"refused, and not taken back: {effect}")
        while True:
            began = time.monotonic()
            try:
                again = attempt
                if effect == DONE:
                    again = flow.prepare(self.world)
                answer = again.act()
                words = answer.words
                if answer.is_a_bug:
                    self._blame(flow.name, f"answered {words} after the fault")
                # What died after its commit can be told on the second try that it is done.
                if answer.done or (effect != DONE and again.effect() == DONE):
                    break
            except (RuntimeError, psycopg.Error) as error:
                words = f"{type(error).__name__}: {error}"
            if time.monotonic() > ended + GIVE_UP_SECONDS * self.patience:
                self._blame(flow.name, f"does not work any more: {words}")
                return
            time.sleep(0.2)
        cell.recovery_seconds = max(0.0, began - ended)
        if (took := time.monotonic() - began) > LIMIT_SECONDS * self.patience:
            self._blame(flow.name, f"worked again, and took {took:.1f} s")
        if cell.recovery_seconds > RECOVERY_SECONDS * self.patience:
            self._blame(flow.name, f"worked again after {cell.recovery_seconds:.1f} s: {words}")
        final = self._effect(again, time.monotonic())
        if final != DONE:
            self._blame(flow.name, f"done again, and is {final}")

    def _effect(self, attempt: Attempt, since: float) -> str:
        """Read the effect as soon as the databases answer."""
        while True:
            try:
                return attempt.effect()
            except psycopg.Error:
                if time.monotonic() > since + RECOVERY_SECONDS:
                    raise
            time.sleep(0.05)

    def _judge_leftovers(self) -> None:
        superuser = self.world.postgres.superuser_parameters("master_org_db")
        found = {what: names for what, names in leftovers(superuser).items() if names}
        if not found:
            return
        for name, attempt in self.attempts.items():
            if attempt.makes or attempt.database:
                self._blame(name, f"left behind: {found}")

    def _blame(self, name: str, problem: str) -> None:
        self.cells[name].problems.append(problem)

    def _all_problems(self) -> str:
        return "; ".join(f"{c.flow}: {p}" for c in self.cells.values() for p in c.problems)

    def _each(self, act: Callable[[Flow], None]) -> None:
        """Run for every flow at once; an exception is a problem of its flow."""

        def run(flow: Flow) -> None:
            try:
                act(flow)
            except Exception as error:
                self._blame(flow.name, f"{type(error).__name__}: {error}")

        threads = [threading.Thread(target=run, args=(flow,), daemon=True) for flow in self.flows]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def untried(flow: str, step: str, fault: str, why: str) -> Cell:
    """A cell that should have been tried."""
    return Cell(flow, step, fault, problems=[f"untried: {why}"])


def broken(cells: Sequence[Cell]) -> Mapping[str, list[str]]:
    """The problems by cell."""
    return {cell.name: cell.problems for cell in cells if cell.problems}
