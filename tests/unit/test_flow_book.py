"""The book of flows: bounded, whole after any end, and what it does not know it says."""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path

import pytest

from vini.bench import audit
from vini.bus import AskFlows
from vini.model import ViniError
from vini.node.flows import ask, book
from vini.node.flows.book import ENDED, UNSEEN, Book, Closing, Keep
from vini.node.flows.conntrack import Flow

NODE, SERVER = 0xC0000201, 0x05050505


def flow(port: int, **more: object) -> Flow:
    return Flow(port, 17, 0xC6120001, port, NODE, port, SERVER, 53)._replace(**more)


def question(port: int, at: float = 0.0, **more: object) -> AskFlows:
    return AskFlows("192.0.2.1", port, "5.5.5.5", 53, at, **more)


def test_a_flow_is_found_by_what_the_world_saw_and_by_its_own_address(tmp_path):
    made = Book(tmp_path, Keep(), 100.0)
    made.begin([("v.a", 101.0, flow(1000, nat_port=2000))])
    made.commit(102.0)
    (found,) = ask.who(tmp_path, question(2000)).flows
    assert (found.slice, found.sliver, found.seen_as, found.source) == ("v", "a", "192.0.2.1:2000", "198.18.0.1:1000")
    assert ask.who(tmp_path, AskFlows("198.18.0.1", 1000, "5.5.5.5", 53)).flows == (found,)
    assert ask.who(tmp_path, question(-1)).flows == (found,)
    assert ask.who(tmp_path, AskFlows("192.0.2.1", 2000, "5.5.5.5", -1)).flows == (found,)
    assert ask.who(tmp_path, question(2000, protocol=6)).flows == ()
    with pytest.raises(ViniError, match="of two IP versions"):
        ask.who(tmp_path, AskFlows("::1", 1, "5.5.5.5", 53))
    with pytest.raises(ViniError, match="'me' does not appear to be"):
        ask.who(tmp_path, AskFlows("me", 1, "5.5.5.5", 53))


def test_flows_of_ipv6_are_found_and_end_as_those_of_ipv4_do(tmp_path):
    own, node, server = (int(IPv6Address(a)) for a in ("fd30:bc7a:e790::1", "2a00:1::1", "2a00:5::5"))
    six = Flow(7, 58, own, 7, node, 8, server, 0x8000)
    made = Book(tmp_path, Keep(), 100.0)
    made.begin([("v.a", 101.0, six), ("v.b", 101.0, flow(8))])
    made.commit(102.0)
    (found,) = ask.who(tmp_path, AskFlows("2a00:1::1", 8, "2a00:5::5", -1)).flows
    assert (found.sliver, found.protocol, found.source) == ("a", "icmpv6", "[fd30:bc7a:e790::1]:7")
    assert (found.seen_as, found.destination) == ("[2a00:1::1]:8", "[2a00:5::5]:32768")
    assert ask.who(tmp_path, AskFlows("fd30:bc7a:e790:0::1", 7, "2a00:5::5", -1)).flows == (found,)
    again = Book(tmp_path, Keep(), 103.0)
    row = again.open_flows()[7, 58, own, 7, server, 0x8000]
    again.close([Closing(row, 104.0, ENDED, six._replace(out_bytes=48))])
    again.commit(105.0)
    assert ask.who(tmp_path, AskFlows("2a00:1::1", 8, "2a00:5::5", -1)).flows[0].out_bytes == 48


def test_of_slices_that_one_may_not_see_nothing_is_told_and_they_take_no_room(tmp_path):
    made = Book(tmp_path, Keep(), 100.0)
    made.begin([(f"{slice_}.a", 101.0 + i, flow(i)) for i, slice_ in enumerate(("mine", "mine", "home_a", "mine"))])
    made.commit(110.0)
    told = ask.who(tmp_path, question(-1, most=1), lambda slice_: slice_ != "mine").flows
    assert [f.slice for f in told] == ["home_a"]


def test_a_file_that_can_not_be_read_is_told_of_and_the_others_are_read(tmp_path):
    made = Book(tmp_path, Keep(), 100.0)
    made.begin([("v.a", 101.0, flow(1))])
    made.commit(102.0)
    for part, body in ((7, b"spoilt" * 1000), (8, b"")):
        book.path(tmp_path, part).write_bytes(body)
    said = ask.who(tmp_path, question(-1))
    assert [f.source for f in said.flows] == ["198.18.0.1:1"]
    ((_, _, why),) = [gap for gap in said.unwatched if "7.db" in gap[2]]
    assert "7.db can't be read: file is not a database" in why


def test_a_file_that_goes_while_it_is_asked_for_is_not_missed(tmp_path, monkeypatch):
    made = Book(tmp_path, Keep(), 100.0)
    made.begin([("v.a", 101.0, flow(1))])
    made.commit(102.0)
    monkeypatch.setattr(book, "parts", lambda _: [1, 2])
    said = ask.who(tmp_path, question(-1), now=102.0)
    assert len(said.flows) == 1 and said.unwatched == ()


def test_what_was_not_committed_is_not_there_and_the_rest_is_whole(tmp_path):
    made = Book(tmp_path, Keep(), 100.0)
    made.begin([("v.a", 101.0, flow(1))])
    made.commit(101.5)
    made.begin([("v.a", 102.0, flow(2))])
    assert [f.source for f in ask.who(tmp_path, question(-1)).flows] == ["198.18.0.1:1"]


def test_the_next_recorder_knows_what_has_not_ended_and_the_time_in_between_is_told(tmp_path):
    first = Book(tmp_path, Keep(), 100.0)
    first.begin([("v.a", 101.0, flow(1)), ("v.b", 101.0, flow(2))])
    first.commit(110.0)
    second = Book(tmp_path, Keep(), 150.0)
    rows = second.open_flows()
    assert len(rows) == 2
    second.close([
        Closing(rows[1, 17, 0xC6120001, 1, SERVER, 53], 150.0, UNSEEN, None),
        Closing(rows[2, 17, 0xC6120001, 2, SERVER, 53], 151.0, ENDED, flow(2, out_packets=7, out_bytes=700)),
    ])  # fmt: skip
    second.commit(152.0)
    assert [f.end for f in ask.who(tmp_path, question(1)).flows] == ["unseen"]
    assert [(f.end, f.out_bytes) for f in ask.who(tmp_path, question(2)).flows] == [("ended", 700)]
    gap = (110.0, 150.0, "the recorder did not run")
    assert ask.who(tmp_path, question(9, at=130.0)).unwatched == (gap,)
    assert ask.who(tmp_path, question(9, at=105.0)).unwatched == ()
    assert ask.who(tmp_path, question(9, at=50.0)).unwatched[0][2] == "nothing is kept of that time"
    assert ask.who(tmp_path, question(9, at=200.0)).unwatched[0][2] == "the recorder does not run"
    assert ask.who(tmp_path, question(9), now=153.0).unwatched == (gap,)
    assert ask.who(tmp_path, question(9), now=200.0).unwatched == (gap, (152.0, 200.0, "the recorder does not run"))


def filled(where: Path, keep: Keep, files: int) -> Book:
    made = Book(where, keep, 100.0)
    while len(book.parts(where)) < files:
        made.begin([("v.a", 100.0, flow(port)) for port in range(20_000)])
        made.commit(100.0)
    return made


def test_files_are_turned_by_size_the_oldest_go_and_flows_of_older_files_still_end(tmp_path):
    made = filled(tmp_path, Keep(megabytes=5, part_megabytes=1), 4)
    rows = made.open_flows()
    row = rows[5, 17, 0xC6120001, 5, SERVER, 53]
    assert row.part < book.parts(tmp_path)[-1]
    made.close([Closing(row, 105.0, ENDED, flow(5, out_bytes=9))])
    made.commit(106.0)
    assert 9 in {f.out_bytes for f in ask.who(tmp_path, question(5)).flows}
    gone = made.tidy(106.0)
    assert gone and book.parts(tmp_path)[0] == gone[-1] + 1
    made.close([Closing(book.Row(gone[0], 1), 107.0, ENDED, flow(1))])  # its file is gone: nothing happens
    made.commit(107.0)
    assert sum(p.stat().st_size for p in tmp_path.glob("*.db")) <= 5_000_000


def test_files_are_deleted_by_age(tmp_path):
    made = filled(tmp_path, Keep(days=1, part_megabytes=1), 2)
    last = (tmp_path / "1.db").stat().st_mtime
    assert made.tidy(last + 86_000) == []
    assert made.tidy(last + 87_000) == [1]


def test_losses_are_told_of_their_time(tmp_path):
    made = Book(tmp_path, Keep(), 100.0)
    made.lost(120.0, "too many")
    made.commit(130.0)
    assert ask.who(tmp_path, question(9, at=121.0)).unwatched == ((120.0, 120.0, "too many"),)
    assert ask.who(tmp_path, question(9, at=110.0)).unwatched == ()


def test_the_benchmark_finds_every_flow_that_it_asks_for():
    found = audit.measure(True, lambda _: None, audit.Sizes(flows=3000, questions=3))
    assert found["missing"] == [] and {r["unit"] for r in found["rows"]} == {"flows/s", "bytes", "", "s"}
