"""The binding of libbpf: objects opened, chosen from, loaded, pinned; maps read and written; packets tried."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vini.node import libbpf, netns
from vini.node.compile import compile_program
from vini.node.libbpf import SCHED_CLS, XDP, BpfObject, MapHead, Refused

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.needs("programs"),
]
TEXT = r"""
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 2); __type(key, __u32); __type(value, __u16); }
	table SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, __u32); }
	each SEC(".maps");
const volatile __u32 verdict = 1;
SEC("xdp") int first(struct xdp_md *c)
{
	__u32 zero = 0, *n = bpf_map_lookup_elem(&each, &zero);
	if (n)
		(*n)++;
	__u8 *at = (void *)(long)c->data;
	if (at + 1 > (__u8 *)(long)c->data_end)
		return XDP_DROP;
	*at = 0xaa;
	return verdict;
}
SEC("tc") int second(struct __sk_buff *c) { __u32 i = c->ifindex; return bpf_map_lookup_elem(&table, &i) ? 1 : 2; }
SEC("xdp/careless") int third(struct xdp_md *c) { return *(__u8 *)(long)c->data; }
char _license[] SEC("license") = "GPL";
"""


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compile_program(TEXT, "tried.c", "tc", tmp_path_factory.mktemp("include"))


@pytest.fixture
def loaded(elf: bytes) -> Iterator[BpfObject]:
    with BpfObject(elf) as o:
        o.choose({"first": XDP, "second": SCHED_CLS})
        o.load()
        yield o


def test_an_object_is_looked_over_before_it_is_loaded(elf: bytes) -> None:
    with BpfObject(elf) as o:
        assert {(p.name, p.section) for p in o.programs()} == {
            ("first", "xdp"), ("second", "tc"), ("third", "xdp/careless")
        }  # fmt: skip
        table, each, constants = sorted(o.maps(), key=lambda m: m.max_entries + m.internal * 10)
        assert {table.name, each.name} == {"table", "each"} and constants.internal
        assert MapHead("table", "hash", 4, 2, 2) in (table, each)


def test_what_is_no_object_is_refused_with_libbpfs_words() -> None:
    with pytest.raises(Refused) as refused:
        BpfObject(b"not ELF")
    assert refused.value.log


def test_libbpfs_words_are_those_of_the_thread_that_it_said_them_in() -> None:
    """It has one function to say them by; what a thread gave it must not go while another may be calling it."""
    began, over = threading.Event(), threading.Event()
    theirs: list[str] = []
    ours: list[str] = []

    def another() -> None:
        with libbpf._words_into(theirs):
            began.set()
            assert over.wait(60)

    with ThreadPoolExecutor(1) as pool, libbpf._words_into(ours):
        listening = pool.submit(another)
        assert began.wait(60)
        for end in (lambda: None, over.set):
            end()
            if over.is_set():
                listening.result(timeout=60)
            assert not libbpf._library().bpf_object__open_mem(b"no object", 9, None)
    assert theirs == [] and len(ours) == 2 and all("ELF" in words for words in ours)


def test_no_more_is_read_of_a_key_or_value_than_it_has(loaded: BpfObject) -> None:
    head, fd = next(m for m in loaded.maps() if m.name == "table"), loaded.map_fd("table")
    for key, value in ((b"\0\0", b"\0\0"), (b"\0" * 4, b"\0")):
        with pytest.raises(ValueError, match="keys of 4 bytes and values of 2"):
            libbpf.update(fd, head, key, value)
    with pytest.raises(ValueError, match="keys of 4 bytes"):
        libbpf.lookup(fd, head, b"")


def test_the_verifier_refuses_and_its_log_names_the_line(elf: bytes) -> None:
    with BpfObject(elf) as o:
        o.choose({"third": XDP})
        with pytest.raises(Refused) as refused:
            o.load()
    assert "invalid access to packet" in refused.value.log


def test_a_program_runs_on_a_packet(loaded: BpfObject) -> None:
    ran = libbpf.test_run(loaded.program_fd("first"), bytes(64), repeat=10)
    assert (ran.returned, ran.packet[:2], len(ran.packet)) == (1, b"\xaa\0", 64)
    fd = loaded.map_fd("each")
    counts = libbpf.lookup(fd, libbpf.map_record(fd), struct.pack("=I", 0))
    assert counts is not None and len(counts) == libbpf.processors()
    assert sum(struct.unpack("=I", v)[0] for v in counts) == 10


def test_a_constant_is_set_before_loading(elf: bytes) -> None:
    with BpfObject(elf) as o:
        o.set_initial(next(m.name for m in o.maps() if m.internal), struct.pack("=I", 2))
        o.choose({"first": XDP})
        o.load()
        assert libbpf.test_run(o.program_fd("first"), bytes(64)).returned == 2


def test_maps_are_written_read_listed_emptied(loaded: BpfObject) -> None:
    fd = loaded.map_fd("table")
    head = libbpf.map_record(fd)
    assert head == MapHead("table", "hash", 4, 2, 2)
    libbpf.update(fd, head, b"aaaa", b"xx")
    libbpf.update(fd, head, b"bbbb", b"yy")
    assert sorted(libbpf.keys(fd, head)) == [b"aaaa", b"bbbb"]
    assert libbpf.lookup(fd, head, b"bbbb") == [b"yy"]
    with pytest.raises(OSError, match="writing to the map table"):
        libbpf.update(fd, head, b"cccc", b"zz")
    assert libbpf.delete(fd, b"aaaa") and not libbpf.delete(fd, b"aaaa")
    assert libbpf.lookup(fd, head, b"aaaa") is None


def test_a_map_lives_on_in_another_object(loaded: BpfObject, elf: bytes) -> None:
    fd = loaded.map_fd("table")
    libbpf.update(fd, libbpf.map_record(fd), struct.pack("=I", 1), b"xx")
    with BpfObject(elf) as other:
        other.reuse("table", fd)
        other.choose({})
        other.load()
        mine = other.map_fd("table")
        assert libbpf.lookup(mine, libbpf.map_record(mine), struct.pack("=I", 1)) == [b"xx"]


def test_pins_outlive_the_object(elf: bytes, tmp_path: Path) -> None:
    netns.mount_programs(tmp_path)
    try:
        assert tmp_path.stat().st_mode & 0o777 == 0o700
        with BpfObject(elf) as o:
            o.choose({"first": XDP})
            o.load()
            libbpf.pin(o.program_fd("first"), tmp_path / "first")
            with pytest.raises(FileExistsError):
                libbpf.pin(o.program_fd("first"), tmp_path / "first")
            id_ = libbpf.program_record(o.program_fd("first")).id
        fd = libbpf.pinned(tmp_path / "first")
        record = libbpf.program_record(fd)
        os.close(fd)
        assert (record.id, record.name) == (id_, "first")
        with pytest.raises(FileNotFoundError):
            libbpf.pinned(tmp_path / "second")
    finally:
        netns.unmount(tmp_path)


def test_running_time_counts_while_asked_for(loaded: BpfObject) -> None:
    fd = loaded.program_fd("first")
    libbpf.test_run(fd, bytes(64), repeat=10)
    before = libbpf.program_record(fd).runs
    counting = libbpf.statistics()
    libbpf.test_run(fd, bytes(64), repeat=10)
    os.close(counting)
    after = libbpf.program_record(fd)
    assert after.runs == before + 10 and after.run_ns > 0


def test_an_array_of_one_value() -> None:
    value = os.urandom(9001)
    fd = libbpf.make_array("a_name", value)
    assert libbpf.lookup(fd, libbpf.map_record(fd), bytes(4)) == [value]
    os.close(fd)


def test_live_frames_are_acted_upon(loaded: BpfObject) -> None:
    libbpf.send_live(loaded.program_fd("first"), bytes(64), 1000)
    fd = loaded.map_fd("each")
    counts = libbpf.lookup(fd, libbpf.map_record(fd), struct.pack("=I", 0)) or []
    assert sum(struct.unpack("=I", v)[0] for v in counts) == 1000
