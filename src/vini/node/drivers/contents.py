"""What is inside a sliver besides its network: files, and the private root in which they are seen."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from vini.model import AnyObject, File, Root, Waiting
from vini.node import beneath, cgroup, netns, shelf, trees
from vini.node.container import crun, disks, limits, remains, volumes
from vini.node.drivers import Failures, halt
from vini.node.images.provision import NotYet, Provision, remember
from vini.node.place import Place

_MANIFEST = (
    ".files"  # names what in the run directory is a File of ours, and not a daemon's log or socket; and its size
)
_UNKNOWN = 16 << 20  # bytes that are read of a file of which a version before this one wrote the name only
_NO_TEXT = "\0"  # stands for one that is larger than ours: no file that is asked for has it


def furnished(place: Place) -> set[str]:
    """`slice.sliver` of all that has a directory, a pinned root, pinned programs or a cgroup of ours."""
    found = set()
    for parent in (place.run / "slivers", crun.home(place), cgroup.of(place)):  # the kernel puts files into the latter
        with suppress(FileNotFoundError), os.scandir(parent) as entries:
            found |= {e.name for e in entries if "." in e.name and e.is_dir()}
    with suppress(FileNotFoundError):
        found |= {p.name.removesuffix(".root").removesuffix(".image") for p in (place.run / "mounts").iterdir()}
    return found | shelf.slivers(place) | disks.slivers(place) | volumes.slivers(place)


def forget_sliver(place: Place, ns: str) -> None:
    """End all that lives in a sliver and delete its directory; for when its namespace goes."""
    group = cgroup.of(place, ns)
    if group.exists():
        cgroup.kill(group)
        if not cgroup.delete(group):
            raise OSError(f"some processes of {ns} would not die: {cgroup.pids(group)}")
    if (crun.home(place) / ns).exists():
        remains.forget(place, ns)
    limits.remove(place, ns)  # also where the container went before what lived in it
    if _pin(place, ns).parent.exists():
        _unmount(place, ns)
    if shelf.Shelf(place, ns).exists():
        shelf.Shelf(place, ns).remove()
    if place.sockets(ns).is_symlink():
        place.sockets(ns).unlink()
    halt.forget(place, ns)
    volumes.release(place, ns)
    if ns in disks.slivers(place):
        disks.forget(place, ns)
    if place.sliver(ns).exists():
        trees.remove(place.sliver(ns))


def _pin(place: Place, ns: str) -> Path:
    return place.run / "mounts" / ns


def _record(place: Place, ns: str) -> Path:
    """What was asked of the root that is pinned beside it."""
    return place.run / "mounts" / f"{ns}.root"


def _unmount(place: Place, ns: str) -> None:
    pin = _pin(place, ns)
    netns.delete(pin)
    _record(place, ns).unlink(missing_ok=True)
    with suppress(OSError):  # the last one takes the directory along
        if not any(pin.parent.iterdir()):
            netns.unmount(pin.parent)
            pin.parent.rmdir()


class FileDriver:
    """Files in a sliver's run directory."""

    kinds = (File,)

    def __init__(self, place: Place):
        self._place = place

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """The files that the manifests of those slivers name and that are there."""
        out: set[AnyObject] = set()
        for ns in namespaces:
            for path, size in self._manifest(ns).items():
                seen = self._read(ns, path, size)
                if seen:
                    out.add(seen)
        return frozenset(out)

    def _read(self, ns: str, path: str, most: int) -> File | None:
        """None for whatever is not a plain file: what a sliver's root deletes leaves a device, or a link to ours.

        Of more bytes than `most`, which its root may have made of it, no text: they would fill the agent's memory.
        """
        try:
            with beneath.directory(self._place.sliver(ns), path) as (parent, name):
                if not stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                    return None
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                with os.fdopen(os.open(name, flags, dir_fd=parent), "rb") as f:
                    status = os.fstat(f.fileno())
                    if not stat.S_ISREG(status.st_mode):  # since a moment
                        return None
                    read = f.read(most + 1)
                    text = read.decode(errors="surrogateescape") if len(read) <= most else _NO_TEXT
        except OSError:
            return None
        return File(ns, path, text, status.st_mode & 0o7777, _owner(status.st_uid))

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        """Write them; each is complete under its name or not there, unless a sliver has it open as its own."""
        return self._each(objects, self._write)

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """Delete them."""
        return self._each(objects, self._delete)

    def _each(self, objects: Sequence[AnyObject], act: Callable[[File], None]) -> Failures:
        failures: Failures = {}
        for o in objects:
            assert isinstance(o, File)
            try:
                act(o)
            except OSError as e:
                why = (e.strerror or str(e)).rstrip(".")
                failures[o.key] = f"The file {o.path} of sliver {o.ns} can't be written: {why}."
            except KeyError:
                failures[o.key] = f"The file {o.path} of sliver {o.ns} is for the user {o.owner!r}, who is not here."
        return failures

    def _write(self, o: File) -> None:
        manifest, content = self._manifest(o.ns), o.text.encode(errors="surrogateescape")
        if manifest.get(o.path) != len(content):  # first the mark, then the thing: a crash leaves nothing nobody owns
            self._save_manifest(o.ns, {**manifest, o.path: len(content)})
        user = pwd.getpwnam(o.owner)
        with beneath.directory(self._place.sliver(o.ns), o.path, make=True) as (parent, name):
            there = beneath.make_way(parent, name)
            if o.owner != "root":
                os.fchown(parent, user.pw_uid, -1)
            in_place = o.path.startswith("root/") and there  # running processes see this inode through the overlay
            new = name if in_place else f"{name}.new"
            if not in_place:
                beneath.make_way(parent, new)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(new, flags, 0o600, dir_fd=parent), "wb") as f:
                f.write(content)
                os.fchown(f.fileno(), user.pw_uid, user.pw_gid)
                os.fchmod(f.fileno(), o.mode)
            if not in_place:
                os.rename(new, name, src_dir_fd=parent, dst_dir_fd=parent)

    def _delete(self, o: File) -> None:
        with suppress(FileNotFoundError), beneath.directory(self._place.sliver(o.ns), o.path) as (parent, name):
            os.unlink(name, dir_fd=parent)
        manifest = self._manifest(o.ns)
        if o.path in manifest:
            self._save_manifest(o.ns, {path: size for path, size in manifest.items() if path != o.path})

    def _manifest(self, ns: str) -> dict[str, int]:
        """Path -> bytes that we wrote."""
        try:
            known = msgspec.json.decode(
                (self._place.sliver(ns) / _MANIFEST).read_bytes(), type=dict[str, int] | list[str]
            )
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return {}
        return known if isinstance(known, dict) else dict.fromkeys(known, _UNKNOWN)

    def _save_manifest(self, ns: str, files: Mapping[str, int]) -> None:
        at = self._place.sliver(ns) / _MANIFEST
        at.parent.mkdir(parents=True, exist_ok=True)
        new = at.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(files, order="sorted"))
        new.rename(at)


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


class RootDriver:
    """Pinned mount namespaces (mount_namespaces(7)) with overlays on some directories of the node's root."""

    kinds = (Root,)

    def __init__(self, place: Place):
        self._place = place
        self._images = Provision(place)

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """Those whose pin is mounted; what was asked of them is recorded beside the pin."""
        out: set[AnyObject] = set()
        for ns in set(netns.pinned(self._place.run / "mounts", "")) & set(namespaces):
            record = _record(self._place, ns)
            with suppress(FileNotFoundError, msgspec.DecodeError):
                out.add(msgspec.json.decode(record.read_bytes(), type=Root))
        return frozenset(out)

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        """Make them; one that isn't right, anew."""
        failures: Failures = {}
        for o in objects:
            assert isinstance(o, Root)
            if o in self.observe({o.ns}):
                continue
            try:
                self._make(o)
            except NotYet as e:
                failures[o.key] = Waiting(f"Sliver {o.ns} waits: {e}.")
            except (OSError, subprocess.SubprocessError) as e:
                failures[o.key] = f"The private root of sliver {o.ns} can't be mounted: {_said(e)}."
        return failures

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """Unpin them; processes that still live in one keep it."""
        for o in objects:
            assert isinstance(o, Root)
            _unmount(self._place, o.ns)
        return {}

    def _make(self, o: Root) -> None:
        pin, run = _pin(self._place, o.ns), self._place.sliver(o.ns)
        image = self._images.find(o.image) if o.image else None
        _unmount(self._place, o.ns)
        if not netns.is_mounted(pin.parent):
            pin.parent.mkdir(parents=True, exist_ok=True)
            netns.make_private(pin.parent)  # a mount namespace can't be pinned on a shared mount
        pin.touch()
        lines = [
            "set -e",
            "mount -t sysfs vini /sys",
            *(_image(Path(image.root), o.image, run) if image else _overlays(o, run)),
        ]
        # Slave, not private: else this namespace would keep every network namespace alive that is pinned now.
        command = ["unshare", f"--mount={pin}", "--propagation", "slave", "sh", "-c", "\n".join(lines)]
        with netns.inside(self._place.pin(o.ns)):  # so that /sys shows the sliver's interfaces
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
        if image:
            remember(self._place, o.ns, image)
        _record(self._place, o.ns).write_bytes(msgspec.json.encode(o))


def _overlays(o: Root, run: Path) -> Iterator[str]:
    for d in o.dirs:
        if not Path(d).is_dir():
            raise OSError(f"this node has no directory {d}; place the file in one that it has, such as /etc or /srv")
        upper, work = _layers(run, d[1:])
        options = shlex.quote(f"lowerdir={d},upperdir={upper},workdir={work}")
        yield f"mount -t overlay vini -o {options} {shlex.quote(d)}"


def _image(image: Path, asked: str, run: Path) -> Iterator[str]:
    """Steps that make the image the root, with the node's /proc, /sys, /dev and the sliver's run directory in it."""
    if not image.is_dir():
        raise OSError(f"there is no directory {asked} on this node; make it, or correct `image:`")
    upper, work = _layers(run, "")
    root = run / "rootfs"
    root.mkdir(exist_ok=True)
    options = shlex.quote(f"lowerdir={image},upperdir={upper},workdir={work}")
    at = shlex.quote(str(root))
    yield f"mount -t overlay vini -o {options} {at}"
    for d in map(shlex.quote, ("/proc", "/sys", "/dev", str(run))):
        yield f"mkdir -p {at}{d}; mount --rbind {d} {at}{d}"
    yield f"cd {at}; mount --move . /"  # not pivot_root(8): the old root would have to go by the image's own umount


def _layers(run: Path, directory: str) -> tuple[Path, Path]:
    upper, work = run / "root" / directory, run / "work" / directory
    upper.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    return upper, work


def _said(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return str(error.stderr).strip() or f"mount ended with status {error.returncode}"
    return str(error)


def has_root(place: Place, ns: str) -> bool:
    """Whether a sliver has a private root, which brings its own names and tools."""
    return _record(place, ns).exists()


def enter(place: Place, ns: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` inside a sliver: its network, and its private root or container."""
    if crun.is_contained(place, ns):
        return crun.enter(place, ns, argv)
    pin = _pin(place, ns)
    mounts = [f"--mount={pin}"] if _record(place, ns).exists() else []
    return ["nsenter", f"--net={place.netns(ns)}", *mounts, "--", *argv]
