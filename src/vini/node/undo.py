"""What was opened by a step that fails in the middle is closed again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Protocol, TypeVar


class _Closes(Protocol):
    def close(self) -> object: ...


T = TypeVar("T", bound=_Closes)


@contextmanager
def closed_on_failure(opened: T) -> Iterator[T]:
    """It stays open where the body ends well; whatever else ends it, a cancellation too, closes it."""
    with ExitStack() as stack:
        yield stack.enter_context(closing(opened))
        stack.pop_all()
