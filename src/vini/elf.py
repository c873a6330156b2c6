"""What an eBPF object file holds, read without running or loading anything (elf(5), Documentation/bpf/btf.rst).

The file is not trusted: every offset is checked, and what is not well-formed is refused with ValueError.  libbpf
reads the same file later; where the two could differ (a section twice), this one refuses.

What a central reads of an upload, and a node before it loads one; so nothing in a hostile file costs more than its
length.  Pure.

Our own 200 lines rather than pyelftools: it has no BTF, and that is where maps are declared.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator

from vini.model import Value

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_EXECUTABLE = 4  # SHF_EXECINSTR
_RELOCATIONS, _RELOCATIONS_WITH_ADDEND = 9, 4  # SHT_REL, SHT_RELA
_NO_CONTENT = 8  # SHT_NOBITS
_BPF = 247  # EM_BPF
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _VAR, _DATASEC, _ENUM64 = 1, 2, 3, 4, 5, 14, 15, 19
_SYNONYMS = frozenset({8, 9, 10, 11, 18})  # typedef, volatile, const, restrict, type tag
_MORE = {_INT: (4, 0), _ARRAY: (12, 0), _VAR: (4, 0), 17: (4, 0)}  # bytes behind a type: fixed, for each member
_MORE |= {_STRUCT: (0, 12), _UNION: (0, 12), 6: (0, 8), 13: (0, 8), _DATASEC: (0, 12), _ENUM64: (0, 12)}
_LAST_KIND = 19
_SIGNED, _OTHER = 1, 6  # of an integer's encoding: it has a sign; it is a char or a bool
_MOST_SETTINGS, _MOST_MAPS, _LONGEST_NAME = 32, 1024, 255  # far more than the policy lets pass


class Section(Value, frozen=True):
    """A section; `content` is empty where it takes no room in the file, `size` says what it takes in memory."""

    name: str
    executable: bool
    size: int
    content: bytes


class Symbol(Value, frozen=True):
    """A name; `section` is the index of its section, 0: defined nowhere; `offset` and `size` are bytes in it."""

    name: str
    section: int
    function: bool
    offset: int = 0
    size: int = 0


class Relocation(Value, frozen=True):
    """A place in a section that libbpf fills in, and what with."""

    section: int
    offset: int
    symbol: Symbol


class DeclaredMap(Value, frozen=True):
    """A map's settings as written, and the sizes of its key and value in bytes (0: not given).

    `signed` tells which of "key" and "value" are plain integers, and whether they have a sign.
    """

    name: str
    numbers: dict[str, int]
    key_size: int
    value_size: int
    signed: dict[str, bool] = {}  # noqa: RUF012  never changed


class Elf:
    """Sections, relocations, undefined symbols, maps.  ValueError where the file isn't well-formed."""

    def __init__(self, raw: bytes):
        self._raw = raw
        try:
            self._read()
        except (struct.error, IndexError, UnicodeDecodeError, KeyError, OverflowError) as e:
            raise ValueError("the object file is cut short or malformed") from e

    def _read(self) -> None:
        ident, _, machine, _, _, _, at, _, _, _, _, size, count, names = _HEADER.unpack_from(self._raw)
        if ident[:4] == b"\x7fELF" and machine != _BPF:
            raise ValueError(f"it is an object file for another machine (number {machine}), not for eBPF ({_BPF})")
        if ident[:6] != b"\x7fELF\x02\x01" or size != _SECTION.size:
            raise ValueError("it is no ELF object file for eBPF (64 bits, little-endian)")
        self._heads = [_SECTION.unpack_from(self._raw, at + i * size) for i in range(count)]
        if sum(head[5] for head in self._heads if head[1] not in (0, _NO_CONTENT)) > len(self._raw):
            raise ValueError("its sections overlap, or reach beyond the end of the file")
        strings = self._content(names)
        self.sections = [
            Section(_text(strings, head[0]), bool(head[2] & _EXECUTABLE), head[5], self._content(i))
            for i, head in enumerate(self._heads)
        ]
        named = Counter(s.name for s in self.sections if not s.name.startswith(".rel"))
        if twice := sorted(name for name, times in named.items() if times > 1):
            raise ValueError(f"it has several sections {', '.join(map(repr, twice[:3]))}")
        symbols = [i for i, head in enumerate(self._heads) if head[1] == 2]  # SHT_SYMTAB
        self.symbols = self._symbols(symbols[0]) if symbols else []
        self.relocations = [r for i, head in enumerate(self._heads) for r in self._relocations(i, head)]
        self.core_relocations = self._core_relocations()
        types = self.section(".BTF").content
        self.maps = _Btf(types).maps() if self.section(".maps").size and types else []

    def section(self, name: str) -> Section:
        """The section of that name; an empty one where there is none."""
        return next((s for s in self.sections if s.name == name), Section(name, False, 0, b""))

    def _content(self, index: int) -> bytes:
        head = self._heads[index]
        kind, offset, size = head[1], head[4], head[5]
        if kind == _NO_CONTENT or kind == 0:
            return b""
        if offset + size > len(self._raw):
            raise ValueError("a section reaches beyond the end of the file")
        return self._raw[offset : offset + size]

    def _symbols(self, index: int) -> list[Symbol]:
        strings = self._content(self._heads[index][6])
        return [
            Symbol(_text(strings, name), section, kind & 0xF == 2, offset, size)  # STT_FUNC
            for name, kind, _, section, offset, size in _SYMBOL.iter_unpack(self._content(index))
        ]

    def _relocations(self, index: int, head: tuple[int, ...]) -> Iterator[Relocation]:
        if head[1] not in (_RELOCATIONS, _RELOCATIONS_WITH_ADDEND):
            return
        if head[1] == _RELOCATIONS_WITH_ADDEND:
            raise ValueError("it has relocations with addends, which no compiler makes for eBPF")
        if not 0 < head[7] < len(self._heads):
            raise ValueError("it has relocations for a section that isn't there")
        for offset, what in struct.iter_unpack("<QQ", self._content(index)):
            yield Relocation(head[7], offset, self.symbols[what >> 32])

    def _core_relocations(self) -> int:
        """Bytes of CO-RE relocations (struct btf_ext_header, linux/btf.h)."""
        extra = self.section(".BTF.ext").content
        if not extra:
            return 0
        header_length: int = struct.unpack_from("<I", extra, 4)[0]
        length: int = struct.unpack_from("<I", extra, 28)[0] if header_length >= 32 else 0
        return length


class _Btf:
    """The types of an object file, as far as declarations of maps need them."""

    def __init__(self, raw: bytes):
        magic, version, _, length, types, types_length, strings, strings_length = struct.unpack_from("<HBBIIIII", raw)
        if (magic, version) != (0xEB9F, 1):
            raise ValueError("its type information (BTF) has another version")
        self._strings = raw[length + strings : length + strings + strings_length]
        self._raw = raw[length + types : length + types + types_length]
        self._at = [-1]  # type number -> offset; 0 is void
        offset = 0
        while offset < len(self._raw):
            kind, members = self._head(offset)[1:3]
            if not 1 <= kind <= _LAST_KIND:
                raise ValueError(f"its type information (BTF) has a type of the unknown kind {kind}")
            fixed, each = _MORE.get(kind, (0, 0))
            self._at.append(offset)
            offset += 12 + fixed + each * members

    def maps(self) -> list[DeclaredMap]:
        """Those that `.maps` declares (struct { __uint(...); __type(...); } name SEC(".maps"))."""
        out: list[DeclaredMap] = []
        for offset in self._at[1:]:
            name, kind, count, _ = self._head(offset)
            if kind == _DATASEC and self._name(name) == ".maps":
                if len(out) + count > _MOST_MAPS:
                    raise ValueError(f"it has more than {_MOST_MAPS} maps")
                for i in range(count):
                    variable = self._at[struct.unpack_from("<I", self._raw, offset + 12 + 12 * i)[0]]
                    out.append(self._map(variable))
        return out

    def _map(self, variable: int) -> DeclaredMap:
        name, _, _, type_ = self._head(variable)
        numbers: dict[str, int] = {}
        sizes = {"key": 0, "value": 0}
        signed: dict[str, bool] = {}
        for member, its_type in self._members(type_):
            pointer, _ = self._resolved(its_type)
            if member in numbers or sizes.get(member):
                raise ValueError(f"the map {self._name(name)} says {member} twice")
            if member in sizes:
                if self._head(pointer)[1] != _PTR:
                    raise ValueError(f"the map {self._name(name)} declares its {member} without __type")
                sizes[member] = self._size(self._head(pointer)[3])
                if (sign := self._sign(self._head(pointer)[3])) is not None:
                    signed[member] = sign
            elif self._head(pointer)[1] == _PTR:
                array, _ = self._resolved(self._head(pointer)[3])
                numbers[member] = struct.unpack_from("<III", self._raw, array + 12)[2]
            else:  # an array of something: inner maps, or programs
                numbers[member] = 0
        return DeclaredMap(
            self._name(name), numbers, sizes["key"] or numbers.get("key_size", 0),
            sizes["value"] or numbers.get("value_size", 0), signed,
        )  # fmt: skip

    def _sign(self, type_: int) -> bool | None:
        """Of an integer whether it has a sign; None of any other type."""
        offset, kind = self._resolved(type_)
        if kind != _INT:
            return None
        encoding: int = struct.unpack_from("<I", self._raw, offset + 12)[0] >> 24 & 0xF
        return None if encoding & _OTHER else bool(encoding & _SIGNED)

    def _members(self, type_: int) -> Iterator[tuple[str, int]]:
        offset, kind = self._resolved(type_)
        if kind != _STRUCT:
            raise ValueError("a map is not declared as a struct")
        if self._head(offset)[2] > _MOST_SETTINGS:
            raise ValueError(f"a map has more than {_MOST_SETTINGS} settings")
        for i in range(self._head(offset)[2]):
            name, its_type, _ = struct.unpack_from("<III", self._raw, offset + 12 + 12 * i)
            yield self._name(name), its_type

    def _resolved(self, type_: int) -> tuple[int, int]:
        """Where a type is, and its kind, behind its synonyms."""
        for _ in range(64):
            offset = self._at[type_]
            if offset < 0:
                raise ValueError("a map has a part without a type")
            _, kind, _, size_or_type = self._head(offset)
            if kind not in _SYNONYMS:
                return offset, kind
            type_ = size_or_type
        raise ValueError("its type information (BTF) goes round in circles")

    def _size(self, type_: int, depth: int = 0) -> int:
        offset, kind = self._resolved(type_)
        if depth > 16:
            raise ValueError("a map has arrays of arrays beyond measure")
        if kind == _ARRAY:
            element, _, count = struct.unpack_from("<III", self._raw, offset + 12)
            return self._size(element, depth + 1) * int(count)
        return 8 if kind == _PTR else self._head(offset)[3]

    def _head(self, offset: int) -> tuple[int, int, int, int]:
        """Name, kind, number of members, size or type."""
        name, what, size_or_type = struct.unpack_from("<III", self._raw, offset)
        return name, what >> 24 & 0x1F, what & 0xFFFF, size_or_type

    def _name(self, offset: int) -> str:
        return _text(self._strings, offset)


def _text(strings: bytes, offset: int) -> str:
    end = strings.find(b"\0", offset, offset + _LONGEST_NAME + 1)
    text = strings[offset:end].decode("ascii")
    if end < 0 or not text.isprintable():
        raise ValueError(f"a name in it has more than {_LONGEST_NAME} characters, or some that can't be printed")
    return text
