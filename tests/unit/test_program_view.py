"""What a sliver's program holds, by the names that its author gave."""

import json
import sys

import pytest
from msgspec.structs import replace

from vini.c_tables import Integer, declared
from vini.model import End, Link, NotFound, Program, Sliver, Topology, ViniError
from vini.program_view import View, hooked, of_process

C = """\
#include "runtime.h"
struct { /* { */
	__uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __s64);
} seen SEC(".maps"), more SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __type(key, unsigned int); __type(value, struct two); } odd SEC(".maps");
SEC("tc") int f(struct __sk_buff *c) { return -1; }
"""
ELEMENTS = "input -> t :: route4(routes={10.9.0.0/16 = to-b}) -> out\nt[none] -> kernel\n"


def view(kind: str, text: str) -> View:
    program = Program(kind, text, "p")  # type: ignore[arg-type]
    slivers = {"a": Sliver("a", program=program), "b": Sliver("b")}
    return View(Topology("s", slivers, (Link((End("a"), End("b"))),)), "a")


def raw(number: int, width: int) -> bytes:
    return number.to_bytes(width, sys.byteorder, signed=number < 0)


def test_the_integers_of_a_table_are_known_by_its_declaration() -> None:
    found = declared(C)
    assert set(found) == {"seen", "more", "odd"}
    assert (found["seen"].key, found["seen"].value) == (Integer(4, False), Integer(8, True))
    assert (found["odd"].key, found["odd"].value) == (Integer(4, False), None)


def test_a_program_in_c_is_shown_in_numbers_and_without_the_nodes_own_tables() -> None:
    held = {
        "seen": {raw(7, 4): [raw(-2, 8)]},
        "odd": {raw(1, 4): [b"\x0a\x0b"]},
        "vifs": {b"\0" * 4: [b"\0" * 16]},
        "counters": {b"\0" * 4: [b"\0" * 16]},
    }
    shown = {s.name: s.rows for s in view("c", C).show(held)}
    assert shown == {"seen": (("7", "-2"),), "odd": (("1", "0a0b"),)}


def test_a_table_of_the_users_own_that_is_named_as_one_of_the_nodes_is_shown() -> None:
    text = C.replace("seen", "vifs")
    assert [s.name for s in view("c", text).show({"vifs": {raw(7, 4): [raw(1, 8)]}})] == ["vifs"]


def test_a_row_of_numbers_is_written_as_it_is_shown() -> None:
    shown = view("c", C)
    assert shown.entry("seen", "7", ["-2"]) == ("seen", raw(7, 4), raw(-2, 8))
    assert shown.entry("odd", "0x10", ["0a", "0b"]) == ("odd", raw(16, 4), b"\x0a\x0b")
    assert shown.key("seen", "7") == ("seen", raw(7, 4))


@pytest.mark.parametrize("key", ["zz", "-1", "4294967296"])
def test_a_key_that_is_none_is_told_in_a_sentence(key: str) -> None:
    for ask in (lambda v: v.key("seen", key), lambda v: v.entry("seen", key, ["1"])):
        with pytest.raises(ViniError, match=r"is no whole number of 32 bits without a sign\. \(write it as"):
            ask(view("c", C))


def test_hexadecimal_that_is_none_is_told_in_a_sentence() -> None:
    with pytest.raises(ViniError, match="written in hexadecimal"):
        view("c", C.replace("__u32", "struct k")).key("seen", "zz")


def test_where_it_runs_is_told_as_its_node_has_it() -> None:
    """A link that leads to another node has no XDP; of placed slivers on one node all is as on this machine."""
    program = Program("elements", ELEMENTS, "p")
    net = Topology("s", {"a": Sliver("a", program=program), "b": Sliver("b")}, (Link((End("a"), End("b"))),))
    here = hooked(net, "a", {"a": "n1", "b": "n1"})
    assert (here.hook, here.why) == (hooked(net, "a").hook, hooked(net, "a").why)
    apart = hooked(net, "a", {"a": "n1", "b": "n2"})
    assert apart.hook == "tc" and "lead to other nodes" in apart.why
    at_xdp = hooked(replace(net, tunnel="vxlan-xdp"), "a", {"a": "n1", "b": "n2"})
    assert (at_xdp.hook, at_xdp.why) == (here.hook, here.why) == ("xdp", here.why)


def test_a_key_of_elements_that_is_none_is_told_in_a_sentence() -> None:
    with pytest.raises(ViniError, match="zz"):
        view("elements", ELEMENTS).key("t.routes", "zz")


def test_elements_without_counters_and_tables_show_nothing_of_the_nodes() -> None:
    assert view("elements", "input -> out\n").show({"vifs": {}, "counters_cec7ea": {}}) == []


def test_a_process_is_shown_by_the_counters_that_it_writes() -> None:
    text = json.dumps({"at": 1.5, "vifs": {"to-b": {"packets_in": 3, "bytes_in": 300}}})
    (shown,) = of_process(text, "")
    assert (shown.name, shown.headings, shown.rows) == (
        "vifs",
        ("vif", "packets_in", "bytes_in"),
        (("to-b", "3", "300"),),
    )
    assert of_process(text, "to-b") == of_process(text, "vifs") == [shown]
    with pytest.raises(NotFound, match="did you mean 'to-b'"):
        of_process(text, "to-c")


@pytest.mark.parametrize("text", ["", "[]", '{"vifs": {"to-b": 1}}'])
def test_counters_that_nobody_can_read_are_told_in_a_sentence(text: str) -> None:
    with pytest.raises(ViniError, match="can't be read"):
        of_process(text, "")
