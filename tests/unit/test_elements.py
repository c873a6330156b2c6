"""The language of elements: what is understood, what is refused and where, and what text of a table means."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vini.elements import Cell, Compiled, compile_elements, decode, encode, library
from vini.elements.graph import read_graph
from vini.elements.kinds import read_kind
from vini.elements.values import TYPES, pack, unpack
from vini.model import Mistake, TopologyError
from vini.text.mistakes import Mistakes, Wrong

VIFS = ("to-b", "to-c")
ROUTER = """
# a router with its own table
routes :: route4(routes={10.0.0.0/8 = to-b, default = to-c})
input -> sort :: classify(ip, arp)
sort[ip] -> ttl :: dec-ttl -> routes -> out
sort[arp] -> kernel
sort[other] -> kernel
ttl[expired] -> kernel
routes[none] -> kernel
"""


def made(text: str) -> Compiled:
    return compile_elements(text, "r.elements", VIFS)


def mistakes(text: str) -> list[Mistake]:
    with pytest.raises(TopologyError) as caught:
        made(text)
    return list(caught.value.mistakes)


def places(text: str) -> list[tuple[int, int, str]]:
    return [(m.line, m.column, m.what) for m in mistakes(text)]


# --- what is understood -----------------------------------------------------------------------


def test_a_router():
    program = made(ROUTER)
    assert [(e.direction, e.vif, e.function) for e in program.entries] == [("input", "", "input_0")]
    assert [c.name for c in program.cells] == ["routes.hits", "routes.misses", "routes.routes", "ttl.expired"]
    assert [c.index for c in program.cells if c.table is None] == [0, 1, 2]
    assert [len(r.key) for r in program.rows] == [8, 8]
    assert program.hooks == ("xdp", "tc")
    assert not program.inserts


@pytest.mark.parametrize(
    "text",
    [
        "input -> drop",
        "input->drop",
        "input -> drop;",
        "input ->\n\n  drop",
        "input -> c::count -> drop",
        "input -> c ::count -> drop",
        "input -> c:: count -> drop",
        "input -> c :: count() -> drop # why not",
        "c :: count; input -> c[out] -> drop",
        "input -> s :: sample(\n 1%,\n) -> drop\ns[1] -> drop",
        "input -> r :: route6(routes={::/0=to-b, fd00::/8 = to-c}) -> out; r[none] -> drop",
        "input(to-b) -> drop\ninput(to-c) -> kernel\ninput -> drop\noutput -> out",
        "input -> count -> count@2 :: count -> drop",
    ],
)
def test_ways_to_write(text):
    assert (mistakes if "@2 ::" in text else made)(text)


def test_a_name_stands_for_one_element_and_brackets_make_another():
    graph = read_graph("a -> count -> b\na -> count() -> b\na -> count() -> b", Mistakes())
    assert list(graph.instances) == ["a", "count", "b", "count@2", "count@3"]


def test_a_name_can_be_used_before_the_line_that_declares_it():
    program = made("input(to-b) -> seen -> last\ninput(to-c) -> seen\nseen :: count\nlast:: count -> drop")
    assert [c.name for c in program.cells] == ["seen.passed", "last.passed"]
    found = places("input -> later -> drop\nlater :: count(")
    assert (1, 7, "There is no element 'later'.") in found


def test_where_its_inputs_can_run():
    assert made("input -> mirror(to-b) -> kernel").hooks == ("tc",)
    assert made("output -> mirror(to-b) -> out\ninput -> kernel").hooks == ("xdp", "tc")


def test_only_reached_elements_are_in_an_entrys_program():
    source = made("input(to-b) -> a :: count -> drop\ninput(to-c) -> b :: count -> drop").source
    first, second = source.split("int input_0(")[1].split("int input_1(")
    assert "at_a:" in first and "at_b:" not in first
    assert "at_b:" in second and "at_a:" not in second


def test_an_element_of_several_ways_is_there_once():
    assert made(ROUTER).source.count("at_kernel:") == 1


def test_tables_can_be_shared():
    program = made(
        "input(to-b) -> a :: route4(routes={default = to-c}) -> out\na[none] -> drop\n"
        "input(to-c) -> b :: route4(routes=a.routes) -> out\nb[none] -> drop"
    )
    assert [c.name for c in program.cells if c.table] == ["a.routes"]
    assert program.source.count('a_routes SEC(".maps")') == 1


# --- mistakes ---------------------------------------------------------------------------------


def test_all_mistakes_at_once_with_their_places():
    found = places("""input -> foo(3) -> dec-ttll -> out
x :: route4(rutes={10.0.0.0/33 = to-x}) -> drop
y::classify(ip,zebra)
y[ip] -> y
input(to-q) -> lookup
a -> b ->
""")
    said = "\n".join(f"{line}:{column} {what}" for line, column, what in found)
    for part in (
        "1:10 There is no element 'foo'.", "1:20 There is no element 'dec-ttll'.", "2:1 Nothing leads to 'x'.",
        "2:13 The element 'route4' has no parameter 'rutes'.", "3:16 'zebra' is not an Ethernet protocol",
        "4:7 Packets would go round for ever: y -> y.", "5:7 The sliver has no vif 'to-q'.",
        "5:16 The output 'kernel' of 'lookup' leads nowhere.", "6:8 Here should be an element behind the arrow",
    ):  # fmt: skip
        assert part in said
    assert [(line, column) for line, column, _ in found] == sorted((line, column) for line, column, _ in found)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 0, "The program has no entry."),
        ("input", 1, "'input' leads nowhere."),
        ("input -> count\ninput -> drop", 1, "'input' leads to 2 elements."),
        ("input -> c :: count -> c", 1, "Packets would go round for ever: c -> c."),
        ("input -> a :: count -> b :: count -> a", 1, "Packets would go round for ever: a -> b -> a."),
        ("input -> drop -> kernel", 1, "Nothing comes out of 'drop': packets end there."),
        ("input -> count -> input", 1, "Nothing goes into 'input': packets begin there."),
        ("input[1] -> drop", 1, "'input' has one output only, without a name."),
        ("input -> c :: count[2] -> drop", 1, "'c' has no output '2'."),
        ("input -> c :: count -> drop\nc -> kernel", 2, "The output 'out' of 'c' leads to two elements."),
        ("input -> drop\nc :: count -> drop", 2, "Nothing leads to 'c'."),
        ("input -> drop\nc :: count\nc :: count", 3, "'c' is declared twice."),
        ("input -> drop :: count -> kernel", 1, "'drop' can't be an element's name: it has a meaning of its own."),
        ("input -> 1a :: count -> kernel", 1, "'1a' can't be an element's name."),
        ("x :: input(to-b) -> drop\ninput(to-b) -> drop", 2, "There are two 'input's of 'to-b'."),
        ("input -> drop\ninput(x=to-b) -> drop", 2, "'input' takes a vif's name only."),
        ("input -> drop(1)", 1, "'drop' takes no arguments."),
        ("input -> out(to-b, to-c)", 1, "'out' takes one vif at most."),
        ("input -> sample -> drop", 1, "The element 'sample' needs 'share'."),
        ("input -> ecmp -> drop", 1, "The element 'ecmp' needs arguments."),
        ("input -> sample(1%, 2%) -> drop", 1, "The element 'sample' takes no more arguments."),
        ("input -> sample(share=1%, share=2%) -> drop", 1, "'share' is given twice."),
        ("input -> sample(200%) -> drop", 1, "'200%' is not a share."),
        ("input -> classify(ip, 0x800) -> drop", 1, "'0x800' is given twice."),
        ("input -> limit(0mbit) -> drop", 1, "'0mbit' is not a rate."),
        ("input -> mark(4294967296) -> drop", 1, "'4294967296' is not a number 0..4294967295."),
        ("input -> mark(-1) -> drop", 1, "'-1' is not a number 0..4294967295."),
        ("input -> route4(routes=5) -> drop", 1, "'routes' of 'route4' is a table."),
        ("input -> mark(value={1=2}) -> drop", 1, "'value' of 'mark' is no table: write one value."),
        ("input -> route4(routes={10.0.0.0/8=to-b,10.0.0.0/8=to-c})", 1,
         "'10.0.0.0/8' is in the table 'routes' twice."),
        ("input -> route4(routes={10.0.0.1/8=to-b}) -> drop", 1, "'10.0.0.1/8' is not an IPv4 prefix."),
        ("input -> route4(routes={fd00::/8=to-b}) -> drop", 1, "'fd00::/8' is not an IPv4 prefix."),
        ("input -> route4(routes={default=to-b to-c})", 1, "An entry of 'routes' holds other values than these 2."),
        ("input -> acl(rules=[" + ",".join(["permit"] * 65) + "])", 1, "'rules' has the entries 0..63, not '64'."),
        ("input -> route4(routes=x.y) -> drop", 1, "There is no table 'x.y' to share."),
        ("input -> a :: route4(routes=a.routes) -> drop", 1, "'a.routes' is no table of its own: it is shared too."),
        ("input -> a :: route4(routes=b.routes) -> b :: route6 -> drop", 1,
         "'b.routes' holds something else than 'routes' of 'route4'."),
        ("input -> a :: limit(1pps) -> b :: limit(1pps, bucket=a.bucket) -> drop", 1,
         "'b' and 'a' both write the table 'a.bucket'."),
        ("input -> drop ü ü", 1, "'ü' means nothing here."),
        ("input -> drop kernel", 1, "Here should be '->', or the end of the line, but there is 'kernel'."),
        ("input -> sample(1%", 1, "Here should be ',' or ')', but there is the end of the line."),
        ("input -> sample(1% -> drop", 1, "Here should be ',' or ')', but there is '->'."),
    ],
)  # fmt: skip
def test_each_mistake(text, line, what):
    assert (line, what) in [(m.line, m.what if m.what == what else m.what.strip()) for m in mistakes(text)]


def test_after_a_line_that_can_not_be_read_the_next_one_is():
    found = [m.what for m in mistakes("input -> sample(1% -> drop\nx :: foo")]
    assert "There is no element 'foo'." in found


def test_too_many_vifs():
    with pytest.raises(TopologyError, match="The sliver has 65 vifs; a program takes 64"):
        compile_elements("input -> drop", "r", [f"to-{n}" for n in range(65)])


# --- any text ---------------------------------------------------------------------------------

_PIECES = [
    *library(), "input", "output", "out", "kernel", "drop", "a", "b", "to-b", "->", "::", "(", ")", "[", "]", "{", "}",
    ",", "=", ";", "\n", "#", " ", "1", "ip", "10.0.0.0/8", "fd00::/8", "default", "routes", "routes=", "a.routes",
]  # fmt: skip


def compiles_or_is_refused(text: str) -> None:
    try:
        assert made(text).entries
    except TopologyError as e:
        assert e.mistakes


@given(st.text(max_size=200))
def test_any_text_is_compiled_or_refused(text):
    compiles_or_is_refused(text)


@settings(max_examples=300)
@given(st.lists(st.sampled_from(_PIECES), max_size=60).map(" ".join))
def test_any_words_are_compiled_or_refused(text):
    compiles_or_is_refused(text)


@given(st.integers(0, len(ROUTER)), st.integers(0, 20), st.sampled_from(_PIECES))
def test_any_small_change_is_compiled_or_refused(at, length, piece):
    compiles_or_is_refused(ROUTER[:at] + piece + ROUTER[at + length :])


@given(st.data())
def test_any_graph_of_elements_is_compiled_or_refused(data):
    names = [f"c{n}" for n in range(data.draw(st.integers(1, 12)))]
    lines = [f"{name} :: count" for name in names]
    ends = st.sampled_from([*names, "drop", "kernel", "out(to-b)"])
    lines += [f"{name} -> {data.draw(ends)}" for name in ["input", *names]]
    compiles_or_is_refused("\n".join(lines))


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000, "a->" * 60_000, "a -> b\n" * 30_000, "a::" * 60_000, "x" * 1_000_000, "[" * 200_000,
        "input -> count() -> count()\n" * 10_000, "é" * 1_000_000, "1" * 1_000_000, "\n" * 200_000,
        "input -> " + " -> ".join("count()" for _ in range(100_000)) + " -> drop", "a" * 2_000_000,
        "input -> route4(routes={" + ",".join(f"{a}.{b}.{c}.0/24=to-b" for a in range(10, 12) for b in range(256)
                                              for c in range(64)) + "}) -> drop",
    ],
    ids=lambda text: f"{text[:20]!r}x{len(text)}",
)  # fmt: skip
def test_huge_texts_are_refused_and_soon(text):
    began = time.process_time()
    with pytest.raises(TopologyError):
        made(text)
    assert time.process_time() - began < 60  # not a measurement: a quadratic one would take hours


def test_a_chain_as_long_as_may_be_needs_no_deep_stack():
    text = "input -> " + " -> ".join(f"c{n} :: count" for n in range(250)) + " -> drop"
    assert len(made(text).cells) == 250


# --- values -----------------------------------------------------------------------------------

SHOWN = [
    ("u32", "7", "7"), ("u8", "0xff", "255"), ("protocol", "0x0806", "arp"), ("protocol", "0x1234", "4660"),
    ("transport", "tcp", "tcp"), ("transport", "47", "gre"), ("vif", "to-c", "to-c"),
    ("way", "to-b", "to-b"), ("way", "-", "-"), ("ip4", "10.0.0.1", "10.0.0.1"),
    ("ip6", "fd00:0::1", "fd00::1"), ("prefix", "any", "any"), ("prefix", "10.1.0.0/16", "10.1.0.0/16"),
    ("prefix", "0.0.0.0/0", "0.0.0.0/0"), ("prefix", "fd00::/8", "fd00::/8"), ("ports", "any", "any"),
    ("ports", "80", "80"), ("ports", "80-443", "80-443"), ("port", "80", "80"), ("dscp", "46", "ef"),
    ("dscp", "1", "1"),
    ("hops", "1/2/255", "1/2/255"), ("share", "1%", "1%"), ("share", "0.5", "50%"), ("share", "100%", "100%"),
    ("rate", "1000pps", "1000pps"), ("rate", "10mbit", "10000kbit"), ("action", "deny", "deny"), ("label", "16", "16"),
    ("vni", "5", "5"), ("flow", "udp/10.0.0.1:53/10.0.0.2:1024", "udp/10.0.0.1:53/10.0.0.2:1024"),
    ("u16", "3", "3"), ("u64", "18446744073709551615", "18446744073709551615"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "shown"), SHOWN)
def test_values_are_shown_as_they_are_read(kind, text, shown):
    raw = TYPES[kind].read(text, VIFS)
    assert len(raw) == TYPES[kind].size
    assert TYPES[kind].show(raw, VIFS) == shown
    assert TYPES[kind].read(TYPES[kind].show(raw, VIFS), VIFS) == raw


def test_every_type_is_tried():
    assert {kind for kind, _, _ in SHOWN} == set(TYPES)


@given(st.sampled_from(sorted(TYPES)), st.text(max_size=30))
def test_any_text_is_a_value_of_its_size_or_wrong(kind, text):
    try:
        assert len(TYPES[kind].read(text, VIFS)) == TYPES[kind].size
    except Wrong as e:
        assert str(e).endswith(".")


@given(st.sampled_from(sorted(TYPES)), st.data())
def test_whatever_a_map_holds_can_be_shown(kind, data):
    raw = data.draw(st.binary(min_size=TYPES[kind].size, max_size=TYPES[kind].size))
    assert TYPES[kind].show(raw, VIFS)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("u8", "256"), ("label", "1048576"), ("vni", "0x1000000"), ("dscp", "64"), ("vif", "to-d"),
        ("vif", "-"), ("way", "to-d"), ("ip4", "10.0.0"),
        ("ip6", "fe80::1%eth0"), ("prefix", "::/0"), ("prefix", "10.0.0.1/8"), ("ports", "5-4"), ("ports", "70000"),
        ("hops", "0"), ("hops", "1/2/3/4/5/6/7/8/9"), ("hops", ""), ("share", "1.5"), ("share", "-1%"), ("rate", "10"),
        ("rate", "0pps"), ("rate", "2000gbit"), ("flow", "tcp/10.0.0.1/10.0.0.2"), ("action", "allow"), ("u32", "１"),
    ],
)  # fmt: skip
def test_wrong_values(kind, text):
    with pytest.raises(Wrong):
        TYPES[kind].read(text, VIFS)


def test_fields_lie_as_c_lays_them():
    types = (TYPES["u8"], TYPES["u32"], TYPES["u16"], TYPES["u64"], TYPES["u8"])
    raws = (b"\1", b"\2\2\2\2", b"\3\3", b"\4" * 8, b"\5")
    packed = pack(types, raws)
    assert packed.hex() == "0100000002020202030300000000000004040404040404040500000000000000"
    assert unpack(types, packed) == raws


# --- cells ------------------------------------------------------------------------------------


def cell(name: str) -> Cell:
    program = made(ROUTER.replace("input ->", "input -> a :: acl ->") + "a[deny] -> drop\na[other] -> drop")
    return next(c for c in program.cells if c.name == name)


def test_counters_are_the_sum_of_all_processors():
    hits = cell("ttl.expired")
    one, two = (n.to_bytes(8, "little") + (100 * n).to_bytes(8, "little") for n in (1, 2))
    assert hits.headings == ("packets", "bytes")
    assert decode(hits, {hits.index.to_bytes(4, "little"): [one, two]}, VIFS) == [("3", "300")]
    assert decode(hits, {}, VIFS) == [("0", "0")]


@pytest.mark.parametrize("texts", [["1"], ["0", "1"], ["-0"], ["x"]])
def test_counters_can_be_set_to_nothing_and_to_nothing_else(texts: list[str]):
    hits = cell("ttl.expired")
    assert encode(hits, "0", [], VIFS) == (hits.index.to_bytes(4, "little"), bytes(16))
    with pytest.raises(Wrong, match="is a counter: all that can be written to it is 0"):
        encode(hits, texts[0], texts[1:], VIFS)


def test_counters_of_other_names_or_in_another_order_are_another_map():
    """Maps of one name outlive a change of program: old numbers must not stand under other names."""

    def counters(text: str) -> set[str]:
        return {c.map for c in made(text).cells if c.table is None}

    first = counters("input -> a :: count -> b :: count -> out(to-b)")
    assert len(first) == 1
    assert counters("input -> b :: count -> a :: count -> drop") != first
    assert counters("input -> a :: count -> c :: count -> out(to-b)") != first
    assert counters("input -> a :: count -> b :: count -> kernel") == first


def test_rows_of_tables():
    routes = cell("routes.routes")
    key, value = encode(routes, "default", ["to-c"], VIFS)
    assert routes.headings == ("ip4", "out")
    assert decode(routes, {key: [value]}, VIFS) == [("0.0.0.0/0", "to-c")]


def test_empty_places_of_an_array_are_not_shown():
    rules = cell("a.rules")
    key, value = encode(rules, "3", ["deny", "tcp"], VIFS)
    held = {n.to_bytes(4, "little"): [bytes(len(value))] for n in range(5)} | {key: [value]}
    assert rules.headings == ("number", "action", "protocol", "from", "to", "ports")
    assert decode(rules, held, VIFS) == [("3", "deny", "tcp", "any", "any", "any")]


# --- pages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "int f(void);", "/* no name */", "/* x: y\n * parameters: a: nothing\n */", "/* x: y\n * tables: a\n */",
        "/* x: y\n * tables: a: lpm[1] ip4 -> b:nothing\n */",
    ],
)  # fmt: skip
def test_files_that_are_no_elements(text):
    with pytest.raises(ValueError):
        read_kind(text)
