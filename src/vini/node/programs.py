"""The programs that users load onto their slivers: compiled, checked, loaded, replaced without a packet lost, read.

Every step may be the last before a crash.  What is new is pinned beside what is there; then the record names the new,
the dispatchers are led to it one by one, and the old goes.  A refused program changes nothing.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Literal

from vini import dataplane
from vini.elf import Elf
from vini.model import Bpf, BpfRow, BpfVif, DriverError, NotFound, Value, ViniError
from vini.node import budget, libbpf, netns, policy, shelf, verifier
from vini.node.compile import compile_program
from vini.node.libbpf import SCHED_CLS, XDP, BpfObject, MapHead, Refused
from vini.node.place import Place
from vini.node.shelf import SLOTS, HookPin, Record, Shelf
from vini.sections import Entry, entry
from vini.text import objects
from vini.text.mistakes import Wrong

INCLUDE = Path(dataplane.__file__).with_name("program")
DISPATCHER = INCLUDE / "dispatcher.c"
VIFS = "vifs"  # the map that the node fills (runtime.h); it goes with its program
_VIF = struct.Struct("=I6s6s")
_TYPES = {"tc": SCHED_CLS, "xdp": XDP}
_SLOT = struct.Struct("=I")


class Unit(Value, frozen=True):
    """One object file of a sliver's programs, and those of them that are wanted, each with its type."""

    elf: bytes
    programs: dict[str, int]


class Programs:
    """Of all slivers of a place.  Holds nothing: all is asked of the kernel."""

    def __init__(self, place: Place):
        self._place = place

    # --- what is there ------------------------------------------------------------------------

    def slivers(self) -> set[str]:
        """`slice.sliver` of all that there is a trace of programs of."""
        return shelf.slivers(self._place)

    def loaded(self, ns: str) -> Bpf | None:
        """The programs of a sliver; None where there are none, or only parts of them."""
        record = Shelf(self._place, ns).record()
        return record.asked if record else None

    # --- change -------------------------------------------------------------------------------

    def load(self, asked: Bpf, text: str) -> None:
        """Make these, from that text, the sliver's programs.  Maps of the same name and shape keep what they hold.

        DriverError with the user's lines where clang, the policy or the verifier refuses; then all is as it was.
        """
        name = name_of(asked)
        units = compiled(text, name, asked.hook)
        with ExitStack() as stack:
            objects = [stack.enter_context(_opened(unit, name)) for unit in units]
            self._load_objects(Shelf(self._place, asked.ns), asked, text, units, objects)

    def _load_objects(
        self, pins: Shelf, asked: Bpf, text: str, units: Sequence[Unit], objects: Sequence[BpfObject]
    ) -> None:
        name = name_of(asked)
        before = pins.last_record()
        old = pins.at / before.generation / "maps" if before else None
        maps: dict[str, int] = {}
        kept: set[str] = set()
        for o in objects:
            with _reused(o, maps, old) as reused:
                kept |= reused - maps.keys()
                _verify(o, text, name)
            maps |= {m.name: o.map_fd(m.name) for m in o.maps() if not m.internal and m.name not in maps}
        if VIFS in maps:
            _fill(maps[VIFS], asked.vifs)
        _write_rows(asked.rows, before.asked.rows if before else (), maps, kept)
        functions = {f: o.program_fd(f) for unit, o in zip(units, objects, strict=True) for f in unit.programs}
        if len(functions) < sum(len(unit.programs) for unit in units):
            raise DriverError(f"{name} has two programs of one name, for XDP and for tc; give one another name.")
        pins.prepare()
        self._furnish(pins, asked.budget_kpps)
        record = Record(asked, pins.next_generation(), tuple(sorted(maps)), tuple(sorted(functions)))
        try:
            _pin_all(pins.make_generation(record.generation), maps, functions)
        except OSError:
            pins.remove_generations(but=before.generation if before else "")
            raise
        known = _known(pins)
        pins.write_record(record)
        _lead(pins, known, functions, {f: t for unit in units for f, t in unit.programs.items()})
        pins.remove_generations(but=record.generation)

    def _furnish(self, pins: Shelf, kpps: int) -> None:
        """Make the dispatchers' maps where they aren't there, and set the budget."""
        hooks: tuple[Literal["tc", "xdp"], ...] = ("tc", "xdp")
        for hook in hooks:
            wanted = {"calls": pins.calls(hook), "slice_budget": pins.budget}
            wanted |= {n: pins.at / n for n in ("sliver_budget", "shares")}
            if missing := {name: path for name, path in wanted.items() if not path.exists()}:
                with BpfObject(dispatcher(hook)) as maps:
                    maps.choose({})
                    maps.load()
                    if "slice_budget" in missing:
                        budget.set_kpps(maps.map_fd("slice_budget"), budget.SLICE_KPPS)
                    for name, path in missing.items():
                        libbpf.pin(maps.map_fd(name), path)
        with libbpf.held(pins.at / "sliver_budget") as fd:
            budget.set_kpps(fd, kpps)

    def unload(self, ns: str) -> None:
        """Take the programs and maps of a sliver away; no error where there are none.  Its hooks come first."""
        Shelf(self._place, ns).remove()

    # --- budgets ------------------------------------------------------------------------------

    def spent(self, ns: str) -> budget.Spent:
        """How many packets a sliver's programs saw, and how many were beyond a budget."""
        with libbpf.held(Shelf(self._place, ns).at / "shares") as fd:
            return budget.spent(fd)

    def slice_kpps(self, slice_: str) -> int:
        """The budget of a slice in force."""
        with libbpf.held(Shelf(self._place, f"{slice_}.").budget) as fd:
            return budget.kpps(fd)

    def set_slice_kpps(self, slice_: str, kpps: int) -> None:
        """Change the budget of a slice, at once."""
        with libbpf.held(Shelf(self._place, f"{slice_}.").budget) as fd:
            budget.set_kpps(fd, kpps)

    def running_ns_per_s(self, over_s: float = 0.05) -> dict[str, float]:
        """For each sliver, what its programs take of processors (1e9: all of one), measured now, for `over_s`."""
        shelves = {ns: Shelf(self._place, ns) for ns in self.slivers()}
        counted = {ns: [budget.Counted(s.hook(h), h.hook) for h in s.hooks()] for ns, s in shelves.items()}
        return budget.running_ns_per_s(counted, over_s)

    # --- tables -------------------------------------------------------------------------------

    def tables(self, ns: str) -> list[MapHead]:
        """The maps of a sliver's programs, by name."""
        record = Shelf(self._place, ns).record()
        out = []
        for name in record.maps if record else ():
            with self._table(ns, name) as (_, head):
                out.append(head)
        return out

    def read(self, ns: str, table: str) -> list[tuple[bytes, list[bytes]]]:
        """All keys of a table with their values: one, or one for each processor."""
        with self._table(ns, table) as (fd, head):
            if head.type == "ringbuf":
                raise DriverError(f"{table} is a ring buffer: it has messages, which a process in the sliver reads.")
            found = ((key, libbpf.lookup(fd, head, key)) for key in list(libbpf.keys(fd, head)))
            return [(key, values) for key, values in found if values is not None]

    def row(self, ns: str, table: str, key: bytes) -> list[bytes] | None:
        """The value of a key, one for each processor where the table has such; None: no such key."""
        with self._table(ns, table) as (fd, head):
            if len(key) != head.key_size:
                raise DriverError(f"A key of {table} has {head.key_size} bytes, not {len(key)}.")
            return libbpf.lookup(fd, head, key)

    def write(self, ns: str, table: str, key: bytes, value: bytes) -> None:
        """Set a value.  A devmap's is an interface index of that sliver."""
        with self._table(ns, table) as (fd, head), netns.inside(self._place.pin(ns)):
            if table == VIFS:
                raise DriverError(f"The table {VIFS} is the node's: it follows the topology.")
            for what, have, size in (("key", key, head.key_size), ("value", value, head.value_size)):
                if len(have) != size:
                    raise DriverError(f"A {what} of {table} has {size} bytes, not {len(have)}.")
            try:
                libbpf.update(fd, head, key, value)
            except OSError as e:
                raise DriverError(f"The kernel refused the entry of {table}: {os.strerror(e.errno or 0)}.") from e

    def delete(self, ns: str, table: str, key: bytes) -> bool:
        """Take a key out of a table; False where it was not there."""
        with self._table(ns, table) as (fd, head):
            return len(key) == head.key_size and libbpf.delete(fd, key)

    @contextmanager
    def _table(self, ns: str, table: str) -> Iterator[tuple[int, MapHead]]:
        pins = Shelf(self._place, ns)
        record = pins.record()
        if record is None:
            raise NotFound(f"No program is loaded in {ns}.")
        if table not in record.maps:
            raise NotFound(f"The program of {ns} has no table {table}; it has {', '.join(record.maps) or 'none'}.")
        with libbpf.held(pins.at / record.generation / "maps" / table) as fd:
            head = libbpf.map_record(fd)
            yield fd, MapHead(table, head.type, head.key_size, head.value_size, head.max_entries)


# --- from text to objects -------------------------------------------------------------------------


def name_of(asked: Bpf) -> str:
    """What the program's file is called, in messages."""
    return Path(asked.source).name.removesuffix(objects.BASE64)


def compiled(text: str, name: str, hook: Literal["tc", "xdp"]) -> list[Unit]:
    """The object files of a source, checked; of a `name` that ends in .o the one that `text` is, in base64.

    For XDP a source is compiled a second time, for tc, if it has programs for what leaves: XDP sees only what arrives.
    """
    if name.endswith(objects.SUFFIX):
        return [_checked(_decoded(text, name), name, lambda e: e.hook == hook or e.direction == "egress")]
    if hook != "xdp":
        return [_unit(text, name, hook, lambda e: e.hook == "tc")]
    arriving = _unit(text, name, "xdp", lambda e: e.hook == "xdp")
    if not any("tc/egress" in line for line in text.splitlines()):
        return [arriving]
    return [arriving, _unit(text, name, "tc", lambda e: e.direction == "egress")]


def _unit(text: str, name: str, hook: Literal["tc", "xdp"], wanted: Callable[[Entry], bool]) -> Unit:
    return _checked(compile_program(text, name, hook, INCLUDE), name, wanted)


def _decoded(text: str, name: str) -> bytes:
    try:
        return objects.decoded(text)
    except Wrong as e:
        raise DriverError(f"{name} can't be read: {e}") from e


def _checked(elf: bytes, name: str, wanted: Callable[[Entry], bool]) -> Unit:
    if violations := policy.check(elf):
        raise DriverError("\n".join([f"The policy of this node refuses {name}:", *violations]))
    try:
        with BpfObject(elf) as o:
            found = {p.name: at for p in o.programs() if (at := entry(p.section))}
            seen = {(m.name, m.key_size, m.value_size, m.max_entries) for m in o.maps() if not m.internal}
    except Refused as e:
        raise DriverError(f"libbpf refused {name}: {e.log.strip() or e}") from e
    if seen != {(m.name, m.key_size, m.value_size, m.numbers.get("max_entries", 0)) for m in Elf(elf).maps}:
        raise DriverError(f"The policy of this node refuses {name}: libbpf reads other maps in it than were checked.")
    return Unit(elf, {f: _TYPES[at.hook] for f, at in found.items() if wanted(at)})


def compile_ahead(sources: Collection[tuple[str, str, Literal["tc", "xdp"]]]) -> None:
    """Compile texts (text, name, hook) on all processors, for `load` to find; what is wrong with one, that says."""

    def try_one(source: tuple[str, str, Literal["tc", "xdp"]]) -> None:
        with suppress(ViniError):
            compiled(*source)

    with ThreadPoolExecutor(os.cpu_count()) as several:
        list(several.map(try_one, set(sources)))


def verify(units: Sequence[Unit], text: str, name: str) -> None:
    """Load them, for nobody, to hear whether the verifier takes them.  DriverError with the user's line where not."""
    for unit in units:
        with _opened(unit, name) as o:
            _verify(o, text, name)


def _verify(o: BpfObject, text: str, name: str) -> None:
    try:
        o.load()
    except Refused as e:
        if name.endswith(objects.SUFFIX):
            raise DriverError(verifier.of_object(e.log, _decoded(text, name), name, e.program)) from e
        raise DriverError(verifier.explained(e.log, text, name)) from e


@contextmanager
def _opened(unit: Unit, name: str) -> Iterator[BpfObject]:
    try:
        o = BpfObject(unit.elf)
    except Refused as e:
        raise DriverError(f"libbpf refused {name}: {e.log.strip() or e}") from e
    with o:
        o.choose(unit.programs)
        yield o


@cache
def dispatcher(hook: Literal["tc", "xdp"]) -> bytes:
    """The object file of the dispatchers of that hook."""
    return compile_program(DISPATCHER.read_text(), DISPATCHER.name, hook, INCLUDE)


# --- maps and programs ----------------------------------------------------------------------------


@contextmanager
def _reused(o: BpfObject, made: Mapping[str, int], old: Path | None) -> Iterator[set[str]]:
    """The object takes the maps that the others of this loading made, or those from before of the same shape; which."""
    fds, names = [], set()
    try:
        for m in o.maps():
            if m.internal:
                continue
            if m.name in made:
                fd: int | None = os.dup(made[m.name])
            else:
                fd = shelf.opened(old / m.name) if old and m.name != VIFS else None
            if fd is None:
                continue
            fds.append(fd)
            if _shape(libbpf.map_record(fd)) == _shape(m):
                o.reuse(m.name, fd)
                names.add(m.name)
            elif m.name in made:
                raise DriverError(f"The map {m.name} has two shapes; give one of the two another name.")
        yield names
    finally:
        for fd in fds:
            os.close(fd)


def _shape(m: MapHead) -> tuple[str, int, int, int]:
    return m.type, m.key_size, m.value_size, m.max_entries


def _fill(fd: int, vifs: Sequence[BpfVif]) -> None:
    """Tell a program of its vifs: the slot is the place in `vifs`."""
    head = libbpf.map_record(fd)
    if head.key_size != 4 or head.value_size != _VIF.size or head.max_entries < len(vifs):
        raise DriverError(f"The map {VIFS} is not that of runtime.h, for {len(vifs)} vifs; give yours another name.")
    for slot, v in enumerate(vifs):
        macs = (bytes.fromhex(m.replace(":", "")) for m in (v.mac, v.peer))
        libbpf.update(fd, head, _SLOT.pack(slot), _VIF.pack(v.index, *macs))


def _write_rows(rows: Sequence[BpfRow], before: Sequence[BpfRow], maps: Mapping[str, int], kept: set[str]) -> None:
    """What the topology gives a map from the start.  Of a map that is kept, only what the topology changed: what was
    written meanwhile stays."""
    asked = {(r.map, r.key): r for r in rows}
    for old in before:
        if old.map in kept and (old.map, old.key) not in asked:
            libbpf.delete(maps[old.map], bytes.fromhex(old.key))
    known = set(before)
    for r in rows:
        if r.map not in maps:
            raise DriverError(f"The program has no map {r.map} for its rows.")
        if r.map in kept and r in known:
            continue
        head, key, value = libbpf.map_record(maps[r.map]), bytes.fromhex(r.key), bytes.fromhex(r.value)
        if (len(key), len(value)) != (head.key_size, head.value_size):
            raise DriverError(f"A row of the map {r.map} has {len(key)} and {len(value)} bytes, not its sizes.")
        try:
            libbpf.update(maps[r.map], head, key, value)
        except OSError as e:
            raise DriverError(f"The kernel refused a row of the map {r.map}: {os.strerror(e.errno or 0)}.") from e


def _pin_all(generation: Path, maps: Mapping[str, int], functions: Mapping[str, int]) -> None:
    for name, fd in maps.items():
        libbpf.pin(fd, generation / "maps" / name)
    for name, fd in functions.items():
        libbpf.pin(fd, generation / "programs" / name)


def _known(pins: Shelf) -> dict[int, str]:
    """The kernel's numbers of all programs that are pinned, and their names."""
    generations = (pins.at / n.name for n in pins.at.iterdir() if n.name.isdecimal())
    return {shelf.program_id(path): name for g in generations for name, path in shelf.programs(g)}


def _lead(pins: Shelf, known: Mapping[int, str], functions: Mapping[str, int], types: Mapping[str, int]) -> None:
    """Every dispatcher calls the new program of the same name; where there is none, packets pass."""
    for hook in pins.hooks():
        name = known.get(called(pins, hook), "")
        if name and types.get(name) == _TYPES[hook.hook]:
            set_called(pins, hook, functions[name])
        else:
            set_called(pins, hook, None)


def called(pins: Shelf, hook: HookPin) -> int:
    """The kernel's number of the program that a dispatcher calls; 0: none."""
    with suppress(FileNotFoundError), libbpf.held(pins.calls(hook.hook)) as fd:
        found = libbpf.lookup(fd, libbpf.map_record(fd), _SLOT.pack(hook.slot))
        return int(_SLOT.unpack(found[0])[0]) if found else 0
    return 0


def set_called(pins: Shelf, hook: HookPin, program: int | None) -> None:
    """Let a dispatcher call this program (a descriptor), or none, from its next packet on."""
    assert 0 <= hook.slot < SLOTS
    with libbpf.held(pins.calls(hook.hook)) as fd:
        if program is None:
            libbpf.delete(fd, _SLOT.pack(hook.slot))
        else:
            libbpf.update(fd, libbpf.map_record(fd), _SLOT.pack(hook.slot), _SLOT.pack(program))
