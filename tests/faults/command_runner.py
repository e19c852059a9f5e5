"""Runs manage.py commands in processes that can be killed."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.real_server import PROJECT

if TYPE_CHECKING:
    from tests.faults.world import World

ZYGOTE_SECONDS = 60.0


@dataclass
class _Run:
    """One running command."""

    started: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    pid: int = 0
    code: int = 0


class CommandRunner:
    """Forks commands from a process that has Django loaded. Safe from any thread."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._zygote: subprocess.Popen[str] | None = None
        self._runs: dict[int, _Run] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._ready = threading.Event()

    def start(self) -> None:
        self._ready.clear()
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            cwd=PROJECT,
            env=self._world.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        threading.Thread(target=self._listen, args=(self._zygote,), daemon=True).start()
        if not self._ready.wait(ZYGOTE_SECONDS):
            raise RuntimeError("What runs the commands does not start.")

    def stop(self) -> None:
        self.kill()
        if self._zygote is not None:
            self._zygote.kill()
            self._zygote.wait(10)
            for pipe in (self._zygote.stdin, self._zygote.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
        self._zygote = None

    def kill(self) -> None:
        """Kill every running command (SIGKILL)."""
        with self._lock:
            running = [run.pid for run in self._runs.values() if run.pid and not run.ended.is_set()]
        for pid in running:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def run(
        self,
        *arguments: str,
        typed: str = "",
        environment: Mapping[str, str] | None = None,
        timeout_seconds: float,
    ) -> tuple[int | None, str]:
        """The exit code (negative for a signal, None if it did not end in time) and the output."""
        if self._zygote is None or self._zygote.stdin is None:
            raise RuntimeError("Not started.")
        number, run = next(self._numbers), _Run()
        output = self._world.folder / f"command-{number}.log"
        order: dict[str, Any] = {"id": number, "arguments": arguments, "typed": typed}
        order |= {"environment": dict(environment or {}), "output": str(output)}
        with self._lock:
            self._runs[number] = run
            self._zygote.stdin.write(json.dumps(order) + "\n")
            self._zygote.stdin.flush()
        ended = run.ended.wait(timeout_seconds)
        if not ended:
            with suppress(ProcessLookupError):
                os.kill(run.pid, signal.SIGKILL)
        with self._lock:
            del self._runs[number]
        text = output.read_text(errors="replace") if output.exists() else ""
        output.unlink(missing_ok=True)
        return (run.code if ended else None), text

    def _listen(self, zygote: "subprocess.Popen[str]") -> None:
        for line in zygote.stdout or ():
            told = json.loads(line)
            if told.get("ready"):
                self._ready.set()
                continue
            with self._lock:
                run = self._runs.get(told["id"])
            if run is not None and "pid" in told:
                run.pid = told["pid"]
                run.started.set()
            elif run is not None:
                run.code = told["code"]
                run.ended.set()
