"""Fuzz units: this thread, long-lived threads, and async tasks of one event loop, which run code.

Each does one thing at a time, when it is told to, so that a sequence of steps can be repeated.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections

T = TypeVar("T")
Work = Callable[[], Any]
ANSWER_SECONDS = 60


class Unit:
    """This thread. Of a unit two things are asked: to run code itself, and to run queries.

    They differ in async tasks alone, whose queries run in the executor that sync_to_async has.
    name: who runs `direct`; thread: who runs `query`, and has the connections.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.thread = name

    def direct(self, work: Callable[[], T]) -> T:
        """The result of `work`, run in the unit's own context."""
        return work()

    def query(self, work: Callable[[], T]) -> T:
        """The same for work that asks a database."""
        return work()

    def end(self) -> None:
        connections.close_all()


class Thread(Unit):
    """A thread that lives as long as the machine."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._commands: SimpleQueue[tuple[Work, Future[Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (command := self._commands.get()) is not None:
            _answer(*command)
            # Held until the next command, it would keep alive what the machine has dropped.
            del command
        connections.close_all()

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        """Start it without waiting."""
        future: Future[T] = Future()
        self._commands.put((work, future))
        return future

    def direct(self, work: Callable[[], T]) -> T:
        return self.submit(work).result(ANSWER_SECONDS)

    query = direct

    def end(self) -> None:
        self._commands.put(None)
        self._thread.join(ANSWER_SECONDS)


def _answer(work: Work, future: "Future[Any]") -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)


class Loop:
    """One event loop, in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="loop", daemon=True)
        self._thread.start()

    def run(self, main: Awaitable[T]) -> T:
        async def wait() -> T:
            return await main

        return asyncio.run_coroutine_threadsafe(wait(), self.loop).result(ANSWER_SECONDS)

    def in_executor(self, work: Callable[[], T]) -> T:
        """Run in the thread that the tasks' queries run in."""
        return self.run(sync_to_async(work)())

    def end(self) -> None:
        self.in_executor(connections.close_all)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(ANSWER_SECONDS)
        self.loop.close()


class Task(Unit):
    """An async task, which waits for commands, and leaves its blocks when it is cancelled."""

    def __init__(self, name: str, loop: Loop, *, parent: "Task | None" = None) -> None:
        super().__init__(name)
        self.thread = "executor"
        self.leave_at_end: list[Callable[[], None]] = []
        self._loop = loop
        self._commands: asyncio.Queue[tuple[Work, Future[Any]]] = asyncio.Queue()

        def start() -> None:
            # A new task copies the context of whoever starts it, and call_soon_threadsafe too.
            self._task = loop.loop.create_task(self._run())

        if parent is None:
            started: Future[None] = Future()
            loop.loop.call_soon_threadsafe(_answer, start, started)
            started.result(ANSWER_SECONDS)
        else:
            parent.direct(start)

    async def _run(self) -> None:
        try:
            while True:
                await self._one(*await self._commands.get())
        finally:
            for leave in reversed(self.leave_at_end):
                leave()

    async def _one(self, work: Work, future: "Future[Any]") -> None:
        try:
            result = work()
            future.set_result(await result if asyncio.iscoroutine(result) else result)
        except BaseException as error:
            future.set_exception(error)

    def submit(self, work: Callable[[], Any]) -> "Future[Any]":
        """Start it without waiting; if `work` returns a coroutine, the task awaits it."""
        future: Future[Any] = Future()
        self._loop.loop.call_soon_threadsafe(self._commands.put_nowait, (work, future))
        return future

    def direct(self, work: Callable[[], T]) -> T:
        result: T = self.submit(work).result(ANSWER_SECONDS)
        return result

    def query(self, work: Callable[[], T]) -> T:
        result: T = self.submit(lambda: sync_to_async(work)()).result(ANSWER_SECONDS)
        return result

    def end(self) -> None:
        async def cancel() -> None:
            self._task.cancel()
            await asyncio.wait([self._task])

        self._loop.run(cancel())
