"""What the central may do to files of this machine: its administrator says so, and nobody else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from vini import durable
from vini.model import Value, ViniError
from vini.rules.conf_files import checked
from vini.rules.errors import Invalid


class Permit(Value, frozen=True):
    """Of one machine (`vini node permit`)."""

    below: tuple[str, ...] = ("/etc/vini/conf.d",)  # directories, without symbolic links in their paths
    commands: bool = False  # conf files may come with commands, which root runs
    owner: str = ""  # the central that may (`Identity.owner`), no other one; "": whichever is joined first


NOTHING = Permit(())
Said = Callable[[], Permit]  # what is permitted now


def _path(state: Path) -> Path:
    return state / "permit.json"


def read(state: Path, owner: str) -> Permit:
    """To this central.  The usual where nobody said anything of that one; nothing at all where what was said can't be
    read."""
    try:
        said = msgspec.json.decode(_path(state).read_bytes(), type=Permit)
        return said if said.owner in ("", owner) else Permit()
    except FileNotFoundError:
        return Permit()
    except (OSError, msgspec.DecodeError):
        return NOTHING


def check(below: Sequence[str]) -> None:
    """Raises ViniError where one of them is none below which conf files may be."""
    for directory in below:
        try:
            checked(directory)
        except Invalid as e:
            raise ViniError(f"{directory!r} can't be permitted; name a directory below /, such as /etc/vini.") from e


def write(state: Path, permit: Permit) -> None:
    """The agent goes by it from its next step on.  Raises ViniError where it makes no sense, or the disk is full."""
    check(permit.below)
    path = _path(state)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, msgspec.json.encode(permit))
    except OSError as e:
        raise ViniError(f"What is permitted can't be written to {path}: {e.strerror}; check the disk.") from e


def forget(state: Path) -> None:
    """Nobody said anything."""
    _path(state).unlink(missing_ok=True)
