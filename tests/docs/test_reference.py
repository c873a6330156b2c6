"""The reference and the program say the same; every link leads somewhere; every printed topology is valid."""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import click
import pytest
from msgspec.structs import replace
from pages import ROOT, anchors, blocks, links, pages
from strategies import ABLE

import vini
from vini.cli import vini as program
from vini.embed import embed
from vini.model import PROTOCOLS, STACK, Node, Object, OutsideGrant, Process, Topology, TopologyError, ViniError
from vini.topology import parse

CLI = (ROOT / "docs/reference/cli.md").read_text()
OBJECTS = (ROOT / "docs/reference/objects.md").read_text()
ERRORS = (ROOT / "docs/reference/errors.md").read_text()
README = (ROOT / "README.md").read_text()
GENERAL = {"-h", "--help"}


def sections(text: str) -> dict[str, str]:
    """Title -> text, of the headings with two marks."""
    parts = re.split(r"^## +(.*)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str) -> dict[str, tuple[str, ...]]:
    """First cell -> the others, of the tables in a text, without the heads."""
    cells = [
        tuple(c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1])
        for line in text.splitlines()
        if line.startswith("|")
    ]
    return {row[0]: row[1:] for row in cells if row[0].startswith("`")}


# --- commands ---------------------------------------------------------------------------------


@cache
def commands() -> dict[str, click.Command]:
    """`vini up` -> the command; groups too."""

    def below(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        yield name, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for word in command.list_commands(context):
                found = command.get_command(context, word)
                assert found is not None
                yield from below(f"{name} {word}", found)

    return dict(below("vini", program))


def words_of(parameter: click.Parameter) -> set[str]:
    """What a person writes or reads for a parameter."""
    if isinstance(parameter, click.Option):
        return {*parameter.opts, *parameter.secondary_opts} - GENERAL
    name = parameter.metavar or (parameter.name or "").rstrip("_")
    return {name.split()[0] if parameter.metavar else name.upper()}


def documented(section: str) -> set[str]:
    """The options and arguments in a section's table."""
    return {code.split(" ")[0] for first in rows(section) for code in re.findall(r"`([^`]+)`", first)}


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    titles = {t for t in sections(CLI) if t.startswith("vini")}
    assert titles == set(commands())


@pytest.mark.parametrize("name", sorted(commands()))
def test_a_commands_options_are_those_of_its_section(name: str) -> None:
    want: set[str] = set().union(*(words_of(p) for p in commands()[name].params))
    assert documented(sections(CLI)[name]) == want


def test_every_variable_of_the_environment_is_documented() -> None:
    texts = [p.read_text() for p in (ROOT / "src").rglob("*.py")] + [(ROOT / "vini").read_text()]
    read = {v for t in texts for v in re.findall(r"""environ(?:\.get)?[\[(]\s*["'](VINI_\w+)["']""", t)}
    read |= set(re.findall(r"\$\{(VINI_\w+)", texts[-1]))
    assert read
    assert {v for v in read if f"`{v}`" not in CLI} == set()


# --- objects ----------------------------------------------------------------------------------


GRANT = OutsideGrant(("0.0.0.0/0",))


def sample() -> Topology:
    """One that needs objects of every kind."""
    return parse(
        """
name: sample
slivers:
  a: {routing: {protocols: ospf}, files: {/srv/x: "x"}, commands: [cat /srv/x, "true"]}
  b: {routing: {protocols: ospf, daemon: bird}}
  h: {routes: [{to: default, via: a}]}
  sw: {mode: switch}
  p: {program: {elements: input -> kernel}}
  c:
    runtime: container
    commands: ["true"]
    resources: {disk: 20MB}
    volumes: {v: {at: /v, size: 20MB}}
    outside: true
  z: {state: frozen}
links:
  - a -- b: {delay: 1ms, lose: 3}
  - h -- a
  - h -- sw: {delay: 1ms}
  - h -- p
  - h -- c
""",
        source="sample",
        default_name="sample",
    )


def objects() -> frozenset[Object]:
    can = ABLE | {"containers", "disks", "outside"}
    nodes = [Node(n, can, address=f"192.0.2.{i}", wireguard=n * 43 + "=", rate_mbit=100.0) for i, n in enumerate("nm")]
    placed = {name: "m" if name == "b" else "n" for name in sample().slivers}
    found: frozenset[Object] = frozenset()
    for tunnel in ("vxlan", "vxlan-xdp", "gretap", "wireguard"):
        made = embed(replace(sample(), tunnel=tunnel), nodes, placed=placed, vnis={"a--b": 1}, port=20_001, grant=GRANT)
        found = found.union(*(spec.objects for spec in made.values()))
    return found


def test_every_kind_of_object_has_a_section_in_the_order_of_the_stack() -> None:
    assert list(sections(OBJECTS)) == [k.__name__ for k in STACK]


@pytest.mark.parametrize("kind", STACK, ids=lambda k: k.__name__)
def test_a_kinds_fields_and_what_may_change_in_place(kind: type[Object]) -> None:
    table = rows(sections(OBJECTS)[kind.__name__])
    assert [f.strip("`") for f in table] == list(kind.__struct_fields__)
    said = {f.strip("`"): cells[0] for f, cells in table.items()}
    if kind is Process:
        plain, reloads = Process("s.a", "p", ("x",)), Process("s.a", "p", ("x",), reload=("y",))
        assert {f for f, s in said.items() if s == "yes"} == plain.changeable
        assert {f for f, s in said.items() if s} == reloads.changeable
    else:
        assert {f for f, s in said.items() if s == "yes"} == kind.in_place


def test_what_kinds_stand_on() -> None:
    """Nothing stands on a kind that the page doesn't name; and each that it names does occur."""
    seen: dict[str, set[str]] = {k.__name__: set() for k in STACK}
    for o in objects():
        name = type(o).__name__
        assert f"Key: `{o.key[0]}`" in sections(OBJECTS)[name]
        seen[name] |= {key[0] for key in o.on}
    for name, kinds in seen.items():
        said = re.search(r"Stands on: (.*)", sections(OBJECTS)[name])
        assert said, name
        tags = {k.__name__.lower() for k in STACK}
        assert {w for w in re.findall(r"`(\w+)`", said[1]) if w in tags} == kinds, name


# --- errors -----------------------------------------------------------------------------------


def every_error() -> set[type[ViniError]]:
    for module in pkgutil.walk_packages(vini.__path__, "vini."):
        if not module.name.startswith("vini.bench") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: list[type[ViniError]] = [ViniError]
    for error in found:
        found.extend(error.__subclasses__())
    return {e for e in found if e.__module__.startswith("vini.")}


def test_every_error_is_documented_with_its_exit_code() -> None:
    said = {name.strip("`"): int(cells[0]) for name, cells in rows(ERRORS).items()}
    assert said == {e.__name__: e.exit_code for e in every_error()}


# --- pages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", pages(), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    lost = []
    for target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            lost.append(target)
    assert lost == []


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs/index.md"
    listed = {(index.parent / t).resolve() for t in links(index)}
    assert set(pages()) - {index, ROOT / "README.md"} - listed == set()


def topologies() -> list[tuple[str, str]]:
    """Every yaml block that declares slivers at its top level; an experiment's is not at the top."""
    return [
        (f"{page.relative_to(ROOT)}: {i}", b.text)
        for page in pages()
        for i, b in enumerate(blocks(page))
        if b.language == "yaml" and re.search(r"^slivers:", b.text, re.MULTILINE) and "..." not in b.text
    ]


@pytest.mark.parametrize(("where", "text"), topologies(), ids=[w for w, _ in topologies()])
def test_every_printed_topology_is_valid(where: str, text: str) -> None:
    try:
        parse(text, source=where, default_name="printed")
    except TopologyError as e:
        pytest.fail(str(e))


def printed_commands() -> list[tuple[str, str]]:
    """(page, arguments) of every `vini ...` line in the fenced blocks of all pages."""
    line = re.compile(r"^(?:\$ )?(?:sudo )?(?:\./)?vini ([a-z-].*)$", re.MULTILINE)
    return [
        (str(page.relative_to(ROOT)), found)
        for page in pages()
        for b in blocks(page)
        if b.language in ("", "console", "sh", "bash")
        for found in line.findall(b.text)
    ]


@pytest.mark.parametrize(("page", "arguments"), sorted(set(printed_commands())))
def test_every_printed_command_is_understood(page: str, arguments: str) -> None:
    lexer = shlex.shlex(arguments, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(itertools.takewhile(lambda w: not set(w) & set("|&;<>"), lexer))
    command: click.Command = program
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, f"{page}: vini {arguments}"
        command = found
    try:
        command.make_context("vini", words)
    except click.exceptions.Exit:  # --help, --version
        pass
    except click.BadParameter as e:
        if "does not exist" not in e.message:  # a run directory that is only an example
            raise


# --- README -----------------------------------------------------------------------------------


def the_two_commands() -> list[str]:
    section = sections(README)["The two commands"]
    return [c.strip() for c in re.findall(r"^ *```\n(.*?)^ *```$", section, re.DOTALL | re.MULTILINE)]


def test_the_first_command_of_the_readme_brings_up_an_example() -> None:
    words = the_two_commands()[0].removeprefix("sudo ").split()
    assert words[:2] == ["./vini", "up"]
    assert parse((ROOT / words[2]).read_text(), source=words[2], default_name="x").slivers
    assert "-m vini " in (ROOT / "vini").read_text()
    assert (ROOT / "vini").stat().st_mode & 0o111


def test_ci_runs_the_second_command_of_the_readme() -> None:
    assert the_two_commands()[1:] == ["./test"]
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("exec ./test")
    assert (ROOT / "test").stat().st_mode & 0o111
    subprocess.run(["sh", "-n", ROOT / "test"], check=True)
    subprocess.run(["sh", "-n", ROOT / "vini"], check=True)


def test_the_readme_names_protocols_and_files_that_there_are() -> None:
    assert "OSPFv3" in README and {"ospf", "ospf6", "isis", "rip", "ripng", "bgp", "babel", "static"} == set(PROTOCOLS)
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    for example in re.findall(r"examples/[\w-]+\.yaml", README):
        assert (ROOT / example).is_file(), example


# --- units --------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (`apt-get install systemd`)")
def test_every_printed_unit_is_understood_by_systemd(tmp_path: Path) -> None:
    units = [b.text for page in pages() for b in blocks(page) if b.language == "ini" and "[Unit]" in b.text]
    assert units
    for number, text in enumerate(units):
        unit = tmp_path / f"printed{number}.service"
        unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
        done = subprocess.run(["systemd-analyze", "--man=no", "verify", unit], capture_output=True, text=True)
        assert [line for line in done.stderr.splitlines() if unit.name in line] == []
