"""The environment of a sliver: variables that its commands see, and whatever people run in it.  Pure.

Commands get them in their command line, so one whose environment changes is another one and is started anew.  What
people run finds them in a file of the sliver's directory on the node, which no container can write.
"""

from __future__ import annotations

from collections.abc import Mapping

from vini.model import File, Sliver

NAME = "environment"  # of the file


def words(variables: Mapping[str, str]) -> tuple[str, ...]:
    """What stands before a command line, so that it has these variables; env(1) is where sh(1) is."""
    return ("env", *(f"{name}={value}" for name, value in variables.items())) if variables else ()


def file(sliver: Sliver, ns: str) -> tuple[File, ...]:
    """The file for those who enter the sliver later; none where nothing was set."""
    text = "".join(f"{word}\n" for word in words(sliver.environment)[1:])
    return (File(ns, NAME, text),) if text else ()
