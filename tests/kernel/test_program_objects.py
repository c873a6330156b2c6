"""Programs that somebody else compiled: whatever is in the file, it runs by the policy or is refused in a sentence."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from own_place import OwnPlace
from test_commands import Shell

from vini import nearby
from vini.elf import Elf
from vini.model import DriverError, Program, TopologyError
from vini.node import policy
from vini.node.programs import compiled, verify
from vini.plugins.programs import prepare
from vini.text.objects import MOST_BYTES, encoded
from vini.topology import dump, parse

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.needs("programs"),
]
HEAD = """#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
char _license[] SEC("license") = "GPL";
"""
WIRE = (
    HEAD
    + """struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, __s64); }
	ways SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); }
	seen SEC(".maps");
SEC("tc") int wire(struct __sk_buff *c)
{
	__u32 zero = 0, in = c->ifindex;
	__u64 *n = bpf_map_lookup_elem(&seen, &zero);
	__s64 *out = bpf_map_lookup_elem(&ways, &in);

	if (n)
		__sync_fetch_and_add(n, 1);
	return out ? bpf_redirect(*out, 0) : TC_ACT_UNSPEC;
}
SEC("tc/egress/to-b") int away(struct __sk_buff *c) { return TC_ACT_UNSPEC; }
"""
)
CARELESS = (
    HEAD
    + """static __noinline int deep(struct __sk_buff *c, int x) { char *d = (void *)(long)c->data; return d[x & 4000]; }
static __noinline int middle(struct __sk_buff *c, int x) { return deep(c, x) + deep(c, x + 1); }
SEC("tc") int good(struct __sk_buff *c) { return 0; }
SEC("tc/egress") int bad(struct __sk_buff *c) { return c->len > 60 ? middle(c, c->len) : 0; }
"""
)


@cache
def clang(text: str, *flags: str) -> bytes:
    """As its author would: with the compiler of this machine, by hand."""
    headers = [str(p.parent) for p in Path("/usr/include").glob("*-linux-gnu*/asm")]
    with TemporaryDirectory() as directory:
        (Path(directory) / "own.c").write_text(text)
        argv = ["clang", "-O2", "-target", "bpf", *(f"-I{h}" for h in headers), *flags, "-c", "own.c", "-o", "own.o"]
        subprocess.run(argv, cwd=directory, capture_output=True, check=True)
        return (Path(directory) / "own.o").read_bytes()


def refusal(raw: bytes, hook: str = "tc") -> str:
    """What the node says; it must refuse."""
    with pytest.raises(DriverError) as refused:
        units = compiled(encoded(raw), "given.o", hook)  # type: ignore[arg-type]
        verify(units, encoded(raw), "given.o")
    return str(refused.value)


def wire() -> bytes:
    return clang(WIRE, "-g")


def test_what_a_compiler_makes_is_loaded() -> None:
    (unit,) = compiled(encoded(wire()), "given.o", "tc")
    assert set(unit.programs) == {"wire", "away"}
    verify([unit], encoded(wire()), "given.o")
    made = prepare("r", Program("object", encoded(wire()), "given.o"), ["to-a", "to-b"], ())
    assert {(e.direction, e.vif, e.function) for e in made.entrances} == {
        ("input", "", "wire"), ("output", "to-b", "away")
    }  # fmt: skip


# --- hostile files --------------------------------------------------------------------------------


def patched(at: int, form: str, *values: int) -> Callable[[bytes], bytes]:
    def patch(raw: bytes) -> bytes:
        out = bytearray(raw)
        struct.pack_into(form, out, at, *values)
        return bytes(out)

    return patch


def renamed(old: str, new: str) -> Callable[[bytes], bytes]:
    assert len(old) == len(new)

    def rename(raw: bytes) -> bytes:
        assert old.encode() in raw
        return raw.replace(old.encode(), new.encode())

    return rename


def overlapping(raw: bytes) -> bytes:
    """Each of thousands of sections says that it is the whole file."""
    head = struct.pack("<IIQQQQIIQQ", 0, 1, 0, 0, 0, len(raw), 0, 0, 0, 0)
    out = bytearray(raw) + head * 30_000
    struct.pack_into("<Q", out, 40, len(raw))  # where the heads begin
    struct.pack_into("<H", out, 60, 30_000)  # and how many there are
    return bytes(out)


def many_maps(raw: bytes) -> bytes:
    """The list of maps says that it has 60000."""
    btf = Elf(raw).section(".BTF").content
    two = btf.index(struct.pack("<I", 15 << 24 | 2))  # a BTF_KIND_DATASEC of two: .maps
    return patched(raw.index(btf) + two, "<I", 15 << 24 | 60_000)(raw)


HOSTILE = {
    "nothing": (lambda _: b"", "cut short"),
    "no object": (lambda _: b"#!/bin/sh\necho no\n" * 99, "it is no ELF object file for eBPF"),
    "this machine's": (lambda _: Path("/bin/true").read_bytes(), "it is an object file for another machine"),
    "another machine's": (patched(18, "<H", 62), "for another machine (number 62)"),
    "of 32 bits": (patched(4, "<B", 1), "it is no ELF object file for eBPF"),
    "of another byte order": (patched(5, "<B", 2), "it is no ELF object file for eBPF"),
    "heads at no place that there is": (patched(40, "<Q", (1 << 64) - 1), "cut short"),
    "heads beyond the end": (patched(40, "<Q", 1 << 40), "cut short"),
    "more sections than there are": (patched(60, "<H", 65_535), "cut short"),
    "names in no section": (patched(62, "<H", 65_000), "cut short"),
    "sections that overlap": (overlapping, "its sections overlap"),
    "other sections": (renamed("tc/egress/to-b", "kprobe/do_exit"), 'can\'t be in the section "kprobe/do_exit"'),
    "a vif that leads out": (renamed("tc/egress/to-b", "tc/egress/../."), "can't be in the section"),
    "a function that is a path": (renamed("wire", "../x"), 'A function or map can\'t be called "../x"'),
    "a map that is a path": (renamed("ways", "a/.b"), 'A function or map can\'t be called "a/.b"'),
    "letters that ring": (renamed("wire", "\a\x1b[m"[:4]), "can't be printed"),
    "maps without number": (many_maps, "it has more than 1024 maps"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_refused_in_a_sentence(what: str) -> None:
    spoil, said = HOSTILE[what]
    told = refusal(spoil(wire()))
    assert said in told
    assert told.startswith("The policy of this node refuses given.o:\n") and told.endswith(".")


def test_an_object_that_is_cut_anywhere_is_refused_or_is_whole() -> None:
    for length in range(0, len(wire()), 97):
        assert "given.o" in refusal(wire()[:length])


def test_a_byte_that_flips_breaks_nothing_and_says_nothing_else() -> None:
    raw = wire()
    for at in range(0, len(raw), 41):
        spoilt = raw[:at] + bytes([raw[at] ^ 0x41]) + raw[at + 1 :]
        try:
            prepare("r", Program("object", encoded(spoilt), "given.o"), ["to-a", "to-b"], ())
            verify(compiled(encoded(spoilt), "given.o", "tc"), encoded(spoilt), "given.o")
        except (DriverError, TopologyError) as e:
            assert "given.o" in str(e)


def test_types_that_are_missing_are_asked_for() -> None:
    assert "Its maps have no types; compile it with -g." in refusal(clang(WIRE))


def test_an_object_that_is_too_long_is_refused_where_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "long.o").write_bytes(bytes(MOST_BYTES + 1))
    shell = subprocess.run(
        [sys.executable, "-m", "vini.cli", "program", "check", "--vifs", "to-a", "long.o"],
        cwd=tmp_path, capture_output=True, text=True, env=os.environ,
    )  # fmt: skip
    assert shell.returncode == 2
    assert "An object file has 2 MiB at most, not 2097153 bytes." in shell.stderr


def test_of_many_violations_the_first_are_told() -> None:
    calls = "".join(f'asm volatile(".byte 0x85,0,0,0,{n},4,0,0" ::: "r0");' for n in range(policy._MOST_TOLD + 9))
    told = refusal(clang(HEAD + f'SEC("tc") int f(void *c) {{ {calls} return 0; }}', "-g"))
    assert told.endswith("And 9 more.")


# --- the verifier ---------------------------------------------------------------------------------


def test_the_verifiers_words_beside_the_instruction_and_the_nearest_symbol() -> None:
    """`deep` is the second function of .text, and comes second behind `bad` in what the kernel numbers."""
    told = refusal(clang(CARELESS))
    assert told.startswith('The kernel refused given.o:\ngiven.o: section ".text", instruction ')
    assert "(deep+3): invalid access to packet" in told
    assert told.splitlines()[2].strip() == "r0 = *(u8 *)(r1 +0)"


def test_the_line_of_the_source_where_the_object_has_it() -> None:
    last = refusal(clang(CARELESS, "-g")).splitlines()[-1]
    assert last.startswith("    own.c:5: static __noinline int deep(") and last.endswith("return d[x & 4000]; }")


# --- live -----------------------------------------------------------------------------------------

NET = """\
name: s
slivers:
  a: {}
  r: {forward: true, program: wire.o}
  b: {}
links: [a -- r, r -- b]
"""


def test_an_object_file_in_a_topology(own: OwnPlace, tmp_path: Path) -> None:
    """Loaded, read as numbers, written, kept when its author's next attempt is refused."""
    shell = Shell(own, tmp_path)
    (tmp_path / "wire.o").write_bytes(wire())
    (tmp_path / "careless.o").write_bytes(clang(CARELESS))
    (tmp_path / "net.yaml").write_text(NET)
    shell.vini("up", "net.yaml")
    (fare,) = shell.json("program", "list")
    assert (fare["kind"], fare["file"], fare["hook"], fare["why"]) == ("object", "wire.o", "tc", "its sections say so")
    shell.vini("ping", "a", "r", "-c", "1")
    assert int(shell.json("program", "read", "r", "seen")["seen"][0]["value"]) > 0
    shell.vini("program", "write", "r", "ways", "7", "--", "-1")
    assert shell.json("program", "read", "r", "ways")["ways"] == [{"key": "7", "value": "-1"}]
    assert "(deep+3): invalid access" in shell.vini("program", "load", "r", "careless.o", code=1)
    assert own.is_as_asked("s")
    assert "fit for tc" in shell.vini("program", "check", "--vifs", "to-a,to-b", "wire.o")
    written = dump(parse(NET, "net.yaml", read_file=nearby.reader(tmp_path)))
    (tmp_path / "written.yaml").write_text(written)
    shell.vini("program", "unload", "r")
    shell.vini("up", "written.yaml")
    assert shell.json("program", "list")[0]["kind"] == "object", "a topology that is written out has it in base64"
