"""The synchronous face of asynchronous objects: one event loop in a thread, one way to call into it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)
R = TypeVar("R")
P = ParamSpec("P")


class Loop:
    """An event loop that runs in a thread of its own until `close`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vini", daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, R], *, finish: bool = False) -> R:
        """Run it there and wait for its outcome.

        On KeyboardInterrupt it is cancelled, or with `finish` left to end, and its own clean-up is
        waited for before the interrupt goes on; a second one stops the waiting.
        """
        outcome: concurrent.futures.Future[R] = concurrent.futures.Future()
        tasks: list[asyncio.Task[R]] = []

        def start() -> None:
            if not tasks:
                tasks.append(self._loop.create_task(coroutine))
                tasks[0].add_done_callback(lambda task: _pass_on(task, outcome))

        try:
            self._loop.call_soon_threadsafe(start)
            return outcome.result()
        except KeyboardInterrupt:
            self._loop.call_soon_threadsafe(start)  # the interrupt may have come before the first
            if not finish:
                self._loop.call_soon_threadsafe(lambda: tasks[0].cancel())
            concurrent.futures.wait([outcome])
            raise

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _pass_on(task: asyncio.Task[R], outcome: concurrent.futures.Future[R]) -> None:
    if task.cancelled():
        outcome.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())


class Face(Protocol[A_co]):
    """What has an asynchronous self, and the loop that it lives in."""

    def _behind(self) -> tuple[A_co, Loop]: ...


class blocking(Generic[A, P, R]):  # noqa: N801  # used like a decorator
    """A method that calls the asynchronous method of the same name, and waits for it: `ping = blocking(Async.ping)`.

    Arguments, result, errors and docstring are those of the asynchronous one, for people and type checkers.
    """

    def __init__(self, method: Callable[Concatenate[A, P], Coroutine[Any, Any, R]]):
        self._method = method
        self.__doc__ = method.__doc__
        self.__wrapped__ = method  # for inspect.signature

    @overload
    def __get__(self, face: None, owner: type) -> blocking[A, P, R]: ...
    @overload
    def __get__(self, face: Face[A], owner: type) -> Callable[P, R]: ...

    def __get__(self, face: Face[A] | None, owner: type) -> Any:
        if face is None:
            return self

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            real, loop = face._behind()
            return loop.call(self._method(real, *args, **kwargs))

        call.__doc__, call.__name__ = self.__doc__, getattr(self._method, "__name__", "call")
        return call
