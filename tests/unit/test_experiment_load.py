"""Experiment files: what is read, and every mistake at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from vini.experiment.actions import Exec, Fail, Reroute, Restore, Shape, Start
from vini.experiment.keys import SECTIONS, schema
from vini.experiment.probes import Capture, Counters, Iperf3, Ping, Routes, Traceroute, Udp
from vini.experiment.probes import Path as PathProbe
from vini.experiment.reader import load, parse
from vini.experiment.timeline import Event, Experiment, occasions
from vini.model import BurstLoss, TopologyError

EXAMPLES = Path(__file__).parents[2] / "examples"
INLINE = """\
topology:
  name: pair
  routing: ospf
  slivers: [alpha, beta]
  links:
    - alpha -- beta: {delay: 5ms}
duration: 30s
"""


QUEUE_OF_50 = {"queue_packets": 50, "queue_bytes": 0, "queue_ms": 0.0}


def read(text: str) -> Experiment:
    return parse(INLINE + text, Path("x.yaml"))


def mistakes(text: str) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        read(text)
    return [str(m) for m in caught.value.mistakes]


def timeline(*events: str) -> str:
    return "timeline:\n" + "".join(f"  - {e}\n" for e in events)


def test_every_action_and_moment():
    found = read(
        timeline(
            "{at: 10s, fail: {link: [alpha, beta], how: carrier}}",
            "{at: 12s, fail: [beta, alpha]}",
            "{at: 13s, restore: alpha--beta}",
            "{at: 5s, shape: {link: [alpha, beta], delay: 30ms, loss: 1%, rate: 10mbit}}",
            "{at: 5s, shape: {from: beta, to: alpha, jitter: 2ms, queue: 50}}",
            '{every: 10s, times: 2, exec: {sliver: alpha, run: "ip route"}}',
            "{after: converged, start: {traffic: bulk}}",
            "{at: 20s, routing: {link: [alpha, beta], cost: 99}}",
            "{at: 21s, routing: {sliver: beta, cost: 5, hello: 2s, protocols: [isis]}}",
        )
        + "traffic: {bulk: {iperf3: {from: alpha, to: beta}}}\n"
    )
    assert found.timeline == (
        Event(Fail(("alpha", "beta"), "carrier"), at_s=10),
        Event(Fail(("beta", "alpha"), "silent"), at_s=12),
        Event(Restore(("alpha--beta", "")), at_s=13),
        Event(Shape(("alpha", "beta"), wishes={"delay_ms": 30, "loss": 0.01, "rate_mbit": 10}), at_s=5),
        Event(Shape(("beta", "alpha"), True, {"jitter_ms": 2, **QUEUE_OF_50}), at_s=5),
        Event(Exec("alpha", "ip route"), every_s=10, times=2),
        Event(Start("bulk"), after="converged"),
        Event(Reroute(("alpha", "beta"), cost=99), at_s=20),
        Event(Reroute(sliver="beta", cost=5, wishes={"hello_s": 2.0, "protocols": ("isis",)}), at_s=21),
    )


def test_links_follow_traces_and_lose_bursts(tmp_path):
    (tmp_path / "cell.csv").write_text("time_ms,rate_mbit\n0,5\n")
    shapes = timeline(
        "{at: 5s, shape: {link: [alpha, beta], trace: cell.csv}}",
        "{at: 6s, shape: {link: [alpha, beta], trace: none, burst_loss: {enter: 1%, leave: 9%}, queue: 50ms}}",
    )
    first, second = (e.action for e in parse(INLINE + shapes, tmp_path / "x.yaml").timeline)
    assert first.wishes == {"trace": "time_ms,rate_mbit\n0,5\n"}
    assert second.wishes["trace"] == "" and second.wishes["burst_loss"] == BurstLoss(0.01, 0.09)
    assert str(first).endswith("shaped: trace (rate 5mbit)")
    assert str(second).endswith("shaped: burst loss (enter 1%, leave 9%), queue 50ms, trace none")


def test_events_that_would_ask_for_what_excludes_each_other_are_told_before_the_run():
    events = "{at: 9s, shape: {link: [alpha, beta], aqm: codel}}", "{at: 5s, shape: {link: [alpha, beta], rate: 1mbit}}"
    assert read(timeline(*events))  # in the order of their times
    (told,) = mistakes(timeline("{at: 9s, shape: {link: [alpha, beta], aqm: codel}}"))
    assert "shaped: aqm codel: Without a rate nothing waits" in told


def test_every_probe():
    found = read(
        "probes:\n"
        "  rtt: {ping: {from: alpha, to: beta, every: 100ms}}\n"
        "  tcp: {iperf3: {from: alpha, to: beta, window: 16k, rate: 5mbit}}\n"
        "  gap: {udp: {from: alpha, to: beta, rate: 1000/s, size: 200}}\n"
        "  seen: {traceroute: {from: alpha, to: beta, wait: 500ms}}\n"
        "  way: {path: {from: alpha, to: beta}}\n"
        "  fib: {routes: {slivers: [alpha]}}\n"
        "  pcap: {capture: {sliver: beta, vif: to-alpha, filter: icmp}}\n"
        "  ctr: {counters: {every: 2s}}\n"
        "  all: {counters: }\n"
    )
    assert found.probes == {
        "rtt": Ping("alpha", "beta", 0.1),
        "tcp": Iperf3("alpha", "beta", window=16384, rate_mbit=5),
        "gap": Udp("alpha", "beta", 1000, 200),
        "seen": Traceroute("alpha", "beta", wait_s=0.5),
        "way": PathProbe("alpha", "beta"),
        "fib": Routes(("alpha",)),
        "pcap": Capture("beta", "to-alpha", "icmp"),
        "ctr": Counters(every_s=2),
        "all": Counters(),
    }


def test_routing_overrides_are_merged_over_the_topology():
    found = read("routing: {hello: 5s, dead: 10s}\n")
    routing = found.topology.slivers["beta"].routing
    assert routing and (routing.hello_s, routing.dead_s, routing.protocols) == (5, 10, ("ospf",))


def test_name_seed_settle_and_inputs():
    found = read("seed: 42\nsettle: 3s\n")
    assert (found.name, found.seed, found.settle, found.settle_s) == ("x", 42, "none", 3)
    assert found.inputs == {"x.yaml": INLINE + "seed: 42\nsettle: 3s\n"}
    patient = read("patience: 9s\ncalm: 2s\n")
    assert (patient.settle, patient.settle_s, patient.calm_s) == ("converged", 9, 2)


def test_all_mistakes_at_once_with_places_and_nearest_words():
    found = mistakes(
        timeline(
            "{at: 10s, fail: {link: [alpha, betta]}}",
            "{at: 10s, fial: {link: [alpha, beta]}}",
            "{at: 40s, restore: {link: [alpha, beta]}}",
            "{fail: {link: [alpha, beta]}}",
            "{at: 1s, start: {traffic: bulk}}",
        )
        + "probes:\n  rtt: {ping: {from: alpha, to: gamma, evry: 1s}}\n  tcp: {iperf: {from: alpha}}\n"
    )
    text = "\n".join(found)
    assert "line 9, column 36: There is no sliver 'betta' in pair. (did you mean 'beta'?)" in text
    assert "line 10, column 15: 'fial' is not a key of an event. (did you mean 'fail'?)" in text
    assert "line 11, column 10: The run ends at 30 s, before this event." in text
    assert "line 12, column 5: This event does not say when." in text
    assert "line 13, column 31: There is no 'bulk' in 'traffic:'." in text
    assert "There is no sliver 'gamma' in pair." in text
    assert "'evry' is not a key of a ping probe. (did you mean 'every'?)" in text
    assert "'iperf' is not a key of a probe. (did you mean 'iperf3'?)" in text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (timeline("{at: 1s, fail: {link: [alpha]}}"), "A link has two ends"),
        (timeline("{at: 1s, fail: {link: nowhere}}"), "There is no link 'nowhere'."),
        (timeline("{at: 1s, fail: {link: [alpha, alpha]}}"), "There is no link between alpha and alpha"),
        (timeline("{at: 1s, fail: {link: [alpha, beta], how: loud}}"), "'loud' is not a valid word"),
        (timeline("{at: 1, restore: [alpha, beta]}"), "'1' has no unit."),
        (timeline("{at: 1s}"), "This event has no action."),
        (timeline("{at: 1s, restore: [alpha, beta], fail: [alpha, beta]}"), "An event has one action, but this has 2."),
        (timeline("{at: 1s, after: converged, restore: [alpha, beta]}"), "'after' stands alone."),
        (timeline("{at: 1s, times: 2, restore: [alpha, beta]}"), "'times' needs 'every'."),
        (timeline("{at: 1s, shape: {link: [alpha, beta]}}"), "Nothing about the link changes."),
        (timeline("{at: 1s, shape: {from: alpha, delay: 1ms}}"), "It must say which link."),
        (timeline("{at: 1s, routing: {cost: 5}}"), "It must say whose routing."),
        (timeline("{at: 1s, routing: {link: [alpha, beta], cost: 5, hello: 1s}}"), "Of a link only the cost changes."),
        ("probes: {p: {}}\n", "Probe 'p' must have one kind."),
        ("probes: {p: {ping: {from: alpha, to: alpha}}}\n", "from a sliver to itself"),
        ("probes: {p: {ping: {from: alpha}}}\n", "The key 'to' is missing"),
        ("probes: {p: {udp: {from: alpha, to: beta, rate: 1000}}}\n", "'1000' is not a pace."),
        ("probes: {p: {capture: {sliver: alpha, vif: to-bета}}}\n", "can't be a vif's name"),
        ("probes: {p: {capture: {sliver: alpha, vif: to-betta}}}\n", "has no vif 'to-betta'."),
        ("probes: {p: {counters: }}\ntraffic: {p: {counters: }}\n", "There is a probe p too."),
        ("routing: {hello: 5s}\n", "'dead' must be longer than 'hello'"),
        ("routing: {helo: 5s}\n", "'helo' is not a key of a routing override."),
        ("duration: 5s\n", "already there on line 7"),
    ],
)
def test_mistake(text, sentence):
    assert sentence in "\n".join(mistakes(text))


def test_topology_file_is_found_beside_and_its_mistakes_name_it(tmp_path):
    (tmp_path / "net.yaml").write_text("slivers: [a, b]\nlinks: [a -- c]\n")
    (tmp_path / "exp.yaml").write_text("topology: net.yaml\nduration: 5\n")
    with pytest.raises(TopologyError) as caught:
        load(tmp_path / "exp.yaml")
    text = str(caught.value)
    assert "exp.yaml: line 2, column 11: '5' has no unit." in text
    assert "net.yaml" in text and "'c'" in text
    (tmp_path / "net.yaml").write_text("slivers: [a, b]\nlinks: [a -- b]\n")
    (tmp_path / "exp.yaml").write_text("topology: net.yaml\nduration: 5s\n")
    found = load(tmp_path / "exp.yaml")
    assert found.topology.name == "net" and set(found.inputs) == {"net.yaml", "exp.yaml"}


def test_both_files_are_kept_also_where_they_have_the_same_name(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "same.yaml").write_text("slivers: [a, b]\nlinks: [a -- b]\n")
    (tmp_path / "same.yaml").write_text("topology: sub/same.yaml\nduration: 5s\n")
    inputs = load(tmp_path / "same.yaml").inputs
    assert inputs.keys() == {"same.yaml", "topology-same.yaml"}
    assert "duration" in inputs["same.yaml"] and "slivers" in inputs["topology-same.yaml"]


def test_a_wrong_timer_is_the_only_mistake_told_of_it():
    assert mistakes("routing: {hello: 5, dead: 500ms}\n") == ["line 8, column 18: '5' has no unit. (write 5ms or 5s)"]


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(TopologyError, match="can't be read: No such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "exp.yaml").write_text("topology: none.yaml\nduration: 5s\n")
    with pytest.raises(TopologyError, match="line 1, column 11: .*none.yaml can't be read"):
        load(tmp_path / "exp.yaml")
    (tmp_path / "exp.yaml").write_text("- a\n")
    with pytest.raises(TopologyError, match="is a mapping"):
        load(tmp_path / "exp.yaml")


@pytest.mark.parametrize("name", ["abilene-failure", "failover"])
def test_examples(name):
    found = load(EXAMPLES / f"{name}.yaml")
    assert [str(e.action).split()[1] for e in found.timeline] == ["fails", "restored"]


def test_every_is_expanded_and_sorted():
    beat, once = Exec("a", "x"), Exec("a", "y")
    wish = read("")
    wish = Experiment(
        name="x", topology=wish.topology, duration_s=30,
        timeline=(Event(beat, every_s=10), Event(once, at_s=10), Event(beat, at_s=5, every_s=2, times=2)),
    )  # fmt: skip
    found = [(o.number, o.event, o.at_s) for o in occasions(wish)]
    assert found == [(0, 0, 0), (1, 2, 5), (2, 2, 7), (3, 0, 10), (4, 1, 10), (5, 0, 20)]


def test_after_converged_follows_the_last_occasion_of_the_event_before():
    wish = Experiment(
        name="x", topology=read("").topology, duration_s=30,
        timeline=(
            Event(Exec("a", "first"), after="converged"),
            Event(Exec("a", "beat"), every_s=10, times=2),
            Event(Exec("a", "then"), after="converged"),
            Event(Exec("a", "last"), after="converged"),
        ),
    )  # fmt: skip
    found = {o.action.run: (o.number, o.after, o.at_s) for o in occasions(wish)}
    assert found["first"] == (0, -1, None)
    assert found["beat"] == (2, -1, 10)
    assert found["then"] == (3, 2, None)
    assert found["last"] == (4, 3, None)


def test_schema_knows_every_action_and_probe():
    text = str(schema())
    for word in ("fail", "restore", "shape", "routing", "exec", "start", "stop", "iperf3", "traceroute", "capture"):
        assert f"'{word}'" in text


def test_a_topology_file_is_sent_to_the_right_command(tmp_path):
    with pytest.raises(TopologyError, match="line 2, column 1: This is a topology file: .*'vini up .*yaml'") as error:
        parse("name: t\nslivers: [a]\nrouting: ospf\n", tmp_path / "t.yaml")
    assert len(error.value.mistakes) == 1


def test_every_key_is_in_the_reference():
    text = (EXAMPLES.parent / "docs/reference/experiment.md").read_text()
    parts = {p.split("\n", 1)[0].lower(): p for p in text.split("\n## ")}
    for section in SECTIONS:
        part = parts[section.name.split(" ", 1)[1]]
        for name, key in section.keys.items():
            assert f"| `{name}` |" in part and key.what in part
