"""Unpacks one image, for the agent, that has other things to do: `python -m vini.node.images STORE WORD`.

A sentence on the standard error output, and exit code 1, where that can't be.
"""

from __future__ import annotations

import sys
from pathlib import Path

from vini.model import ViniError
from vini.node.images.obtain import imported
from vini.node.images.store import Store


def main(directory: str, word: str) -> int:
    """The exit code."""
    try:
        imported(Store(Path(directory)), word)
    except (ViniError, OSError) as e:
        print(e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
