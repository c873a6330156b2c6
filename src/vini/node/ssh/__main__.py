"""The SSH server as a program: `python -m vini.node.ssh`.

It needs no agent, and no agent's end is its own.  It ends by itself when nobody has a key for anything here any more;
on SIGTERM it listens no more, lets its successor begin, and ends when the last who is in has gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

import asyncssh

from vini.node.lock import is_named, locked
from vini.node.place import Place, from_environment
from vini.node.running import in_sliver
from vini.node.ssh import place as places
from vini.node.ssh.server import Doorkeeper
from vini.node.version import digest

log = logging.getLogger("vini.ssh")
_LOOK_S = 1.0  # between looks whether anybody needs us
_IDLE_LOOKS = 5  # so many in a row without need are the end


async def serve(place: Place, lock: IO[str]) -> None:
    """Until told to end, or not needed; then until the last has gone."""
    key = asyncssh.import_private_key(places.host_key(place))
    keeper = Doorkeeper(place, in_sliver(place))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    asked = places.wanted(place)
    acceptor = await _listen(keeper, place, asked, key)
    public = " ".join(key.export_public_key("openssh").decode().split()[:2])
    places.tell(place, places.Running(os.getpid(), digest(), asked, acceptor.get_port(), public))
    log.info("SSH server %s listens on %s port %s", os.getpid(), asked.host or "all addresses", acceptor.get_port())
    guarding = asyncio.create_task(keeper.guard())
    await _until_over(keeper, place, lock, stop)
    acceptor.close()
    await acceptor.wait_closed()
    _release(place, lock)
    while keeper.busy:
        await asyncio.sleep(_LOOK_S)
    guarding.cancel()


async def _listen(
    keeper: Doorkeeper, place: Place, asked: places.Address, key: asyncssh.SSHKey
) -> asyncssh.SSHAcceptor:  # fmt: skip
    if asked.port == 0 and (kept := places.kept_port(place)):
        with suppress(OSError):  # another has it now
            return await keeper.listen(asked.host, kept, key)
    return await keeper.listen(asked.host, asked.port, key)


async def _until_over(keeper: Doorkeeper, place: Place, lock: IO[str], stop: asyncio.Event) -> None:
    idle = 0
    while idle < _IDLE_LOOKS and not stop.is_set() and is_named(lock, places.lock(place)):
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await stop.wait()
        idle = 0 if keeper.busy or keeper.needed() else idle + 1


def _release(place: Place, lock: IO[str]) -> None:
    if is_named(lock, places.lock(place)):
        (place.run / "ssh.json").unlink(missing_ok=True)
        places.lock(place).unlink(missing_ok=True)
        with suppress(OSError):
            place.run.rmdir()
    lock.close()


def main() -> None:
    """Run as the only server of this place; a second one ends at once, quietly."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    place = from_environment()
    os.umask(0o022)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    lock = locked(places.lock(place))
    if lock is None:
        return
    Path("/proc/self/comm").write_text("vini-ssh")
    try:
        asyncio.run(serve(place, lock))
    except OSError as e:
        log.error("The SSH server can't listen on port %s: %s.", places.wanted(place).port, e.strerror)
        sys.exit(1)


if __name__ == "__main__":
    main()
