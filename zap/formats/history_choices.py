"""The options of a user for a history file, and the file that keeps these options."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from zap.errors import BadHistoryFile
from zap.formats.history_numbers import DecimalMark
from zap.formats.history_survey import Choices
from zap.formats.history_times import DATE_ORDERS, DateOrder

_MARKS = ("point", "comma")
_SOME_DAY = datetime(2024, 1, 31, 18, 5, tzinfo=UTC)


def read_choices(  # noqa: PLR0913 - one for each option
    kept: Path | None,
    mapping: Iterable[str],
    *,
    date_format: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    sheet: str | None = None,
) -> Choices:
    """Return the choices of the options and of the file. An option has priority over the file.

    Args:
        kept: a file that `save_choices` wrote; None without a file.
        mapping: texts such as `Start Date=charging_start_time`.
        date_format: `day-first`, `month-first`, `year-first`, or a `strptime` pattern.
        decimal: `point` or `comma`.
        encoding: the encoding of the text.
        sheet: the sheet of an Excel file.

    Raises:
        BadHistoryFile: an option or the file is not usable.
    """
    fields = _kept(kept) if kept is not None else {}
    columns: dict[str, str] = dict(fields.get("map", {}))
    for text in mapping:
        theirs, equals, ours = text.rpartition("=")
        if not equals or not theirs.strip():
            raise BadHistoryFile(f'--map {text!r} is not understood; write it as "Start Date=charging_start_time"')
        columns[theirs.strip()] = ours.strip()
    written = fields.get("date_format") if date_format is None else date_format
    if written is not None and written not in DATE_ORDERS and not _reads_dates(written):
        raise BadHistoryFile(
            f"--date-format {written!r} is not known; use day-first, month-first, year-first, or a pattern such as"
            " %d.%m.%Y %H:%M"
        )
    encoding = fields.get("encoding") if encoding is None else encoding
    if encoding is not None and not _decodes(encoding):
        raise BadHistoryFile(f"--encoding {encoding!r} is not known; use one such as cp1252 or utf-16")
    return Choices(
        mapping=columns,
        date_order=cast("DateOrder", written) if written in DATE_ORDERS else None,
        date_pattern=None if written in DATE_ORDERS else written,
        decimal=cast("DecimalMark | None", fields.get("decimal") if decimal is None else decimal),
        encoding=encoding,
        sheet=fields.get("sheet") if sheet is None else sheet,
    )


def save_choices(path: Path, choices: Choices) -> None:
    """Write the choices to a file, as JSON.

    Raises:
        BadHistoryFile: the file cannot be written.
    """
    fields = {
        "map": dict(choices.mapping),
        "date_format": choices.date_order or choices.date_pattern,
        "decimal": choices.decimal,
        "encoding": choices.encoding,
        "sheet": choices.sheet,
    }
    try:
        path.write_text(json.dumps(fields, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise BadHistoryFile(f"{path} cannot be written: {error.strerror or error}") from None


def _reads_dates(pattern: str) -> bool:
    """Return whether a `strptime` pattern reads the year, the month and the day that it writes."""
    try:
        return datetime.strptime(_SOME_DAY.strftime(pattern), pattern).date() == _SOME_DAY.date()  # noqa: DTZ007
    except (ValueError, re.error):
        return False


def _decodes(encoding: str) -> bool:
    try:
        return bool("a".encode(encoding))
    except (LookupError, ValueError):
        return False


def _kept(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadHistoryFile(f"{path} cannot be read: {error}") from None
    names = fields.get("map") if isinstance(fields, dict) else None
    usable = (
        isinstance(names, dict)
        and all(isinstance(text, str) for text in names.values())
        and all(isinstance(fields.get(name), str | None) for name in ("date_format", "encoding", "sheet"))
        and fields.get("decimal") in (*_MARKS, None)
    )
    if not usable:
        raise BadHistoryFile(f"{path} is not a file of --save-map; write it again with --save-map")
    return cast("dict[str, Any]", fields)
