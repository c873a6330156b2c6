"""The page on how VINI is built names what there is: every room, every kind of object, every dependency."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from pages import ROOT

import vini
from vini.model import STACK

PAGE = (ROOT / "docs/explanation/architecture.md").read_text()
SOURCE = Path(vini.__file__).parent
NO_ROOM = {"__init__", "__main__"}


def part(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """Of a table's rows, without its head."""
    return [line.split("|")[1] for line in text.splitlines() if line.startswith("|")][2:]


def test_every_room_has_a_row_and_every_row_a_room() -> None:
    told = [name for cell in first_cells(part("Rooms")) for name in re.findall(r"`([\w/]+)`", cell)]
    modules = {p.stem for p in SOURCE.glob("*.py")} - NO_ROOM
    packages = {p.parent.name for p in SOURCE.glob("*/__init__.py")}
    of_node = {f"node/{p.parent.name}" for p in SOURCE.glob("node/*/__init__.py")} - {"node/drivers"}
    assert len(told) == len(set(told)), "no room twice"
    assert {name.removesuffix("/") for name in told} == modules | packages | of_node


def test_every_kind_of_object_is_named_in_its_order() -> None:
    told = part("The idea").partition("**Objects** are a closed list, from the ground up:")[2].partition(".")[0]
    assert [name.strip() for name in told.split(",")] == [kind.__name__ for kind in STACK]


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    told = part("Libraries").lower()
    names = {re.match(r"[\w-]+", d)[0].lower() for d in asked}
    assert {name for name in names if not re.search(rf"\b{re.escape(name)}\b", told)} == set()


def test_every_file_that_the_page_names_is_there() -> None:
    for name in re.findall(r"`([\w/]+\.py)`", PAGE):
        assert (SOURCE / name).exists(), name
