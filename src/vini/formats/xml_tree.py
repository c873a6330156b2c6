"""XML text to a tree, with limits: no entities, no external references, bounded depth."""

from __future__ import annotations

from collections.abc import Iterator

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from vini.formats.imported import refused

MOST_DEPTH = 50  # GraphML with nested groups stays below 20


class Element:
    """An XML element: tag without namespace, attributes, children, line (from 1)."""

    __slots__ = ("attributes", "children", "line", "parts", "tag")

    def __init__(self, tag: str, attributes: dict[str, str], line: int):
        self.tag, self.attributes, self.line = tag, attributes, line
        self.parts: list[str] = []
        self.children: list[Element] = []

    @property
    def text(self) -> str:
        """The text before the first child."""
        return "".join(self.parts)

    def named(self, tag: str) -> list[Element]:
        """The children with this tag."""
        return [c for c in self.children if c.tag == tag]

    def first(self, tag: str) -> Element | None:
        """The first child with this tag."""
        return next((c for c in self.children if c.tag == tag), None)

    def value(self, tag: str) -> str:
        """The text of the first child with this tag; "" without one."""
        child = self.first(tag)
        return child.text.strip() if child else ""

    def every(self, tag: str) -> Iterator[Element]:
        """All descendants with this tag, in the order of the file."""
        waiting = self.children[::-1]
        while waiting:
            element = waiting.pop()
            if element.tag == tag:
                yield element
            waiting.extend(reversed(element.children))


class _Builder:
    """The target of the parser: builds Elements, and counts how deep it is."""

    def __init__(self) -> None:
        self.lines: DefusedXMLParser | None = None
        self.root: Element | None = None
        self._open: list[Element] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        line = self.lines.parser.CurrentLineNumber if self.lines else 0
        if len(self._open) >= MOST_DEPTH:
            raise refused(f"The XML is nested more than {MOST_DEPTH} elements deep.", line=line)
        element = Element(_local(tag), {_local(k): v for k, v in attributes.items()}, line)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def end(self, _tag: str) -> None:
        self._open.pop()

    def data(self, text: str) -> None:
        if self._open and not self._open[-1].children:
            self._open[-1].parts.append(text)

    def close(self) -> Element | None:
        return self.root


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def parse_xml(text: str) -> Element:
    """The root element of an XML document.  Raises TopologyError, with the place, for broken or hostile XML."""
    builder = _Builder()
    parser = DefusedXMLParser(target=builder)  # refuses entities and external references
    builder.lines = parser
    try:
        parser.feed(text)
        root: Element | None = parser.close()
    except ParseError as error:
        line, column = error.position
        raise refused("This is not well-formed XML.", str(error).split(":")[0], line, column + 1) from error
    except DefusedXmlException as error:
        raise refused(
            "The XML declares entities or refers to other files, which is not read since it can be used to "
            "exhaust a machine.",
            "remove the DOCTYPE",
        ) from error
    except (ValueError, LookupError) as error:  # UnicodeEncodeError: lone surrogates; LookupError: unknown encoding
        raise refused("This is not XML text.", "is it a binary file, or in another encoding than UTF-8?") from error
    if root is None:
        raise refused("This XML has no element.")
    return root
