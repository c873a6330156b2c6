"""Images: what archives become on the disk, and what of a hostile one is refused."""

from __future__ import annotations

import gc
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vini.model import Conflict, NotFound, ViniError
from vini.node.images import store as stores
from vini.node.images.obtain import imported
from vini.node.images.store import Store
from vini.node.images.tree import Limits, Refused, Tree

pytestmark = pytest.mark.root
REG, SYM, HARD, DIR, CHR, FIFO = (
    tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE,
)  # fmt: skip
PACKED = {"plain": bytes, "gzip": gzip.compress, "xz": lzma.compress, "zstd": lambda b: zstd(b)}
SHELL = [("bin", DIR, ""), ("bin/sh", REG, "s"), ("bin/sleep", REG, "s")]


def archive(*members, **given) -> bytes:
    """(name, type, content or target) each; `given` are fields of all of them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o755
            if kind == REG:
                info.size = len(text)
            else:
                info.linkname = text
            for field, value in given.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(text.encode()) if kind == REG else None)
    return out.getvalue()


def zstd(content: bytes) -> bytes:
    return subprocess.run(["zstd", "-c"], input=content, capture_output=True, check=True).stdout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture
def there(tmp_path: Path) -> Store:
    return Store(tmp_path / "images")


def grown(root: Path, *archives: bytes, limits: Limits = Limits(), layer: bool = False) -> Tree:  # noqa: B008
    with Tree(root, limits) as tree:
        for one in archives:
            tree.add(io.BytesIO(one), layer=layer)
    return tree


def written(tmp_path: Path, content: bytes, name: str = "image.tar") -> str:
    (tmp_path / name).write_bytes(content)
    return str(tmp_path / name)


# --- trees ----------------------------------------------------------------------------------------


def test_files_links_modes_and_owners_are_as_the_archive_says(root: Path) -> None:
    grown(root, archive(*SHELL, ("bin/dash", HARD, "bin/sh"), ("lib", SYM, "/usr/lib"), uid=7, gid=8, mode=0o751))
    assert (root / "bin/dash").samefile(root / "bin/sh")
    assert (root / "lib").readlink() == Path("/usr/lib")
    status = (root / "bin/sh").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (7, 8, 0o751)


def test_what_gives_rights_to_whoever_runs_it_is_left_away(root: Path) -> None:
    xattr = {"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.security.capability": "x"}
    grown(root, archive(("su", REG, "x"), ("d", DIR, ""), mode=0o6755, pax_headers=xattr))
    assert (root / "su").stat().st_mode & 0o7777 == 0o755
    assert os.listxattr(root / "su") == os.listxattr(root / "d") == []


def test_dev_and_pipes_are_left_away(root: Path) -> None:
    grown(root, archive(("dev", DIR, ""), ("dev/mem", CHR, ""), ("run", DIR, ""), ("run/pipe", FIFO, "")))
    assert sorted(p.name for p in root.rglob("*")) == ["dev", "run"]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("../x", REG, "x")], "leads out"),
        ([("a/../../x", REG, "x")], "leads out"),
        ([("/etc/x", REG, "x")], "leads out"),
        ([("a", SYM, "OUT"), ("a/x", REG, "x")], "behind 'a'"),
        ([("a", SYM, "../outside"), ("a/x", REG, "x")], "behind 'a'"),
        ([("a", SYM, "OUT"), ("a/x", DIR, "")], "behind 'a'"),
        ([("a", SYM, "OUT"), ("b", HARD, "a/secret")], "behind 'a'"),
        ([("a", SYM, "OUT/secret"), ("b", HARD, "a")], "which is no file"),
        ([("b", HARD, "/etc/passwd")], "leads out"),
        ([("b", HARD, "../outside/secret")], "leads out"),
        ([("b", HARD, "nowhere")], "not there"),
        ([("disk", CHR, "")], "device node"),
        ([("/".join(["d"] * 101), DIR, "")], "too deep"),
        ([("x" * 2_000_000, REG, "")], "a name is too long"),
    ],
)
def test_what_leads_out_is_refused_and_nothing_is_touched(root: Path, members, said: str) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    with pytest.raises(Refused, match=said):
        grown(root, archive(*((n, k, t.replace("OUT", str(outside))) for n, k, t in members)))
    assert [(p.name, p.read_text()) for p in outside.iterdir()] == [("secret", "s")]
    assert (outside / "secret").stat().st_nlink == 1


def test_a_link_in_an_earlier_layer_is_not_followed_either(root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    with pytest.raises(Refused, match="behind 'etc'"):
        grown(root, archive(("etc", SYM, str(outside))), archive(("etc/cron", REG, "x")), layer=True)
    with pytest.raises(Refused, match="behind 'etc'"):
        grown(root, archive(("etc/.wh.secret", REG, "")), layer=True)
    assert not list(outside.iterdir())


def test_owners_that_no_sliver_has_and_holes_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="owned by 100000:0"):
        grown(root, archive(("x", REG, "x"), uid=100_000))
    (tmp_path / "sparse").write_bytes(b"")
    os.truncate(tmp_path / "sparse", 1 << 40)
    made = subprocess.run(
        ["tar", "--sparse", "-cf", "-", "-C", str(tmp_path), "sparse"], capture_output=True, check=True
    )
    assert len(made.stdout) < 100_000
    with pytest.raises(Refused, match="GB|holes"):
        grown(root, made.stdout)


def test_what_is_too_much_is_refused_before_it_is_written(root: Path) -> None:
    with pytest.raises(Refused, match="more than 3 files"):
        grown(root, archive(*((str(n), REG, "") for n in range(10))), limits=Limits(files=3))
    with pytest.raises(Refused, match=r"more than 1e-05 GB"):
        grown(root, archive(("big", REG, "x" * 10_001)), limits=Limits(bytes=10_000))
    assert not (root / "big").exists()


def test_directories_that_names_ask_for_count_as_those_that_are_there(root: Path) -> None:
    deep = archive(*((f"{i}/{'d/' * 50}x", REG, "") for i in range(10)))
    with pytest.raises(Refused, match="more than 100 files"):
        grown(root, deep, limits=Limits(files=100))
    assert sum(len(below) + len(files) for _, below, files in os.walk(root)) <= 100


@pytest.mark.parametrize("time", ["1e300", "inf", "-1e300", "nan"])
def test_a_time_that_is_nobodys_is_no_mistake_of_ours(root: Path, time: str) -> None:
    grown(root, archive(("etc/x", REG, "y"), pax_headers={"mtime": time}))
    assert 0 <= (root / "etc" / "x").stat().st_mtime <= 2**33


def test_a_link_to_no_name_is_refused(root: Path) -> None:
    with pytest.raises(Refused, match="which is no name"):
        grown(root, archive(("x", SYM, "a"), pax_headers={"linkpath": "a\0b"}))


@pytest.fixture
def young() -> None:
    """Garbage in cycles goes soon, however much others left in this process: the collector asks what part is new."""
    gc.collect()
    gc.freeze()
    gc.collect()


@pytest.mark.usefixtures("young")
def test_an_archive_of_many_members_takes_no_memory_for_each(root: Path) -> None:
    few, many = (archive(*((f"dev/{i}", REG, "") for i in range(n))) for n in (100, 5000))
    peaks = []
    for one in (few, many):
        tracemalloc.start()
        grown(root, one)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - len(many) < peaks[0] - len(few) + 500_000, "of an archive that is in memory itself"


@pytest.mark.usefixtures("young")
def test_a_layer_of_many_members_takes_little_memory_for_each(root: Path) -> None:
    deep, peaks = "/".join(["d" * 100] * 20), []
    for count in (100, 5000):
        layer = io.BytesIO(archive(*((f"{deep}/{count}-{i}", REG, "") for i in range(count))))
        with Tree(root) as tree:
            tracemalloc.start()
            tree.add(layer, layer=True)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] - peaks[0] < 4900 * 600


def test_a_directory_is_emptied_once_however_often_a_layer_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed, looks = os.listdir, []
    monkeypatch.setattr(os, "listdir", lambda at: looks.append(at) or listed(at))  # noqa: PTH208
    again = [("d/.wh..wh..opq", REG, "")] * 50
    high = archive(("d", DIR, ""), *again, ("d/new", REG, ""), *again)
    grown(root, archive(("d", DIR, ""), ("d/old", REG, "")), high, layer=True)
    assert len(looks) == 1
    assert [p.name for p in (root / "d").iterdir()] == ["new"]


def test_an_archive_that_ends_too_early_is_damaged(root: Path) -> None:
    with pytest.raises(Refused, match="damaged|middle"):
        grown(root, archive(("a", REG, "x" * 100_000))[:50_000])


def test_layers_add_and_take_away(root: Path) -> None:
    low = archive(
        ("a", REG, "1"), ("d", DIR, ""), ("d/x", REG, "1"), ("d/y", REG, "1"), ("e", DIR, ""), ("e/x", REG, "")
    )
    high = archive((".wh.a", REG, ""), ("d", DIR, ""), ("d/z", REG, "2"), ("d/.wh..wh..opq", REG, ""), ("e", REG, "2"))
    grown(root, low, high, layer=True)
    assert sorted(str(p.relative_to(root)) for p in root.rglob("*")) == ["d", "d/z", "e"]
    for name in (".wh...", ".wh..", ".wh."):
        with pytest.raises(Refused, match="no file"):
            grown(root, archive((name, REG, "")), layer=True)


# --- the store --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "gzip", "xz", "zstd"])
def test_an_archive_becomes_an_image_named_by_its_content(there: Store, tmp_path: Path, kind: str) -> None:
    plain = archive(*SHELL)
    word = written(tmp_path, PACKED[kind](plain))
    image = imported(there, word)
    assert image.id == "sha256-" + hashlib.sha256(Path(word).read_bytes()).hexdigest()
    assert (there.root(image) / "bin/sh").read_text() == "s"
    assert imported(there, word) == image
    assert (tmp_path / "images").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["gzip", "xz", "zstd"])
def test_a_bomb_is_refused_while_it_is_uncompressed(there: Store, tmp_path: Path, kind: str, monkeypatch) -> None:
    monkeypatch.setattr("vini.node.images.obtain._MOST", 1 << 20)
    plain = archive(("a", REG, "\0" * (4 << 20)))
    with pytest.raises(Refused, match="more, once uncompressed"):
        imported(there, written(tmp_path, PACKED[kind](plain)))
    assert there.images() == []


@pytest.mark.parametrize("packed", [gzip.compress, lzma.compress])
def test_damage_is_told_in_a_sentence(there: Store, tmp_path: Path, packed) -> None:
    whole = packed(archive(*SHELL, ("x", REG, os.urandom(20_000).hex())))
    with pytest.raises(Refused, match="damaged|middle"):
        imported(there, written(tmp_path, whole[: len(whole) // 2]))
    with pytest.raises(Refused, match="no tar archive"):
        imported(there, written(tmp_path, b"hello " * 1000))
    with pytest.raises(ViniError, match="There is no image .*nowhere"):
        imported(there, str(tmp_path / "nowhere"))


def test_what_no_sliver_could_live_in_is_refused(there: Store, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no 'sh'"):
        imported(there, written(tmp_path, archive(("etc", DIR, ""))))
    assert [p.name for p in (tmp_path / "images").iterdir()] == ["lock"]


def test_names_lead_to_images_and_the_last_takes_the_image_along(there: Store, tmp_path: Path) -> None:
    image = imported(there, written(tmp_path, archive(*SHELL)))
    for name in ("one", "two"):
        there.call(name, image)
    assert there.find("one") == there.find(image.id) == there.find(image.id[7:19]) == image
    with pytest.raises(NotFound, match="did you mean 'one'"):
        there.find("onn")
    there.remove("one", frozenset({image.id}))
    with pytest.raises(Conflict, match="running sliver"):
        there.remove("two", frozenset({image.id}))
    there.remove("two", frozenset())
    assert (there.images(), there.names()) == ([], {})
    with pytest.raises(Refused, match="can't be called"):
        there.call("../x", image)


def test_a_file_that_changes_is_another_image(there: Store, tmp_path: Path) -> None:
    one = imported(there, written(tmp_path, archive(*SHELL)))
    other = imported(there, written(tmp_path, archive(*SHELL, ("x", REG, "x"))))
    assert one.id != other.id
    assert len(there.images()) == 2


def test_an_import_that_is_killed_leaves_nothing_that_looks_whole(there: Store, tmp_path: Path) -> None:
    word = written(tmp_path, archive(*SHELL, *((f"f{n}", REG, "x" * 1000) for n in range(1000))))
    text = (
        "import os, sys; from pathlib import Path; from vini.node.images import obtain, store, tree\n"
        "was, n = tree._write, []\n"
        "def write(*a): n.append(1); was(*a); len(n) == 500 and os.kill(os.getpid(), 9)\n"
        "tree._write = write\n"
        "obtain.imported(store.Store(Path(sys.argv[1])), sys.argv[2])"
    )
    done = subprocess.run([sys.executable, "-c", text, str(tmp_path / "images"), word], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert there.images() == []
    assert list((tmp_path / "images").glob("new-*"))
    image = imported(there, word)
    assert image.files == 1003
    assert not list((tmp_path / "images").glob("new-*"))


def test_an_image_without_its_description_is_none(there: Store, tmp_path: Path) -> None:
    image = imported(there, written(tmp_path, archive(*SHELL)))
    (tmp_path / "images" / image.id / stores._ABOUT).unlink()
    assert there.images() == []


# --- OCI --------------------------------------------------------------------------------------------


def blob(at: Path, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    (at / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    (at / "blobs/sha256" / digest).write_bytes(content)
    return f"sha256:{digest}"


def layout(at: Path, *layers: bytes) -> Path:
    """An OCI image layout; its digest is that of the manifest."""
    described = [{"digest": blob(at, layer), "mediaType": "x"} for layer in layers]
    manifest = blob(at, json.dumps({"schemaVersion": 2, "layers": described}).encode())
    (at / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (at / "index.json").write_text(json.dumps({"manifests": [{"digest": manifest, "size": 1}]}))
    return at


def test_an_oci_layout_is_unpacked_layer_by_layer(there: Store, tmp_path: Path) -> None:
    at = layout(
        tmp_path / "l", gzip.compress(archive(*SHELL, ("a", REG, ""))), archive((".wh.a", REG, ""), ("b", REG, ""))
    )
    image = imported(there, str(at))
    assert sorted(p.name for p in there.root(image).iterdir()) == ["b", "bin"]
    packed = subprocess.run(["tar", "-cf", "-", "-C", str(at), "."], capture_output=True, check=True).stdout
    again = imported(there, written(tmp_path, packed))
    assert sorted(p.name for p in there.root(again).iterdir()) == ["b", "bin"]


def test_indexes_in_indexes_have_an_end(there: Store, tmp_path: Path) -> None:
    at = layout(tmp_path / "layout", archive(*SHELL))
    kind = "application/vnd.oci.image.index.v1+json"
    for _ in range(2000):
        inner = blob(at, (at / "index.json").read_bytes())
        (at / "index.json").write_text(json.dumps({"manifests": [{"digest": inner, "mediaType": kind}]}))
    with pytest.raises(Refused, match="indexes in indexes"):
        imported(there, str(at))


def test_a_blob_that_is_not_what_its_name_says_is_refused(there: Store, tmp_path: Path) -> None:
    at = layout(tmp_path / "l", archive(*SHELL))
    for file in (at / "blobs/sha256").iterdir():
        file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(Refused, match="not what its name says"):
        imported(there, str(at))
    (at / "index.json").write_text(json.dumps({"manifests": [{"digest": "sha256:../../../etc/passwd"}]}))
    with pytest.raises(Refused, match="none of sha256"):
        imported(there, str(at))


def test_what_docker_saves_is_an_image_too(there: Store, tmp_path: Path) -> None:
    layers = {"1/layer.tar": archive(*SHELL), "2/layer.tar": archive(("b", REG, ""))}
    manifest = json.dumps([{"Config": "c.json", "RepoTags": None, "Layers": [*layers]}])
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in [*layers.items(), ("manifest.json", manifest.encode())]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    image = imported(there, written(tmp_path, made.getvalue()))
    assert sorted(p.name for p in there.root(image).iterdir()) == ["b", "bin"]
    for bad in ("../../x", "/etc/passwd", "nothing"):
        evil = archive(("manifest.json", REG, json.dumps([{"Layers": [bad]}])))
        with pytest.raises(Refused, match="leads out|not in the archive"):
            imported(there, written(tmp_path, evil))


# --- a registry ---------------------------------------------------------------------------------------


class _Registry(BaseHTTPRequestHandler):
    """Serves one image (OCI distribution specification 1.0), by `content`: path -> type and body."""

    content: dict[str, tuple[str, bytes]] = {}

    def do_GET(self) -> None:
        kind, body = self.content.get(self.path, ("", b""))
        self.send_response(200 if kind else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Registry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.skipif(not shutil.which("skopeo"), reason="needs the package skopeo")
def test_an_image_of_a_registry_is_fetched_once_and_unpacked(there: Store, registry: str) -> None:
    layer = gzip.compress(archive(*SHELL))
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [
        "sha256:" + hashlib.sha256(gzip.decompress(layer)).hexdigest()]}, "config": {}}).encode()  # fmt: skip
    oci = "application/vnd.oci.image"

    def described(kind: str, body: bytes) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        _Registry.content[f"/v2/box/blobs/{digest}"] = ("application/octet-stream", body)
        return {"mediaType": f"{oci}.{kind}", "digest": digest, "size": len(body)}

    _Registry.content = {"/v2/": ("application/json", b"{}")}
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": f"{oci}.manifest.v1+json", "config": described("config.v1+json", config),
        "layers": [described("layer.v1.tar+gzip", layer)],
    }).encode()  # fmt: skip
    _Registry.content["/v2/box/manifests/1"] = (f"{oci}.manifest.v1+json", manifest)
    word = f"docker://{registry}/box:1"
    image = imported(there, word)
    assert image.id == f"sha256-{hashlib.sha256(manifest).hexdigest()}"
    assert (there.root(image) / "bin/sh").read_text() == "s"
    assert there.known(word, "") == image
    with pytest.raises(ViniError, match="can't be fetched.*manifest"):
        imported(there, f"docker://{registry}/box:2")
    assert not list((there.root(image).parents[1]).glob("new-*"))
