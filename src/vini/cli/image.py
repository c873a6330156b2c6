"""Images: root file systems in this machine's store."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from vini.cli.out import Ticker, count, dump, json_option, line, note, table
from vini.model import Denied
from vini.node.images.build import PACKAGES, SUITE, Recipe, built
from vini.node.images.obtain import REGISTRY, Say, imported
from vini.node.images.provision import store, used
from vini.node.images.store import Image, Store
from vini.node.place import Place, from_environment

_SHORT = 19  # characters of an id that people see


@click.group("image", short_help="Root file systems for slivers: build, import, list, remove.")
def image_command() -> None:
    """Root file systems in this machine's store; a sliver takes one by `image: NAME`.

    \b
    vini image build router              a small Debian with FRR, BIRD, tcpdump, nft, iperf3
    vini image import debian.tar.zst     an archive, an OCI layout, or docker://HOST/NAME:TAG
    vini image list
    vini image remove router
    """


@image_command.command("list", short_help="The images of this machine.")
@json_option
def _list(as_json: bool) -> None:
    """The images of this machine: names, sizes, and what they were made from."""
    place, there = _place()
    in_use = used(place)
    if as_json:
        dump([_json(there, i, i.id in in_use) for i in there.images()])
        return
    rows = [
        (", ".join(_names(there, i)) or "-", i.id[:_SHORT], f"{i.bytes / 10**6:.0f} MB", _day(i.made),
         "yes" if i.id in in_use else "", i.source)
        for i in there.images()
    ]  # fmt: skip
    if not rows:
        line("There is no image yet; `vini image build router` makes one.")
        return
    table(("NAME", "ID", "SIZE", "MADE", "USED", "FROM"), rows, right=("SIZE",))


@image_command.command("import", short_help="Unpack an archive or an OCI image into the store.")
@click.argument("file")
@click.option("--name", help="What it is called; default: the file's name without its endings.")
@json_option
def _import(file: str, name: str | None, as_json: bool) -> None:
    """Unpack FILE into the store: a tar archive (.tar, .gz, .xz, .zst) of a root file system, an OCI layout (directory
    or archive), what `docker save` makes, or docker://HOST/NAME:TAG of a registry (by skopeo).

    What would lead out of the image, or fill the disk, is refused.
    """
    _, there = _place()
    word = file if file.startswith(REGISTRY) else str(Path(file).absolute())
    called = name or _called(word)
    with _said(f"image {called}") as say:
        image = imported(there, word, say)
    with there.lock():
        there.call(called, image)
    _show(there, image, called, as_json)


@image_command.command("build", short_help="Build the reference image: a small Debian with FRR and BIRD.")
@click.argument("name")
@click.option("--suite", default=SUITE, show_default=True, help="Debian's release.")
@click.option("--package", "packages", multiple=True, help="One more Debian package; may be repeated.")
@click.option("--mirror", default="", help="Where packages come from; default: Debian's own, with security updates.")
@click.option("--again", is_flag=True, help="Also where the store has one of the same recipe; for newer packages.")
@json_option
def _build(name: str, suite: str, packages: tuple[str, ...], mirror: str, again: bool, as_json: bool) -> None:
    """Build an image by mmdebstrap and call it NAME: a minimal Debian with FRR, BIRD, tcpdump, nft, iperf3 and what
    copying files needs, and without an SSH server.  It takes a minute or two; the same recipe again takes nothing.
    """
    _, there = _place()
    recipe = Recipe(suite, mirror, tuple(sorted({*PACKAGES, *packages})))
    with _said(f"image {name}") as say:
        image = built(there, recipe, say, again=again)
    with there.lock():
        there.call(name, image)
    _show(there, image, name, as_json)


@image_command.command("show", short_help="What an image is.")
@click.argument("name")
@json_option
def _show_command(name: str, as_json: bool) -> None:
    """What the image NAME (a name, or an id or its beginning) is, and where its root file system lies."""
    place, there = _place()
    image = there.find(name)
    told = _json(there, image, image.id in used(place))
    if as_json:
        dump(told)
        return
    for key, value in told.items():
        line(f"{key + ':':8} {', '.join(map(str, value)) if isinstance(value, list) else value}")


@image_command.command("remove", short_help="Remove an image, or one of its names.")
@click.argument("name")
def _remove(name: str) -> None:
    """Take NAME away, and the image with its last name.  Refused while a running sliver stands on it."""
    place, there = _place()
    with there.lock():
        image = there.remove(name, used(place))
    left = [n for n, i in there.names().items() if i == image.id]
    line(
        f"{name} is gone" + (f"; the image is still called {', '.join(left)}." if left else ", and the image with it.")
    )


def _place() -> tuple[Place, Store]:
    place = from_environment()
    if os.geteuid() != 0:
        raise Denied("Images belong to root on this machine; run this with sudo.")
    return place, store(place)


def _called(word: str) -> str:
    """`docker://host/debian:12` -> debian-12; `/x/My.Image.tar.zst` -> my.image."""
    name = word.rstrip("/").rpartition("/")[2].lower().partition("@")[0].replace(":", "-")
    for ending in (".zst", ".xz", ".gz", ".bz2", ".tgz", ".tar"):
        name = name.removesuffix(ending)
    return name


@contextmanager
def _said(title: str) -> Iterator[Say]:
    """Progress, on standard error."""
    with Ticker(title).shown() as ticker:
        yield ticker.say


def _names(there: Store, image: Image) -> list[str]:
    return [n for n, i in there.names().items() if i == image.id]


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _json(there: Store, image: Image, in_use: bool) -> dict[str, object]:
    return {**msgspec.structs.asdict(image), "names": _names(there, image), "used": in_use,
            "root": str(there.root(image))}  # fmt: skip


def _show(there: Store, image: Image, name: str, as_json: bool) -> None:
    if as_json:
        dump(_json(there, image, False))
        return
    line(f"{name} is {image.id[:_SHORT]}: {count(image.files, 'file')}, {image.bytes / 10**6:.0f} MB.")
    note(f"A sliver takes it by `image: {name}`.")
