"""Containers of slivers as objects: started with what the node has, found again by their cgroup and their record.

An agent that is killed or upgraded leaves them running: they are nobody's children.
"""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import msgspec

from vini.model import AnyObject, Container, Waiting
from vini.node import cgroup, sliver_log
from vini.node.broker import door
from vini.node.container import config, crun, limits, mounts, node_root, remains, users, volumes
from vini.node.container.uncounted import Uncounted
from vini.node.drivers import Failures, layer
from vini.node.drivers.halt import halted
from vini.node.images.provision import NotYet, Provided, Provision, remember
from vini.node.images.store import NODE
from vini.node.place import Place
from vini.node.version import digest

_AT_ONCE = min(8, 2 * (os.cpu_count() or 1))  # that are being started: half of its time each waits for the kernel
_START_S = 60.0  # what a busy machine may need
_TUN = os.makedev(10, 200)  # /dev/net/tun (Documentation/admin-guide/devices.txt)


class ContainerDriver:
    """OCI containers, by crun or runc."""

    kinds = (Container,)

    def __init__(self, place: Place, wires: Callable[[str], Mapping[str, int]] = lambda _: {}):
        """`wires` as of Uncounted."""
        self._place = place
        self._making = Lock()
        self._images = Provision(place)
        self._uncounted = Uncounted(place, wires=wires)

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """Those whose first process lives in the network that the sliver has now, as recorded at their start."""
        out: set[AnyObject] = set()
        containers = set(_listed(crun.home(self._place)))
        self._uncounted.begin(len(containers))
        promises = limits.Promises(self._place)
        for ns in containers & set(namespaces):
            with suppress(FileNotFoundError, msgspec.DecodeError):
                o = msgspec.json.decode((self._home(ns) / crun.RECORD).read_bytes(), type=Container)
                if self._first(ns):
                    if self._uncounted.is_due(ns):
                        self._uncounted.bound(o)  # not for a group's limit to do
                    out.add(limits.observed(self._place, o, promises))
        return frozenset(out)

    def _first(self, ns: str) -> int:
        """A process that lives in it, 0 where none does.

        Its network is told by a process in it, not by the first: crun runs in the node's until then.
        """
        network = self._place.pin(ns)
        with suppress(FileNotFoundError):
            wanted = network.stat().st_ino
            for pid in cgroup.pids(cgroup.of(self._place, ns, crun.GROUP)):
                with suppress(FileNotFoundError):
                    if Path(f"/proc/{pid}/ns/net").stat().st_ino == wanted:
                        return pid
        return 0

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        """Start them, or change the limits of those that run."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            failures = {o.key: why for o, why in zip(objects, pool.map(self._tried, objects), strict=True) if why}
        self._settle(failures, objects)
        return failures

    def _settle(self, failures: Failures, objects: Sequence[AnyObject]) -> None:
        try:
            limits.settle(self._place)
        except OSError as e:
            why = f"The limits of all slivers together can't be set: {str(e).rstrip('.')}."
            failures.update((o.key, why) for o in objects if o.key not in failures)

    def _tried(self, o: AnyObject) -> str:
        """Why it can't be; "" where it is."""
        assert isinstance(o, Container)
        try:
            self._ensure_one(o)
        except NotYet as e:
            return Waiting(f"Sliver {o.ns} waits: {e}.")
        except (OSError, subprocess.SubprocessError) as e:
            sliver_log.append(self._place, o.ns, sliver_log.BOOT, f"the container can't be started: {e}")
            return f"The container of sliver {o.ns} can't be started: {str(e).rstrip('.')}."
        return ""

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """End all that lives in them; what they wrote goes with the sliver."""
        failures: Failures = {}
        for o in objects:
            assert isinstance(o, Container)
            try:
                self._end(o.ns)
                remains.forget(self._place, o.ns)
                self._uncounted.clear(o)  # its network may stay
            except OSError as e:
                failures[o.key] = str(e)
        self._settle(failures, objects)
        return failures

    def _ensure_one(self, o: Container) -> None:
        if any(isinstance(seen, Container) and seen.image == o.image for seen in self.observe({o.ns})):
            limits.ensure(self._place, o)
            self._record(o)
            return
        image = self._image(o)
        if halted(self._place, o.ns) == "frozen":
            raise NotYet("it is frozen")
        if seconds := self._uncounted.waits(o.ns):
            raise NotYet(
                f"it took more memory of the node than it may have, time and again (its boot log says what); "
                f"it starts again in {seconds:.0f} s"
            )
        self._end(o.ns)
        layer.ensure(self._place, o.ns, o.resets)
        self._home(o.ns).mkdir(parents=True, exist_ok=True)  # first what tells of it, then what is to be taken away
        limits.ensure(self._place, o)
        remember(self._place, o.ns, image)
        self._record(o)
        mounts.apart(lambda: self._start(o, image))
        sliver_log.append(self._place, o.ns, sliver_log.BOOT, "the container was started")

    def _start(self, o: Container, image: Provided) -> None:
        """In a mount namespace of its own."""
        network, home = self._place.pin(o.ns), self._home(o.ns)
        with users.owner(network) as fd:
            root, tun = self._mount_root(o.ns, Path(image.root), fd), self._make_tun()
            broker, kept = self._mount_broker(o.ns), self._mount_volumes(o, fd)
            binds = node_root.binds() if image.base == NODE else []
            ids = (f"/proc/{os.getpid()}/fd/{fd}", users.first_id(o.ns), users.RANGE)
            group = "" if crun.program() == crun.CRUN else f"/{self._place.mark}/{o.ns}"
            text = msgspec.json.encode(
                config.config(
                    o.ns,
                    str(root),
                    ids,
                    str(network),
                    binds,
                    tun,
                    broker,
                    volumes=kept,
                    group=group,
                    devices=node_root.devices(),
                )  # fmt: skip
            )
            (home / "config.json").write_bytes(text)
            cgroup.of(self._place, o.ns, crun.GROUP).mkdir(parents=True, exist_ok=True)
            with (home / "start.log").open("w+b") as log:  # no pipe: its first process would hold it open
                status = _ended(crun.start(self._place, o.ns, home), log)
                if status:
                    log.seek(0)
                    last = log.read().decode(errors="replace").strip().splitlines()[-1:]
                    raise OSError(f"{crun.program()} said: {last[0] if last else status}")
            crun.started(self._place, o.ns)

    def _image(self, o: Container) -> Provided:
        """The root file system below.  OSError where there is none, NotYet where it is being unpacked."""
        if o.image:
            found = self._images.find(o.image)
            if not Path(found.root).is_dir():
                raise OSError(f"there is no directory {o.image} on this node; make it, or correct `image:`")
            return found
        # One for each version of ours, since an overlay in use must not change; without a dot, which is a sliver's.
        image = crun.home(self._place) / f"node-root-{digest().rpartition('+')[2]}"
        with self._making:
            node_root.make(image)
        return Provided(str(image), base=NODE)

    def _mount_root(self, ns: str, image: Path, users_fd: int) -> Path:
        """An overlay: the image below, what the sliver writes and what the slice's files are above."""
        own = self._place.sliver(ns)
        for part in ("root", "work"):
            (own / part).mkdir(parents=True, exist_ok=True)
        layers = {"lower": mounts.mapped(image, users_fd), "upper": mounts.mapped(own, users_fd)}
        mounts.mount("vini", crun.ROOM, "tmpfs", 0, "mode=755,size=64k")
        for name in ("root", *layers):
            (crun.ROOM / name).mkdir()
        for name, fd in layers.items():
            mounts.attach(fd, crun.ROOM / name)
        upper = crun.ROOM / "upper"
        mounts.overlay(crun.ROOM / "lower", upper / "root", upper / "work", crun.ROOM / "root", users.first_id(ns))
        return crun.ROOM / "root"

    def _mount_volumes(self, o: Container, users_fd: int) -> list[tuple[str, str]]:
        """Where they lie, and where they are inside: with its owners, as the root file system."""
        found = []
        for name, inside in o.volumes:
            at = crun.ROOM / "volumes" / name
            at.mkdir(parents=True)
            mounts.attach(mounts.mapped(volumes.made(self._place, o.ns, name, name in o.bounded), users_fd), at)
            found.append((str(at), inside))
        return found

    def _mount_broker(self, ns: str) -> str:
        """The directory of its broker's socket: by way of the room, since its root may be nobody on the way there."""
        at = crun.ROOM / "broker"
        at.mkdir()
        mounts.mount(str(door.furnish(self._place, ns)), at, "", mounts.BIND)
        return str(at)

    @staticmethod
    def _make_tun() -> str:
        """A node that everybody in the container may open: the machine's own is root's.  /run allows no devices."""
        if not Path("/dev/net/tun").exists():
            return ""
        os.mknod(crun.ROOM / "tun", 0o020666, _TUN)
        (crun.ROOM / "tun").chmod(0o666)  # whatever our umask
        return str(crun.ROOM / "tun")

    def _end(self, ns: str) -> None:
        group = cgroup.of(self._place, ns, crun.GROUP)
        cgroup.kill(group)
        if group.exists() and not cgroup.delete(group):
            raise OSError(f"The container of {ns} would not die (a process in uninterruptible sleep?).")
        crun.forget(self._place, ns)

    def _home(self, ns: str) -> Path:
        return crun.home(self._place) / ns

    def _record(self, o: Container) -> None:
        new = self._home(o.ns) / "container.new"
        new.write_bytes(msgspec.json.encode(o))
        new.rename(self._home(o.ns) / crun.RECORD)


def _ended(command: Sequence[str], log: BinaryIO) -> int:
    """Its exit status.  OSError where it doesn't end in time.

    By a descriptor of the process: a `wait` with a limit looks at growing intervals, and doubles the time.
    """
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/") as child:
        fd = os.pidfd_open(child.pid)
        try:
            if not select.select([fd], [], [], _START_S)[0]:
                child.kill()
                raise OSError(f"{crun.program()} did not end within {_START_S:g} s")
        finally:
            os.close(fd)
        return child.wait()


def _listed(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208  # only the names
    except FileNotFoundError:
        return []
