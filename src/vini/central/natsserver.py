"""The nats-server of a central that brings its own engine: its configuration, and the process."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from pathlib import Path

from vini.bus import subjects
from vini.central.ca import Served
from vini.central.rights import Rights
from vini.model import Unsupported, ViniError

log = logging.getLogger("vini.engine")
PROGRAM = "nats-server"
_SOUND = (2, 11)  # older ones have vulnerabilities that are known
_FIRST_S, _LONGEST_S = 0.2, 5.0  # before one that ended is started again
_CONFIGURATION = """\
# Written by VINI at each start; a nats-server that you run yourself is started with a copy of it.
listen: "{listen}:{port}"
max_payload: {largest}
ping_interval: "10s"
ping_max: 2
write_deadline: "10s"
tls {{
  cert_file: "{certificate}"
  key_file: "{key}"
  timeout: 10
}}
operator: {operator}
system_account: {system}
resolver {{ type: full, dir: "{directory}/accounts", allow_delete: false }}
resolver_preload {{ {system}: {system_jwt} }}
"""


def configure(directory: Path, rights: Rights, served: Served, listen: str, port: int) -> Path:
    """Write its configuration below a central's directory; where it is.  Raises ViniError."""
    own = directory / "engine"
    path = own / "nats-server.conf"
    text = _CONFIGURATION.format(
        listen=f"[{listen}]" if ":" in listen else listen, port=port, largest=subjects.LARGEST,
        certificate=served.certificate, key=served.key, directory=own, operator=rights.operator_jwt(),
        system=rights.system, system_jwt=rights.system_jwt(),
    )  # fmt: skip
    try:
        own.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(text)
    except OSError as e:
        raise ViniError(f"{path} can't be written: {e.strerror}; check the disk and whose directory it is.") from e
    return path


async def check() -> None:
    """Raises Unsupported where there is none; one with known vulnerabilities is warned of."""
    if shutil.which(PROGRAM) is None:
        raise Unsupported(
            "There is no nats-server on this machine: install one (2.11 or newer, https://nats.io/download), or name "
            "one that runs elsewhere as `engine_url` in the central's settings.json, or set `engine` there to hub."
        )
    process = await asyncio.create_subprocess_exec(PROGRAM, "--version", stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
    said = (await process.communicate())[0].decode(errors="replace")
    found = re.search(r"v(\d+)\.(\d+)", said)
    if found and (int(found[1]), int(found[2])) < _SOUND:
        log.warning("%s has vulnerabilities that are known; where others can reach it, install 2.11 or newer "
                    "from https://nats.io/download.", said.strip())  # fmt: skip


class Server:
    """A nats-server that is started again whenever it ends, and ends with us."""

    def __init__(self, configuration: Path):
        self._configuration = configuration
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def run(self) -> None:
        """Until cancelled."""
        waits = _FIRST_S
        while True:
            started = asyncio.get_running_loop().time()
            await self._once()
            waits = _FIRST_S if asyncio.get_running_loop().time() - started > 10 else min(2 * waits, _LONGEST_S)
            await asyncio.sleep(waits)

    async def _once(self) -> None:
        log_path = self._configuration.with_suffix(".log")
        with log_path.open("ab") as out:
            # setpriv: when we are killed, it is told to end by the kernel
            process = self._process = await asyncio.create_subprocess_exec(
                "setpriv", "--pdeathsig", "TERM", PROGRAM, "-c", str(self._configuration),
                stdin=DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        try:
            code = await process.wait()
            log.warning("nats-server ended with code %d and is started again; its log is %s", code, log_path)
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()

    def reload(self) -> None:
        """Have it read its certificate anew."""
        if self._process and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGHUP)
