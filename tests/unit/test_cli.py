"""The command line without root: help that teaches, mistakes with a next step, exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from vini.cli import account, choose, links, vini
from vini.client import Client
from vini.client import login as logins
from vini.client.remote import unreachable
from vini.model import BurstLoss, Denied, End, Impairment, Link, NotFound, Topology, TopologyError, ViniError
from vini.rules.nouns import Lease, NodeRow

COMMANDS = vini.list_commands(None)  # type: ignore[arg-type]


def cli(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command as a user starts it, with no place to touch."""
    return subprocess.run(
        [sys.executable, "-m", "vini.cli", *map(str, words)],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, env={**os.environ, **environment},
    )  # fmt: skip


# --- help ---------------------------------------------------------------------------------------


def test_the_help_page_names_every_command_on_one_whole_line():
    page = CliRunner().invoke(vini, ["--help"], prog_name="vini", terminal_width=80).output.partition("Slices:")[2]
    assert "..." not in page
    for name in COMMANDS:
        (line,) = re.findall(rf"^  {name}  +(\S.*)$", page, re.MULTILINE)
        assert line.endswith("."), line


def test_without_words_there_is_help_and_no_talk_of_errors():
    done = cli()
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: vini [OPTIONS]")
    assert "error" not in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself_and_its_options(name):
    done = CliRunner().invoke(vini, [name, "--help"], prog_name="vini", terminal_width=100)
    assert done.exit_code == 0
    assert done.output.startswith(f"Usage: vini {name}")
    command = vini.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name}: no explanation of {parameter.name}"


# --- words that there are not ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ststus"], "Did you mean `vini status`?"),
        (["frobnicate"], "`vini --help` lists all."),
        (["--frob"], "`vini --help` shows what there is."),
        (["up", "--frob"], "`vini up --help` shows what there is."),
        (["schema", "--experimnt"], "Did you mean '--experiment'?"),
        (["agent", "frob"], "`vini agent --help` shows what there is."),
        (["link", "a", "b", "--fail", "maybe"], "'silent', 'carrier'"),
        (["up"], "`vini up examples/abilene.yaml`"),
        (["down", "abilene"], "can't take 'abilene' here; to name a slice: `vini down -s abilene`."),
        (["link", "a", "b", "--delay", "10", "ms"], "can't take 'ms' here; `vini link --help` shows what it takes."),
        (["compare", "no-such-run", "neither"], "`vini compare --help` shows what there is."),
    ],
)
def test_a_wrong_word_is_exit_code_2_and_says_where_to_look(words, sentence):
    done = cli(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert sentence in done.stderr


NUMBERS = {
    "top": ["-d -1", "-d nan", "-d inf", "-d 0", "-n -1", "-n x"],
    "up net.yaml": ["--timeout nan", "--timeout -1", "--timeout inf", "--timeout 1e9"],
    "status": ["--wait -1", "--wait nan", "--wait inf"],
    "log": ["-n -1", "-n 0", "-n 99999999999999999999"],
    "ping a b": ["-c 0", "-c nan", "-c 1e9"],
    "link": ["--cost 0", "--cost nan", "--loss nan%", "--delay -1ms"],
    "capture a:b": ["-c 0", "-c -1"],
    "program load a b.c": ["--budget 0", "--budget nan"],
    "up --generate waxman:5": ["--seed 1.5", "--seed nan"],
}


@pytest.mark.parametrize("words", [f"{command} {wrong}" for command, all_ in NUMBERS.items() for wrong in all_])
def test_a_number_that_makes_no_sense_is_a_mistake_of_the_command_line(words):
    found = CliRunner().invoke(vini, words.split(), prog_name="vini")
    usage = isinstance(found.exception, SystemExit) and found.exit_code == 2
    assert usage or isinstance(found.exception, TopologyError), found.exception


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("link a b --fail silent --one-way", "Faults and costs are of both directions"),
        ("link a b --restore --one-way", "Faults and costs are of both directions"),
        ("link a b --cost 5 --delay 1ms --one-way", "Faults and costs are of both directions"),
        ("link a b --one-way", "What is to be --one-way? `vini link A B --rate 1mbit --one-way`."),
        ("link a b --verify --one-way", "Change the link first"),
        ("link --load 10%", "--load and --for say how to measure"),
        ("link a b --delay 5ms --for 5s", "--load and --for say how to measure"),
        ("link --fail silent", "Which link?"),
        ("up net.yaml --seed 0", "--seed is for --generate"),
        ("plan net.yaml --seed 5", "--seed is for --generate"),
        ("up net.yaml --routing ospf", "--routing is for --generate; a file says it itself"),
        ("up net.yaml --no-wait --timeout 5", "--timeout is how long to wait, and --no-wait is not to"),
        ("down --all -s x", "give one of the two"),
        ("program write a t k v --delete", "leave the VALUES away"),
        ("slice describe home_lab", "Say it by --description, --url, or both."),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(words, sentence):
    found = CliRunner().invoke(vini, words.split(), prog_name="vini")
    assert found.exit_code == 2 and sentence in " ".join(found.output.replace("│", "").split())


def test_ctrl_c_before_all_is_imported_is_a_word_and_no_traceback(tmp_path):
    (tmp_path / "click.py").write_text("import time; print('importing', flush=True); time.sleep(60)")
    command = subprocess.Popen(
        [sys.executable, "-m", "vini", "status"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert command.stdout is not None and command.stdout.readline() == "importing\n"
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=60)
    assert (command.returncode, err) == (130, "error: Interrupted.\n")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("schema", "Interrupted."),
        ("up", "Interrupted; what was done so far stays. `vini status` shows it."),
        ("person", "Interrupted; what was done so far stays."),
    ],
)
def test_only_who_changes_something_says_on_ctrl_c_that_it_stays(command, said):
    program = (
        "import sys, vini.cli as cli; command = cli.vini.get_command(None, sys.argv[1]); "
        "command.main = command.invoke = lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt); cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, command], capture_output=True, text=True, timeout=60,
        env={**os.environ, "VINI_CALLED": "vini"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, f"error: {said}\n")


def test_who_reads_no_more_ends_a_command_with_its_own_code():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "vini.cli", "schema"], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_below_the_output_is_no_bug_of_ours():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "vini.cli", "schema"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    said = "error: The output can't be written: its disk is full. Make room there and try again.\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_without_root_the_doctor_names_no_remedy_for_what_it_could_not_try(monkeypatch):
    monkeypatch.setattr("vini.node.probe.capabilities", lambda: frozenset({"cgroup2", "frr", "element"}))
    found = CliRunner().invoke(vini, ["doctor"], prog_name="vini")
    rows = {row[1]: row for line in found.stdout.splitlines()[2:] if len(row := line.split()) > 1}
    assert found.exit_code == 1
    assert [rows[name][0] for name in ("root", "vxlan", "outside", "frr", "bird")] == ["no", "?", "?", "yes", "no"]
    assert "nftables" not in found.output and "modprobe" not in found.output.replace("modprobe loop", "")
    told = json.loads(CliRunner().invoke(vini, ["doctor", "--json"]).stdout)
    assert "vxlan" in told["unknown"] and "vxlan" not in told["missing"] and "bird" in told["missing"]


# --- files ----------------------------------------------------------------------------------------


def test_what_is_wrong_with_another_tools_file_is_told_with_the_path_that_was_given(tmp_path):
    ours = tmp_path / "net.yaml"
    ours.write_text("slivers: [a]\n")
    done = cli("import", ours, VINI_CALLED="vini")
    assert done.returncode == 2
    assert f"{ours}: This is a topology file of VINI's already" in done.stderr
    assert f"'vini up {ours}'" in done.stderr


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
BAD = {
    "empty": (b"", "The file is empty."),
    "binary": (bytes(range(256)) * 50, "is not text in UTF-8"),
    "huge": (b"# " + b"x" * 10_000_001, "at most 10,000,000 are read"),
    "laughs": (LAUGHS.encode(), "use fewer aliases"),
    "cyclic": (b"slivers: &a\n  b: *a\n", "a file cannot contain itself"),
    "long-name": (b"slivers: [" + b"a" * 200 + b"]\n", "at most 40 characters"),
    "other-script": ("slivers: [москва, 東京]\n".encode(), "use a-z"),
    "twice": (b"slivers:\n  a: {}\n  a: {}\n", "The key 'a' is already there on line 2."),
    "nowhere": (b"slivers: [denver, b]\nlinks: [b -- denvr]\n", "did you mean 'denver'?"),
    "rate": (b"slivers: [a, b]\nlinks: [a -- b: {rate: 10}]\n", "10mbit or 10gbit"),
    "not-a-list": (b"just a sentence\n", "error: "),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_exit_code_2_and_a_sentence(name, tmp_path):
    content, sentence = BAD[name]
    file = tmp_path / f"{name}.yaml"
    file.write_bytes(content)
    done = cli("up", file)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 2000


def test_all_mistakes_come_at_once_with_line_and_column(tmp_path):
    (tmp_path / "net.yaml").write_text("slivers: [a, b]\nlinks:\n  - a -- x\n  - b -- y\nfrob: 1\n")
    done = cli("plan", tmp_path / "net.yaml")
    assert [int(n) for n in re.findall(r"line (\d+), column \d+", done.stderr)] == [3, 4, 5]


def test_a_missing_file_gets_the_nearest_name(tmp_path):
    (tmp_path / "abilene.yaml").write_text("slivers: [a]\n")
    done = cli("up", tmp_path / "abilen.yaml")
    assert done.returncode == 2
    assert f"did you mean '{tmp_path}/abilene.yaml'?" in done.stderr


def test_a_directory_is_no_topology_file(tmp_path):
    done = cli("up", tmp_path)
    assert done.returncode == 2
    assert "is a directory; name a topology file in it." in done.stderr


def test_an_unknown_format_is_named_with_those_that_are_known(tmp_path):
    (tmp_path / "x.txt").write_text("hello\n")
    done = cli("import", tmp_path / "x.txt")
    assert done.returncode == 2
    assert "GraphML" in done.stderr


@pytest.mark.parametrize("words", [["schema"], ["schema", "--experiment"]])
def test_the_schema_is_json(words):
    done = cli(*words)
    assert done.returncode == 0
    assert json.loads(done.stdout)["$schema"].startswith("https://json-schema.org/")


def test_an_imported_file_is_a_topology_file_again(tmp_path):
    (tmp_path / "net.gml").write_text(
        'graph [ node [ id 0 label "A" ] node [ id 1 label "B" ] edge [ source 0 target 1 ] ]'
    )
    done = cli("import", tmp_path / "net.gml")
    assert done.returncode == 0, done.stderr
    assert "a -- b" in done.stdout


def test_whoever_reads_only_the_first_line_gets_no_complaint():
    reader = subprocess.Popen(
        [sys.executable, "-m", "vini.cli", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    assert reader.stderr is not None
    reader.stdout.readline()
    reader.stdout.close()
    complaints = reader.stderr.read()
    reader.stderr.close()
    assert reader.wait(60) != -signal.SIGPIPE
    assert complaints == ""


# --- who may, and what the places allow ---------------------------------------------------------------

AS_NOBODY = """
import importlib, os, sys
from vini.cli import _MODULES, main
for module in [*_MODULES, "vini.experiment.runner"]:
    importlib.import_module(module)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
sys.argv[0] = "vini"
main()
"""


@pytest.mark.parametrize(
    "words", ["status", "down --all", "log", "link a b", "exec a -- true", "ping --all", "top", "agent start"]
)
def test_who_is_not_root_is_denied_with_exit_code_4(words, tmp_path):
    environment = {**os.environ, "VINI_MARK": "vnobody", "VINI_STATE": str(tmp_path), "VINI_RUN": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, *words.split()],
        capture_output=True, text=True, timeout=60, cwd="/", env=environment,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "run this with sudo" in done.stderr
    assert list(tmp_path.iterdir()) == []


# --- links and generated topologies ---------------------------------------------------------------


def test_a_link_is_told_direction_by_direction():
    ends = (End("a", impairment=Impairment(delay_ms=50)), End("b", cost=7))
    told = links._json(Link(ends=ends, cost=10, impairment=Impairment(delay_ms=5)), {"a:to-b": "netem"}, {})
    assert [(d["from"], d["to"], d["delay_ms"], d["cost"], d["backend"]) for d in told["directions"]] == [
        ("a", "b", 50, 10, "netem"), ("b", "a", 5, 7, ""),
    ]  # fmt: skip


def test_what_a_link_does_is_told_on_one_line():
    ends = (End("a", impairment=Impairment(trace="0\n12\n", queue_packets=0, queue_ms=50)), End("b"))
    rich = Impairment(
        delay_ms=5,
        keeps_order=False,
        jitter_table_ms=(0, 0.2, 5),
        burst_loss=BurstLoss(0.01, 0.25),
        lose=((3, 3), (7, 9)),
    )
    assert links._describe(Link(ends=ends, impairment=rich)) == (
        "up; delay 5ms, jitter table 0ms 200us 5ms, reordering, burst loss (enter 1%, leave 25%), lose 3 7-9; "
        "towards b: queue 50ms, trace (2mbit on average, 12ms long again and again)"
    )


def test_options_of_a_link_are_words_of_a_file(tmp_path):
    trace = tmp_path / "t"
    trace.write_text("1\n")
    given = {
        "delay": None, "burst_loss": "enter=1%, leave=25%", "lose": "3,7-9", "jitter_table": "0ms,1ms",
        "queue": "64kB", "trace": str(trace), "aqm": "none",
    }  # fmt: skip
    assert links._wishes(given) == {
        "burst_loss": BurstLoss(0.01, 0.25), "lose": ((3, 3), (7, 9)), "jitter_table_ms": (0, 1), "queue_packets": 0,
        "queue_bytes": 64_000, "queue_ms": 0, "trace": "1\n", "aqm": "",
    }  # fmt: skip
    with pytest.raises(TopologyError) as caught:
        links._wishes({"rate": "0mbit", "burst_loss": "enter=1%", "jitter_table": "none", "lose": "9-7"})
    assert [m.what.partition(":")[0] for m in caught.value.mistakes] == ["--rate", "--burst-loss", "--lose"]


@pytest.mark.parametrize(
    ("routing", "daemon", "sentence"),
    [
        ("foo", None, "no protocol 'foo'"),
        ("ospf, osfp6", None, "did you mean ospf6"),
        ("isis", None, "bird does not speak isis; use `--daemon frr`"),
        (",", None, "names no protocol"),
    ],
)
def test_a_generated_topology_speaks_only_what_there_is(routing, daemon, sentence):
    with pytest.raises(TopologyError, match=sentence):
        choose.generated("ring:3", 0, routing, daemon, None)


def test_generated_routers_speak_protocols_with_spaces_and_bgp_each_for_itself():
    made = choose.generated("ring:3", 0, "ospf, bgp", None, None)
    assert [(s.routing.protocols, s.routing.asn) for s in made.slivers.values()] == [
        (("ospf", "bgp"), asn) for asn in (65001, 65002, 65003)
    ]


# --- of a testbed -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    ["nodes", "person", "site", "sites", "slice", "token", "token add x", "token delete 1",
     "tag", "tag set a b --node n1", "tag delete 1", "nodegroup", "nodegroup add g a b", "nodegroup delete g",
     "slice create home_x", "node token --site home", "node disable n1",
     "initscript", "initscript show boot", "initscript remove boot",
     "conffile", "conffile show 1", "conffile remove 1", "node conf-files n1"],
)  # fmt: skip
def test_a_command_about_a_testbed_says_how_to_log_in(words, monkeypatch, tmp_path):
    monkeypatch.setenv("VINI_LOGIN", str(tmp_path / "nobody"))
    error = CliRunner().invoke(vini, words.split()).exception
    assert isinstance(error, Denied) and "`vini login URL`" in str(error)


@pytest.mark.parametrize(
    ("name", "script", "said"),
    [("_boot", b"true", "can't be named"), ("boot", b" \n", "is empty"), ("boot", b"\x7fELF\xff", "is no text")],
)
def test_what_is_no_initscript_is_not_sent(name, script, said, tmp_path):
    (tmp_path / "file").write_bytes(script)
    told = CliRunner().invoke(vini, ["initscript", "set", name, str(tmp_path / "file")])
    assert said in str(told.exception) + told.output


def test_parts_that_fail_in_a_nodes_agent_are_shown_with_the_nodes(monkeypatch):
    fails = ("The broker fails (OSError: no room). Its agent begins that again by itself, and its log says more.",)
    rows = [
        NodeRow(
            i,
            f"n{i}",
            "home",
            "boot",
            bytes(32),
            frozenset({"vxlan", "bird"}),
            "",
            1500,
            1.0,
            9,
            "",
            1.0,
            1.0,
            0.0,
            failing=failing,
        )  # fmt: skip
        for i, failing in enumerate((fails, ()))
    ]
    monkeypatch.setattr("vini.cli.testbed.remote", lambda: SimpleNamespace(pages=lambda *_, **__: rows))
    shown = CliRunner().invoke(vini, ["nodes"])
    assert shown.exit_code == 0 and "n1:" not in shown.output
    assert "n0: The broker fails (OSError: no room). Its agent begins that again by itself" in shown.output
    told = json.loads(CliRunner().invoke(vini, ["nodes", "--json"]).output)
    assert [row["capabilities"] for row in told] == [["bird", "vxlan"]] * 2
    assert [row["failing"] for row in told] == [list(fails), []]


@pytest.mark.parametrize(
    ("connected", "heard_s", "shown"),
    [(True, 50, "now"), (False, 5, "5 s ago"), (None, 5, "now"), (None, 50, "50 s ago")],
)
def test_a_node_is_shown_as_away_where_the_central_says_so_or_heard_nothing_for_long(
    connected, heard_s, shown, monkeypatch
):
    """A connected node tells nothing for a minute; None is what a central of before says."""
    now = 1e9
    row = NodeRow(
        1, "n1", "home", "boot", bytes(32), frozenset(), "192.0.2.1", 1500, 1.0, 9, "", 1.0, now - heard_s, 0.0,
        connected=connected,
    )  # fmt: skip
    monkeypatch.setattr("vini.cli.testbed.time", SimpleNamespace(time=lambda: now))
    monkeypatch.setattr("vini.cli.testbed.remote", lambda: SimpleNamespace(pages=lambda *_, **__: [row]))
    assert f"enabled  {shown}" in CliRunner().invoke(vini, ["nodes"]).output


def test_who_is_not_logged_in_needs_no_logout(monkeypatch, tmp_path):
    monkeypatch.setenv("VINI_LOGIN", str(tmp_path / "nobody"))
    assert CliRunner().invoke(vini, ["logout"]).output == "Nobody was logged in.\n"


@pytest.mark.parametrize("url", ["http://central.example", "central:port", "https://", "ftp://x"])
def test_an_address_that_is_none_of_a_central_is_told(url, monkeypatch, tmp_path):
    monkeypatch.setenv("VINI_LOGIN", str(tmp_path / "nobody"))
    error = CliRunner().invoke(vini, ["login", url, "--email", "a@b.example"]).exception
    assert isinstance(error, ViniError) and "https://central.example:8443" in str(error)


def test_who_logs_in_where_nobody_listens_is_asked_whether_a_central_runs_there(monkeypatch, tmp_path):
    monkeypatch.setenv("VINI_LOGIN", str(tmp_path / "nobody"))
    with socket.socket() as unheard:  # bound, so that nobody else listens there; but it does not listen itself
        unheard.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{unheard.getsockname()[1]}"
        error = CliRunner().invoke(vini, ["login", url, "--email", "a@b.example"]).exception
    assert str(error).startswith(f"No central answers at {url} (Connection refused); is it running there")


def test_who_names_no_port_is_told_the_usual_one():
    told = str(unreachable("https://central.example", OSError("no"), logged_in=False))
    assert told.endswith("A central's port is 8443 where nobody said otherwise: https://central.example:8443.")
    assert "8443 where" not in str(unreachable("https://central.example:444", OSError("no"), logged_in=False))


def test_of_a_class_of_slices_only_some_are_named():
    up = {f"home_s{i:02}": Topology(f"home_s{i:02}") for i in range(100)}
    client = SimpleNamespace(unreadable=list, topologies=lambda: up)
    with pytest.raises(ViniError, match=r"\(home_s00, .*, home_s09, and 90 more\); say which with `--slice NAME`"):
        choose.the_slice(client, None)


def test_who_has_logged_in_and_calls_sudo_is_told_that_root_has_not(monkeypatch, tmp_path):
    home = tmp_path / "home"
    monkeypatch.setattr("pwd.getpwnam", lambda _: SimpleNamespace(pw_dir=str(home)))
    monkeypatch.setenv("SUDO_USER", "ada")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "root"))
    monkeypatch.delenv("VINI_LOGIN", raising=False)
    assert "logged in" not in CliRunner().invoke(vini, ["up", "nosuch.yaml"]).output
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    logins.keep(logins.Login("https://central.example:8443", "ada@example.org", "secret"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "root"))
    told = CliRunner().invoke(vini, ["up", "nosuch.yaml"]).output
    assert "with sudo this is about this machine; without, about the testbed https://central.example:8443" in told
    assert "about this machine" not in CliRunner().invoke(vini, ["schema"]).output, "that is about none"
    with pytest.raises(Denied, match=r"ada@example.org is logged in .* but with sudo you are root; leave sudo out"):
        account.remote()
    logins.keep(logins.Login("https://other.example:8443", "root@example.org", "secret"))
    assert "about this machine" not in CliRunner().invoke(vini, ["up", "nosuch.yaml"]).output, "root has one, too"


def test_a_login_without_an_address_is_to_the_central_of_before(monkeypatch, tmp_path):
    monkeypatch.setenv("VINI_LOGIN", str(tmp_path / "login.json"))
    assert "Which central? `vini login https://central.example:8443`." in CliRunner().invoke(vini, ["login"]).output
    logins.keep(logins.Login("https://central.example:8443", "ada@example.org", "old", "its authority"))
    asked = []

    class Central:
        def __init__(self, login):
            self.login = login

        def call(self, _, path, __, body=None):
            asked.append((path, body))
            return SimpleNamespace(secret="new", email="ada@example.org")  # noqa: S106

    monkeypatch.setattr(account, "_client", Central)
    monkeypatch.setenv("VINI_PASSWORD", "s3cret")
    assert "You are ada@example.org at" in CliRunner().invoke(vini, ["login"]).output
    assert asked[0] == ("/sessions", {"email": "ada@example.org", "password": "s3cret"})
    assert logins.current() == logins.Login("https://central.example:8443", "ada@example.org", "new", "its authority")


def test_without_a_terminal_the_password_is_the_line_that_comes(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("s3cret\n"))
    assert account.asked_for_password() == "s3cret"
    with pytest.raises(click.UsageError, match="give VINI_PASSWORD"):
        account.asked_for_password()


def test_on_a_testbed_a_slice_whose_name_has_no_site_is_told_how_to_be_made():
    client, topology = SimpleNamespace(), Topology("square", {})
    with pytest.raises(click.UsageError) as told:
        choose.check_named(client, topology, "square.yaml")
    assert "`vini slice create SITE_square`, then `vini up square.yaml --slice SITE_square`" in str(told.value)
    choose.check_named(client, Topology("home_square", {}), "square.yaml")
    choose.check_named(Client(), topology, "square.yaml")


def test_on_a_testbed_where_nothing_is_up_the_next_step_is_to_make_a_slice():
    client = SimpleNamespace(unreadable=list, topologies=dict)
    with pytest.raises(NotFound, match="`vini slice create SITE_NAME`"):
        choose.the_slice(client, None)


def test_a_node_that_gets_no_new_slivers_is_shown_as_the_command_calls_it(monkeypatch):
    heard = time.time()
    row = NodeRow(1, "n1", "home", "safeboot", bytes(32), frozenset(), "", 1500, 1.0, 9, "", 1.0, heard, 0.0)
    monkeypatch.setattr("vini.cli.testbed.remote", lambda: SimpleNamespace(pages=lambda *_, **__: [row]))
    shown = CliRunner().invoke(vini, ["nodes"]).output.splitlines()[1].split()
    assert shown[:4] == ["n1", "home", "drained", "now"]
    assert json.loads(CliRunner().invoke(vini, ["nodes", "--json"]).output)[0]["boot_state"] == "safeboot"


def test_a_time_that_is_none_is_answered_by_one_that_is():
    done = CliRunner().invoke(vini, ["lease", "add", "n1", "--slice", "home_x", "--from", "tomorrow"])
    assert "'tomorrow' is no date and time; write \"2026-12-01 10:00\"" in done.output and "%" not in done.output


def test_a_time_that_a_refusal_names_can_be_asked_for_as_it_is(monkeypatch):
    asked = []

    def call(_method: str, _path: str, _type: type, wish: dict) -> Lease:
        asked.append(wish["start"])
        return Lease(1, "home_x", "n1", round(wish["start"]), round(wish["end"]))

    monkeypatch.setattr("vini.cli.lease.remote", lambda: SimpleNamespace(call=call))
    for moment in ("2026-12-01 09:00 UTC", "2026-12-01T09:00 UTC"):
        CliRunner().invoke(vini, ["lease", "add", "n1", "--slice", "home_x", "--from", moment], catch_exceptions=False)
    assert asked == [1796115600.0] * 2
