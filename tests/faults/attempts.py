"""One try of one flow: runs it, and reads from the databases what it did."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.client import GIVE_UP_SECONDS, Answer
from tests.faults.world import World
from tests.faults.zygote import UNCAUGHT

DONE, NOTHING = "done", "nothing"


@dataclass
class Attempt:
    """One action to try.

    act: does it. effect: DONE, NOTHING, or in words what is half made; asks the databases.
    database: the organization's database that it works on. makes: an organization it will make.
    streams: its answer begins before all of it is there, and breaks off where the rest is lost.
    """

    act: Callable[[], Answer]
    effect: Callable[[], str]
    database: str = ""
    makes: str = ""
    streams: bool = False
    answer: Answer | None = None
    began: float = 0.0
    ended: float = 0.0
    _thread: threading.Thread | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it in a thread."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.began = time.monotonic()
        self._thread.start()

    def _run(self) -> None:
        try:
            answer = self.act()
        except Exception as error:
            answer = Answer("wrong", f"{type(error).__name__}: {error}")
        self.ended = time.monotonic()
        self.answer = answer

    @property
    def is_over(self) -> bool:
        return self.answer is not None

    def wait(self, until: float) -> None:
        """Wait until it ends, at most until that time."""
        if self._thread is not None:
            self._thread.join(max(0.0, until - time.monotonic()))


def without_trace(act: Callable[[], Answer]) -> Attempt:
    """An action that leaves no row: it is done if its answer says so."""
    answers: list[Answer] = []

    def remembered() -> Answer:
        answers.append(act())
        return answers[-1]

    return Attempt(remembered, lambda: DONE if answers and answers[-1].done else NOTHING)


def command(
    world: World, *arguments: str, typed: str = "", environment: dict[str, str] | None = None
) -> Answer:
    """Run a manage.py command. A refusal is a sentence and an exit code; a traceback is wrong."""
    began = time.monotonic()
    code, text = world.commands.run(
        *arguments, typed=typed, environment=environment, timeout_seconds=GIVE_UP_SECONDS
    )
    said = text.strip()[-600:]
    if code is None:
        kind = "hung"
    elif code < 0:
        kind = "lost"
    elif code == 0:
        kind = "done"
    else:
        kind = "wrong" if code == UNCAUGHT else "refused"
    return Answer(kind, f"exit {code}: {said}", time.monotonic() - began)
