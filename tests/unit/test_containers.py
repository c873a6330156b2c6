"""Containers, the parts that touch no machine: what they are asked to be, their policy, what nodes must have."""

from __future__ import annotations

import json
import socket

import pytest
from msgspec.structs import replace

from vini.embed import embed
from vini.model import Container, Disk, File, Netns, Node, Process, Root, TopologyError, Unsupported, Volume
from vini.node.container import config, seccomp
from vini.topology import dump, parse

ABLE = Node("n", frozenset({"root", "cgroup2", "containers", "disks", "frr", "bird", "memory-reserve", "io-weight"}))
FILE = """
name: s
defaults: {sliver: {runtime: container, resources: {memory: 64MB}}}
routing: ospf
slivers:
  a:
    resources: {cores: 0.25, pids: 20, weight: 300, memory_high: 48MB, disk: 1GB, inodes: 5000, disk_write: 9MB/s}
    files: {/etc/x: "x"}
  b: {runtime: light}
  c:
    image: "docker://localhost:5000/x/y:1"
    volumes: {data: {at: /data, size: 2GB, inodes: 900}, x: /d/x}
    routing: none
    commands: ["true"]
    resources: {reserve: 0.5, memory_reserve: 32MB, io_weight: 300}
links: [a -- b, b -- c]
"""


def objects(text=FILE, node=ABLE):
    return embed(parse(text), [node])["n"].objects


def test_the_file_says_what_a_container_may_take() -> None:
    boxes = {o.ns: o for o in objects() if isinstance(o, Container)}
    assert boxes == {
        "s.a": Container("s.a", "", 300, 25, 64, 48, 20, disk=True),
        "s.c": Container(
            "s.c",
            "docker://localhost:5000/x/y:1",
            memory_mb=64,
            cpu_percent=50,
            cpu_reserved=True,
            volumes=(("x", "/d/x"), ("data", "/data")),
            bounded=("data",),
            memory_reserved_mb=32,
            io_weight=300,
        ),
    }
    assert [o for o in objects() if isinstance(o, Disk)] == [Disk("s.a", 1000, 5000, write_mb=9)]
    assert [o for o in objects() if isinstance(o, Volume)] == [Volume("s.c", "data", 2000, 900)]
    assert {o.ns: o.tenant for o in objects() if isinstance(o, Netns)} == {"s.a": True, "s.b": False, "s.c": True}


def test_all_processes_of_a_container_run_inside_and_see_only_files_of_its_root() -> None:
    mine = [o for o in objects() if o.key[1] in ("s.a", "s.c")]
    assert {(o.contained, o.rooted) for o in mine if isinstance(o, Process)} == {(True, False)}
    assert all(o.path.startswith("root/") for o in mine if isinstance(o, File))
    assert "root/run/frr/zebra.conf" in {o.path for o in mine if isinstance(o, File)}
    assert not [o for o in mine if isinstance(o, Root)]
    assert not any(o.contained for o in objects() if isinstance(o, Process) and o.ns == "s.b")


def test_it_knows_the_names_of_its_slice() -> None:
    hosts = next(o.text for o in objects() if isinstance(o, File) and o.path == "root/etc/hosts")
    assert {line.split()[-1] for line in hosts.splitlines()} >= {"localhost", "a", "b", "c"}


def test_what_is_written_is_read_as_the_same() -> None:
    assert parse(dump(parse(FILE))) == parse(FILE)


def test_a_node_that_can_not_is_refused_with_what_to_do() -> None:
    with pytest.raises(Unsupported, match=r"'a' is a container.*apt-get install crun"):
        objects(node=Node("n", ABLE.capabilities - {"containers"}))


def test_a_node_that_can_not_bound_a_disk_is_refused_with_what_to_do() -> None:
    with pytest.raises(Unsupported, match=r"'a' has a disk.*modprobe loop"):
        objects(node=Node("n", ABLE.capabilities - {"disks"}))


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ("{reserve: 0.5, cores: 1}", "`cores` says nothing"),
        ("{inodes: 1000}", "`inodes` bounds a disk, and there is none"),
        ("{disk: 1GB, disk_read: 10MB}", "not a rate"),
        ("{disk: 1GB, disk_read: 10kB/s}", "not a rate"),
        ("{weight: 1001}", "out of range"),
    ],
)
def test_what_bounds_nothing_is_a_mistake(resources: str, said: str) -> None:
    with pytest.raises(TopologyError, match=said):
        parse(f"name: s\nslivers: {{a: {{runtime: container, resources: {resources}}}}}")


def test_a_program_that_needs_the_nodes_python_is_refused() -> None:
    with pytest.raises(Unsupported, match="vini.packets, is not seen"):
        objects("name: s\nslivers: {a: {runtime: container, program: {python: pass}}}")


@pytest.mark.parametrize("sliver", ["{resources: {pids: 20}}", "{runtime: light, resources: {pids: 20}}"])
def test_resources_of_what_is_no_container_are_a_mistake(sliver: str) -> None:
    with pytest.raises(TopologyError, match="Only a container's resources"):
        parse(f"name: s\nslivers: {{a: {sliver}}}")


@pytest.mark.parametrize(
    ("volumes", "runtime", "said"),
    [
        ("{d: /data}", "light", "Only a container has volumes"),
        ("{d: /data, e: /data}", "container", "already a volume at /data"),
        ("{d: {size: 1GB}}", "container", "'at'"),
        ("{d: {at: /data, inodes: 200}}", "container", "bounds a volume that has a size"),
        ("{d: {at: /data, size: 1MB}}", "container", "out of range"),
        ("{d: /proc}", "container", "can't be placed in '/proc'"),
        ("{d: data}", "container", "is relative"),
        ("{../d: /data}", "container", "can't be a volume's name"),
    ],
)
def test_a_volume_that_can_not_be_is_a_mistake(volumes: str, runtime: str, said: str) -> None:
    with pytest.raises(TopologyError, match=said):
        parse(f"name: s\nslivers: {{a: {{runtime: {runtime}, volumes: {volumes}}}}}")


@pytest.mark.parametrize("volumes", [{"../../etc": "/x"}, {"": "/x"}, {"d": "/x/../.."}, {"d": "x"}, {"d": "/"}])
def test_a_volume_that_no_file_could_name_is_refused_by_whoever_asks_for_it(volumes: dict[str, str]) -> None:
    now = parse("name: s\nslivers: {a: {runtime: container}}")
    with pytest.raises(TopologyError, match="a volume can't be called"):
        embed(replace(now, slivers={"a": replace(now.slivers["a"], volumes=volumes)}), [ABLE])


@pytest.mark.parametrize(
    ("image", "said"),
    [("docker://a b", "is no image"), ("Name", "is no image"), ("../x", "is no image"), ("/a/../b", "empty, '.' or")],
)
def test_what_is_no_image_is_a_mistake(image: str, said: str) -> None:
    with pytest.raises(TopologyError, match=said):
        parse(f"name: s\nslivers: {{a: {{image: '{image}'}}}}")


@pytest.mark.parametrize(
    ("memory", "said"), [("64", "no unit"), ("1MB", "out of range"), ("much", "not an amount of memory")]
)
def test_memory_has_a_unit_and_bounds(memory: str, said: str) -> None:
    with pytest.raises(TopologyError, match=said):
        parse(f"name: s\nslivers: {{a: {{runtime: container, resources: {{memory: {memory}}}}}}}")


def allowed(call: str, *args: int) -> bool:
    """Whether the policy lets a call through, as libseccomp judges: any rule whose comparisons all hold."""
    for rule in seccomp.profile()["syscalls"]:
        if call in rule["names"] and all(_holds(c, args[c["index"]]) for c in rule.get("args", ())):
            return bool(rule["action"] == "SCMP_ACT_ALLOW")
    return False


def _holds(comparison, value: int) -> bool:
    if comparison["op"] == "SCMP_CMP_EQ":
        return value == comparison["value"]
    return value & comparison["value"] == comparison["valueTwo"]


@pytest.mark.parametrize(
    "call", ["mount", "bpf", "setns", "unshare", "keyctl", "clone3", "io_uring_setup", "kexec_load"]
)
def test_what_would_lead_out_is_not_allowed(call: str) -> None:
    assert not allowed(call)
    assert call not in seccomp.ALLOWED


def test_arguments_are_looked_at_where_they_matter() -> None:
    assert allowed("clone", 0x01200011)  # fork
    assert allowed("clone", 0x003D0F00)  # a thread
    for flag in (0x10000000, 0x00020000, 0x40000000, 0x02000000):
        assert not allowed("clone", flag | 17)
    assert allowed("socket", socket.AF_PACKET)
    assert not allowed("socket", 40)
    assert not allowed("ioctl", 0, 0x5412)
    assert not allowed("ioctl", 0, 0x1_0000_5412)
    assert all(allowed("ioctl", 0, request) for request in (0x5401, 0x5413, 0x5411, 0x8933, 0x400454CA))


def test_nothing_is_both_allowed_and_refused() -> None:
    assert not seccomp.ALLOWED & seccomp.REFUSED


def test_the_configuration_is_json_with_every_namespace() -> None:
    made = config.config("s.a", "/r", ("/u", 600000, 65536), "/n", ["/usr"], "/t", "/b")
    assert json.loads(json.dumps(made)) == made
    kinds = {n["type"] for n in made["linux"]["namespaces"]}
    assert kinds == {"user", "network", "pid", "mount", "uts", "ipc", "cgroup"}
    assert next(m for m in made["mounts"] if m["destination"] == "/usr")["options"] == [
        "rbind",
        "ro",
        "nosuid",
        "nodev",
    ]
    assert made["process"]["noNewPrivileges"]
    assert made["hostname"] == "a"


def test_a_node_without_disks_can_have_no_volume_of_a_size() -> None:
    text = "name: s\nslivers: {a: {runtime: container, volumes: {d: {at: /d, size: 1GB}}}}"
    with pytest.raises(Unsupported, match="has volumes of a size.*leave `size` out"):
        objects(text, replace(ABLE, capabilities=ABLE.capabilities - {"disks"}))
    assert (
        dump(parse(text))
        == "name: s\nslivers:\n  a:\n    runtime: container\n    volumes:\n      d: {at: /d, size: 1GB}\n"
    )


@pytest.mark.parametrize(
    ("lacks", "said"), [("memory-reserve", "only version 2 of cgroups"), ("io-weight", "queue/scheduler")]
)
def test_a_node_that_can_not_keep_it_is_asked_for_no_memory_of_its_own_and_no_weight(lacks: str, said: str) -> None:
    with pytest.raises(Unsupported, match=said):
        objects(FILE, replace(ABLE, capabilities=ABLE.capabilities - {lacks}))


def test_no_more_memory_is_reserved_than_may_be_taken() -> None:
    with pytest.raises(TopologyError, match="may take 64 MB of memory can't have 65 MB reserved"):
        parse(FILE.replace("memory_reserve: 32MB", "memory_reserve: 65MB"))
