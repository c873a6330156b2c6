"""The commands as a user types them: each of `vini --help`, in a place of its own."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from own_place import OwnPlace, eventually

from vini.cli import vini
from vini.node import cgroup

pytestmark = pytest.mark.root

NET = """\
name: tri
routing: {protocols: [static]}
slivers: [west, mid, east]
links: [west -- mid, mid -- east]
expect: all
"""


class Shell:
    """What a user sees after each command."""

    def __init__(self, own: OwnPlace, directory: Path):
        self.own, self.directory = own, directory
        self.environment = {**os.environ, **own.environment, "SHELL": "/bin/sh"}
        self.environment.pop("VINI_SLICE", None)
        self.net = directory / "tri.yaml"
        self.net.write_text(NET)

    def start(self, *words: str | Path, program: Sequence[str] = ("-m", "vini.cli")) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *program, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=self.environment, cwd=self.directory, start_new_session=True,
        )  # fmt: skip

    def vini(self, *words: str | Path, code: int = 0, typed: str = "") -> str:
        """Standard output where that is expected to be all right, else the complaint."""
        out, err = self.run(*words, code=code, typed=typed)
        return err if code and "error: " in err else out

    def run(self, *words: str | Path, code: int, typed: str = "") -> tuple[str, str]:
        process = self.start(*words)
        out, err = process.communicate(typed, timeout=150)
        assert process.returncode == code, f"vini {words}: {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        assert "bug in VINI" not in err
        return out, err

    def json(self, *words: str | Path, code: int = 0):
        at = words.index("--") if "--" in words else len(words)
        out = self.run(*words[:at], "--json", *words[at:], code=code)[0]
        return json.loads(out)


@pytest.fixture
def sh(own: OwnPlace, tmp_path: Path) -> Shell:
    return Shell(own, tmp_path)


@pytest.fixture
def tri(sh: Shell) -> Shell:
    sh.vini("up", sh.net)
    return sh


# --- each command ---------------------------------------------------------------------------------------


def test_each_command_that_needs_a_slice_says_so_where_none_is_up(sh):
    for words in ("status", "link", "down", "log", "exec a -- true", "shell a", "ping --all", "routes", "neighbors",
                  "top", "capture a:to-b", "status --json"):  # fmt: skip
        complaint = sh.vini(*words.split(), code=1)
        assert complaint.startswith("error: No slice is up; `vini up FILE` brings one up"), words
    assert sh.vini("down", "--all") == ""


def test_up_plan_status_log_and_down(sh):
    assert "+ netns tri.west" in sh.vini("plan", sh.net)
    assert sh.own.namespaces() == set()  # a plan touches nothing
    assert "tri is up: 3 slivers, 2 links" in sh.vini("up", sh.net)
    assert sh.json("up", sh.net)["steps"] == 0
    assert sh.json("plan", sh.net)["steps"] == []
    assert "tri: 3 of 3 slivers ready, 2 links; converged" in sh.vini("status")
    (state,) = sh.json("status")
    assert {s["state"] for s in state["slivers"]} == {"ready"}
    assert [e["what"] for e in sh.json("log")] == ["up", "up"]
    assert "2 events, and none was changed" in (checked := sh.vini("log", "--verify"))
    assert sh.json("log", "--verify", "--head", checked.split()[-1])["broken"] == ""
    with sqlite3.connect(sh.own.place.state / "vini.db") as database:
        database.execute("UPDATE events SET who = 'eve' WHERE id = 2")
    assert "not what they were: Event 2, at place 2, or its link, was changed" in sh.vini("log", "--verify", code=1)
    assert "tri is down" in sh.vini("down")
    assert sh.own.namespaces() == set()


def test_looking_inside(tri):
    assert "to-west" in tri.vini("exec", "mid", "--", "ip", "-br", "link")
    tri.vini("exec", "mid", "--", "sh", "-c", "exit 7", code=7)
    _, unknown = tri.run("exec", "mid", "--", "nosuch", code=127)
    assert "nosuch: not found" in unknown and "/" not in unknown, "no word of where our own scripts are"
    assert "tri.west" in tri.vini("shell", "west", typed="echo $VINI_SLIVER\n")
    assert "6 of 6 pairs answer." in tri.vini("ping", "--all")
    assert tri.json("ping", "west", "east")[0]["rtt_ms"] < 1000
    assert "west -> mid -> east" in tri.vini("routes", "west", "--to", "east")
    path = ["west", "mid", "east"]
    hops = {"west": ["mid"], "mid": ["east"]}
    assert tri.json("routes", "--to", "east")["west"] == {
        "path": path, "paths": [path], "next_hops": hops, "arrives": True,
    }  # fmt: skip
    assert set(tri.json("routes")) == {"west", "mid", "east"}
    assert tri.json("neighbors") == {}
    assert {row["sliver"] for row in tri.json("top", "-n", "1", "-d", "0.1")} == {"west", "mid", "east"}


def test_one_command_in_several_slivers_and_the_worst_exit_code(tri):
    said = tri.vini("exec", "west", "east", "--", "sh", "-c", 'echo "I am $VINI_NAME"; echo two')
    assert [words.split() for words in said.splitlines()[0:1]] == [["SLIVER", "EXIT", "SECONDS", "OUTPUT"]]
    assert [row.split()[-1] for row in said.splitlines()[1:]] == ["west", "two", "east", "two"]
    ends = "case $VINI_NAME in mid) exit 3;; east) kill -9 $$;; esac; echo well; echo no >&2"
    rows = tri.json("exec", "--all", "--", "sh", "-c", ends, code=137)
    assert {r["sliver"]: (r["exit_code"], r["stdout"], r["stderr"]) for r in rows} == {
        "west": (0, "well\n", "no\n"), "mid": (3, "", ""), "east": (137, "", ""),
    }  # fmt: skip
    (row,) = tri.json("exec", "--timeout", "0.5", "west", "--", "sh", "-c", "yes & sleep 60", code=124)
    assert (len(row["stdout"]), row["cut"]) == (1 << 20, True)
    assert "did you mean 'west'" in tri.vini("exec", "mid", "wset", "--", "true", code=1)
    assert "In which sliver?" in tri.vini("exec", "--", "true", code=2)
    assert "or give --all" in tri.vini("exec", "--all", "mid", "--", "true", code=2)


def test_files_are_copied_to_and_from_one_sliver_and_all(tri):
    here, there = tri.directory, tri.directory / "there"
    (here / "tree" / "deep").mkdir(parents=True)
    (here / "tree" / "deep" / "one").write_bytes(os.urandom(2_000_000))
    (here / "tree" / "to-one").symlink_to("deep/one")
    (here / "tree" / "deep" / "one").chmod(0o750)
    assert tri.vini("cp", "tree", f"west:{there}/") == "2 files, 2000000 bytes.\n"
    assert tri.vini("cp", "tree/deep/one", f"west:{there}/by-name") == "1 file, 2000000 bytes.\n"
    assert (there / "by-name").read_bytes() == (there / "tree" / "to-one").read_bytes()
    assert (there / "tree" / "deep" / "one").stat().st_mode & 0o777 == 0o750
    tri.vini("cp", f"west:{there}/tree", "back")
    assert (here / "back" / "deep" / "one").read_bytes() == (here / "tree" / "deep" / "one").read_bytes()
    assert (here / "back" / "to-one").readlink() == Path("deep/one")
    tri.vini("cp", f"west:{there}/tree", "back")  # into what is a directory
    assert (here / "back" / "tree" / "to-one").is_symlink()
    assert "already; remove it" in tri.vini("cp", f"west:{there}/tree", "back", code=1)
    rows = tri.json("cp", "--all", "tri.yaml", f":{there}/of-all")
    assert {(r["sliver"], r["files"], r["error"]) for r in rows} == {(n, 1, "") for n in ("west", "mid", "east")}
    tri.vini("cp", "--all", f":{there}/of-all", "results")
    assert (here / "results" / "mid" / "of-all").read_text() == tri.net.read_text()
    assert "No such file" in tri.vini("cp", f"east:{there}/nothing", ".", code=1)
    assert "There is no" in tri.vini("cp", "nothing", "east:/tmp/", code=1)
    assert "One side is a sliver" in tri.vini("cp", "east:/a", "west:/b", code=2)


def test_what_processes_say_is_shown_and_followed(sh):
    sh.net.write_text("name: two\nslivers:\n  a: {commands: [echo first]}\n  b: {}\nlinks: [a -- b]\n")
    sh.vini("up", sh.net)
    said = eventually(lambda: [row for row in sh.vini("logs", "a").splitlines() if row.endswith(" | first")])
    (name,) = {row.partition(" | ")[0] for row in said}
    follower = sh.start("logs", "-f", "-n", "1", "a", name)
    assert follower.stdout and "first" in follower.stdout.readline()
    with (sh.own.place.sliver("two.a") / f"{name}.log").open("a") as log:
        log.write("second\n")
    assert follower.stdout.readline() == f"{name} | second\n"
    follower.send_signal(signal.SIGINT)
    follower.communicate(timeout=60)
    assert follower.returncode == 130
    assert f"there are: boot, {name}" in sh.vini("logs", "a", "nobody", code=1)


def test_links_are_shown_failed_and_restored(tri):
    assert [link["fault"] for link in tri.json("link")] == ["none", "none"]
    tri.vini("link", "west", "mid", "--fail", "carrier")
    assert "west--mid has failed (carrier), as asked" in tri.vini("status", code=1)  # and nothing else leads there
    assert "no answer" in tri.vini("ping", "west", "east", code=1)
    tri.vini("link", "west", "mid", "--restore")
    assert tri.vini("ping", "west", "east")


def test_words_that_there_are_not_get_the_nearest(tri):
    for words, hint in {
        "exec wst -- true": "did you mean 'west'?",
        "ping west eats": "did you mean 'east'?",
        "routes middle": "did you mean 'mid'?",
        "link west eat": "Did you mean east?",
        "capture mid:to-wst": "to-west",
        "status -s try": "did you mean 'tri'?",
    }.items():
        assert hint in tri.vini(*words.split(), code=1), words


def test_two_slices_are_told_apart(tri):
    tri.vini("up", tri.net, "-s", "tri2")
    assert "(tri, tri2); say which with `--slice NAME`" in tri.vini("link", code=1)
    assert len(tri.json("status")) == 2
    tri.vini("link", "-s", "tri2", "west", "mid", "--fail", "silent")
    assert [link["fault"] for link in tri.json("link", "-s", "tri")] == ["none", "none"]
    tri.vini("down", "-s", "tri2")
    assert "tri: 3 of 3 slivers ready" in tri.vini("status")


@pytest.mark.needs("tcpdump")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_capture_ends_tidily_however_it_is_ended(tri, end):
    capture = tri.start("capture", "mid:to-west", "-w", "x.pcapng")
    file = tri.directory / "x.pcapng"
    eventually(lambda: file.exists() and file.stat().st_size)
    os.kill(capture.pid, end)
    capture.communicate(timeout=60)
    assert capture.returncode == 0
    assert file.read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"


def test_a_run_is_made_compared_and_leaves_no_slice(sh):
    (sh.directory / "x.yaml").write_text("topology: tri.yaml\nduration: 1s\ncalm: 0s\n")
    process = sh.start("run", "x.yaml", "--json")
    out, err = process.communicate(timeout=150)
    assert process.returncode in (0, 1), err  # 1: the machine was too busy to be trusted
    directory = json.loads(out)["directory"]
    assert (sh.directory / directory / "report.html").exists()
    assert sh.vini("compare", directory, directory)
    assert sh.own.namespaces() == set()


def measuring(sh: Shell, *options: str) -> subprocess.Popen[str]:
    """A run of ten minutes that has come to t = 0."""
    (sh.directory / "x.yaml").write_text("topology: tri.yaml\nduration: 600s\ncalm: 0s\nprobes: {r: {routes: }}\n")
    process = sh.start("run", "x.yaml", *options)
    assert process.stderr is not None
    assert any("t = 0" in text for text in process.stderr)
    return process


def test_a_run_has_its_slice_alone_and_tells_what_others_did_to_it(sh):
    process = measuring(sh, "--json")
    assert "is using slice 'tri'. Wait for its end" in sh.vini("run", "x.yaml", code=1)
    sh.vini("link", "west", "mid", "--cost", "20")
    sh.own.kill_agent()
    sh.vini("status")
    sh.vini("down")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    found = json.loads(out)
    assert found["measured_s"] < 500 and not found["trustworthy"]
    actions = [e["action"] for e in found["events"]]
    assert actions.count("foreign") == 2 and "agent" in actions
    assert any(", link " in reason for reason in found["reasons"])
    assert (sh.directory / found["directory"] / "report.html").exists()
    assert sh.own.namespaces() == set()
    assert not list(sh.own.place.state.glob("*.lock"))


def test_the_agent_starts_tells_and_stops(sh):
    assert "No agent runs" in sh.vini("agent", "status", code=1)
    sh.vini("agent", "start")
    assert "it watches over no slice" in sh.vini("agent", "status")
    assert "The agent ends" in sh.vini("agent", "stop")
    eventually(lambda: not sh.own.agents())


def test_what_a_slice_may_do_in_the_world_is_granted_shown_and_taken_back(sh):
    sh.net.write_text(NET.replace("[west, mid, east]", "{west: {outside: true}, mid: , east: }"))
    assert "an operator grants it with `vini outside grant tri --to PREFIX`" in sh.vini("up", sh.net, code=4)
    granted = sh.vini("outside", "grant", "tri", "--to", "203.0.113.0/24", "--allow", "tcp/443", "--rate", "5mbit")
    assert granted == "tri may reach 203.0.113.0/24 by tcp/443.\n"
    assert "+ outside tri.west" in sh.vini("plan", sh.net)
    assert sh.json("outside", "show", "tri")["rate_kbit"] == 5000
    assert "5 Mbit/s, 2000 packets/s" in sh.vini("outside", "show", "tri")
    assert "is no prefix in its shortest form" in sh.vini("outside", "grant", "tri", "--to", "everywhere", code=2)
    assert sh.vini("outside", "revoke", "tri") == "tri may reach nothing of the world.\n"
    assert sh.json("outside", "show", "tri") is None


@pytest.mark.needs("outside", "shares")
def test_what_the_uplink_carries_is_said_shown_and_not_promised_twice(sh):
    wish = "{west: {outside: true, network: {min: 30mbit, daily: 1GB}}, mid: , east: }"
    sh.net.write_text(NET.replace("[west, mid, east]", wish))
    sh.vini("outside", "grant", "tri", "--to", "203.0.113.0/24")
    assert "`vini node uplink --rate 1gbit`" in sh.vini("plan", sh.net, code=3)
    said = sh.vini("node", "uplink", "--rate", "100mbit", "--exempt", "192.0.2.0/24", "--exempt-rate", "50mbit")
    assert said == "Slivers here may send 100 Mbit/s together; to 192.0.2.0/24 uncounted, 50 Mbit/s.\n"
    assert sh.json("node", "uplink") == {"rate_mbit": 100.0, "exempt": ["192.0.2.0/24"], "exempt_mbit": 50.0}
    assert "+ share tri.west" in sh.vini("plan", sh.net)
    assert "is no network" in sh.vini("node", "uplink", "--exempt", "here", code=1)
    assert sh.vini("node", "uplink", "--exempt", "none", "--rate", "20mbit").endswith("all of it counts.\n")
    assert "asks for 30: 10 too much" in sh.vini("plan", sh.net, code=3)


def test_what_the_central_may_do_to_files_is_said_and_shown(sh, tmp_path):
    assert sh.json("node", "permit") == {"below": ["/etc/vini/conf.d"], "commands": False, "written": []}
    (tmp_path / "link").symlink_to(tmp_path / "real")
    said = sh.vini("node", "permit", "--below", str(tmp_path / "link"), "--below", "/srv/conf", "--commands")
    assert said == f"The central may write conf files below {tmp_path / 'real'}, /srv/conf, with commands.\n"
    assert sh.vini("node", "permit", "--below", "none").endswith("nowhere, with commands.\n")
    assert "can't be permitted" in sh.vini("node", "permit", "--below", "/", code=1)
    assert sh.json("node", "permit") == {"below": [], "commands": True, "written": []}


def test_nobody_who_is_written_down_sent_what_was_never_sent(sh):
    assert "Nobody who is written down sent" in sh.vini("audit", "who", "192.0.2.1:1", "192.0.2.2:2", code=1)
    assert "is no address with a port" in sh.vini("audit", "who", "here", "192.0.2.2:2", code=1)
    assert "is no time" in sh.vini("audit", "who", "192.0.2.1", "192.0.2.2", "--at", "soon", code=1)


def test_the_doctor_knows_this_machine(sh):
    assert "root" in sh.json("doctor")["have"]
    assert "FEATURE" in sh.vini("doctor")


def test_every_command_is_tried_here_or_without_root():
    tests = Path(__file__).parent.parent
    places = (
        Path(__file__),
        tests / "unit" / "test_cli.py",
        *(tests / "hosts").glob("test*.py"),
        Path(__file__).parent / "test_ssh.py",
        Path(__file__).parent / "test_image_store.py",
        Path(__file__).parent / "test_lifecycle.py",
        Path(__file__).parent / "test_volumes.py",
    )
    here = "".join(p.read_text() for p in places)
    untried = [c for c in vini.list_commands(None) if f'"{c}' not in here and f"vini {c}" not in here]  # type: ignore[arg-type]
    assert set(untried) <= {"bench", "program"}  # test_bench_live.py, test_program_command.py


# --- interrupted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_wait_is_130_and_the_next_command_goes_on(sh, end):
    # A sliver that is never ready: `up` waits until it is interrupted.
    sh.net.write_text(NET.replace("[west, mid, east]", "{west: {commands: [sleep 600]}, mid: , east: }"))
    up = sh.start("up", sh.net)
    eventually(lambda: len(sh.own.namespaces()) == 3)
    assert up.stderr is not None
    os.kill(up.pid, end)
    _, err = up.communicate(timeout=60)
    assert up.returncode == 130
    assert "Interrupted; what was done so far stays." in err
    sh.net.write_text(NET)
    sh.vini("up", sh.net)


def test_usage_tells_what_slivers_used_here(tri):
    rows = {row["name"]: row for row in tri.json("usage", "--per", "sliver")}
    assert set(rows) == {"tri/west", "tri/mid", "tri/east"} and rows["tri/mid"]["nodes"] == 1
    assert "tri" in tri.vini("usage", "-s", "t*", "--daily") and "name,day," in tri.vini("usage", "--csv")
    assert tri.json("usage", "--until", "2020-01-01") == []
    assert "is no day" in tri.vini("usage", "--since", "soon", code=2)
    tri.vini("down")
    assert [row["name"] for row in tri.json("usage")] == ["tri"]


def test_top_ends_quietly_on_ctrl_c(tri):
    top = tri.start("top", "-d", "0.1")
    assert top.stdout is not None
    top.stdout.readline()
    os.kill(top.pid, signal.SIGINT)
    _, err = top.communicate(timeout=60)
    assert (top.returncode, err) == (0, "")


def test_a_run_that_is_interrupted_before_t_0_says_that_nothing_is_left(sh):
    (sh.directory / "x.yaml").write_text("topology: tri.yaml\nduration: 60s\ncalm: 60s\n")
    process = sh.start("run", "x.yaml")
    assert process.stderr is not None
    assert any("waiting until no route" in text for text in process.stderr)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "error: Interrupted before t = 0: nothing was measured, and no record is kept. The slice is down." in err
    assert list((sh.directory / "runs").iterdir()) == [] and sh.own.namespaces() == set()


def test_a_run_that_is_interrupted_again_and_again_says_what_is_left(sh):
    process = measuring(sh)
    assert process.stderr is not None
    os.kill(process.pid, signal.SIGINT)
    assert any("interrupted: ending" in text for text in process.stderr)  # else two may arrive as one
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.05)
    _, err = process.communicate(timeout=60)
    assert "error: Interrupted" in err
    assert process.returncode in (130, -signal.SIGINT)  # the last may come when all is said
    (left,) = (sh.directory / "runs").iterdir()
    assert left.name in err.replace("\n", "")


def test_a_link_that_failed_as_asked_is_no_failure_where_another_way_is_left(sh):
    sh.net.write_text(
        NET.replace("[static]", "[ospf], daemon: bird").replace("mid -- east]", "mid -- east, west -- east]")
    )
    sh.vini("up", sh.net)
    sh.vini("link", "west", "mid", "--fail", "carrier")
    assert "west--mid has failed (carrier), as asked" in sh.vini("status", "--wait", "60")
    sh.vini("link", "east", "mid", "--fail", "carrier")
    assert "not converged" in sh.vini("status", code=1)
    assert sh.json("status", code=1)[0]["converged"] is False


def test_down_tells_programs_too(tri):
    (ended,) = tri.json("down")
    assert ended["slice"] == "tri" and ended["steps"] > 0 and ended["done_s"] > 0
    assert tri.json("down", "--all") == []


# --- an unhealthy machine -------------------------------------------------------------------------------


def test_a_hung_agent_is_named_with_its_log(tri):
    (pid,) = tri.own.agents()
    impatient = "import vini.bus.unix as u; u._PATIENCE_S = 1.0; import vini.cli; vini.cli.main()"
    os.kill(pid, signal.SIGSTOP)
    try:
        process = tri.start("status", program=("-c", impatient))
        _, complaint = process.communicate(timeout=150)
        assert process.returncode == 1
    finally:
        os.kill(pid, signal.SIGCONT)
    assert f"The agent (process {pid}) runs but does not answer. Its log is {tri.own.place.state}" in complaint
    tri.vini("status")


def test_a_lost_run_directory_costs_the_old_agent_its_place(tri):
    (old,) = tri.own.agents()
    (tri.own.place.run / "agent.socket").unlink()
    (tri.own.place.run / "agent.lock").unlink()
    tri.vini("up", tri.net)
    eventually(lambda: old not in tri.own.agents() and len(tri.own.agents()) == 1)
    tri.vini("status", "--wait", "60")


def test_twenty_commands_at_once_all_succeed(sh):
    same = [sh.start("up", sh.net) for _ in range(10)]
    others = [sh.start("up", sh.net, "-s", f"n{i}") for i in range(10)]
    for process in itertools.chain(same, others):
        _, err = process.communicate(timeout=150)
        assert process.returncode == 0, err
    assert len(sh.json("status")) == 11
    assert len(sh.own.agents()) == 1


def test_a_daemon_that_dies_at_its_start_is_shown_with_its_last_lines(sh):
    sh.net.write_text(
        "name: raw\nrouting: {protocols: [ospf], daemon: bird}\nlinks: [a -- b]\nslivers:\n"
        "  a: {routing: {raw: {bird.conf: 'frobnicate;'}}}\n  b: {}\n"
    )
    complaint = sh.vini("up", sh.net, code=1)
    assert "a: bird ended soon after its start; its last lines: " in complaint
    assert "syntax error" in complaint
    # Another slice's `up` and `down` are not held up by it.
    sh.vini("up", "--generate", "line:2", "-s", "fine")
    assert "fine is down" in sh.vini("down", "-s", "fine")


def test_a_command_that_fails_is_shown_with_its_last_lines(sh):
    sh.net.write_text("name: x\nslivers: {a: {commands: ['echo so sad; exit 3']}, b: }\nlinks: [a -- b]\n")
    assert "ended with status 3; its last lines: so sad" in sh.vini("up", sh.net, code=1)
    assert "so sad" in sh.vini("status", code=1)


def test_a_rate_beyond_the_machine_is_exit_code_3_and_nothing_is_made(sh):
    sh.net.write_text("name: x\nslivers: [a, b]\nlinks: [a -- b: {rate: 100gbit}]\n")
    assert "100000 Mbit/s" in sh.vini("up", sh.net, code=3)
    assert sh.own.namespaces() == set()
    assert "No slice is up" in sh.vini("status", code=1)


@pytest.mark.parametrize("damage", ["corrupt", "file", "full"])
def test_a_state_directory_that_cannot_be_used_is_named(sh, damage):
    state = sh.directory / "state"
    sh.environment["VINI_STATE"] = str(state)
    if damage == "file":
        state.write_text("a file")
    else:
        state.mkdir()
    if damage == "corrupt":
        (state / "vini.db").write_bytes(b"not a database, " * 1000)
    if damage == "full":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(state)], check=True)
        (state / "filler").write_bytes(b"x" * 4096)
    try:
        assert str(state) in sh.vini("up", sh.net, code=1)
        assert sh.own.namespaces() == set()
        if damage != "corrupt":
            assert str(state) in sh.vini("status", code=1)
    finally:
        sh.own.kill_agent()
        if damage == "full":
            subprocess.run(["umount", str(state)], check=True)


def test_an_edit_and_a_new_agent_lose_no_packet_elsewhere(tri):
    address = json.loads(tri.vini("exec", "mid", "--", "ip", "-j", "-4", "addr", "show", "dev", "to-west"))
    to = address[0]["addr_info"][0]["local"]
    stream = tri.start("exec", "west", "--", "ping", "-q", "-i", "0.002", "-c", "2000", "-W", "10", to)
    tri.net.write_text(NET.replace("mid -- east]", "mid -- east: {cost: 7}]"))
    tri.vini("up", tri.net)
    tri.own.kill_agent()
    tri.vini("up", tri.net)
    tri.vini("link", "mid", "east", "--fail", "carrier")
    tri.vini("link", "mid", "east", "--restore")
    out, _ = stream.communicate(timeout=60)
    assert "2000 packets transmitted, 2000 received" in out


def test_what_ended_leaves_no_cgroup_of_commands(tri):
    sleeper = tri.start("exec", "mid", "--", "sleep", "600")
    eventually(lambda: cgroup.pids(cgroup.of(tri.own.place, "tri.mid", "exec")))
    tri.vini("down")
    sleeper.communicate(timeout=60)
    assert sleeper.returncode != 0
