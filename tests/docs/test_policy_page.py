"""The policy for programs, as the reference prints it, is the one that is enforced."""

from pages import ROOT

from vini.elements.kinds import HOOKS
from vini.model import BUDGET_KPPS
from vini.node import policy
from vini.sections import entry
from vini.topology.keys import PROGRAM
from vini.topology.programs import SUFFIXES

PAGE = (ROOT / "docs/reference/programs.md").read_text()


def table(head: str) -> list[tuple[str, ...]]:
    """The rows below a head, without code marks."""
    lines = PAGE.split(f"\n{head}\n")[1].splitlines()[1:]
    rows = lines[: lines.index("")] if "" in lines else lines
    return [tuple(cell.strip().strip("`") for cell in row.split("|")[1:-1]) for row in rows]


def test_the_policy_is_printed_whole_and_with_its_reasons() -> None:
    said = [(what, why, True) for what, why in table("| may | why |")]
    said += [(what, why, False) for what, why in table("| may not | why |")]
    assert sorted(said) == sorted((r.what, r.reason, r.allowed) for r in policy.rules())


def test_the_limits_are_printed() -> None:
    assert table("| at most | | why |") == [(x.what, str(x.most), x.reason) for x in policy.LIMITS]


def test_the_sections_are_those_that_the_policy_knows() -> None:
    sections = {
        s.strip(" `") for row in table("| section | packets | what ends a packet's way |") for s in row[0].split(",")
    }
    assert sections == {"tc", "tc/ingress", "tc/egress", "xdp"}
    assert all(entry(s) and entry(f"{s}/to-b") for s in sections)
    assert entry("kprobe") is None
    assert {entry(s).hook for s in sections} == set(HOOKS)  # type: ignore[union-attr]


def test_kinds_and_budgets() -> None:
    kinds = {row[0]: row[1] for row in table("| kind | file | what it is | where it runs |")}
    assert kinds == {kind: f"NAME{suffix}" for suffix, kind in SUFFIXES.items()} | {"process": ""}
    assert set(kinds) < set(PROGRAM.keys)
    assert f"(default {BUDGET_KPPS})" in PAGE
    assert f"those of a slice {BUDGET_KPPS // 1000} million" in PAGE
