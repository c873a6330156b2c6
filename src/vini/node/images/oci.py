"""OCI images on the disk: an image layout, or the archive that `docker save` makes (OCI image specification 1.0).

Whatever is read of them was checked against its digest, or is content of the archive whose own digest is the image's.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TypeVar

import msgspec

from vini.model import Value
from vini.node.images.compressed import sha256
from vini.node.images.tree import Refused

_JSON_BYTES = 4 << 20
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_LAYERS, _INDEXES_DEEP = 200, 5
T = TypeVar("T")


class Platform(Value, frozen=True, forbid_unknown_fields=False):
    """For which machine an image is."""

    architecture: str = ""
    os: str = ""


class Descriptor(Value, frozen=True, rename="camel", forbid_unknown_fields=False):
    """Names a blob by what is in it."""

    digest: str
    media_type: str = ""
    platform: Platform | None = None


class Index(Value, frozen=True, forbid_unknown_fields=False):
    """Of several images, by their platforms."""

    manifests: tuple[Descriptor, ...] = ()


class Manifest(Value, frozen=True, forbid_unknown_fields=False):
    """Of one image: its layers, the lowest first."""

    layers: tuple[Descriptor, ...] = ()


class Saved(Value, frozen=True, rename="pascal", forbid_unknown_fields=False):
    """One image of a `docker save` archive: the names of its layers in there."""

    layers: tuple[str, ...] = ()


def is_layout(directory: Path) -> bool:
    """Whether a directory is an OCI image layout."""
    return (directory / "oci-layout").is_file() and (directory / "index.json").is_file()


class Layout:
    """An OCI image layout that holds one image for this machine's architecture."""

    def __init__(self, directory: Path):
        """Raises Refused where it holds none, or several."""
        self._directory = directory
        self.digest, self._manifest = self._chosen(_decoded(directory / "index.json", Index))

    def layers(self) -> Iterator[Path]:
        """The files of its layers, each checked before it is given."""
        if len(self._manifest.layers) > _LAYERS:
            raise Refused(f"It has more than {_LAYERS} layers.")
        for layer in self._manifest.layers:
            if "foreign" in layer.media_type or "nondistributable" in layer.media_type:
                raise Refused(f"The layer {layer.digest} is kept elsewhere, and not in the image.")
            yield self._blob(layer.digest)

    def _chosen(self, index: Index, depth: int = 0) -> tuple[str, Manifest]:
        mine = _ARCHITECTURES.get(platform.machine(), platform.machine())
        fits = [
            m for m in index.manifests
            if m.platform is None or (m.platform.architecture in ("", mine) and m.platform.os in ("", "linux"))
        ]  # fmt: skip
        if len(fits) != 1:
            raise Refused(
                f"It holds {len(fits) or 'no'} image{'s' if len(fits) > 1 else ''} for {mine}; take a layout with one:"
                " `skopeo copy SOURCE oci:DIRECTORY`."
            )
        file = self._blob(fits[0].digest)
        if fits[0].media_type in _INDEXES:
            if depth >= _INDEXES_DEEP:
                raise Refused("It has indexes in indexes in indexes, and no end of them.")
            return self._chosen(_decoded(file, Index), depth + 1)
        return fits[0].digest, _decoded(file, Manifest)

    def _blob(self, digest: str) -> Path:
        kind, _, value = digest.partition(":")
        if kind != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
            raise Refused(f"The digest {digest[:80]!r} is none of sha256.")
        file = self._directory / "blobs" / "sha256" / value
        if file.is_symlink() or not file.is_file():
            raise Refused(f"The blob {digest} is not there; the image is not complete.")
        if sha256(file) != value:
            raise Refused(f"The blob {digest} is not what its name says; the image is damaged.")
        return file


def saved_layers(directory: Path) -> Iterator[Path]:
    """The files of the layers of an unpacked `docker save` archive, which holds one image."""
    images = _decoded(directory / "manifest.json", list[Saved])
    if len(images) != 1:
        raise Refused(f"The archive holds {len(images)} images; save one: `docker save NAME -o FILE`.")
    if len(images[0].layers) > _LAYERS:
        raise Refused(f"It has more than {_LAYERS} layers.")
    for name in images[0].layers:
        path = PurePosixPath(name)
        file = directory / path
        if path.is_absolute() or ".." in path.parts or not file.resolve().is_relative_to(directory.resolve()):
            raise Refused(f"The layer {name[:80]!r} leads out of the archive.")
        if not file.is_file():
            raise Refused(f"The layer {name[:80]!r} is not in the archive.")
        yield file


def _decoded(file: Path, type_: type[T]) -> T:
    if not file.is_file() or file.stat().st_size > _JSON_BYTES:
        raise Refused(f"{file.name} is missing, or too long.")
    try:
        return msgspec.json.decode(file.read_bytes(), type=type_)
    except (msgspec.DecodeError, msgspec.ValidationError) as e:
        raise Refused(f"{file.name} can't be read ({e}).") from e
