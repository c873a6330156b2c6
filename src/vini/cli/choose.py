"""Which slice, and which file, a command is about."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
from msgspec import structs

from vini import names, nearby
from vini.cli.out import note
from vini.client import Client, Slices
from vini.edit import nearest
from vini.model import PROTOCOLS, SPEAKS, Mistake, NotFound, Routing, Topology, TopologyError, ViniError
from vini.topology import parse

_NAMED = 10  # of a class's hundred slices a sentence names no more
slice_option = click.option("-s", "--slice", "slice_", help="Which slice; needed when several are up. (VINI_SLICE)")


def the_slice(client: Slices, given: str | None) -> Topology:
    """The slice that was named, or the only one that is up.  Raises NotFound or ViniError."""
    name = given or os.environ.get("VINI_SLICE")
    if name:
        return client.asked(name)
    slices = readable(client)
    if not slices and not isinstance(client, Client):
        raise NotFound(
            "No slice of yours is up on this testbed; `vini slice create SITE_NAME`, then "
            "`vini up FILE --slice SITE_NAME`."
        )
    if not slices:
        raise NotFound("No slice is up; `vini up FILE` brings one up, for example `vini up examples/abilene.yaml`.")
    if len(slices) > 1:
        more = f", and {len(slices) - _NAMED} more" if len(slices) > _NAMED else ""
        which = ", ".join([*slices][:_NAMED])
        raise ViniError(f"Several slices are up ({which}{more}); say which with `--slice NAME`.")
    return next(iter(slices.values()))


def check_named(client: Slices, topology: Topology, source: str) -> None:
    """On a testbed each slice belongs to a site, and says so in its name."""
    if isinstance(client, Client) or "_" in topology.name:
        return
    raise click.UsageError(
        f"On a testbed a slice is made before it comes up, and its name begins with its site's: `vini slice create "
        f"SITE_{topology.name}`, then `vini up {source} --slice SITE_{topology.name}`.  `vini slice` lists yours."
    )


def readable(client: Slices) -> dict[str, Topology]:
    """The slices that are up, with a note of those that only another version of VINI can read."""
    for name in client.unreadable():
        note(f"note: slice {name!r} is left out: another version of VINI stored it. `vini down -s {name}` ends it.")
    return client.topologies()


def the_sliver(topology: Topology, name: str) -> str:
    """A sliver's name, checked.  Raises NotFound with the nearest one."""
    if name not in topology.slivers:
        near = nearest(name, topology.slivers)
        hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(sorted(topology.slivers)[:20])}."
        raise NotFound(f"There is no sliver {name!r} in slice {topology.name!r}; {hint}")
    return name


def read_text(path: str) -> str:
    """A file's text; "-" is standard input.  Raises TopologyError where it can't be read as text."""
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as e:
        raise TopologyError([Mistake(0, 0, f"There is no file {path!r}; {_near(path)}")]) from e
    except IsADirectoryError as e:
        raise TopologyError([Mistake(0, 0, f"{path!r} is a directory; name a topology file in it.")]) from e
    except PermissionError as e:
        raise TopologyError([Mistake(0, 0, f"You may not read {path!r}; check its permissions.")]) from e
    except UnicodeDecodeError as e:
        raise TopologyError([Mistake(0, 0, f"{path!r} is not text in UTF-8; save it in that encoding.")]) from e


def _near(path: str) -> str:
    parent = Path(path).parent
    there = [str(p) for p in parent.glob("*.yaml")] if parent.is_dir() else []
    near = nearest(path, there)
    return f"did you mean {near!r}?" if near else "look at `ls examples`, or write one: docs/tutorial/first-network.md."


def read_topology(path: str, *, slice_: str | None = None) -> Topology:
    """A topology file of ours or, with a note of what was lost, of another tool; "-" is standard input.

    What a file names is looked for beside it, and for standard input in the current directory.
    """
    from vini import formats  # only who reads a file waits for the readers of all that there are

    text = read_text(path)
    name = path if path != "-" else "stdin"
    if formats.detect(text, name):
        found = formats.read(text, name, bound_files(path, text))
        for remark in found.notes:
            note(f"note: {remark}")
        topology = found.topology
    else:
        topology = parse(text, path, names.slug(Path(name).name.partition(".")[0]), nearby.reader(Path(path).parent))
    return renamed(topology, slice_)


def bound_files(path: str, text: str) -> dict[str, str]:
    """The texts of the files that a containerlab file binds, as far as they are there."""
    from vini import formats

    out = {}
    directory = Path(path).parent.resolve()
    for wanted in formats.wanted_files(text, path):
        at = (directory / wanted).resolve()
        if at.is_file() and at.is_relative_to(directory):  # a link out of the lab's directory is not followed
            out[wanted] = at.read_text(encoding="utf-8", errors="replace")
    return out


def generated(spec: str, seed: int, protocols: str | None, daemon: str | None, slice_: str | None) -> Topology:
    """A topology from a generator, `ring:10`."""
    from vini import formats

    routing = None
    if protocols and protocols.strip() != "none":
        routing = _routing(protocols, daemon or "bird")
    topology = formats.generate(spec, seed, routing=routing)
    if routing and "bgp" in routing.protocols:  # a system of its own for each, of those for private use (RFC 6996)
        numbered = enumerate(topology.slivers.items(), 65001 if len(topology.slivers) <= 534 else 4200000001)
        slivers = {n: structs.replace(s, routing=structs.replace(routing, asn=asn)) for asn, (n, s) in numbered}
        topology = structs.replace(topology, slivers=slivers)
    if routing is None:
        forwarding = {n: structs.replace(s, forward=True) for n, s in topology.slivers.items()}
        topology = structs.replace(topology, slivers=forwarding)
    return renamed(topology, slice_)


def _routing(protocols: str, daemon: str) -> Routing:
    words = tuple(dict.fromkeys(w for p in protocols.split(",") if (w := p.strip())))
    speaks = [p for p in PROTOCOLS if p in SPEAKS[daemon]]
    for word in words:
        if word not in PROTOCOLS:
            near = nearest(word, PROTOCOLS)
            hint = f"did you mean {near}?" if near else f"there are: {', '.join(PROTOCOLS)}."
            raise TopologyError([Mistake(0, 0, f"--routing: there is no protocol {word!r}; {hint}")])
        if word not in speaks:
            other = next(d for d in SPEAKS if word in SPEAKS[d])
            raise TopologyError([Mistake(0, 0, f"--routing: {daemon} does not speak {word}; use `--daemon {other}`.")])
    if not words:
        raise TopologyError([Mistake(0, 0, f"--routing names no protocol; there are: {', '.join(PROTOCOLS)}.")])
    return Routing(protocols=words, daemon=daemon)


def renamed(topology: Topology, slice_: str | None) -> Topology:
    """The same under another slice name."""
    if slice_ is None:
        return topology
    if not names.SLICE_NAME.match(slice_):
        raise TopologyError([Mistake(0, 0, f"{slice_!r} is no slice name; use a-z, 0-9, _ and -, at most 40.")])
    return structs.replace(topology, name=slice_)
