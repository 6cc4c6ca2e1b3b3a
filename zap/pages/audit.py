"""GET /pages/audit: who changed what, newest first, by person, time, action and subject."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any

from litestar import Request, Response, get
from sqlalchemy import Engine

from zap.db.audit_list import WantedChanges, list_changes
from zap.formats.values import LARGEST_ID
from zap.pages.page import answer_reading, see_other
from zap.pages.query import Query, address
from zap.public import PAGE
from zap.scopes import ADMIN, needs

_PATH = "/pages/audit"
_ROWS = 25
_LONGEST_SHOWN = 300
_DAY = timedelta(days=1)


@get(_PATH, opt=PAGE | needs(ADMIN))
async def audit(request: Request[Any, Any, Any]) -> Response[Any]:
    """Show a page of the audit."""
    query = Query(request)
    since, until, before = query.day("from"), query.day("to"), query.number("before")
    texts = {name: query.text(name) for name in ("who", "action", "subject")}
    wanted = WantedChanges(
        since=None if since is None else datetime.combine(since, time(), UTC),
        until=None if until is None or until == until.max else datetime.combine(until, time(), UTC) + _DAY,
        **texts,
    )
    if query.has_empty:
        # A form also sends its empty fields. An address without them is shorter to send to a colleague.
        return see_other(request, address(_PATH, query.values))
    filters = {"from": since, "to": until, **texts}
    return await answer_reading(request, "audit.html", _read, wanted, filters, before)


def _read(engine: Engine, wanted: WantedChanges, filters: dict[str, Any], before: int | None) -> Mapping[str, Any]:
    page = list_changes(engine, wanted, _ROWS, LARGEST_ID if before is None else before)
    return {
        "rows": [{**row, "changes": changes(row["before"] or {}, row["after"] or {})} for row in page.rows],
        "filters": filters,
        "is_filtered": any(value is not None for value in filters.values()),
        "older": None if page.before is None else address(_PATH, {**filters, "before": page.before}),
        "newest": None if before is None else address(_PATH, filters),
        "head": page.head,
    }


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str | None, str | None]]:
    """Return what differs: the name of each value, and how it was and is; None for a value that was or is not there."""
    old, new = _flat(before), _flat(after)
    return [
        (name, _shown(old.get(name)), _shown(new.get(name)))
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with those of inner objects, whose names have the name of their object before them."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = {f"{name}.{one}": found for one, found in value.items()} if isinstance(value, dict) else {name: value}
        flat |= inner
    return flat


def _shown(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
