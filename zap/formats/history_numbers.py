"""The numbers of a history file. The mark before the decimals, a point or a comma, is decided once for a whole file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

from zap.errors import BadHistoryFile
from zap.ml.features import FEATURES, MEASURED

DecimalMark = Literal["point", "comma"]

# Each pattern matches a text in only one way. With two ways, a long run of digits would be read many times.
_PLAIN = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_GROUPED = re.compile(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]*)?")
_COMMA = re.compile(r"[+-]?([0-9]+(,[0-9]+)?|,[0-9]+)([eE][+-]?[0-9]+)?")
_COMMA_GROUPED = re.compile(r"[+-]?[1-9][0-9]{0,2}(\.[0-9]{3})+(,[0-9]+)?")
_UNCERTAIN = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}")
# For each column, the units that may follow its numbers, in lower case.
_UNITS = {
    feature.name: tuple({feature.unit.lower(), feature.unit.lower().replace("°", ""), *_OTHER}) if feature.unit else ()
    for feature in (*FEATURES, *MEASURED)
    for _OTHER in [{"hours": ("h", "hrs"), "years": ("y",), "USD": ("$",)}.get(feature.unit, ())]
}


@dataclass
class NumberSurvey:
    """The first texts of one column that prove a decimal point, prove a decimal comma, or can have either mark."""

    examples: dict[str, str] = field(default_factory=dict)

    def look(self, name: str, text: str) -> None:
        """Keep a text of the column `name` if it is the first text of its kind."""
        points = text.count(".")
        if "," not in text and (not points or (points == 1 and "point" in self.examples)):
            return
        bare = without_unit(name, text)
        point, comma = _reads(bare, "point"), _reads(bare, "comma")
        if point != comma:
            self.examples.setdefault("point" if point else "comma", text)
        elif point and _UNCERTAIN.fullmatch(bare):
            self.examples.setdefault("either point" if "." in bare else "either comma", text)


def decide_mark(surveys: Mapping[str, NumberSurvey], given: DecimalMark | None) -> DecimalMark:
    """Return the mark before the decimals in a file.

    Args:
        surveys: the survey of each column of numbers. All columns of a file use one mark.
        given: the mark that the user gives, which decides.

    Raises:
        BadHistoryFile: columns contradict each other, or a number such as 1,234 has two meanings and no other number of
            the file decides.
    """
    if given is not None:
        return given
    point, comma, either = (_first(surveys, kind) for kind in ("point", "comma", "either comma"))
    if point and comma:
        raise BadHistoryFile(
            f"{point[0]} {point[1]!r} has a decimal point and {comma[0]} {comma[1]!r} a decimal comma;"
            " write all numbers in one way; or say with --decimal which ones zap reads, and it refuses the others"
        )
    if either and not point and not comma:
        raise BadHistoryFile(
            f"{either[0]} {either[1]!r} can be a number with three decimals or a number of thousands, and no"
            " other number of the file decides; say which with --decimal comma or --decimal point"
        )
    return "comma" if comma else "point"


def parse_number(name: str, text: str, mark: DecimalMark) -> float | None:
    """Return the number that a text means, without the unit of its column; None if the text is not a finite number.

    Args:
        name: the column.
        text: such as `12.5`, `1,234.5`, `12,5 kWh`.
        mark: the mark before the decimals.
    """
    bare = text if _PLAIN.fullmatch(text) else without_unit(name, text)
    if not _reads(bare, mark):
        return None
    plain = bare.replace(",", "") if mark == "point" else bare.replace(".", "").replace(",", ".")
    number = float(plain)
    return number if isfinite(number) else None


def without_unit(name: str, text: str) -> str:
    """Return the text without the unit of its column. A unit follows the number; a dollar sign may also precede it."""
    low = text.lower()
    for unit in _UNITS.get(name, ()):
        if low.endswith(unit) and (bare := text[: len(text) - len(unit)].rstrip())[-1:].isdigit():
            return bare
        if unit == "$" and text.startswith("$"):
            return text[1:].lstrip()
    return text


def _reads(text: str, mark: DecimalMark) -> bool:
    plain, grouped = (_PLAIN, _GROUPED) if mark == "point" else (_COMMA, _COMMA_GROUPED)
    return plain.fullmatch(text) is not None or grouped.fullmatch(text) is not None


def _first(surveys: Mapping[str, NumberSurvey], kind: str) -> tuple[str, str] | None:
    return next(((name, survey.examples[kind]) for name, survey in surveys.items() if kind in survey.examples), None)
