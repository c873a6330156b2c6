"""Files that may be compressed (gzip, xz, zstd), read as what they hold, bounded and hashed on the way."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from vini.node.images.tree import Refused

_CHUNK = 1 << 20
_MAGIC = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2"}
_MEMORY = 1 << 28  # bytes that a decompressor may take


def sha256(file: Path) -> str:
    """Of what is in it, 64 hexadecimal digits."""
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


@contextmanager
def content(file: Path, most: int) -> Iterator[IO[bytes]]:
    """What it holds, uncompressed.  Raises Refused where that is damaged, or longer than `most` bytes."""
    with file.open("rb") as raw:
        kind = next((k for magic, k in _MAGIC.items() if raw.peek(8)[:8].startswith(magic)), "")
        try:
            if kind == "zstd":
                with _zstd(raw) as plain:
                    yield cast(IO[bytes], _Bounded(plain, most))
            else:
                yield cast(IO[bytes], _Bounded(_opened(raw, kind), most))
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as e:
            raise Refused(f"{file.name} is damaged ({e}); copy it again.") from e


def _opened(raw: IO[bytes], kind: str) -> IO[bytes]:
    if kind == "gzip":
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    if kind == "bzip2":
        return cast(IO[bytes], bz2.BZ2File(raw))
    if kind == "xz":
        return cast(IO[bytes], io.BufferedReader(_Xz(raw)))
    return raw


class _Xz(io.RawIOBase):
    """By a decoder with a limit: a header of xz may ask for gigabytes of memory."""

    def __init__(self, raw: IO[bytes]):
        self._raw, self._decoder = raw, lzma.LZMADecompressor(memlimit=_MEMORY)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        """Some bytes; 0 at the end."""
        while not self._decoder.eof:
            more = self._raw.read(_CHUNK) if self._decoder.needs_input else b""
            if self._decoder.needs_input and not more:
                raise EOFError("it ends too early")
            if data := self._decoder.decompress(more, len(buffer)):
                buffer[: len(data)] = data
                return len(data)
        return 0


@contextmanager
def _zstd(raw: IO[bytes]) -> Iterator[IO[bytes]]:
    """By zstd(1): Python has none before 3.14."""
    if shutil.which("zstd") is None:
        raise Refused("Archives compressed by zstd need the program zstd; install it with `apt-get install zstd`.")
    os.lseek(raw.fileno(), 0, os.SEEK_SET)  # a look at its beginning took more of it
    child = subprocess.Popen(
        ["zstd", "-dcq", "--memory=256MB"], stdin=raw, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout and child.stderr
    try:
        yield child.stdout
        if child.stdout.read(1) == b"" and child.wait():
            raise EOFError(child.stderr.read().decode(errors="replace").strip())
    finally:
        child.kill()
        child.stdout.close()
        child.stderr.close()
        child.wait()


class _Bounded(io.RawIOBase):
    """Gives no more than so many bytes."""

    def __init__(self, inner: IO[bytes], most: int):
        self._inner, self._left = inner, most

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, or all."""
        data = self._inner.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise Refused("It holds more, once uncompressed, than an image may take of the disk.")
        return data
