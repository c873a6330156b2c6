"""The error tree: only these cross a module boundary."""

from __future__ import annotations

from typing import ClassVar

from vini.model.value import Value


class ViniError(Exception):
    """str() is a complete sentence for the person who can act on it."""

    exit_code: ClassVar[int] = 1


class Mistake(Value, frozen=True):
    """One mistake in a file: where (1-based; 0: the whole file), what, and the nearest valid word."""

    line: int
    column: int
    what: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"line {self.line}, column {self.column}: " if self.line else ""
        return place + self.what + (f" ({self.hint})" if self.hint else "")


class TopologyError(ViniError):
    """A file is wrong and its author can mend it; carries all mistakes at once."""

    exit_code: ClassVar[int] = 2

    def __init__(self, mistakes: tuple[Mistake, ...] | list[Mistake], source: str = ""):
        self.mistakes, self.source = tuple(mistakes), source
        super().__init__("\n".join(f"{source}: {m}" if source else str(m) for m in self.mistakes))


class CapacityError(ViniError):
    """A node or a link is full; says which and by how much."""

    exit_code: ClassVar[int] = 3


class Denied(ViniError):
    """The caller may not do this; says who may."""

    exit_code: ClassVar[int] = 4


class NotFound(ViniError):
    """No such thing, or none that the caller may know of."""


class Conflict(ViniError):
    """Another desired state came first."""


class Stale(Conflict):
    """Older than what was already accepted; nothing ever moves backwards."""


class Unsupported(ViniError):
    """This node lacks a feature that the wish needs; says which, and what has it."""

    exit_code: ClassVar[int] = 3


class DriverError(ViniError):
    """The machine refused; says what was being done.  The agent's loop retries."""
