"""The way in, `vini` and `python -m vini`: it imports next to nothing, so that Ctrl-C gets an answer at any moment."""

from __future__ import annotations

import sys


def main() -> None:
    """Run a command.  Its own `main` answers a Ctrl-C too, but only once all that it needs is imported."""
    try:
        from vini.cli import main as command

        command()
    except KeyboardInterrupt:
        print("error: Interrupted.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
