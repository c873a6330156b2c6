"""What comes from a sliver as an archive can do no harm here."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from vini.client.archive import Copied, pack, unpack
from vini.model import ViniError


def archive(*members: tuple[str, dict, bytes]) -> io.BytesIO:
    """Name, what is unusual about it, and content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name, unusual, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in unusual.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))
    out.seek(0)
    return out


DIRECTORY = {"type": tarfile.DIRTYPE, "mode": 0o755}


def symlink(to: str) -> dict:
    return {"type": tarfile.SYMTYPE, "linkname": to}


def hardlink(to: str) -> dict:
    return {"type": tarfile.LNKTYPE, "linkname": to}


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """What nobody may touch."""
    path = tmp_path / "victim"
    path.write_text("untouched")
    return path


@pytest.mark.parametrize("name", ["../victim", "/tmp/x", "t/../../victim", "other/x", "..", "t/a/../../x"])
def test_a_name_that_leads_out_is_refused_and_nothing_is_copied(tmp_path: Path, victim: Path, name: str) -> None:
    bad = archive(("t", DIRECTORY, b""), ("t/good", {}, b"x"), (name, {}, b"overwritten"))
    with pytest.raises(ViniError, match="leads out"):
        unpack(bad, "t", tmp_path / "t")
    assert victim.read_text() == "untouched"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["victim"]


@pytest.mark.parametrize("to", ["..", "../victim", "/etc", "a/../../victim", "a/../b", "../../t/x", ""])
def test_links_that_may_lead_out_are_left_out_and_never_written_through(tmp_path: Path, victim: Path, to: str) -> None:
    bad = archive(("t", DIRECTORY, b""), ("t/out", symlink(to), b""), ("t/out/victim", {}, b"overwritten"))
    copied = unpack(bad, "t", tmp_path / "t")
    assert len(copied.left_out) == 1
    assert victim.read_text() == "untouched"
    assert (tmp_path / "t" / "out" / "victim").read_text() == "overwritten"  # in a directory of its own
    assert not (tmp_path / "t" / "out").is_symlink()


def test_a_link_inside_is_kept_but_nothing_is_written_through_it(tmp_path: Path) -> None:
    members = [
        ("t", DIRECTORY, b""),
        ("t/d", DIRECTORY, b""),
        ("t/l", symlink("d"), b""),
        ("t/d/up", symlink("../d"), b""),
    ]
    unpack(archive(*members), "t", tmp_path / "t")
    assert (tmp_path / "t" / "l").readlink() == Path("d")
    assert (tmp_path / "t" / "d" / "up").readlink() == Path("../d")
    with pytest.raises(ViniError, match="can't be written"):
        unpack(archive(*members, ("t/l/x", {}, b"x")), "t", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_hard_links_join_only_what_came(tmp_path: Path, victim: Path) -> None:
    good = unpack(archive(("t", DIRECTORY, b""), ("t/a", {}, b"x"), ("t/b", hardlink("t/a"), b"")), "t", tmp_path / "t")
    assert good == Copied(2, 1)
    assert (tmp_path / "t" / "b").read_text() == "x"
    for to in (str(victim), "../victim", "victim"):
        bad = unpack(archive(("u", DIRECTORY, b""), ("u/b", hardlink(to), b"")), "u", tmp_path / f"u{len(to)}")
        assert len(bad.left_out) == 1


def test_devices_and_special_bits_do_not_come(tmp_path: Path) -> None:
    node = {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}
    came = archive(("t", DIRECTORY, b""), ("t/null", node, b""), ("t/p", {"type": tarfile.FIFOTYPE}, b""),
                   ("t/su", {"mode": 0o6755}, b"x"))  # fmt: skip
    copied = unpack(came, "t", tmp_path / "t")
    assert copied.left_out == ("t/null: no file, directory or link", "t/p: no file, directory or link")
    assert [p.name for p in (tmp_path / "t").iterdir()] == ["su"]
    assert (tmp_path / "t" / "su").stat().st_mode & 0o7777 == 0o755


def test_a_header_that_asks_for_memory_and_a_stream_that_breaks_off_are_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    with pytest.raises(ViniError, match="too long"):
        unpack(io.BytesIO(header.tobuf(tarfile.GNU_FORMAT)), "t", tmp_path / "t")
    whole = archive(("t", {}, b"y" * 100_000)).getvalue()
    with pytest.raises(ViniError):
        unpack(io.BytesIO(whole[:50_000]), "t", tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


def test_a_file_takes_a_files_place_and_a_directory_nothings(tmp_path: Path, victim: Path) -> None:
    unpack(archive(("t", {}, b"new")), "t", victim)
    assert victim.read_text() == "new"
    (tmp_path / "d").mkdir()
    with pytest.raises(ViniError, match="already"):
        unpack(archive(("t", DIRECTORY, b"")), "t", tmp_path / "d")


def test_there_and_back_is_the_same(tmp_path: Path) -> None:
    source = tmp_path / "s"
    (source / "d").mkdir(parents=True)
    (source / "d" / "f").write_bytes(b"z" * 300_000)
    (source / "l").symlink_to("d/f")
    os.mkfifo(source / "pipe")
    out = io.BytesIO()
    assert pack({"name": source}, out).left_out == ("name/pipe: no file, directory or link",)
    out.seek(0)
    assert unpack(out, "name", tmp_path / "t").files == 2
    assert (tmp_path / "t" / "l").read_bytes() == b"z" * 300_000
