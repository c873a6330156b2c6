"""Where a program runs, and the reason that people are told."""

import pytest

from vini.model import Program, TopologyError
from vini.plugins.programs import prepare


def program(*sections: str) -> Program:
    return Program("c", "\n".join(f'SEC("{s}") int f{i}(void *c) {{}}' for i, s in enumerate(sections)), "p.c")


@pytest.mark.parametrize(
    ("sections", "shaped", "hook", "why"),
    [
        (("xdp",), (), "xdp", "its sections say so"),
        (("tc",), (), "tc", "its sections say so"),
        (("tc", "tc/egress"), ("to-b",), "tc", "its sections say so"),
        (("xdp", "tc/egress"), (), "xdp", "its sections say so"),
        (("tc/egress",), (), "tc", "it handles only what leaves, which XDP doesn't see"),
        (("tc/egress",), ("to-b",), "tc", "it handles only what leaves, which XDP doesn't see"),
    ],
)
def test_the_reason_of_a_hook_is_true(sections: tuple[str, ...], shaped: tuple[str, ...], hook: str, why: str) -> None:
    made = prepare("a", program(*sections), ["to-b"], shaped)
    assert (made.hook, made.why) == (hook, why)


def test_inputs_of_both_hooks_are_refused() -> None:
    with pytest.raises(TopologyError, match="all of them must be xdp, or all tc"):
        prepare("a", program("xdp", "tc"), ["to-b"], ())
