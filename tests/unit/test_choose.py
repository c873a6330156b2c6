"""Which file a command is about: where it comes from, and what it is."""

from __future__ import annotations

import io

from vini.cli import choose

# --- standard input -----------------------------------------------------------------------------


def test_another_tools_file_is_known_on_standard_input_too(monkeypatch, capsys):
    graph = """<graphml xmlns="http://graphml.graphdrawing.org/xmlns"><graph edgedefault="undirected">
    <node id="x"/><node id="y"/><edge source="x" target="y"/></graph></graphml>"""
    monkeypatch.setattr("sys.stdin", io.StringIO(graph))
    topology = choose.read_topology("-", slice_="piped")
    assert (topology.name, len(topology.slivers), len(topology.links)) == ("piped", 2, 1)
    capsys.readouterr()


def test_what_a_file_on_standard_input_names_is_in_the_current_directory(monkeypatch, tmp_path, capsys):
    lab = "name: lab\ntopology:\n  nodes:\n    r1: {kind: linux, image: frr, binds: ['r1.conf:/etc/frr/frr.conf']}\n"
    (tmp_path / "r1.conf").write_text("router ospf\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(lab))
    routing = choose.read_topology("-").slivers["r1"].routing
    assert routing is not None
    assert routing.raw == {"frr.conf": "router ospf\n"}
    assert "note: r1: its own frr.conf is used" in capsys.readouterr().err


def test_a_file_of_ours_on_standard_input_is_called_stdin_unless_it_says(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("slivers: [a]\n"))
    assert choose.read_topology("-").name == "stdin"
