"""One thing for several names: a mistake in one of them does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click

from vini.cli.out import complain
from vini.model import Conflict, Denied, NotFound, TopologyError
from vini.rules.errors import Invalid, Unauthenticated


def each(names: Iterable[str], do: Callable[[str], None]) -> None:
    """Do it for all.  What is refused for one is told at once, and the first refusal's exit code is that of all.

    Whatever else fails, such as a central that is away or a login that is over, fails for all: it is raised.
    """
    code = 0
    for name in names:
        try:
            do(name)
        except Unauthenticated:
            raise
        except (Conflict, Denied, Invalid, NotFound, TopologyError) as e:
            complain(f"{name}: {e}" if isinstance(e, TopologyError) else str(e))
            code = code or e.exit_code
    if code:
        raise click.exceptions.Exit(code)
