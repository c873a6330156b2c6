"""The library's manual pages as text: one of them for a terminal, all of them as the reference page."""

from __future__ import annotations

from collections.abc import Iterator

from vini.elements.kinds import Kind, library
from vini.elements.values import TYPES
from vini.model import NotFound
from vini.text.mistakes import nearest, quote


def manual(name: str = "") -> str:
    """The page of one element, or a line for each.  NotFound where there is none of that name."""
    kinds = library()
    if name in kinds:
        return kinds[name].manual
    if name:
        hint = nearest(name, kinds)
        raise NotFound(f"There is no element {quote(name)}" + (f": {hint}" if hint else "."))
    width = max(map(len, kinds))
    return "".join(f"{k.name:<{width}}  {k.summary}\n" for k in kinds.values())


def reference() -> str:
    """docs/reference/elements.md."""
    return "\n".join([*_head(), *(line for kind in library().values() for line in _section(kind))])


def _head() -> Iterator[str]:
    yield _HEAD
    yield "| element | what it does | hooks |\n|---|---|---|"
    yield from (f"| [`{k.name}`](#{k.name}) | {k.summary} | {', '.join(k.hooks)} |" for k in library().values())
    yield "\n## Types\n\n| type | is |\n|---|---|"
    yield from (f"| `{t.name}` | {t.what} |" for t in TYPES.values())
    yield ""


def _section(kind: Kind) -> Iterator[str]:
    """A heading, what it is in prose, and its declaration."""
    prose, declared = _parts(kind.manual)
    yield f"## {kind.name}\n\n{kind.summary[0].upper()}{kind.summary[1:]}.\n\n{prose}\n"
    yield f"```text\n{declared}\n```\n"


def _parts(page: str) -> tuple[str, str]:
    """The paragraphs below a page's first line, and the declaration below them."""
    lines = page.splitlines()[1:]
    first = next(n for n, line in enumerate(lines) if line.partition(":")[0] in ("inputs", "outputs"))
    return "\n".join(lines[:first]).strip(), "\n".join(lines[first:]).strip()


_HEAD = """# Elements

The elements of packet programs ([how to write one](../how-to/program-a-router.md),
[how they work](../explanation/forwarding.md)). This page is made from the elements' own manual pages
(`src/vini/elements/library/*.c`); `vini program elements NAME` prints one of them.

Besides them there are `input`, `input(VIF)`, `output`, `output(VIF)`, where packets come in, and `out`, `out(VIF)`,
`kernel`, `drop`, where they end.
"""
