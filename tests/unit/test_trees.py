"""Trees of files as a tenant may make them."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vini.node import beneath, trees

DEEP = 3_000  # more than Python calls itself, than descriptors are allowed, and than a path is long


def dig(top: Path, depth: int, name: str = "d") -> None:
    """A chain of directories, with a file in each hundredth and a link out of the last."""
    fd = os.open(top, os.O_RDONLY)
    for n in range(depth):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
        if n % 100 == 0:
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.symlink("/", "root", dir_fd=fd)
    os.close(fd)


def descriptors() -> int:
    gc.collect()  # what other tests in this process left as garbage holds some, and would go when it likes
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    top = tmp_path / "deep"
    top.mkdir()
    dig(top, DEEP)
    (top / "side/empty").mkdir(parents=True)
    yield top
    if top.exists():  # pytest can't remove what is that deep
        trees.remove(top)


def test_a_tree_is_walked_and_removed_whatever_its_depth(deep: Path, tmp_path: Path) -> None:
    before, most, directories, others = descriptors(), 0, 0, 0
    for n, (path, _, below, rest) in enumerate(trees.walk(deep)):
        directories, others = directories + len(below), others + len(rest)
        if n % 500 == 0:
            most = max(most, descriptors())
        assert path[:1] in ([], ["d"], ["side"])
    assert (directories, others) == (DEEP + 2, DEEP // 100 + 1)
    assert most - before <= 2
    assert descriptors() == before
    trees.remove(deep)
    assert not list(tmp_path.iterdir())
    assert descriptors() == before


def test_what_links_lead_to_stays(tmp_path: Path) -> None:
    (tmp_path / "outside/dir").mkdir(parents=True)
    (tmp_path / "outside/dir/file").write_text("kept")
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    (top / "a/b/link").symlink_to(tmp_path / "outside/dir")
    (top / "link").symlink_to(tmp_path / "outside")
    assert [p for path, _, _, rest in trees.walk(top) for p in ["/".join([*path, n]) for n in rest]] == [
        "link",
        "a/b/link",
    ]
    trees.remove(top)
    assert (tmp_path / "outside/dir/file").read_text() == "kept"
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="link"):
        trees.remove(tmp_path / "link")
    assert (tmp_path / "outside/dir/file").read_text() == "kept"


def test_a_directory_that_is_moved_while_it_is_read_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "top/a/b").mkdir(parents=True)
    (tmp_path / "top/z").mkdir()
    (tmp_path / "else").mkdir()
    seen = []
    with pytest.raises(OSError, match="was moved"):
        for path, _, _, _ in trees.walk(tmp_path / "top"):
            seen.append("/".join(path))
            if path == ["a"]:
                (tmp_path / "top/a").rename(tmp_path / "else/a")
    assert seen == ["", "a", "a/b"]


def test_a_directory_that_is_swapped_for_a_link_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "top/a").mkdir(parents=True)
    (tmp_path / "secret/inside").mkdir(parents=True)
    seen = []
    for path, _, _, _ in trees.walk(tmp_path / "top"):
        seen.append("/".join(path))
        if not path:
            (tmp_path / "top/a").rmdir()
            (tmp_path / "top/a").symlink_to(tmp_path / "secret")
    assert seen == [""]


def test_a_deep_tree_where_a_file_is_to_be_goes(deep: Path) -> None:
    with beneath.directory(deep.parent, "deep") as (parent, name):
        assert not beneath.make_way(parent, name)
    assert not deep.exists()
