"""Reading the values of a containerlab file out of its YAML tree, noting what is not as it should be."""

from __future__ import annotations

from vini.text.mistakes import Mistakes, quote
from vini.text.yamlplaces import Mapping, Node, Scalar, Sequence

Fields = dict[str, Node]


def is_null(node: Node | None) -> bool:
    """True for what is not there, and for `key:` with nothing behind it."""
    return node is None or (isinstance(node, Scalar) and node.null)


def fields(node: Node | None, what: str, mistakes: Mistakes) -> Fields:
    """The values of a mapping by key; {} for nothing."""
    if is_null(node):
        return {}
    if isinstance(node, Mapping):
        return {key.text: value for key, value in node.items}
    assert node is not None
    mistakes.add(node.at, f"{what} must be a mapping.", "write each as `key: value`")
    return {}


def items(node: Node | None, what: str, mistakes: Mistakes) -> tuple[Node, ...]:
    """The items of a list; () for nothing."""
    if is_null(node):
        return ()
    if isinstance(node, Sequence):
        return node.items
    assert node is not None
    mistakes.add(node.at, f"{what} must be a list.", "write each item behind a dash")
    return ()


def text(node: Node | None, what: str, mistakes: Mistakes) -> str:
    """A text; "" for nothing."""
    if is_null(node):
        return ""
    if isinstance(node, Scalar):
        return node.text
    assert node is not None
    mistakes.add(node.at, f"{what} must be a text.", "it is a list or a mapping here")
    return ""


def whole(node: Node | None, what: str, least: int, most: int, mistakes: Mistakes) -> int | None:
    """A whole number; None for nothing."""
    if is_null(node) or node is None:
        return None
    digits = text(node, what, mistakes)
    if digits.isascii() and digits.isdigit() and len(digits) < 10 and least <= int(digits) <= most:
        return int(digits)
    mistakes.add(node.at, f"{what} is {quote(digits)}.", f"write a whole number from {least} to {most}")
    return None
