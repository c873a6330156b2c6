"""Users' programs on this machine: what a sliver has loaded, and where its vifs run it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from vini.model import AnyObject, Bpf, DriverError, Hook, ViniError
from vini.node.drivers import Failures, refused
from vini.node.hooks import Hooks
from vini.node.place import Place
from vini.node.programs import Programs, compile_ahead, name_of


class ProgramDriver:
    """Stateless."""

    kinds = (Bpf, Hook)

    def __init__(self, place: Place):
        self._place = place
        self._programs, self._hooks = Programs(place), Hooks(place)

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """What is loaded and hooked in, in those namespaces; half-made as what differs from anything wanted."""
        out: set[AnyObject] = set()
        for ns in self._programs.slivers() & set(namespaces):
            out.add(self._programs.loaded(ns) or Bpf(ns, "", "tc", ()))
            out.update(self._hooks.attached(ns))
        return frozenset(out)

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        """Load or replace programs, hook them in."""
        if len(programs := [o for o in objects if isinstance(o, Bpf)]) > 1:
            with suppress(ViniError):  # a source that can't be read: its own turn says so
                compile_ahead([(self._text(o), name_of(o), o.hook) for o in programs])
        return _each(objects, self._ensure)

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """Take hooks, then programs and their maps away."""
        return _each(objects, self._remove)

    def _ensure(self, o: AnyObject) -> None:
        match o:
            case Bpf():
                self._programs.load(o, self._text(o))
            case Hook():
                self._hooks.attach(o)

    def _remove(self, o: AnyObject) -> None:
        match o:
            case Bpf():
                self._programs.unload(o.ns)
            case Hook():
                self._hooks.detach(o.ns, o.dev, o.direction)

    def _text(self, o: Bpf) -> str:
        try:
            return (self._place.sliver(o.ns) / o.source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise DriverError(f"The source {o.source} of {o.ns} can't be read: {e}.") from e


def _each(objects: Sequence[AnyObject], do: Callable[[AnyObject], None]) -> Failures:
    failures: Failures = {}
    for o in objects:
        try:
            do(o)
        except ViniError as e:
            failures[o.key] = str(e)
        except OSError as e:
            failures[o.key] = refused(o, e)
    return failures
