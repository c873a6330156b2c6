"""One session of a connection: a shell, a command or the sftp subsystem, run in the sliver as `vini exec` runs it."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Awaitable, Callable

import asyncssh
from asyncssh import EXTENDED_DATA_STDERR, SSHServerChannel, SSHServerConnection

from vini import bus
from vini.bus.streams import CHUNK, WINDOW, cost
from vini.model import ViniError

Run = Callable[[bus.Run, "Session"], Awaitable[None]]  # runs it, with the session as its `bus.streams.Channel`
_HOME = 'cd "$HOME" 2>/dev/null; '
_SHELL = _HOME + 's=$(command -v bash || command -v sh); exec "$s" -l'
_COMMAND = _HOME + 's=$(command -v bash || command -v sh); exec "$s" -c "$1"'
_SFTP = _HOME + (
    "for s in /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server /usr/lib/ssh/sftp-server "
    "/usr/libexec/sftp-server; do [ ! -x $s ] || exec $s; done; "
    'echo "This sliver has no sftp-server; install openssh-sftp-server in it, or use vini cp." >&2; exit 127'
)
_PASSED_ON = re.compile(r"LANG|LANGUAGE|LC_[A-Z]{1,30}|COLORTERM|TZ")  # all of it, so that no name is smuggled in
_WORD = re.compile(r"[\x20-\x7e]{0,200}")  # that its value, or the name of a terminal, may be
_MOST_SETTINGS = 64  # of an environment that a client sends; a server keeps them in memory
_REFUSED = 255  # exit code of what could not be started, as ssh(1) has it for its own errors


class _Settings(dict[bytes, bytes]):
    """An environment, of which only the first ones are kept."""

    def __setitem__(self, name: bytes, value: bytes) -> None:
        if len(self) < _MOST_SETTINGS and len(name) + len(value) <= 1000:
            super().__setitem__(name, value)


def channel(connection: SSHServerConnection) -> SSHServerChannel[bytes]:
    """One of that connection, for a `Session`: bytes, and a bounded environment."""
    made: SSHServerChannel[bytes] = connection.create_server_channel(encoding=None)
    made._env = _Settings()
    return made


class Session(asyncssh.SSHServerSession[bytes]):
    """What asyncssh tells us of the client on one side, a `bus.streams.Channel` to it on the other."""

    def __init__(self, ns: str, run: Run):
        self._ns, self._run = ns, run
        self._chan: SSHServerChannel[bytes] | None = None
        self._argv: tuple[str, ...] = ()
        self._inbox: asyncio.Queue[bus.Message | None] = asyncio.Queue()
        self._held = 0  # bytes of input that the command has not taken yet
        self._room = asyncio.Event()  # the client takes more
        self._room.set()
        self._gone = False
        self._task: asyncio.Task[None] | None = None

    @property
    def lives(self) -> bool:
        """Whether the client has not gone."""
        return not self._gone

    # --- what the client asks for ---------------------------------------------------------------

    def connection_made(self, chan: SSHServerChannel[bytes]) -> None:
        """A channel is open."""
        self._chan = chan

    def pty_requested(self, *_: object) -> bool:
        """A terminal may be had."""
        return True

    def shell_requested(self) -> bool:
        """A login shell."""
        self._argv = ("sh", "-c", _SHELL)
        return True

    def exec_requested(self, command: str) -> bool:
        """A command, which a shell understands."""
        if "\0" in command:  # no program can be given that
            return False
        self._argv = ("sh", "-c", _COMMAND, "sh", command)
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        """The sliver's own sftp-server, and nothing else."""
        self._argv = ("sh", "-c", _SFTP)
        return subsystem == "sftp"

    def session_started(self) -> None:
        """All is asked; begin."""
        assert self._chan is not None
        columns, rows, *_ = self._chan.get_terminal_size()
        terminal = self._chan.get_terminal_type() is not None
        command = bus.Run(self._ns, self._argv, terminal, rows or 24, columns or 80, self._environment())
        self._task = asyncio.create_task(self._serve(command))

    def _environment(self) -> dict[str, str]:
        assert self._chan is not None
        sent = self._chan.get_environment()
        out = {k: v for k, v in sent.items() if _PASSED_ON.fullmatch(k) and _WORD.fullmatch(v)}
        terminal = self._chan.get_terminal_type()
        if terminal and _WORD.fullmatch(terminal) and "/" not in terminal:  # terminfo(5) has files of that name
            out["TERM"] = terminal
        peer, own = self._chan.get_extra_info("peername"), self._chan.get_extra_info("sockname")
        if peer and own:
            out["SSH_CONNECTION"] = f"{peer[0]} {peer[1]} {own[0]} {own[1]}"
        return out

    async def _serve(self, command: bus.Run) -> None:
        assert self._chan is not None
        try:
            await self._run(command, self)
        except ConnectionError:
            pass
        except ViniError as e:
            self.say(str(e))
            if not self._gone:
                self._chan.exit(_REFUSED)
        finally:
            self._chan.close()

    def say(self, sentence: str) -> None:
        """To the person, beside what the command says."""
        if self._chan and not self._gone:
            self._chan.write_stderr(f"{sentence}\r\n".encode())

    # --- what comes from the client -------------------------------------------------------------

    def data_received(self, data: bytes, datatype: int | None) -> None:  # noqa: ARG002
        """Input; no more than a window of it waits here."""
        for at in range(0, len(data), CHUNK):
            part = bus.Input(data[at : at + CHUNK])
            self._held += cost(part)
            self._inbox.put_nowait(part)
        if self._held >= WINDOW and self._chan:
            self._chan.pause_reading()

    def eof_received(self) -> bool:
        """The end of the input; output may still come."""
        self._inbox.put_nowait(bus.Input())
        return True

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:  # noqa: ARG002
        """The window has another size."""
        self._inbox.put_nowait(bus.Resize(height, width))

    def signal_received(self, name: str) -> None:
        """By its name without SIG."""
        if number := getattr(signal, f"SIG{name}", None):
            self._inbox.put_nowait(bus.Signal(int(number)))

    def break_received(self, msec: int) -> bool:  # noqa: ARG002
        """As Ctrl-C."""
        self._inbox.put_nowait(bus.Signal(int(signal.SIGINT)))
        return True

    def pause_writing(self) -> None:
        """The client does not keep up."""
        self._room.clear()

    def resume_writing(self) -> None:
        """It does again."""
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """It has gone, with the channel or all of the connection; what it runs ends."""
        self._gone = True
        self._room.set()
        self._inbox.put_nowait(None)

    # --- bus.streams.Channel ----------------------------------------------------------------------

    async def send(self, message: bus.Message) -> None:
        """Returns when the client has room for more, so that nothing piles up here."""
        assert self._chan is not None
        match message:
            case bus.Output(fd, data):
                await self._room.wait()
                if self._gone:
                    raise ConnectionError("The client has gone.")
                self._chan.write(data, EXTENDED_DATA_STDERR if fd == 2 else None)
                self._inbox.put_nowait(bus.Credit(cost(message)))
            case bus.Credit(amount):
                self._held -= amount
                if self._held < WINDOW:
                    self._chan.resume_reading()
            case bus.Exited(code) if not self._gone:
                self._chan.exit(code)
            case _:
                pass

    async def receive(self) -> bus.Message | None:
        """What the client typed, or else told; None when it has gone."""
        return await self._inbox.get()

    def close(self) -> None:
        """The client is told by `Exited`."""
