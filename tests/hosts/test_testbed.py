"""A testbed from its first day to its last, by the commands that people type, with real processes over TLS."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from msgspec import structs
from own_place import eventually
from testbed import LINE, Flow, Testbed, testbed

from vini.node import interfaces, netns
from vini.topology import parse

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping", "bird")]

SLICE = "home_line"
TOPOLOGY = parse(LINE)


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with testbed(("n1", "n2"), tmp_path_factory.mktemp) as made:
        made.vini("slice", "create", SLICE, "--description", "a line", "--url", "https://example.org")
        yield made


def written(bed: Testbed, text: str) -> Path:
    path = bed.directory / "line.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def line(bed: Testbed) -> Iterator[Testbed]:
    """The line is up over both nodes; in the end it is down, and nothing of it is left on either."""
    bed.vini("up", str(written(bed, LINE)), "--slice", SLICE, "--timeout", "120")
    yield bed
    bed.vini("down", "-s", SLICE)
    for host in bed.hosts.values():
        assert host.observe() == frozenset()
        assert host.slivers() == set()
        assert host.held() == {}


def test_an_admin_keeps_initscripts_and_a_slice_has_another_text_with_its_next_change(bed: Testbed) -> None:
    file = bed.directory / "boot.sh"
    topology = written(bed, "name: home_line\nslivers: {a: {node: n1, initscript: boot}}\n")

    def said() -> str:
        return bed.vini("exec", "-s", SLICE, "a", "--", "sh", "-c", "cat $VINI_SLIVER_DIR/said")

    file.write_text("echo first > $VINI_SLIVER_DIR/said\n")
    assert "keeps no initscript; an admin" in bed.vini("initscript")
    assert "where its file says `initscript: boot`" in bed.vini("initscript", "set", "boot", str(file))
    bed.vini("up", str(topology), "--slice", SLICE, "--timeout", "120")
    assert "first" in said()
    file.write_text("echo second > $VINI_SLIVER_DIR/said\n")
    told = bed.vini("initscript", "set", "boot", str(file))
    assert "another one now" in told and "next change" in told
    assert "as it was" in bed.vini("initscript", "set", "boot", str(file))
    assert bed.vini("initscript", "show", "boot") == file.read_text()
    assert "first" in said()
    bed.vini("up", str(topology), "--slice", SLICE, "--timeout", "120")
    assert "second" in said()
    made = json.loads(bed.vini("initscript", "set", "boot", str(file), "--disabled", "--json"))
    assert made == {"name": "boot", "enabled": False, "script": file.read_text(), "changed": True}
    assert "is not enabled" in bed.vini("up", str(topology), "--slice", SLICE, check=False)
    assert json.loads(bed.vini("initscript", "--json")) == [{k: v for k, v in made.items() if k != "changed"}]
    assert "is refused" in bed.vini("initscript", "remove", "boot")
    assert "keeps no initscript 'boot'; it keeps none" in bed.vini("initscript", "show", "boot", check=False)
    assert "second" in said()
    bed.vini("down", "-s", SLICE)


def test_conf_files_reach_nodes_as_far_as_each_machine_permits(bed: Testbed) -> None:
    n1, n2 = bed.hosts["n1"], bed.hosts["n2"]
    conf, source = bed.directory.resolve() / "conf", bed.directory / "a.conf"
    path, ran = conf / "a.conf", bed.directory.resolve() / "ran"

    def states(node: str) -> dict[str, str]:
        return {r["path"]: r["state"] for r in json.loads(bed.vini("node", "conf-files", node, "--json"))}

    source.write_text("first\n")
    assert "There is no conf file" in bed.vini("conffile")
    assert "No conf file holds for node n1" in bed.vini("node", "conf-files", "n1")
    assert f"below {conf}, without commands" in n1.vini("node", "permit", "--below", str(conf))
    assert "below /etc/vini/conf.d, without" in n2.vini("node", "permit")
    made = bed.vini("conffile", "set", str(path), str(source), "--mode", "0600")
    assert f"is {path} of all nodes" in made
    eventually(lambda: states("n1") == {str(path): "written"} and states("n2") == {str(path): "refused"}, 60)
    assert (path.read_text(), path.stat().st_mode & 0o7777) == ("first\n", 0o600)
    assert "vini node permit --below DIRECTORY" in bed.vini("node", "conf-files", "n2")
    assert str(path) in n1.vini("node", "permit")

    source.write_text("second\n")
    with_command = ("conffile", "set", str(path), str(source), "--postinstall", f"cat $VINI_CONF_FILE >> {ran}")
    bed.vini(*with_command)
    eventually(lambda: states("n1") == {str(path): "refused"}, 60)
    assert "vini node permit --commands" in bed.vini("node", "conf-files", "n1")
    n1.vini("node", "permit", "--commands")
    eventually(lambda: states("n1") == {str(path): "written"}, 60)
    assert path.read_text() == ran.read_text() == "second\n"

    bed.central.kill()
    n1.kill()
    path.unlink()
    n1.start()
    eventually(path.exists, 60)  # nobody had to ask again
    eventually(lambda: ran.read_text() == "second\n" * 2, 60)
    path.write_text("somebody's\n")
    bed.central.up()
    eventually(lambda: states("n1") == {str(path): "kept"}, 90)
    assert "Remove it there" in bed.vini("node", "conf-files", "n1") and path.read_text() == "somebody's\n"
    number = bed.vini("conffile").splitlines()[-1].split()[0]
    assert bed.vini("conffile", "show", number).startswith("second\n")
    bed.vini(*with_command, "--always-update")
    eventually(lambda: states("n1") == {str(path): "written"}, 60)
    assert path.read_text() == "second\n"
    assert "asked for no more" in bed.vini("conffile", "remove", number)
    eventually(lambda: not path.exists(), 60)
    eventually(lambda: states("n1") == {}, 60)
    assert "There is no conf file 999" in bed.vini("conffile", "show", "999", check=False)
    events = bed.client().call("GET", "/events", dict, what="have conf files", limit=100)["items"]
    assert {e["who"] for e in events} == {"node n1", "node n2"}
    n1.vini("node", "permit", "--below", "/etc/vini/conf.d", "--no-commands")


def pings(bed: Testbed, source: str = "a", to: str = "d") -> bool:
    out = bed.vini("exec", "-s", SLICE, source, "--", "ping", "-c1", "-W2", to, check=False)
    return " 1 received" in out


def rows(bed: Testbed) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads(bed.vini("nodes", "--json"))}


def test_machines_that_joined_are_nodes_and_no_other_machine_gets_in(bed: Testbed) -> None:
    seen = rows(bed)
    assert {n: (r["site"], r["boot_state"], r["address"]) for n, r in seen.items()} == {
        h.name: ("home", "boot", h.ip) for h in bed.hosts.values()
    }
    assert all(r["connected"] for r in seen.values()) and "vxlan" in seen["n1"]["capabilities"]
    assert json.loads(bed.vini("sites", "--json")) == json.loads(bed.vini("site", "--json"))
    n1 = bed.hosts["n1"]
    before = (n1.state / "uplink" / "identity.json").read_bytes()
    token = bed.token()
    refused = n1.vini("node", "join", bed.central.url, token, "--name", "n2", check=False)
    assert "There is a node 'n2' already" in refused
    elsewhere = token[:-4] + ("0000" if token[-4:] != "0000" else "1111")
    assert "this token is of another central" in n1.vini("node", "join", bed.central.url, elsewhere, check=False)
    assert (n1.state / "uplink" / "identity.json").read_bytes() == before


def test_a_slice_over_two_nodes(line: Testbed) -> None:
    held = {name: host.slivers() for name, host in line.hosts.items()}
    assert held == {"n1": {"home_line.a", "home_line.c"}, "n2": {"home_line.b", "home_line.d"}}
    status = json.loads(line.vini("status", "-s", SLICE, "--json"))[0]
    assert (status["converged"], [s["state"] for s in status["slivers"]]) == (True, ["ready"] * 4)
    eventually(lambda: pings(line))
    assert "not answered" not in line.vini("ping", "-s", SLICE, "--all")
    assert line.vini("exec", "-s", SLICE, "b", "--", "sh", "-c", "echo $VINI_SLIVER; exit 7", check=False) == (
        "home_line.b\n"
    )

    flow = Flow(line.hosts["n1"], TOPOLOGY, "a", "d")
    try:
        line.vini("up", str(written(line, LINE.replace("- c -- d", "- c -- d: {cost: 77}"))), "--slice", SLICE)
        assert "77" in line.vini("link", "-s", SLICE, "c", "d")
        answered, lost = flow.end()
    finally:
        flow.kill()
    assert answered and not lost

    line.vini("link", "-s", SLICE, "b", "c", "--fail", "carrier")
    eventually(lambda: not pings(line))
    line.vini("link", "-s", SLICE, "b", "c", "--restore")
    eventually(lambda: pings(line))
    said = [e["what"] for e in json.loads(line.vini("log", "-s", SLICE, "--json"))]
    assert said[-4:-2] == ["up", "up"] and all(what.startswith("link b--c") for what in said[-2:]), said


def test_a_sliver_that_moves_to_the_other_node_takes_its_links_along(line: Testbed) -> None:
    line.vini("up", str(written(line, LINE.replace("c: {node: n1}", "c: {node: n2}"))), "--slice", SLICE)
    assert line.hosts["n1"].slivers() == {"home_line.a"}
    eventually(lambda: pings(line))


def test_a_node_that_is_drained_keeps_what_it_has_and_gets_nothing_new(line: Testbed) -> None:
    line.vini("node", "drain", "n2")
    try:
        line.vini("slice", "create", "home_more")
        line.vini("up", "--generate", "line:3", "--slice", "home_more")
        assert line.hosts["n2"].slivers("home_more") == set()
        assert len(line.hosts["n1"].slivers("home_more")) == 3
        eventually(lambda: pings(line))
    finally:
        line.vini("node", "enable", "n2")
        line.vini("slice", "delete", "home_more", check=False)
    eventually(lambda: not line.hosts["n1"].slivers("home_more"))


def test_what_a_site_may_take_and_a_node_for_oneself(line: Testbed) -> None:
    shown = json.loads(line.vini("site", "quota", "home", "--slivers", "4", "--json"))
    assert shown["slivers"] == {"taken": 4, "most": 4} and shown["vnis"] == {"taken": 3, "most": 0}
    line.vini("slice", "create", "home_more")
    refused = line.vini("up", "--generate", "line:2", "--slice", "home_more", check=False)
    assert "of 4 slivers its other slices have 4, and this asks for 2, 2 too many" in refused
    line.vini("site", "quota", "home", "--slivers", "0")

    refused = line.vini("lease", "add", "n2", "--slice", "home_more", check=False)
    assert "has slivers of slice 'home_line', which has no lease there" in refused
    row = json.loads(line.vini("lease", "add", "n2", "--slice", SLICE, "--hours", "2", "--json"))
    assert row["end"] - row["start"] == 7200 and row["start"] % 3600 == 0
    assert f"{row['id']}" in line.vini("lease", "--node", "n2")
    line.vini("lease", "end", f"{row['id']}")
    assert json.loads(line.vini("lease", "--json")) == []
    line.vini("slice", "delete", "home_more")


def test_the_interfaces_of_each_machine_are_known_and_none_of_its_slices(line: Testbed) -> None:
    host = line.hosts["n1"]
    (told,) = json.loads(line.vini("node", "interfaces", "n1", "--json"))
    with netns.inside(host.path):
        (seen,) = interfaces.own()
    assert told == {**structs.asdict(seen), "addresses": list(seen.addresses), "node": "n1", "primary": True}
    assert f"{host.ip}/24" in told["addresses"] and told["speed_mbit"] == 10_000, "a veth says that it has that"
    head, first = line.vini("node", "interfaces", "n1").splitlines()
    assert head.split() == ["INTERFACE", "MAC", "MTU", "MBIT/S", "ADDRESSES"]
    assert first.split()[:5] == ["eth0", "*", told["mac"], str(told["mtu"]), "10000"]
    assert "There is no node 'n9'" in line.vini("node", "interfaces", "n9", check=False)


def test_nodes_measure_how_far_they_are_from_each_other(bed: Testbed) -> None:
    (way,) = eventually(lambda: json.loads(bed.vini("nodes", "--rtt", "--json")))
    assert (way["a"], way["b"]) == ("n1", "n2") and 0.0 < way["rtt_ms"] < 5000.0
    head, first, _ = bed.vini("nodes", "--rtt").splitlines()
    assert head.split() == ["RTT,", "ms", "n1", "n2"] and first.split()[:2] == ["n1", "-"]


def test_a_site_is_disabled_enabled_and_deleted(bed: Testbed) -> None:
    bed.vini("site", "add", "lab")
    assert "roles there are worth nothing" in bed.vini("site", "disable", "lab")
    assert "Site 'lab' is disabled" in bed.vini("slice", "create", "lab_x", check=False)
    bed.vini("site", "enable", "lab")
    bed.vini("slice", "create", "lab_x", "--description", "x", "--url", "https://x.example")
    bed.vini("site", "disable", "lab")
    assert "can't be renewed: its site is disabled" in bed.vini("slice", "renew", "lab_x", check=False)
    assert "Site 'lab' has 1 slice; delete it first." in bed.vini("site", "delete", "lab", check=False)
    bed.vini("slice", "delete", "lab_x")
    bed.vini("site", "delete", "lab")
    assert "lab" not in bed.vini("sites")


def test_a_script_makes_an_account(bed: Testbed) -> None:
    file = bed.directory / "password"
    file.write_text("a long and secret one\nnot this\n")
    bed.vini("person", "add", "bob@example.org", "--site", "home", "--password-file", str(file))
    for password, status in (("a long and secret one", 201), ("not this", 401)):
        body = {"email": "bob@example.org", "password": password}
        assert httpx.post(f"{bed.central.url}/v1/sessions", json=body, verify=False).status_code == status
    bed.vini("person", "add", "eve@example.org", "--site", "home")  # by VINI_PASSWORD
    body = {"email": "eve@example.org", "password": bed.password}
    assert httpx.post(f"{bed.central.url}/v1/sessions", json=body, verify=False).status_code == 201


def test_an_operator_tags_nodes_and_a_slice_on_a_group_of_them(bed: Testbed) -> None:
    bed.vini("tag", "set", "arch", "arm", "--node", "n2")
    assert "has now: n2." in bed.vini("nodegroup", "add", "arms", "arch", "arm")
    bed.vini("slice", "create", "home_tagged")
    for target in (["--slice", "home_tagged"], ["--slice", "home_tagged", "--nodegroup", "arms"]):
        bed.vini("tag", "set", "colour", str(len(target)), *target)
    held = {n: bed.client().call("GET", f"/slices/home_tagged/nodes/{n}/tags", dict) for n in ("n1", "n2")}
    assert held == {"n1": {"colour": "2"}, "n2": {"colour": "4"}}
    tags = json.loads(bed.vini("tag", "--slice", "home_tagged", "--json"))
    assert [(t["nodegroup"], t["value"]) for t in tags] == [("", "2"), ("arms", "4")]
    assert "arms" in bed.vini("tag", "--slice", "home_tagged")
    bed.vini("tag", "delete", str(tags[0]["id"]))
    bed.vini("nodegroup", "delete", "arms")
    assert json.loads(bed.vini("tag", "--slice", "home_tagged", "--json")) == []
    assert json.loads(bed.vini("nodegroup", "--json")) == []
    bed.vini("slice", "delete", "home_tagged")


def test_a_key_that_others_know_is_nobodys_any_more(bed: Testbed, tmp_path: Path) -> None:
    key = tmp_path / "known.pub"
    key.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "B" * 43 + " known\n")
    bed.vini("key", "add", str(key))
    bed.vini("key", "blacklist", str(key))
    assert json.loads(bed.vini("key", "--json")) == []
    assert "on the blacklist" in bed.vini("key", "add", str(key), check=False)


def test_a_script_comes_with_a_token_that_can_do_no_more_than_was_said(bed: Testbed) -> None:
    made = json.loads(bed.vini("token", "add", "nightly", "--days", "2", "--json"))
    assert abs(made["expires"] - time.time() - 2 * 86400) < 3600
    there = {"Authorization": f"Bearer {made['token']}"}

    def status(method: str) -> int:
        body = {"name": "x"} if method == "PATCH" else None
        url = f"{bed.central.url}/v1/sites/home"
        return httpx.request(method, url, json=body, headers=there, verify=False).status_code

    assert (status("GET"), status("PATCH")) == (200, 403)
    (mine,) = (t for t in json.loads(bed.vini("token", "--json")) if t["name"] == "nightly")
    assert mine["scopes"] == ["read"] and "nightly" in bed.vini("token")
    bed.vini("token", "delete", str(mine["id"]))
    assert status("GET") == 401


def test_a_node_that_is_disabled_is_cut_off_and_what_runs_there_runs_on(line: Testbed) -> None:
    n2 = line.hosts["n2"]
    line.vini("node", "disable", "n2")
    eventually(lambda: "the central closed the connection: An administrator has disabled it" in n2.said())
    assert n2.slivers() == {"home_line.b", "home_line.d"}
    status = line.vini("status", "-s", SLICE, "-v", check=False)
    assert "Node n2 is not connected" in status
    flow = Flow(line.hosts["n1"], TOPOLOGY, "a", "d")
    line.vini("node", "enable", "n2")
    eventually(n2.is_connected)
    eventually(lambda: line.settled(SLICE))
    answered, lost = flow.end()
    assert answered and not lost
