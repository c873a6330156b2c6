"""All drivers of a node together: one look at everything, and a plan carried out in batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence

from vini.model import AnyObject, Key, Op, State
from vini.node.drivers import Driver, Failures, by_kind
from vini.plan import batches

Progress = Callable[[int, int, str], None]  # steps done, steps in all, what comes next

log = logging.getLogger("vini.agent")


class Machine:
    """Observes and changes one node through its drivers."""

    def __init__(self, drivers: Sequence[Driver]):
        self._drivers = drivers
        self._by_kind = by_kind(drivers)

    def observe(self, namespaces: Collection[str]) -> State:
        """What is there in those namespaces, of all kinds."""
        objects = frozenset().union(*(d.observe(namespaces) for d in self._drivers))
        return State(objects)

    def apply(self, ops: Sequence[Op], progress: Progress = lambda *_: None) -> Failures:
        """Carry out a plan.  A step that fails is reported with its cause; what stands on it is
        skipped without a word, and its neighbours go on."""
        failures: Failures = {}
        skipped: set[Key] = set()
        done = 0
        for batch in batches(ops):
            kind = type(batch[0].object)
            progress(done, len(ops), f"{batch[0].verb} {len(batch)} {kind.__name__.lower()}")
            able = []
            for op in batch:
                if self._stands_on_failed(op, failures, skipped):
                    skipped.add(op.object.key)
                else:
                    able.append(op.object)
            if able:
                failures |= self._carried_out(batch[0].verb, able)
            done += len(batch)
        progress(done, len(ops), "done")
        return failures

    def _carried_out(self, verb: str, objects: Sequence[AnyObject]) -> Failures:
        driver = self._by_kind[type(objects[0])]
        try:
            return driver.ensure(objects) if verb == "ensure" else driver.remove(objects)
        except Exception as e:  # a mistake of ours must not stop the neighbours; the log has its traceback
            log.exception("a driver broke")
            return {o.key: f"The agent failed at {verb} {' '.join(o.key)}: {e!r}; its log says where." for o in objects}

    @staticmethod
    def _stands_on_failed(op: Op, failures: Failures, skipped: Collection[Key]) -> bool:
        return op.verb == "ensure" and any(k in failures or k in skipped for k in op.object.on)
