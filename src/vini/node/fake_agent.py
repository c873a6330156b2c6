"""An agent that is real, its loop and its ledgers too, but for its machine, which is a dict."""

from __future__ import annotations

from collections.abc import Collection

from vini.model import AnyObject
from vini.node.agent import Agent
from vini.node.fake import FakeDriver
from vini.node.ledgers import Ledgers
from vini.node.machine import Machine
from vini.node.usage.meter import Meter


def agent_over(driver: FakeDriver, ledgers: Ledgers, meter: Meter | None = None) -> Agent:
    """One whose machine is that dict."""
    return Agent(Machine([driver]), ledgers, _Traces(driver), _Programs(), meter=meter)  # type: ignore[arg-type]


class _Traces:
    """Of a machine in a dict: no daemon runs there, and none has to be asked."""

    def __init__(self, driver: FakeDriver):
        self._driver = driver

    def namespaces(self) -> set[str]:
        return {ns for o in list(self._driver.have.values()) for ns in o.slivers}

    def outliving(self, _: object) -> frozenset[AnyObject]:
        return frozenset()

    def health(self, _: object) -> tuple[dict[str, str], dict[str, str]]:
        return {}, {}

    def awaited(self, _: object) -> bool:
        return False

    def being_told(self, _: object) -> set[str]:
        return set()

    def being_asked(self, _: object) -> bool:
        return False

    def asking(self) -> bool:
        return False

    def slowed(self) -> dict[str, str]:
        return {}

    def fibs(self, namespaces: Collection[str]) -> dict[str, tuple[()]]:
        return dict.fromkeys(namespaces, ())

    def close(self) -> None:
        pass


class _Programs:
    """There are none."""

    def slivers(self) -> list[str]:
        return []

    def loaded(self, _: str) -> bool:
        return False
