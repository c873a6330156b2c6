"""Conf files: what a central asks to be in files of a node's own, and what the node has of it."""

from __future__ import annotations

from vini.bus.messages.message import Message
from vini.model import Value
from vini.rules.conf_files import FileThere


class NodeFile(Value, frozen=True, forbid_unknown_fields=False):
    """A file that a node is asked to have."""

    path: str
    text: str
    version: str  # another one whenever anything else of it is; the node gives it back
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    preinstall_cmd: str = ""  # for /bin/sh: before the file is written; "": none
    postinstall_cmd: str = ""  # after that
    error_cmd: str = ""  # when one of these failed
    ignore_cmd_errors: bool = False
    always_update: bool = False  # also over what somebody else made of the file


class Configure(Message, frozen=True):
    """Have these files and, of those that came by such a message, no others.  Answered by `ConfFiles` when all are
    there, or some seconds later with what is."""

    files: tuple[NodeFile, ...]
    version: str  # of all of them; "": none


class AskConfFiles(Message, frozen=True):
    """What is there of them?  Answered by `ConfFiles`."""


class ConfFiles(Message, frozen=True):
    """What is there, by path, when that had changed so often since the agent began (`Clock.conf_files`)."""

    files: tuple[FileThere, ...]
    changes: int = 0
    looked: bool = True  # False: the agent has just begun and does not know yet; then `changes` will go up
