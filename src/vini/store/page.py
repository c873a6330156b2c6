"""Lists that are asked for page by page: by a column that orders them, after the last of the page before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, true

from vini.store.database import Tx

AnyRow = Row[*tuple[Any, ...]]
MOST = 1000  # of one page


def page(
    tx: Tx, query: Select[Any], by: ColumnElement[Any], after: Any, limit: int, newest_first: bool = False
) -> tuple[Sequence[AnyRow], bool]:
    """The rows, and whether more follow; `after` None: from the beginning."""
    if after is not None:
        query = query.where(by < after if newest_first else by > after)
    limit = min(limit, MOST)
    rows = tx.execute(query.order_by(by.desc() if newest_first else by).limit(limit + 1)).all()
    return rows[:limit], len(rows) > limit


def matches(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    """Whether it is this text, in which "*" stands for any; "": whatever it is."""
    if not pattern:
        return true()
    if "*" not in pattern:
        return column == pattern
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return column.like(escaped.replace("*", "%"), escape="\\")
