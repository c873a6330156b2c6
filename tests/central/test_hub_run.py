"""Commands in slivers as streams: one suite over the socket of one machine, over the hub, and over NATS."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from fake_agents import central, eventually, no_engine, node, spec, typed

from vini import bus
from vini.model import NotFound, ViniError
from vini.node import serve

Ask = Callable[[bus.Run, AsyncIterator[bus.Typed]], AsyncIterator[bus.Said]]


@asynccontextmanager
async def over_unix(tmp_path: Path) -> AsyncIterator[Ask]:
    async with node(tmp_path / "n", None) as n:
        await n.agent.accept(spec("s", 1, "a"), lambda *_: None)
        path = tmp_path / "agent.socket"
        server = await asyncio.start_unix_server(lambda r, w: serve._converse(n.answers, r, w), path)
        yield bus.Line(path).run
        server.close()


@asynccontextmanager
async def over_hub(tmp_path: Path, engine: str = "hub") -> AsyncIterator[Ask]:
    async with central(tmp_path, engine=engine) as c, node(tmp_path / "n", c.admit("one")):
        c.desk.put("one", spec("s", 1, "a"))
        await eventually(lambda: c.desk.holds("one", "s", 1))
        yield lambda run, input_: c.hub.run("one", run, input_)


@asynccontextmanager
async def over_nats(tmp_path: Path) -> AsyncIterator[Ask]:
    if why := no_engine():
        pytest.skip(why)
    async with over_hub(tmp_path, "nats") as it:
        yield it


@pytest.fixture(params=[over_unix, over_hub, over_nats], ids=["unix", "hub", "nats"])
async def ask(request, tmp_path):
    async with request.param(tmp_path) as it:
        yield it


def sh(script: str, **how) -> bus.Run:
    return bus.Run("s.a", ("sh", "-c", script), **how)


async def all_of(said: AsyncIterator[bus.Said]) -> tuple[int, bytes, bytes]:
    """Exit code, standard output and standard error."""
    out = {1: b"", 2: b""}
    async for message in said:
        if isinstance(message, bus.Exited):
            return message.code, out[1], out[2]
        out[message.fd] += message.data
    raise AssertionError("it ended without a word")


async def test_output_errors_and_the_exit_code(ask):
    assert await all_of(ask(sh("echo out; echo err >&2; exit 7"), typed())) == (7, b"out\n", b"err\n")


async def test_input_and_its_end(ask):
    given = typed(bus.Input(b"some "), bus.Input(b"words"), bus.Input())
    assert await all_of(ask(sh("cat; echo .; exit 0"), given)) == (0, b"some words.\n", b"")


async def test_what_the_command_is_given(ask):
    code, out, _ = await all_of(ask(sh('echo "$X"', environment={"X": "ü \n y"}), typed()))
    assert (code, out.decode()) == (0, "ü \n y\n")


async def test_a_signal_reaches_the_whole_group_and_the_code_tells_of_it(ask):
    ready = asyncio.Event()

    async def interrupt():
        await ready.wait()
        yield bus.Signal(signal.SIGTERM)
        await asyncio.Event().wait()

    last = None
    async for last in ask(sh("echo ready; sleep 1000 | sleep 1000"), interrupt()):  # noqa: B007
        ready.set()
    assert last == bus.Exited(128 + signal.SIGTERM)


async def test_huge_output_arrives_whole(ask):
    size = 20_000_000
    code, out, _ = await all_of(ask(sh(f"head -c {size} /dev/zero"), typed()))
    assert (code, len(out)) == (0, size)


async def test_huge_input_arrives_whole(ask):
    size = 5_000_000
    code, out, _ = await all_of(ask(sh("wc -c"), typed(bus.Input(b"x" * size), bus.Input())))
    assert (code, int(out)) == (0, size)


async def test_who_reads_slowly_slows_the_command_down(ask, tmp_path):
    """It does not run ahead by more than pipes and windows hold."""
    progress = tmp_path / "progress"
    progress.touch()
    script = f"while head -c 100000 /dev/zero; do echo >> {progress}; done"  # it ends by itself with its reader
    said = ask(sh(script), typed())
    for _ in range(3):
        await anext(said)
    stalled = await _settled(lambda: progress.stat().st_size)
    assert stalled < 20, "of 100 kB each"
    await said.aclose()


async def _settled(value: Callable[[], int]) -> int:
    """When it has not changed for half a second."""
    last, since = value(), time.monotonic()
    while time.monotonic() - since < 0.5:
        await asyncio.sleep(0.02)
        if (now := value()) != last:
            last, since = now, time.monotonic()
    return last


def lives(pid: int) -> bool:
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False


@pytest.mark.parametrize("how", ["closed", "cancelled", "stubborn"])
async def test_when_the_asker_goes_the_command_and_all_that_it_started_ends(ask, how):
    trap = "trap '' TERM HUP;" if how == "stubborn" else ""
    said = ask(sh(f"{trap} sleep 1000 & echo $! $$; wait; sleep 1000"), typed())
    first = await anext(said)
    pids = [int(p) for p in first.data.split()]
    assert all(map(lives, pids))
    if how == "cancelled":
        waiting = asyncio.create_task(anext(said))
        await asyncio.sleep(0)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
    await said.aclose()
    await eventually(lambda: not any(map(lives, pids)))


async def test_what_it_leaves_in_the_background_is_not_waited_for(ask):
    code, out, _ = await all_of(ask(sh("sleep 1000 & echo $!"), typed()))
    assert code == 0
    os.kill(int(out), signal.SIGKILL)


async def test_a_command_that_is_not_there(ask):
    with pytest.raises(ViniError, match="'no-such-thing' can't be started on the node: No such file"):
        await all_of(ask(bus.Run("s.a", ("no-such-thing",)), typed()))


async def test_a_terminal(ask):
    size = asyncio.Event()

    async def hands():
        await size.wait()
        yield bus.Resize(50, 132)
        yield bus.Input(b"stty size; exit 3\r")
        await asyncio.Event().wait()

    out = b""
    async for said in ask(
        bus.Run("s.a", ("sh", "-c", "tty; stty size; exec sh"), tty=True, rows=11, columns=99), hands()
    ):
        if isinstance(said, bus.Exited):
            assert said.code == 3
            break
        out += said.data
        if b"11 99" in out:
            size.set()
    assert b"/dev/pts/" in out
    assert b"50 132" in out


async def test_ctrl_c_on_a_terminal_ends_what_is_in_the_foreground(ask):
    begun = asyncio.Event()

    async def hands():
        await begun.wait()
        while True:  # dash loses one that comes in the moment before it becomes the next program
            yield bus.Input(b"\x03")
            await asyncio.sleep(0.05)

    last = None
    async for last in ask(sh("echo begun; sleep 1000", tty=True), hands()):  # noqa: B007
        begun.set()
    assert last == bus.Exited(128 + signal.SIGINT)


async def test_many_commands_at_once(ask):
    runs = [all_of(ask(sh(f"echo {i}"), typed())) for i in range(30)]
    assert [int(out) for _, out, _ in await asyncio.gather(*runs)] == list(range(30))


async def test_a_slice_that_is_not_the_centrals_is_closed_to_it(tmp_path):
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("one")) as n:
        await n.agent.accept(spec("mine", 1, "a"), lambda *_: None, "here")
        await eventually(c.hub.connected)
        with pytest.raises(NotFound, match="holds nothing of slice 'mine'"):
            await all_of(c.hub.run("one", bus.Run("mine.a", ("true",)), typed()))
        with pytest.raises(NotFound, match="holds nothing of slice 'mine'"):
            await all_of(c.hub.run("one", bus.Measure("mine.a", (), 0), typed()))


async def test_a_node_that_goes_takes_its_commands_along(tmp_path):
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("one")) as n:
        c.desk.put("one", spec("s", 1, "a"))
        await eventually(lambda: c.desk.holds("one", "s", 1))
        said = c.hub.run("one", sh("echo $$; sleep 1000"), typed())
        pid = int((await anext(said)).data)
        c.desk.nodes["one"] = bus_identity_disabled(c)
        c.hub.drop("one")
        with pytest.raises(bus.NodeAway):
            await anext(said)
        await eventually(lambda: not lives(pid))
        assert n.answers.uplink


def bus_identity_disabled(c):
    from msgspec.structs import replace

    return replace(c.desk.nodes["one"], allowed=False)
