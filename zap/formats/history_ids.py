"""The ids of sessions in a history file: numbers, texts, and rows of different sessions with one id."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from zap.formats.history_cells import NOT_UTF8, Problems, cut_cell
from zap.formats.session_ids import read_session_id, wrong_session_text
from zap.formats.values import CONTROL, LONGEST_SESSION_TEXT
from zap.ml.cells import is_nothing, plain_text

# A cell that a spreadsheet reads as a number. It writes long numbers as 1.23E+15, which are no ids any more.
_LIKE_A_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", re.ASCII)
_WHOLE = re.compile(r"(-?[0-9]+)(\.0+)?", re.ASCII)
# The name of the column of texts, beside `session_id`, the column of numbers.
SESSION_TEXT = "session_text"


class IdSurvey:
    """Find out whether a column of ids holds texts, or only numbers. The whole column decides."""

    def __init__(self) -> None:
        self.has_texts = False

    def look(self, texts: Iterable[str]) -> None:
        self.has_texts = self.has_texts or any(
            not (_LIKE_A_NUMBER.fullmatch(text) or is_nothing(text)) for text in texts
        )


def read_session_ids(
    name: str, texts: Sequence[str], problems: Problems, *, has_texts: bool
) -> tuple[pd.Series, pd.Series]:
    """Return the ids that are numbers as Int64, and the others as texts; both are missing where a cell has no id.

    Args:
        name: the column.
        texts: its cells.
        problems: gets the reasons why cells cannot be read.
        has_texts: whether the column holds texts. Otherwise `12.0` is read as 12, because some tools cannot store
            missing integers and write floats.
    """
    numbers: list[int | None] = [None] * len(texts)
    names: list[str | None] = [None] * len(texts)
    read = _read_text if has_texts else _read_number
    for row, text in enumerate(texts):
        if is_nothing(text):
            continue
        try:
            one = read(text)
        except ValueError as wrong:
            problems[row].append(f"{name} {wrong}")
            continue
        if isinstance(one, int):
            numbers[row] = one
        else:
            names[row] = one
    return pd.Series(numbers, dtype="Int64"), pd.Series(names, dtype="str")


def mixed_ids(sessions: pd.DataFrame, lines: np.ndarray) -> dict[int, str]:
    """Return the places of the rows whose id a row of another session has too, each with the reason in words.

    Rows of one id are different sessions if their users and their starts differ. Nobody knows whose id it is, so all
    rows with this id are returned.

    Args:
        sessions: `charging_start_time`, and the columns of ids and users that the file has.
        lines: the line of each row.
    """
    mixed: dict[int, str] = {}
    for column in ("session_id", SESSION_TEXT):
        if column not in sessions:
            continue
        places = np.flatnonzero(sessions[column].notna() & sessions.duplicated(column, keep=False))
        rows = sessions.iloc[places]
        codes, ids = pd.factorize(rows[column])
        starts = rows["charging_start_time"].to_numpy()
        named = rows["user_id"] if "user_id" in rows else pd.Series(None, index=rows.index, dtype="str")
        users, known = named.fillna("").to_numpy(dtype=object), named.notna().to_numpy()
        # For each row the places of the first and of the last row with its id.
        first = np.unique(codes, return_index=True)[1][codes]
        last = len(codes) - 1 - np.unique(codes[::-1], return_index=True)[1][codes]
        pairs: dict[int, tuple[int, int]] = {}
        for one in (last, first):
            alike = (starts == starts[one]) | (known & (users == users[one]))
            for row in np.flatnonzero(~alike)[::-1].tolist():
                pairs[int(codes[row])] = (row, int(one[row]))
        for row, code in enumerate(codes.tolist()):
            if code in pairs:
                pair = " and ".join(str(line) for line in sorted(lines[places[list(pairs[code])]]))
                mixed[int(places[row])] = (
                    f"session_id {ids[code]} has different users and different starts in the lines {pair}"
                )
    return mixed


def _read_number(text: str) -> int | str:
    """Return the id in a cell of a column of numbers.

    Raises:
        ValueError: the cell has no id; the message says why.
    """
    match = _WHOLE.fullmatch(text)
    one = read_session_id(match[1]) if match else text
    # A number with too many digits is a text, unless a tool has written it as a float, which has lost digits.
    if match is None or (isinstance(one, str) and (match[2] or len(one) > LONGEST_SESSION_TEXT)):
        raise ValueError(f"{cut_cell(text)!r} is not a whole number")
    return one


def _read_text(text: str) -> int | str:
    """Return the id in a cell of a column that holds texts.

    Raises:
        ValueError: the cell has no id; the message says why.
    """
    if NOT_UTF8.search(text):
        raise ValueError(f"{cut_cell(text)!r} is not UTF-8; name the encoding of the file with --encoding")
    plain = text if CONTROL.search(text) else plain_text(text)
    if wrong := wrong_session_text(plain):
        raise ValueError(wrong)
    return read_session_id(plain)
