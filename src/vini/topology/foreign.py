"""Files of other kinds that were given as a topology file: say which command reads them.

These are not the patterns of `vini.formats.detect`, which is to know a kind by any trace of it:
here the text is ours until shown otherwise, and a line such as `graph [` in a block of text shows nothing.
"""

from __future__ import annotations

import re

from vini.text.mistakes import Mistakes

EXPERIMENT = re.compile(r"^(timeline|probes)[ ]*:", re.MULTILINE)
IMPORTABLE = {
    "GraphML": re.compile(r"\A\s*<(\?xml[^>]*>\s*(<!--.*?-->\s*)*<)?graphml\b", re.DOTALL),
    "SNDlib": re.compile(r"\A\s*(\?SNDlib|<(\?xml[^>]*>\s*<)?network\b)"),
    "GML": re.compile(r"\A\s*((#|Creator|Version|comment)[^\n]*\n\s*)*graph\s*\["),
    "PL-VINI experiment": re.compile(r"^\s*\$\w+\s*=\s*(Slice|Node)\.new\b", re.MULTILINE),
    "containerlab": re.compile(r"^topology:[ ]*(#.*)?\n([ ]*(#.*)?\n)*[ ]+(nodes|kinds|defaults|links)[ ]*:", re.M),
}
SEARCHED = 4000  # characters from the beginning, for what must stand there


def check_foreign(text: str, source: str, mistakes: Mistakes) -> None:
    """Note the right command where `text` is another tool's file, or an experiment."""
    file = source or "FILE"
    start = text[:SEARCHED].lstrip("\ufeff")
    if (found := EXPERIMENT.search(text)) is not None:
        line = text.count("\n", 0, found.start()) + 1
        what = f"This is an experiment: it has '{found[1]}'."
        mistakes.add((line, 1), what, f"run it with 'vini run {file}'")
        return
    for kind, pattern in IMPORTABLE.items():
        if pattern.search(start):
            what = f"This looks like a {kind} file."
            mistakes.add((1, 1), what, f"translate it with 'vini import {file} > topology.yaml'")
            return
