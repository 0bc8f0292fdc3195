"""The threads in which calls are answered: each lasts for one call."""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class OneCallThreads(Executor):
    """Threads that wait for a call, and make room for a new one after it.

    lxml remembers every name that it reads for as long as the thread lives: up to a megabyte of a
    domain with thousands of odd ones. The new thread starts when the answer is out, so that no call
    waits for it; within a call it took a tenth of its time.

    Args:
        count: How many wait, and so how many calls are in work at once. All are there from the
            start: each that comes later makes the process grow.
    """

    def __init__(self, count: int) -> None:
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        for _ in range(count):
            self._start_one()

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Have a thread call it, the next one that is free."""
        answer: Future[R] = Future()

        def call() -> None:
            try:
                answer.set_result(fn(*args, **kwargs))
            except BaseException as error:
                answer.set_exception(error)

        self._calls.put(call)
        return answer

    def _start_one(self) -> None:
        threading.Thread(target=self._work, name="call", daemon=True).start()

    def _work(self) -> None:
        while True:
            self._calls.get()()
            with suppress(Exception):  # no thread or memory for another: this one goes on
                self._start_one()
                return
