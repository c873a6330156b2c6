"""What slices used of two nodes is told by their central as the kernels counted it: all of it, and once."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

import msgspec
import pytest
from own_place import eventually, run
from testbed import ADMIN, SITE, Testbed, testbed

from vini.central import settings
from vini.layout import address, layout
from vini.topology import parse

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping")]

SLICE = "home_usage"
NET = f"""
name: {SLICE}
routing: static
slivers: {{a: {{node: n1}}, b: {{node: n2}}, c: {{node: n1}}}}
links: [a -- b, a -- c]
"""
TUNNELS = {("n1", "a"): "to-b", ("n2", "b"): "to-a"}


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with testbed(("n1", "n2"), tmp_path_factory.mktemp) as made:
        made.central.kill()
        own = settings.read(made.central.directory)
        settings.change(made.central.directory, msgspec.structs.replace(own, usage_s=1.0))
        made.central.up()
        made.vini("slice", "create", SLICE)
        (made.directory / "net.yaml").write_text(NET)
        yield made
        made.vini("down", "-s", SLICE, check=False)  # of a test that failed


def test_all_of_it_once(bed: Testbed) -> None:
    bed.vini("up", str(bed.directory / "net.yaml"), "--slice", SLICE)
    send(bed, 50)
    eventually(lambda: is_as_counted(bed), 60)
    assert counted(bed, "n1", "a")[1] > 50 * 1000
    bed.central.kill()
    send(bed, 50)
    bed.hosts["n1"].kill()  # counts nothing twice
    send(bed, 50)
    bed.hosts["n1"].start()
    eventually(lambda: bed.hosts["n1"].own.agents())
    bed.central.up()
    eventually(lambda: is_as_counted(bed), 120)
    assert counted(bed, "n1", "a")[1] > 150 * 1000
    bed.hosts["n2"].kill()
    book = bed.hosts["n2"].state / "usage" / "now.json"
    was = used(bed)["b"]["tunnel_out"]
    book.write_text("lost")
    bed.hosts["n2"].start()
    eventually(lambda: book.read_text() != "lost")  # what is sent before the first look is in no book
    send(bed, 50)
    eventually(lambda: used(bed)["b"]["tunnel_out"] > was, 120)
    assert used(bed)["b"]["tunnel_out"] <= counted(bed, "n2", "b")[1], "what a lost book told stays, and counts once"
    everything = used(bed)
    bed.vini("down", "-s", SLICE)
    eventually(lambda: used(bed)["a"]["tunnel_out"] >= everything["a"]["tunnel_out"] and not bed.hosts["n1"].slivers())
    shown(bed)


def shown(bed: Testbed) -> None:
    """By all that shows it, also of a slice that is down."""
    (row,) = json.loads(bed.vini("usage", "--json", "--slice", "home_*", "--person", ADMIN))
    assert (row["name"], row["site"], row["nodes"]) == (SLICE, SITE, 2) and row["cpu_s"] >= 0
    (site,) = csv.DictReader(io.StringIO(bed.vini("usage", "--csv", "--per", "site")))
    assert (site["name"], int(site["tunnel_out"])) == (SITE, row["tunnel_out"])
    assert f"{row['tunnel_out'] / 1e6:.1f}" in bed.vini("usage", "--daily")
    here = {row["name"]: row for row in json.loads(bed.hosts["n1"].vini("usage", "--per", "sliver", "--json"))}
    assert here[f"{SLICE}/a"]["tunnel_out"] == used(bed)["a"]["tunnel_out"] and f"{SLICE}/b" not in here


def send(bed: Testbed, count: int) -> None:
    """From a to b, and as much back."""
    to = address(layout(parse(NET)), "b")
    run(*bed.hosts["n1"].enter(f"{SLICE}.a", "ping", "-q", "-c", str(count), "-i", "0.01", "-s", "1000", to))


def used(bed: Testbed) -> dict[str, dict[str, int]]:
    found = json.loads(bed.vini("usage", "--per", "sliver", "--json", "--slice", SLICE))
    return {row["name"].partition("/")[2]: row for row in found}


def counted(bed: Testbed, node: str, sliver: str) -> tuple[int, int]:
    """What the kernel's own counters of the tunnel's end say: bytes in and out."""
    host = bed.hosts[node]
    text = run(*host.enter(f"{SLICE}.{sliver}", "cat", "/proc/net/dev"))
    (row,) = (line for line in text.splitlines() if line.strip().startswith(TUNNELS[node, sliver] + ":"))
    fields = row.partition(":")[2].split()
    return int(fields[0]), int(fields[8])


def is_as_counted(bed: Testbed) -> bool:
    """Fails with the difference; what is sent meanwhile is there the next time."""
    found = used(bed)
    for node, sliver in TUNNELS:
        told = (found[sliver]["tunnel_in"], found[sliver]["tunnel_out"])
        assert told == counted(bed, node, sliver), f"{sliver} on {node}: told {told}"
    assert (found["c"]["tunnel_out"], found["c"]["outside_out"]) == (0, 0)
    assert all(found[s]["up_s"] > 0 and found[s]["memory_most"] >= 0 for s in "abc")
    return True
