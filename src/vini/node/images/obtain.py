"""From what a person writes, `image: ...`, to a root file system on this node.

/srv/image             a directory: the root file system itself, as it is
/srv/image.tar.zst     an archive: a root file system, an OCI layout, or what `docker save` makes
/srv/layout            a directory that is an OCI image layout
docker://host/name:tag an image of a registry
router, sha256-...     one that is in the node's store
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from vini.model import ViniError
from vini.node.images import oci
from vini.node.images.compressed import content, sha256
from vini.node.images.store import Image, Store
from vini.node.images.tree import Limits, Member, Refused, Tree

REGISTRY = "docker://"
Say = Callable[[str], None]
_LOOKED_AT = 10_000  # names at the beginning of an archive
_OF_A_ROOT = ("bin", "etc", "lib", "sbin", "usr", "var")
_MOST = Limits().bytes + (1 << 30)  # of an archive, uncompressed: a tree of that size, and its headers


def is_source(word: str) -> bool:
    """Whether it has to be unpacked: an archive, an OCI layout, or what a registry has."""
    return word.startswith(REGISTRY) or (
        word.startswith("/") and (not Path(word).is_dir() or oci.is_layout(Path(word)))
    )


def stamp(word: str) -> str:
    """What changes when the source does; "" for what is elsewhere.  OSError where it is not there."""
    if word.startswith(REGISTRY):
        return ""
    path = Path(word) / "index.json" if Path(word).is_dir() else Path(word)
    status = path.stat()
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def imported(store: Store, word: str, say: Say = lambda _: None) -> Image:
    """The image that a source is; unpacked where it isn't in the store yet.  Raises ViniError, OSError."""
    try:
        with store.lock():
            return _from_registry(store, word, say) if word.startswith(REGISTRY) else _from_disk(store, word, say)
    except Refused as e:
        raise Refused(f"The image {word} is refused. {e}") from e


def _from_registry(store: Store, word: str, say: Say) -> Image:
    with store.room() as room:
        say("it is being fetched")
        _fetch(word, room / "layout")
        say("it is being unpacked")
        image = _of_layout(store, room / "layout", word)
    store.know(word, "", image)
    return image


def _from_disk(store: Store, word: str, say: Say) -> Image:
    try:
        now = stamp(word)
    except OSError as e:
        raise ViniError(f"There is no image {word} on this node ({e.strerror}); make it, or correct the path.") from e
    if there := store.known(word, now):
        return there
    say("it is being unpacked")

    def unchanged() -> None:
        if stamp(word) != now:
            raise Refused("It changed while it was read; try again.")

    path = Path(word)
    image = _of_layout(store, path, word) if path.is_dir() else of_archive(store, path, word, unchanged)
    store.know(word, now, image)
    return image


def _of_layout(store: Store, directory: Path, source: str) -> Image:
    if not oci.is_layout(directory):
        raise Refused("It is a directory without an OCI image layout; a root file system is used as it is.")
    layout = oci.Layout(directory)
    return store.add(layout.digest.replace(":", "-"), source, lambda tree: _layers(tree, layout.layers()))


def of_archive(
    store: Store, file: Path, source: str, check: Callable[[], None] = lambda: None, *, base: str = ""
) -> Image:
    """The image in an archive.  To be called with the store's lock; `check` raises where the file has changed since.

    Raises Refused, OSError.
    """

    def plain(tree: Tree) -> None:
        with content(file, _MOST) as stream:
            tree.add(stream)

    def of_layers(tree: Tree) -> None:
        with store.room() as inside:
            with Tree(inside) as archive:
                plain(archive)
            _layers(tree, oci.Layout(inside).layers() if oci.is_layout(inside) else oci.saved_layers(inside))

    def fill(tree: Tree) -> None:
        (of_layers if _holds_image(file) else plain)(tree)
        check()

    return store.add(f"sha256-{sha256(file)}", source, fill, base=base)


def _holds_image(file: Path) -> bool:
    """Whether an archive is an OCI layout, or what `docker save` writes: told by the names at its top."""
    with (
        content(file, _MOST) as stream,
        suppress(tarfile.TarError),
        tarfile.open(fileobj=stream, mode="r|", tarinfo=Member) as tar,
    ):
        for n, member in enumerate(tar):
            name = member.name.removeprefix("./")
            if name in ("oci-layout", "manifest.json", "index.json"):
                return True
            if n > _LOOKED_AT or name.split("/")[0] in _OF_A_ROOT:
                return False
    return False


def _layers(tree: Tree, files: Iterable[Path]) -> None:
    for file in files:
        with content(file, _MOST) as stream:
            tree.add(stream, layer=True)


def _fetch(word: str, to: Path) -> None:
    if shutil.which("skopeo") is None:
        raise ViniError("Images of registries need the program skopeo; install it with `apt-get install skopeo`.")
    # Registries on this machine itself speak HTTP, as docker takes it.
    host = word.removeprefix(REGISTRY).split("/")[0].rpartition(":")[0]
    plain = ["--src-tls-verify=false"] if host in ("localhost", "127.0.0.1", "[::1]") else []
    command = ["skopeo", "copy", "--quiet", *plain, word, f"oci:{to}:image"]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        said = child.communicate()[1].decode(errors="replace").strip().splitlines()
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            child.wait()
    if child.returncode:
        raise ViniError(f"The image {word} can't be fetched: {said[-1] if said else child.returncode}")
