"""What comes from a sliver as an archive can do no harm here."""

from __future__ import annotations

import io
import os
import tarfile
from contextlib import suppress
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


@pytest.mark.parametrize(
    "member",
    [
        ("t/a", {"pax_headers": {"path": "t/a\0b"}}, b"x"),
        ("t/l", {**symlink("a"), "pax_headers": {"linkpath": "a\0b"}}, b""),
        ("t/h", {**hardlink("t/a"), "pax_headers": {"linkpath": "t/a\0b"}}, b""),
    ],
)
def test_a_name_that_is_none_is_no_crash(tmp_path: Path, member: tuple[str, dict, bytes]) -> None:
    with suppress(ViniError):
        assert unpack(archive(("t", DIRECTORY, b""), member), "t", tmp_path / "t").left_out


@pytest.mark.parametrize("headers", [{"GNU.sparse.size": "zz"}, {"GNU.sparse.map": "a,b"}])
def test_headers_that_make_no_sense_are_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    with pytest.raises(ViniError, match="a header makes no sense"):
        unpack(archive(("t", {"pax_headers": headers}, b"x")), "t", tmp_path / "t")


def test_headers_of_headers_without_end_are_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 512
    with pytest.raises(ViniError, match="a header makes no sense"):
        unpack(io.BytesIO((header.tobuf(tarfile.GNU_FORMAT) + bytes(512)) * 3000), "t", tmp_path / "t")


def test_names_that_no_terminal_should_see_are_written_out(tmp_path: Path) -> None:
    pipe = {"type": tarfile.FIFOTYPE}
    names = ["t/\x1b[2J", "t/a\nerror: all is lost", "t/\udcff"]
    left_out = unpack(archive(("t", DIRECTORY, b""), *((n, pipe, b"") for n in names)), "t", tmp_path / "t").left_out
    assert left_out == tuple(f"{n!r}: no file, directory or link" for n in names)


def test_of_a_million_names_that_are_left_out_a_hundred_are_told(tmp_path: Path) -> None:
    pipes = [(f"t/{i}", {"type": tarfile.FIFOTYPE}, b"") for i in range(250)]
    left_out = unpack(archive(("t", DIRECTORY, b""), *pipes), "t", tmp_path / "t").left_out
    assert len(left_out) == 101 and left_out[-1] == "150 more"


def test_an_archive_without_end_is_refused_and_takes_no_memory_for_each_name(tmp_path: Path, monkeypatch) -> None:
    kept = []
    monkeypatch.setattr(tarfile.TarFile, "__iter__", lambda tar: _counted(tar, kept))
    monkeypatch.setattr("vini.client.archive._MOST_FILES", 20)
    with pytest.raises(ViniError, match="more than 20 files; copy it in parts"):
        unpack(archive(("t", DIRECTORY, b""), *((f"t/{i}", {}, b"") for i in range(30))), "t", tmp_path / "t")
    assert max(kept) <= 1 and list(tmp_path.iterdir()) == []


def _counted(tar: tarfile.TarFile, kept: list[int]):
    while (member := tar.next()) is not None:
        kept.append(len(tar.members))
        yield member


def test_a_file_for_which_there_is_no_room_is_refused_before_the_disk_is_full(tmp_path: Path) -> None:
    """As one of holes, of which the sliver has but a block, and the tar(1) there says all the zeros."""
    header = tarfile.TarInfo("t")
    header.size = 1 << 50
    stream = io.BytesIO(header.tobuf(tarfile.GNU_FORMAT) + bytes(100_000))
    with pytest.raises(ViniError, match="there is no room for t, of 1125899906842624 bytes; nothing was copied"):
        unpack(stream, "t", tmp_path / "t")
    assert stream.tell() < 50_000 and list(tmp_path.iterdir()) == []


def test_a_file_system_that_tells_no_size_takes_files(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("os.fstatvfs", lambda _: os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255)))
    unpack(archive(("t", {}, b"new")), "t", tmp_path / "t")
    assert (tmp_path / "t").read_bytes() == b"new"


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
