"""Conf files on a node: written as asked where the machine permits that, and whole whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import grp
import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from vini import bus, durable
from vini.bus import NodeFile
from vini.node import cgroup
from vini.node.files import command, permit, record
from vini.node.files.decide import outside
from vini.node.files.keeper import Keeper
from vini.node.files.permit import Permit
from vini.node.files.place import Spot
from vini.node.files.record import Record
from vini.node.files.service import ConfFileService
from vini.node.place import Place
from vini.rules.conf_files import MOST_BYTES, FileThere

needs_root = pytest.mark.root  # to make a cgroup
ME, US = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name


def group() -> Path:
    """The cgroup of this process's commands."""
    return cgroup.mount() / f"vt{os.getpid()}-conf-files"


class Machine:
    """A machine with a directory that is permitted, and an agent that may be killed."""

    def __init__(self, tmp: Path):
        self.state, self.conf = tmp / "state", tmp / "conf"
        self.state.mkdir()
        self.said = Permit((str(self.conf),), commands=True)
        self.ran = tmp / "ran"

    def keeper(self) -> Keeper:
        """Of an agent that has just begun."""
        return Keeper(Record(self.state), [self.state], group)

    def file(self, text: str = "one\n", name: str = "a.conf", **more: Any) -> NodeFile:
        made = NodeFile(str(self.conf / name), text, "", 0o640, ME, US)
        made = replace(made, **more)
        return replace(made, version=f"{hash(made)}")

    def keep(self, *files: NodeFile, said: Permit | None = None) -> list[FileThere]:
        """One pass of an agent that has just begun."""
        keeper = self.keeper()

        async def once() -> list[FileThere]:
            return [await keeper.keep(file, lambda: said or self.said) for file in files]

        return asyncio.run(once())

    def let_go(self, name: str = "a.conf", said: Permit | None = None) -> FileThere | None:
        keeper = self.keeper()
        return asyncio.run(keeper.let_go(str(self.conf / name), lambda: said or self.said))

    def runs(self) -> list[str]:
        return self.ran.read_text().split() if self.ran.exists() else []

    def says(self, word: str) -> str:
        return f"echo {word} >> {self.ran}"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def names(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir())


def states(rows: list[FileThere]) -> list[str]:
    return [row.state for row in rows]


def test_a_file_is_written_with_its_owner_and_mode_and_then_left_alone(machine: Machine) -> None:
    file = machine.file()
    assert machine.keep(file) == [FileThere(file.path, file.version, "written")]
    there = machine.conf / "a.conf"
    before = there.stat()
    assert (there.read_text(), before.st_mode & 0o7777) == ("one\n", 0o640)
    assert states(machine.keep(file)) == ["written"]
    assert there.stat().st_ino == before.st_ino, "nothing was written anew"
    assert states(machine.keep(machine.file(mode=0o600))) == ["written"]
    assert there.stat().st_mode & 0o7777 == 0o600
    machine.keep(machine.file("two\n"))
    assert there.read_text() == "two\n"
    there.unlink()
    machine.keep(machine.file("two\n"))
    assert there.read_text() == "two\n"
    assert names(machine.conf) == ["a.conf"]


def test_what_somebody_on_the_machine_made_of_it_stays_unless_it_is_always_updated(machine: Machine) -> None:
    there = machine.conf / "a.conf"
    machine.conf.mkdir()
    there.write_text("mine\n")
    (row,) = machine.keep(machine.file())
    assert (row.state, there.read_text()) == ("kept", "mine\n")
    assert "Remove it there" in row.why
    assert states(machine.keep(machine.file(always_update=True))) == ["written"]
    there.write_text("mine again\n")
    assert states(machine.keep(machine.file())) == ["kept"]
    assert machine.let_go() == FileThere(str(there), "", "left", machine.let_go().why)  # type: ignore[union-attr]
    assert there.read_text() == "mine again\n"
    there.unlink()
    assert machine.let_go() is None
    assert Record(machine.state).book == {}


def test_what_was_there_already_as_asked_is_nobodys_work_and_stays(machine: Machine) -> None:
    machine.conf.mkdir()
    (machine.conf / "a.conf").write_text("one\n")
    (machine.conf / "a.conf").chmod(0o640)
    assert states(machine.keep(machine.file())) == ["unchanged"]
    assert Record(machine.state).book == {}


def test_a_file_that_is_not_asked_for_any_more_goes_where_we_wrote_it(machine: Machine) -> None:
    machine.keep(machine.file(), machine.file(name="sub/b.conf"))
    row = machine.let_go(said=Permit(()))
    assert row is not None and row.state == "left" and "not permit" in row.why
    assert machine.let_go() is None
    assert not (machine.conf / "a.conf").exists() and (machine.conf / "sub/b.conf").exists()
    assert list(Record(machine.state).book) == [str(machine.conf / "sub/b.conf")]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/etc/passwd", "only below"),
        ("{conf}", "only below"),
        ("{conf}x/a", "only below"),
        ("{conf}/../state/permit.json", "without `.`"),
        ("{conf}//a", "without `.`"),
        ("{conf}/a/", "without `.`"),
        ("{conf}/./a", "without `.`"),
        ("//etc/passwd", "without `.`"),
        ("etc/passwd", "without `.`"),
        ("{conf}/" + "x" * 256, "255 bytes"),
    ],
)
def test_a_path_that_the_machine_does_not_permit_is_refused(machine: Machine, path: str, why: str) -> None:
    file = machine.file()
    (row,) = machine.keep(replace(file, path=path.format(conf=machine.conf)))
    assert row.state == "refused" and why in row.why
    assert not machine.conf.exists()


def test_nothing_is_permitted_where_what_was_said_of_it_can_not_be_read(machine: Machine) -> None:
    assert permit.read(machine.state, "A n1") == Permit(("/etc/vini/conf.d",), commands=False)
    permit.write(machine.state, machine.said)
    assert permit.read(machine.state, "A n1") == machine.said
    (machine.state / "permit.json").write_text("{")
    assert permit.read(machine.state, "A n1") == Permit(())
    assert "nowhere" in outside("/etc/vini/conf.d/a", ())


def test_our_own_directory_is_never_permitted_however_it_is_called(machine: Machine) -> None:
    said = Permit((str(machine.state.parent),))
    file = replace(machine.file(), path=str(machine.state / "permit.json"))
    (row,) = machine.keep(file, said=said)
    assert row.state == "refused" and "VINI's own" in row.why
    (row,) = machine.keep(replace(file, path=str(machine.state / "deep/x")), said=said)
    assert row.state == "refused" and not (machine.state / "deep").exists()


def test_modes_that_make_somebody_else_of_who_runs_it_are_refused(machine: Machine) -> None:
    assert states(machine.keep(machine.file(mode=0o4755), machine.file(mode=0o2755))) == ["refused"] * 2
    assert states(machine.keep(machine.file(mode=0o777))) == ["written"]


def test_no_symbolic_link_leads_us_elsewhere(machine: Machine, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret").write_text("secret")
    machine.conf.mkdir()
    (machine.conf / "a.conf").symlink_to(elsewhere / "secret")
    (machine.conf / "sub").symlink_to(elsewhere)
    (machine.conf / "dir").mkdir()
    os.mkfifo(machine.conf / "fifo")
    rows = machine.keep(
        machine.file(always_update=True), *(machine.file(name=n) for n in ("sub/new", "dir", "fifo", "dir/x/y"))
    )
    assert states(rows) == ["refused"] * 4 + ["written"]
    assert "symbolic link" in rows[0].why and "symbolic link" in rows[1].why
    assert (elsewhere / "secret").read_text() == "secret" and names(elsewhere) == ["secret"]
    machine.conf.rename(tmp_path / "moved")
    machine.conf.symlink_to(elsewhere)
    assert states(machine.keep(machine.file(name="b"))) == ["refused"]
    assert names(elsewhere) == ["secret"]


def test_a_user_that_the_machine_does_not_have_is_named(machine: Machine) -> None:
    (row,) = machine.keep(machine.file(owner="nobody-at-all"))
    assert row.state == "failed" and "no user 'nobody-at-all'" in row.why


def test_a_file_that_is_larger_than_any_of_ours_is_somebody_elses(machine: Machine) -> None:
    machine.conf.mkdir()
    with (machine.conf / "a.conf").open("wb") as file:
        file.truncate(MOST_BYTES + 2)
    assert states(machine.keep(machine.file())) == ["kept"]


# --- commands ---------------------------------------------------------------------------------------


@needs_root
def test_commands_run_around_the_writing_and_only_then(machine: Machine) -> None:
    there = machine.conf / "a.conf"
    file = machine.file(
        preinstall_cmd=f"test ! -e {there} && {machine.says('before')}",
        postinstall_cmd=f"cat $VINI_CONF_FILE >> {machine.ran}",
        error_cmd=machine.says("error"),
    )
    (row,) = machine.keep(file, said=replace(machine.said, commands=False))
    assert row.state == "refused" and "vini node permit --commands" in row.why
    assert not there.exists()
    assert states(machine.keep(file)) == ["written"]
    assert states(machine.keep(file)) == ["written"]
    assert machine.runs() == ["before", "one"]


@needs_root
def test_a_preinstall_command_that_fails_keeps_the_file_from_being_written(machine: Machine) -> None:
    file = machine.file(preinstall_cmd="echo no room >&2; exit 3", error_cmd=machine.says("error"))
    (row,) = machine.keep(file)
    assert row.state == "failed" and "exit code 3: no room" in row.why
    assert not (machine.conf / "a.conf").exists() and machine.runs() == ["error"]
    assert states(machine.keep(replace(file, ignore_cmd_errors=True))) == ["written"]


@needs_root
def test_a_postinstall_command_that_failed_is_run_again_until_it_succeeds(machine: Machine) -> None:
    switch = machine.state.parent / "switch"
    file = machine.file(postinstall_cmd=f"{machine.says('try')}; test -e {switch}")
    assert states(machine.keep(file)) == ["failed"]
    assert (machine.conf / "a.conf").read_text() == "one\n"
    assert states(machine.keep(file)) == ["failed"]
    switch.touch()
    assert states(machine.keep(file)) == ["written"]
    assert states(machine.keep(file)) == ["written"]
    assert machine.runs() == ["try"] * 3


def gone(pid: Path) -> bool:
    """Whether the process with the number in that file is."""
    try:
        return ") Z " in Path(f"/proc/{pid.read_text().strip()}/stat").read_text()
    except OSError:
        return True


def free(lock: Path) -> bool:
    """Whether nobody holds it."""
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@needs_root
def test_a_command_has_an_end_with_all_that_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    why = asyncio.run(
        command.run(f"sleep 1000 & echo $! > {pid}; wait", "/x", tmp_path / "lock", group(), patience_s=0.5)
    )
    assert "had not ended" in why
    asyncio.run(until(lambda: gone(pid)))


@needs_root
def test_what_a_command_leaves_in_the_background_is_ended_with_it(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    assert asyncio.run(command.run(f"sleep 1000 & echo $! > {pid}", "/x", tmp_path / "lock", group())) == ""
    asyncio.run(until(lambda: gone(pid)))


@needs_root
@pytest.mark.parametrize("how", ["", "; exec sleep 1000", "; exit 3"])
def test_what_leaves_its_process_group_is_ended_with_it(tmp_path: Path, how: str) -> None:
    pid, nested = tmp_path / "pid", group() / "nested"
    left = f"setsid sh -c 'mkdir {nested}; echo 0 > {nested}/cgroup.procs; echo $$ > {pid}; exec sleep 1000' &"
    said = f"{left} while ! test -s {pid}; do sleep 0.02; done{how}"
    why = asyncio.run(command.run(said, "/x", tmp_path / "lock", group(), patience_s=5.0 if "sleep 1" in how else 60.0))
    assert gone(pid) and not group().exists()
    assert {"": not why, "; exit 3": why == "exit code 3"}.get(how, "had not ended" in why), why


@needs_root
def test_of_what_a_command_says_only_the_last_words_are_kept_anywhere(tmp_path: Path) -> None:
    many = "head -c 50000000 /dev/zero | tr '\\0' a; echo ' last words'; exit 3"
    why = asyncio.run(command.run(many, "/x", tmp_path / "lock", group()))
    assert why.startswith("exit code 3: aaa") and why.endswith(" last words") and len(why) < 400


@needs_root
def test_a_command_that_outlived_its_agent_is_not_run_beside_itself(tmp_path: Path) -> None:
    """The agent was killed; what it ran, `timeout`, has the lock as its standard input."""
    lock, ready = tmp_path / "lock", tmp_path / "ready"
    left = "setsid sleep 1000 &"
    script = (
        f"import asyncio, os; from pathlib import Path; from vini.node.files import command; "
        f"asyncio.run(command.run('{left} touch {ready}; exec sleep 1000', '/x', Path('{lock}'), Path('{group()}')))"
    )
    agent = subprocess.Popen([sys.executable, "-c", script])
    asyncio.run(until(ready.exists))
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    agent.kill()
    agent.wait()
    try:
        assert "still runs" in asyncio.run(command.run("true", "/x", lock, group()))
        assert not command.tidied(lock, group()) and cgroup.populated(group())
    finally:
        for child in children:
            os.killpg(int(child), 9)
    asyncio.run(until(lambda: free(lock)))
    assert cgroup.populated(group()), "what left its process group is still there"
    assert command.tidied(lock, group()) and not group().exists()
    assert asyncio.run(command.run("true", "/x", lock, group())) == ""


@needs_root
def test_a_command_ends_when_it_is_not_permitted_any_more(machine: Machine) -> None:
    begun = machine.state.parent / "begun"
    keeper, said = machine.keeper(), [machine.said]
    file = machine.file(preinstall_cmd=f"touch {begun}; exec sleep 1000", ignore_cmd_errors=True)

    async def life() -> FileThere:
        keeping = asyncio.create_task(keeper.keep(file, lambda: said[0]))
        await until(begun.exists)
        said[0] = Permit((str(machine.conf),))
        return await keeping

    row = asyncio.run(life())
    assert row.state == "refused" and "vini node permit --commands" in row.why and not machine.conf.exists()


@needs_root
def test_a_command_is_broken_off_for_that_and_not_for_its_time(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    long = f"touch {begun}; exec sleep 1000"
    why = asyncio.run(command.run(long, "/x", tmp_path / "lock", group(), 20.0, lambda: not begun.exists()))
    assert "does not permit it any more" in why


@needs_root
def test_what_is_not_permitted_any_more_after_a_command_is_not_written(machine: Machine) -> None:
    keeper, done = machine.keeper(), machine.state.parent / "done"
    file = machine.file(preinstall_cmd=f"touch {done}", postinstall_cmd=machine.says("post"))
    row = asyncio.run(keeper.keep(file, lambda: Permit(()) if done.exists() else machine.said))
    assert row.state == "refused" and not machine.conf.exists() and machine.runs() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"owner": "a\0b"},
        {"group": "a\nb"},
        {"preinstall_cmd": "a\0b"},
        {"error_cmd": "\0"},
        {"path": "a\0b"},
        {"path": "\n"},
    ],
)
def test_what_no_machine_can_have_is_refused_alone(machine: Machine, wrong: dict[str, str]) -> None:
    if "path" in wrong:
        wrong = {"path": f"{machine.conf}/{wrong['path']}"}
    assert states(machine.keep(replace(machine.file(), **wrong), machine.file(name="b"))) == ["refused", "written"]


@needs_root
def test_a_file_with_the_same_text_that_we_never_wrote_stays_somebody_elses(machine: Machine) -> None:
    there = machine.conf / "a.conf"
    machine.conf.mkdir()
    there.write_text("one\n")
    there.chmod(0o600)
    assert states(machine.keep(machine.file(postinstall_cmd=machine.says("ran")))) == ["kept"]
    assert there.stat().st_mode & 0o7777 == 0o600 and machine.runs() == [] and Record(machine.state).book == {}


@needs_root
def test_a_file_of_ours_whose_mode_somebody_changed_is_his(machine: Machine) -> None:
    file = machine.file(postinstall_cmd=machine.says("ran"))
    machine.keep(file)
    (machine.conf / "a.conf").chmod(0o600)
    assert states(machine.keep(file)) == ["kept"] and machine.runs() == ["ran"]
    row = machine.let_go()
    assert row is not None and row.state == "left" and (machine.conf / "a.conf").exists()


@needs_root
def test_a_file_that_is_changed_while_a_command_runs_is_somebody_elses(machine: Machine) -> None:
    there = machine.conf / "a.conf"
    machine.conf.mkdir()
    (row,) = machine.keep(machine.file(preinstall_cmd=f"echo mine > {there}"))
    assert (row.state, there.read_text()) == ("kept", "mine\n")


# --- what may happen in the middle --------------------------------------------------------------------


class Killed(BaseException):
    """The agent was, by kill -9."""


def dying(monkeypatch: pytest.MonkeyPatch, at: int) -> Iterator[int]:
    """Dies before its step of that number; steps are all that changes anything on disk, and commands."""
    steps = count()

    def counted(of: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **more: Any) -> Any:
            if next(steps) == at:
                raise Killed
            return of(*args, **more)

        return step

    for owner, name in (
        (durable, "write"), (os, "rename"), (os, "unlink"), (os, "fsync"), (os, "fchmod"), (os, "mkdir"),
        (command, "run"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    return steps


@needs_root
@pytest.mark.parametrize("always_update", [False, True])
@pytest.mark.parametrize("at", range(30))
def test_whenever_the_agent_is_killed_the_next_one_goes_on(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, at: int, always_update: bool
) -> None:
    there = machine.conf / "a.conf"
    first = machine.file(postinstall_cmd=machine.says("ran"), always_update=always_update)
    second = machine.file("two\n", postinstall_cmd=machine.says("again"), always_update=always_update)
    seen: set[str | None] = set()

    def killed(act: Callable[[], object]) -> None:
        with monkeypatch.context() as patched:
            dying(patched, at)
            with suppress(Killed):
                act()
        seen.add(there.read_text() if there.exists() else None)

    killed(lambda: machine.keep(first))
    assert seen <= {None, "one\n"}
    assert states(machine.keep(first)) == ["written"] and there.read_text() == "one\n"
    assert set(machine.runs()) == {"ran"}
    killed(lambda: machine.keep(second))
    assert seen <= {None, "one\n", "two\n"}
    assert states(machine.keep(second)) == ["written"] and there.read_text() == "two\n"
    assert set(machine.runs()) == {"ran", "again"}
    killed(machine.let_go)
    assert machine.let_go() is None
    assert names(machine.conf) == [] and Record(machine.state).book == {}


@pytest.mark.parametrize("at", range(30))
def test_what_is_somebody_elses_is_so_after_any_death_too(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    there = machine.conf / "a.conf"
    machine.keep(machine.file())
    there.write_text("mine\n")
    with monkeypatch.context() as patched:
        dying(patched, at)
        with suppress(Killed):
            machine.keep(machine.file("two\n"))
            machine.let_go()
    assert states(machine.keep(machine.file("three\n"))) == ["kept"]
    row = machine.let_go()
    assert row is not None and row.state == "left" and there.read_text() == "mine\n"


def test_on_a_full_disk_all_stays_as_it_was(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    there = machine.conf / "a.conf"
    machine.keep(machine.file())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Spot, "write", full)
        (row,) = machine.keep(machine.file("two\n"))
    assert row.state == "failed" and "No space left" in row.why and there.read_text() == "one\n"
    with monkeypatch.context() as patched:
        patched.setattr(record.durable, "write", full)
        (row,) = machine.keep(machine.file("three\n"))
    assert row.state == "failed" and "No space left" in row.why and there.read_text() == "one\n"
    assert states(machine.keep(machine.file("two\n"))) == ["written"]


# --- the agent's part -----------------------------------------------------------------------------------


class Agent:
    """Runs the service as the agent does; `owner` is the central that asks."""

    def __init__(self, machine: Machine):
        self.machine, self.owner = machine, "A n1"
        permit.write(machine.state, machine.said)
        self.service = self.begun()

    def begun(self) -> ConfFileService:
        place = Place("t", self.machine.state / "run", self.machine.state)
        return ConfFileService(place, lambda: self.owner, look_s=0.02)

    def during(self, act: Callable[[], Any]) -> Any:
        async def both() -> Any:
            running = asyncio.create_task(self.service.run())
            try:
                return await act()
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

        return asyncio.run(both())


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not check():
            await asyncio.sleep(0.01)


def test_what_is_asked_is_kept_up_and_told_of(machine: Machine) -> None:
    agent, there = Agent(machine), machine.conf / "a.conf"
    file = machine.file()

    async def life() -> None:
        service = agent.service
        assert (service.version(), service.changes) == ("", 0)
        told = await service.configure(bus.Configure((file,), "v1"))
        assert states(list(told.files)) == ["written"] and there.read_text() == "one\n"
        assert service.version() == "v1" and told.changes == service.changes > 0
        there.unlink()
        await until(there.exists)
        there.write_text("mine\n")
        await until(lambda: service.changes != told.changes)
        assert states(list(service.there().files)) == ["kept"]
        there.unlink()
        await until(there.exists)
        assert (await service.configure(bus.Configure((), ""))).files == ()
        assert not there.exists() and service.version() == ""

    agent.during(life)


def test_another_agent_goes_on_with_it_and_another_central_has_no_part_in_it(machine: Machine) -> None:
    agent, there = Agent(machine), machine.conf / "a.conf"
    agent.during(lambda: agent.service.configure(bus.Configure((machine.file(),), "v1")))
    there.unlink()
    agent.service = agent.begun()
    agent.during(lambda: until(there.exists))
    agent.owner = ""
    agent.service = agent.begun()
    there.unlink()

    async def left() -> None:
        await asyncio.sleep(0.1)
        assert not there.exists() and agent.service.version() == "" and agent.service.there().files == ()

    agent.during(left)
    agent.owner = "B n1"
    agent.service = agent.begun()
    told = agent.during(lambda: agent.service.configure(bus.Configure((machine.file(name="b"),), "v1")))
    assert [f.path for f in told.files] == [str(machine.conf / "b")]


def test_what_is_permitted_later_is_done_then(machine: Machine) -> None:
    agent, there = Agent(machine), machine.conf / "a.conf"
    permit.write(machine.state, Permit(()))

    async def life() -> None:
        told = await agent.service.configure(bus.Configure((machine.file(),), "v1"))
        assert states(list(told.files)) == ["refused"]
        permit.write(machine.state, machine.said)
        await until(there.exists)

    agent.during(life)


@needs_root
def test_what_failed_rests_and_is_tried_again(machine: Machine) -> None:
    agent = Agent(machine)
    file = machine.file(postinstall_cmd=f"{machine.says('try')}; false")

    async def life() -> None:
        await agent.service.configure(bus.Configure((file,), "v1"))
        await asyncio.sleep(0.2)
        assert machine.runs() == ["try"]
        other = replace(file, postinstall_cmd=machine.says("well"), version="another")
        told = await agent.service.configure(bus.Configure((other,), "v2"))
        assert states(list(told.files)) == ["written"] and machine.runs() == ["try", "well"]

    agent.during(life)


def test_what_is_permitted_to_one_central_is_not_to_another(machine: Machine) -> None:
    agent, there = Agent(machine), machine.conf / "a.conf"
    permit.write(machine.state, replace(machine.said, owner="A n1"))
    agent.owner = "B n1"
    told = agent.during(lambda: agent.service.configure(bus.Configure((machine.file(),), "v1")))
    assert states(list(told.files)) == ["refused"] and not there.exists()
    agent.owner = "A n1"
    agent.service = agent.begun()
    told = agent.during(lambda: agent.service.configure(bus.Configure((machine.file(),), "v1")))
    assert states(list(told.files)) == ["written"]


@needs_root
def test_a_pass_that_is_under_way_stops_where_the_central_is_left(machine: Machine) -> None:
    agent, begun = Agent(machine), machine.state.parent / "begun"
    files = (machine.file(name="a", preinstall_cmd=f"touch {begun}; exec sleep 1000"), machine.file(name="b"))

    async def life() -> None:
        asking = asyncio.create_task(agent.service.configure(bus.Configure(files, "v1")))
        await until(begun.exists)
        agent.owner = ""
        assert (await asking).files == ()
        assert not machine.conf.exists()

    agent.during(life)


def test_before_its_first_look_an_agent_says_that_it_does_not_know(machine: Machine) -> None:
    agent = Agent(machine)
    agent.during(lambda: agent.service.configure(bus.Configure((machine.file(),), "v1")))
    agent.service = agent.begun()
    assert agent.service.there() == bus.ConfFiles((), 0, looked=False)

    async def life() -> None:
        await until(lambda: agent.service.there().looked)
        assert states(list(agent.service.there().files)) == ["written"] and agent.service.changes > 0

    agent.during(life)
    agent.service = agent.begun()
    permit.write(machine.state, machine.said)
    agent.service._record.asked = record.Asked("A n1", "v1", ())
    (machine.conf / "a.conf").unlink()
    agent.during(lambda: until(lambda: agent.service.changes > 0))  # also where there is nothing: the central asks then
