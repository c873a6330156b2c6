"""Settings that slivers are born with: those of a thousand namespaces are read in turns."""

from __future__ import annotations

import pytest

from vini.node.drivers import births
from vini.node.drivers.births import Births

SETTING = "ipv4/conf/all/send_redirects"


class Kernel:
    """/proc/sys/net of some namespaces; `here` is the one that the thread is in."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], str] = {}
        self.here = ""
        self.read_in: list[str] = []

    def entered(self) -> None:
        self.read_in.append(self.here)

    def read(self, name: str) -> str | None:
        return self.values.get((self.here, name))

    def write(self, name: str, value: str) -> None:
        self.values[self.here, name] = value.replace(" ", "\t") + "\n"


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setattr(births, "_PER_LOOK", 2)
    return Kernel()


def look(kernel: Kernel, of: Births, spaces: str, filtering: str = "") -> str:
    """The namespaces whose settings are not right."""
    of.begin_look(list(spaces))
    wrong = ""
    for ns in spaces:
        kernel.here = ns
        wrong += ns * (not of.are_kept(ns, ns in filtering))
    return wrong


def born(kernel: Kernel, spaces: str) -> Births:
    made = Births(kernel)  # type: ignore[arg-type]
    for kernel.here in spaces:
        made.give(kernel.here)
    return made


def test_each_namespace_has_its_turn_and_no_look_reads_more_than_it_may(kernel):
    seen = born(kernel, "abcde")
    for looked_at in ("ab", "cd", "ea", "bc"):
        kernel.read_in.clear()
        assert look(kernel, seen, "abcde") == ""
        assert set(kernel.read_in) == set(looked_at)


def test_what_is_new_to_it_has_its_turn_first(kernel):
    seen = born(kernel, "abc")
    born(kernel, "d")
    kernel.read_in.clear()
    look(kernel, seen, "abcd")
    assert "d" in kernel.read_in


def test_what_was_found_wrong_stays_wrong_until_it_is_mended(kernel):
    seen = born(kernel, "abc")
    kernel.values["b", SETTING] = "1\n"
    assert [look(kernel, seen, "abc") for _ in range(3)] == ["b", "b", "b"]
    kernel.here = "b"
    seen.mend("b")
    assert kernel.values["b", SETTING] == "0\n"
    assert [look(kernel, seen, "abc") for _ in range(3)] == ["", "", ""]


def test_what_netlink_tells_needs_no_turn(kernel):
    seen = born(kernel, "abc")
    assert look(kernel, seen, "abc", filtering="c") == "c"
    kernel.here, kernel.values["c", "ipv4/conf/all/rp_filter"] = "c", "1\n"
    seen.mend("c")
    assert kernel.values["c", "ipv4/conf/all/rp_filter"] == "0\n"


def test_what_was_right_is_not_written_again_but_another_of_its_name_is(kernel):
    seen = born(kernel, "a")
    kernel.here, kernel.values["a", SETTING] = "a", "1\n"
    seen.mend("a")
    assert kernel.values["a", SETTING] == "1\n"
    seen.forget("a")
    seen.mend("a")
    assert kernel.values["a", SETTING] == "0\n"


def test_a_kernel_without_such_files_lacks_nothing(kernel):
    seen = Births(kernel)  # type: ignore[arg-type]
    assert look(kernel, seen, "a") == ""
