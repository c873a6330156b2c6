"""The errors that only a central with accounts has."""

from __future__ import annotations

from typing import ClassVar

from vini.model import Conflict, Denied, Mistake, ViniError


class Invalid(ViniError):
    """What was asked makes no sense, whoever asks; carries all mistakes at once."""

    exit_code: ClassVar[int] = 2

    def __init__(self, sentence: str, mistakes: tuple[Mistake, ...] = ()):
        self.mistakes = mistakes
        super().__init__(sentence)


class Unauthenticated(Denied):
    """Nobody knows who asks."""


class IssuerAway(ViniError):
    """Whoever vouches for people can't be reached, or answers as nobody should."""


class Mismatch(Conflict):
    """What the caller has seen is no longer what is there (`If-Match`)."""
