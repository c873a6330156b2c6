"""`vini program` as a user types it: a data plane from a file, read, written, replaced, refused, vandalised."""

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_place import OwnPlace, eventually, run
from test_commands import Shell
from test_programs import Flow

from vini.node import libbpf, netns, policy
from vini.node.shelf import Shelf

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.needs("programs"),
]

NET = """\
name: s
slivers:
  a: {}
  r: {forward: true, program: r.elements, routes: [{to: 10.9.0.2/32, via: b}]}
  b: {addresses: 10.9.0.2}
  c: {}
links: [a -- r, r -- b, r -- c]
"""
OWN_TABLE = """\
# IPv4 by a table of our own; all else is the kernel's business
input -> sort :: classify(ip)
sort[ip] -> seen :: count -> routes :: route4(routes={10.9.0.2/32 = to-b, default = to-a})
sort[other] -> kernel
routes[out] -> ttl :: dec-ttl -> out
routes[none] -> kernel
ttl[expired] -> kernel
"""
KERNELS_TABLE = """\
input -> sort :: classify(ip, ip6)
sort[ip] -> fib :: lookup
sort[ip6] -> fib
sort[other] -> kernel
fib[out] -> ttl :: dec-ttl -> out
fib[kernel] -> kernel
ttl[expired] -> kernel
"""
HEAD = "#include <linux/bpf.h>\n#include <linux/pkt_cls.h>\n#include <bpf/bpf_helpers.h>\n"
MISTAKEN = {
    "clang.c": (f'{HEAD}SEC("tc") int f(struct __sk_buff *c)\n{{\n\treturn nonsense;\n}}\n', 1,
                "clang.c:6:9: use of undeclared identifier 'nonsense'"),
    "verifier.c": (f'{HEAD}SEC("tc") int f(struct __sk_buff *c)\n{{\n\tchar *d = (void *)(long)c->data;\n'
                   '\treturn d[4000];\n}\nchar _license[] SEC("license") = "GPL";\n', 1, "return d[4000];"),
    "endless.c": (f'{HEAD}SEC("tc") int f(struct __sk_buff *c)\n{{\n\tunsigned int i = c->len;\nagain:\n'
                  '\tif (i != 0x12345)\n\t\tgoto again;\n\treturn 0;\n}\n', 1, "infinite loop detected"),
    "policy.c": (f'{HEAD}SEC("tc") int f(struct __sk_buff *c)\n{{\n\tbpf_trace_printk("x", 2);\n\treturn 0;\n}}\n'
                 'char _license[] SEC("license") = "GPL";\n', 1, policy.REFUSED_HELPERS[6][1]),
    "graph.elements": ("input -> lokup -> out\ninput(to-x) -> dec-ttl\n", 2, "did you mean 'lookup'?"),
}  # fmt: skip


class Routed(Shell):
    """Hosts a, b and c around r, whose program forwards; 10.9.0.2 is b."""

    def __init__(self, own: OwnPlace, directory: Path):
        super().__init__(own, directory)
        self.place = own.place
        self.file("r.elements", OWN_TABLE)
        self.vini("up", self.file("net.yaml", NET))

    def file(self, name: str, text: str) -> str:
        (self.directory / name).write_text(text)
        return name

    def inside(self, sliver: str, command: str) -> str:
        """What a command prints in a sliver, no agent asked."""
        with netns.inside(self.place.pin(f"s.{sliver}")):
            return run("sh", "-c", command, check=False)

    def pings(self, to: str = "10.9.0.2", count: int = 3) -> bool:
        return f" {count} received" in self.inside("a", f"ping -n -i 0.02 -W 5 -c {count} {to}")

    def fare(self) -> dict:
        (found,) = self.json("program", "list")
        return found

    def packets(self, counter: str) -> int:
        return int(self.json("program", "read", "r", counter)[counter][0]["packets"])

    def received(self, sliver: str) -> int:
        return int(self.inside(sliver, "awk '/to-r:/ {print $3}' /proc/net/dev"))

    def is_whole(self) -> bool:
        return self.own.is_as_asked("s") and self.pings()


@pytest.fixture
def net(own: OwnPlace, tmp_path: Path) -> Routed:
    made = Routed(own, tmp_path)
    eventually(made.pings)
    return made


# --- read and write -------------------------------------------------------------------------------


def test_counters_and_tables_by_name(net):
    before = net.packets("seen.passed")
    assert net.pings(count=10)
    assert net.packets("seen.passed") >= before + 20, "there and back"
    assert {"ip4": "10.9.0.2/32", "out": "to-b"} in net.json("program", "read", "r")["routes.routes"]
    printed = net.vini("program", "read", "r")
    assert "ttl.expired" in printed
    assert "10.9.0.2/32" in printed
    assert "did you mean 'routes.routes'?" in net.vini("program", "read", "r", "routes.ruotes", code=1)
    assert "has no program" in net.vini("program", "read", "a", code=1)


def test_a_row_that_is_written_leads_packets_elsewhere(net):
    net.vini("program", "write", "r", "routes.routes", "10.9.0.2", "to-c")
    before = net.received("c")
    assert not net.inside("a", "ping -n -q -i 0.02 -W 1 -c 10 10.9.0.2").count(" 10 received")
    assert net.received("c") >= before + 10
    assert net.own.is_as_asked("s"), "what a user writes is no fault to heal"
    net.vini("program", "write", "r", "routes.routes", "10.9.0.2", "to-b")
    assert net.pings()
    net.vini("program", "write", "r", "routes.routes", "10.9.0.2", "--delete")
    assert not net.inside("a", "ping -n -q -W 1 -c 1 10.9.0.2").count(" 1 received")
    assert "no such key" in net.vini("program", "write", "r", "routes.routes", "10.9.0.2", "--delete", code=1)
    assert "to-x" in net.vini("program", "write", "r", "routes.routes", "10.9.0.2", "to-x", code=1)
    assert "to-x" in net.vini("program", "write", "r", "routes.routes", "to-x", "--delete", code=1)
    assert "it is 0. (to begin anew)" in net.vini("program", "write", "r", "seen.passed", "0", "1", code=1)
    assert "no rows to take out" in net.vini("program", "write", "r", "seen.passed", "0", "--delete", code=1)


def test_a_counter_is_set_to_nothing_and_counts_on(net):
    assert net.pings(count=10)
    kept = net.packets("ttl.expired")
    net.vini("program", "write", "r", "seen.passed", "0")
    assert net.packets("seen.passed") < 20
    assert net.packets("ttl.expired") == kept
    before = net.packets("seen.passed")
    assert net.pings(count=10)
    assert net.packets("seen.passed") >= before + 20


def test_top_shows_what_programs_handle(net):
    (shown,) = [row for row in net.json("top", "-n", "1", "-d", "0.1") if "program" in row]
    assert shown["sliver"] == "r"
    assert set(shown["program"]) == {"pps", "over_budget_pps"}
    assert shown["counters"]["seen.passed"]["packets"] > 0
    printed = net.vini("top", "-n", "1", "-d", "0.1")
    assert "OVER BUDGET p/s" in printed
    assert any(row.split()[:2] == ["r", "seen.passed"] for row in printed.splitlines())


# --- replace and refuse ---------------------------------------------------------------------------


def test_a_flow_loses_nothing_when_its_program_is_replaced(net):
    seen = net.packets("seen.passed")
    with Flow(net) as flow:
        net.vini(
            "program",
            "load",
            "r",
            net.file("tapped.elements", OWN_TABLE.replace("count ->", "count -> more :: count ->")),
        )
        net.vini("program", "load", "r", net.file("same.elements", "# the same, written anew\n" + OWN_TABLE))
        net.vini("program", "load", "r", net.file("again.elements", "# and again\n" + OWN_TABLE))
    assert flow.sent > 0
    assert flow.received == list(range(flow.sent))
    assert net.fare()["file"] == "again.elements"
    assert 0 < net.packets("seen.passed") < seen + 2 * flow.sent
    net.vini("program", "unload", "r")
    assert net.json("program", "list") == []
    eventually(net.is_whole)


@pytest.mark.parametrize("name", MISTAKEN)
def test_a_refused_program_leaves_the_old_one_at_work(net, name):
    text, code, said = MISTAKEN[name]
    with Flow(net) as flow:
        complaint = net.vini("program", "load", "r", net.file(name, text), code=code)
    assert complaint.startswith("error: ")
    assert said in complaint
    assert flow.received == list(range(flow.sent))
    assert net.fare()["file"] == "r.elements"
    assert net.is_whole()
    assert "3 of 3" in net.vini("status") or "4 of 4" in net.vini("status")


DYING = {
    "import.py": ("import nonsense\n", "No module named 'nonsense'"),
    "exit.py": ("print('not today')\nraise SystemExit(0)\n", "not today"),
    "syntax.py": ("def f(:\n", "line 1, column 7: This is no Python"),
}


@pytest.mark.parametrize("name", DYING)
def test_a_python_program_that_ends_at_once_leaves_the_old_one_at_work(net, name):
    text, said = DYING[name]
    complaint = net.vini("program", "load", "r", net.file(name, text), code=2 if name == "syntax.py" else 1)
    assert said in complaint
    assert net.fare()["file"] == "r.elements"
    eventually(net.is_whole)


ROUTER = """\
from vini.packets import Router, run
class Mute(Router):
    def packets(self, batch):
        return []
run(Mute())
"""


def test_a_python_program_is_loaded_once_it_has_opened_its_vifs(net):
    net.vini("program", "load", "r", net.file("mute.py", ROUTER))
    assert net.fare()["file"] == "mute.py"
    assert "4 of 4" in net.vini("status")
    assert {row["vif"] for row in net.json("program", "read", "r")["vifs"]} == {"to-a", "to-b", "to-c"}
    assert "The program has no 'to-x': did you mean" in net.vini("program", "read", "r", "to-x", code=1)


def test_a_file_is_looked_over_without_loading_it(net):
    assert "fit for xdp" in net.vini("program", "check", "--vifs", "to-a,to-b,to-c", "r.elements")
    text, _, said = MISTAKEN["graph.elements"]
    assert said in net.vini("program", "check", "--vifs", "to-a", net.file("graph.elements", text), code=2)
    text, _, said = MISTAKEN["verifier.c"]
    assert said in net.vini("program", "check", "--vifs", "to-a", net.file("verifier.c", text), code=1)


# --- the hook -------------------------------------------------------------------------------------


def test_a_delay_that_comes_and_goes_moves_the_program(net):
    assert net.fare()["hook"] == "xdp"
    net.vini("link", "r", "b", "--delay", "5ms")
    moved = net.fare()
    assert (moved["hook"], "to-b" in moved["why"]) == ("tc", True)
    eventually(net.is_whole)
    complaint = net.vini("program", "load", "r", "r.elements", "--hook", "xdp", code=3)
    assert "would bypass the shaping of to-b" in complaint
    net.vini("link", "r", "b", "--delay", "0ms")
    assert net.fare()["hook"] == "xdp"
    eventually(net.is_whole)


@contextlib.contextmanager
def _listening(net: Shell, family: int) -> Iterator[list[int]]:
    """A server of b that counts what one connection brings, and sends as much back."""
    got = [0]
    with netns.inside(net.place.pin("s.b")):
        server = socket.create_server(("", 5001), family=family)

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            with connection:
                while chunk := connection.recv(1 << 16):
                    got[0] += len(chunk)
                    connection.sendall(chunk)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield got
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(timeout=60)


def carried(net: Shell, family: int, address: str, size: int) -> int:
    """Bytes that came back of those that a sent to b over TCP."""
    with _listening(net, family):
        with netns.inside(net.place.pin("s.a")):
            connection = socket.create_connection((address, 5001), timeout=60)
        with connection:
            sender = threading.Thread(target=lambda: (connection.sendall(bytes(size)), connection.shutdown(1)))
            sender.start()
            back = sum(len(chunk) for chunk in iter(lambda: connection.recv(1 << 16), b""))
            sender.join()
    return back


@pytest.mark.parametrize("hook", ["xdp", "tc"])
def test_checksums_are_right_behind_a_program(net, hook):
    """What a socket sends has no checksum yet when it enters a veth; XDP forgets that."""
    net.vini("program", "load", "r", net.file("fib.elements", KERNELS_TABLE), "--hook", hook)
    (v6,) = (w.split("/")[0] for w in net.inside("b", "ip -6 -o addr show dev to-r scope global").split() if "/" in w)
    eventually(net.pings)
    eventually(lambda: net.pings(v6))
    hits = net.packets("fib.hits")
    assert carried(net, socket.AF_INET, "10.9.0.2", 3_000_000) == 3_000_000
    assert carried(net, socket.AF_INET6, v6, 3_000_000) == 3_000_000
    with Flow(net) as flow:
        eventually(lambda: flow.sent > 100)
    assert flow.received == list(range(flow.sent))
    assert net.packets("fib.hits") > hits + flow.sent
    for sliver in "ab":
        counted = dict(line.split()[:2] for line in net.inside(sliver, "nstat -asz").splitlines() if "InCsum" in line)
        assert {"TcpInCsumErrors", "UdpInCsumErrors", "Udp6InCsumErrors"} <= counted.keys()
        assert set(counted.values()) == {"0"}, f"{sliver}: {counted}"


# --- crashes and vandals --------------------------------------------------------------------------


def test_packets_go_on_while_no_agent_lives(net):
    seen = net.packets("seen.passed")
    net.own.kill_agent()
    assert net.pings(count=20)
    assert net.own.agents() == []
    assert net.packets("seen.passed") >= seen + 40, "the next command starts an agent, which finds it all"
    assert net.is_whole()


VANDALS = {
    "XDP taken off": ("r", "ip link set dev to-b xdp off"),
    "the vif down": ("r", "ip link set to-b down"),
    "the vif down and up": ("r", "ip link set to-b down; ip link set to-b up"),
    "the other end down": ("b", "ip link set to-r down"),
    "the other end down and up": ("b", "ip link set to-r down; ip link set to-r up"),
    "offloads of the other end": ("b", "ethtool -K to-r gro off tx on"),
    "the pair deleted": ("r", "ip link del to-b"),
}


@pytest.mark.parametrize("what", VANDALS)
def test_what_a_vandal_does_to_xdp_is_healed(net, what):
    """Redirecting needs the program, NAPI at the other end, and both ends up, whichever comes last."""
    net.inside(*VANDALS[what])
    eventually(net.is_whole)


def test_what_a_vandal_does_to_tc_is_healed(net):
    net.vini("program", "load", "r", "r.elements", "--hook", "tc")
    net.inside("r", "tc qdisc del dev to-b clsact; tc filter del dev to-a ingress")
    eventually(net.is_whole)


@pytest.mark.parametrize("pin", ["whole", "hooks", "shares", "calls_xdp", "."])
def test_lost_pins_are_healed(net, pin):
    at = Shelf(net.place, "s.r").at / pin
    run("rm", "-rf", at)
    eventually(net.is_whole)
    assert libbpf.pinned(Shelf(net.place, "s.r").at / "whole") > 0


@pytest.mark.parametrize("link", [("a", "r"), ("r", "b")])
def test_a_link_that_failed_is_a_target_of_xdp_again(net, link):
    net.vini("link", *link, "--fail", "carrier")
    assert not net.inside("a", "ping -n -q -W 1 -c 1 10.9.0.2").count(" 1 received")
    net.vini("link", *link, "--restore")
    eventually(net.is_whole)


def test_down_takes_maps_pins_and_the_mount_along(net):
    assert Shelf(net.place, "s.r").at.is_dir()
    net.vini("down")
    assert not (net.place.run / "bpf").exists()
    assert str(net.place.run / "bpf") not in Path("/proc/self/mountinfo").read_text()
    assert not [m for m in subprocess.run(["mount", "-t", "bpf"], capture_output=True, text=True).stdout.splitlines()
                if str(net.place.run) in m]  # fmt: skip
