"""The socket of one sliver, and the directory that it is in: `vini` below the sliver's run directory on the node, in a
container `/run/vini`, which it can't write to.

Nothing in a sliver can put anything into that directory, but root of the node, as which light slivers run.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path

from vini.node.place import Place
from vini.node.undo import closed_on_failure

SOCKET = "broker.sock"
_BACKLOG = 16
_CLIENT = Path(__file__).with_name("ask.py")
_CLIENT_NAME = "vini-ask"
_UCRED = struct.Struct("=iII")  # unix(7): pid, uid, gid


def home(place: Place, ns: str) -> Path:
    """The directory on the node."""
    return place.sliver(ns) / "vini"


def furnish(place: Place, ns: str) -> Path:
    """The directory, with the client in it; whatever else has its name goes.  It stays the same for as long as the
    sliver lives: containers have it mounted."""
    at = home(place, ns)
    at.parent.mkdir(parents=True, exist_ok=True)
    if at.is_symlink() or (at.exists() and not at.is_dir()):
        at.unlink()
    at.mkdir(mode=0o755, exist_ok=True)
    client = at / _CLIENT_NAME
    if client.is_symlink() or not client.exists() or client.read_bytes() != _CLIENT.read_bytes():
        new = at / f"{_CLIENT_NAME}.new"
        _clear(new)
        shutil.copyfile(_CLIENT, new, follow_symlinks=False)
        new.chmod(0o755)
        _clear(client)
        new.rename(client)
    return at


def opened(place: Place, ns: str) -> socket.socket:
    """A new socket that listens there, in the place of any other; everybody in the sliver may connect.

    Bound by way of a descriptor of the directory, since a path of a socket may have 107 bytes only, and under another
    name first, so that whoever looks finds the old one, or one that listens.
    """
    with closed_on_failure(
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    ) as listener:
        directory = os.open(furnish(place, ns), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            new = Path(f"/proc/self/fd/{directory}/{SOCKET}.new")
            _clear(new)
            listener.bind(str(new))
            new.chmod(0o666)
            listener.listen(_BACKLOG)
            final = new.with_name(SOCKET)
            if final.is_dir() and not final.is_symlink():
                shutil.rmtree(final)
            new.rename(final)
        finally:
            os.close(directory)
    return listener


def stands(place: Place, ns: str, listener: socket.socket) -> bool:
    """Whether that name still leads to a socket, and to this one as far as can be told."""
    try:
        seen = (home(place, ns) / SOCKET).lstat()
    except OSError:
        return False
    return stat.S_ISSOCK(seen.st_mode) and listener.fileno() >= 0


def lives_there(place: Place, ns: str, peer: socket.socket) -> int:
    """The process that connected, where it lives in the sliver's network; 0 for any other: one of another sliver can't
    come in by a door that it was handed, or found."""
    pid, _, _ = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    try:
        theirs, ours = Path(f"/proc/{pid}/ns/net").stat(), place.pin(ns).stat()
    except OSError:
        return 0
    return pid if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino) else 0


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    with suppress(FileNotFoundError):
        path.unlink()
