"""The program of a sliver in a topology file: in the file itself, or in one that it names."""

from __future__ import annotations

from typing import Literal

from vini.model import IN_KERNEL, Program
from vini.text.mistakes import Mistakes, Wrong, quote
from vini.text.objects import SUFFIX
from vini.text.schema import Fields, Found
from vini.topology.impairments import ReadFile

Kind = Literal["elements", "c", "object", "process", "python"]
KINDS: tuple[Kind, ...] = ("elements", "c", "object", "process", "python")
SUFFIXES: dict[str, Kind] = {".elements": "elements", ".c": "c", SUFFIX: "object", ".py": "python"}


def read_program(found: Found | None, read_file: ReadFile, mistakes: Mistakes) -> Program | None:
    """What a sliver's `program` says; None where there is none, or where it is wrong."""
    if found is None or found.value is None:
        return None
    fields: Fields = found.value
    given = [k for k in (*KINDS, "file") if k in fields]
    if len(given) != 1:
        hint = "write `program: FILE`, or one of elements, c, object, process, python"
        what = "This program has no text." if not given else f"This program is given {len(given)} times."
        mistakes.add(found.at, what, hint)
        return None
    text = fields[given[0]]
    made = _from_file(text, read_file, mistakes) if given[0] == "file" else Program(_kind(given[0]), text.value)
    if made is None:
        return None
    if "hook" in fields and made.kind not in IN_KERNEL:
        mistakes.add(fields["hook"].at, f"A {made.kind} program has no hook: it is a process.", "remove it")
    af_xdp = bool(fields["af_xdp"].value) if "af_xdp" in fields else False
    if af_xdp and made.kind != "process":
        mistakes.add(fields["af_xdp"].at, "Only a `process` has AF_XDP sockets.", "remove it")
    return Program(
        made.kind,
        made.text,
        str(fields["name"].value) if "name" in fields else made.name,
        fields["hook"].value if "hook" in fields else "auto",
        tuple(v.value for v in fields["vifs"].value) if "vifs" in fields else (),
        fields["budget"].value if "budget" in fields else 0,
        af_xdp,
    )


def _kind(word: str) -> Kind:
    return next(k for k in KINDS if k == word)


def _from_file(found: Found, read_file: ReadFile, mistakes: Mistakes) -> Program | None:
    try:
        return program(found.value, read_file)
    except Wrong as e:
        mistakes.add(found.at, str(e), e.hint)
        return None


def program(path: str, read_file: ReadFile) -> Program:
    """The program in a file, of the kind that its name says.  Raises Wrong."""
    suffix = next((s for s in SUFFIXES if path.endswith(s)), None)
    if suffix is None:
        raise Wrong(f"What kind of program is {quote(path)}?", f"its name must end in one of {', '.join(SUFFIXES)}")
    return Program(SUFFIXES[suffix], read_file(path), path)
