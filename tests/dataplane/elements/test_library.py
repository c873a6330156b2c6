"""Every element: a manual page, a packet test, and an example that the kernel takes at each of its hooks."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from running import RUNTIME, Running, compiled, vif

from vini.elements import compile_elements, library, manual, reference
from vini.elements.graph import read_graph
from vini.model import NotFound
from vini.node import policy
from vini.text.mistakes import Mistakes

ROOT = Path(__file__).parents[3]
KINDS = library()
EXAMPLES = sorted((ROOT / "examples/programs").glob("*.elements"))
VIFS = {"flat-ids-transit": ("to-west", "to-east")}  # of examples that are not for any sliver
AT_HOOKS = [(name, hook) for name, kind in KINDS.items() for hook in kind.hooks]
needs_clang = pytest.mark.skipif(not shutil.which("clang"), reason="needs clang")


@pytest.mark.parametrize("name", KINDS)
def test_the_file_has_its_name_and_all_that_a_page_must_have(name):
    kind = KINDS[name]
    assert (ROOT / f"src/vini/elements/library/{name}.c").exists()
    assert kind.summary[-1] != "."
    assert kind.manual.count("\n\n") >= 2  # a paragraph between the first line and the declaration
    assert all(p.what for p in kind.parameters)
    assert all(t.what for t in kind.tables)
    assert all(c.what for c in kind.counters)
    assert all(o.what for o in kind.outputs if o.name != "out" and (o.name, name) != ("permit", "acl"))
    assert f"ELEMENT int {kind.function}(" in kind.body


@pytest.mark.parametrize("name", KINDS)
def test_a_packet_test_of_its_own_uses_it(name):
    if name == "mirror":  # a copy of a packet that is on no wire goes nowhere
        assert "mirror(" in (Path(__file__).parent / "test_live.py").read_text()
    else:
        assert name in (Path(__file__).parent / f"test_{name.replace('-', '_')}.py").read_text()


@pytest.mark.parametrize("name", KINDS)
def test_the_example_shows_it(name):
    graph = read_graph(KINDS[name].example, Mistakes())
    assert name in {i.kind for i in graph.instances.values()}


@needs_clang
@pytest.mark.root
@pytest.mark.parametrize(("name", "hook"), AT_HOOKS)
def test_the_example_passes_the_verifier(name, hook):
    if os.geteuid():
        pytest.skip("only root may load programs")
    with ExitStack() as stack:
        assert hook in Running(stack, hook, KINDS[name].example).program.hooks


@needs_clang
@pytest.mark.parametrize(("name", "hook"), AT_HOOKS)
def test_the_example_keeps_to_the_nodes_policy(name, hook):
    program = compile_elements(KINDS[name].example, name, ("to-b", "to-c"))
    assert policy.check(compiled(program.source, hook)) == []


@needs_clang
@pytest.mark.root
@pytest.mark.parametrize("hook", ["tc", "xdp"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.stem)
def test_shipped_programs_pass_the_verifier(example, hook):
    if os.geteuid():
        pytest.skip("only root may load programs")
    vifs = tuple(vif(name, slot) for slot, name in enumerate(VIFS.get(example.stem, ("to-b", "to-c"))))
    with ExitStack() as stack:
        assert Running(stack, hook, example.read_text(), vifs).program.entries


def test_the_reference_is_that_of_the_pages():
    page = ROOT / "docs/reference/elements.md"
    if os.environ.get("VINI_GOLDEN") == "write":
        page.write_text(reference())
    assert page.read_text() == reference(), "write it anew: VINI_GOLDEN=write pytest tests/dataplane/elements"


def test_programs_in_the_how_to_compile():
    page = (ROOT / "docs/how-to/program-a-router.md").read_text()
    programs = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    assert len(programs) >= 2
    for text in programs:
        assert compile_elements(text, "how-to", ("to-b", "to-c")).entries


def test_pages_for_the_terminal():
    assert manual("dec-ttl").startswith("dec-ttl: count down the IP time to live\n\nDecrements")
    assert len(manual().splitlines()) == len(KINDS)
    with pytest.raises(NotFound, match="did you mean 'dec-ttl'"):
        manual("dec-tll")


def test_no_element_knows_its_hook_unless_it_has_one_only():
    for kind in KINDS.values():
        assert "VINI_XDP" not in kind.body
        if len(kind.hooks) == 2:
            assert "p->ctx" not in kind.body.replace("bpf_fib_lookup(p->ctx", "")


def test_the_runtime_is_there_to_be_included():
    assert (RUNTIME / "runtime.h").exists()
