"""Whether a node needs an SSH server."""

from __future__ import annotations

from vini.node.place import Place
from vini.node.ssh.authorized import Book


def needed(place: Place, book: Book) -> bool:
    """Whether there is a sliver on this node that anybody has a key for."""
    return any((a.keys or a.guests) and (place.run / "netns" / slice_).is_dir() for slice_, a in book.table().items())
