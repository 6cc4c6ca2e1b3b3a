"""The numbers of a history file. The mark before the decimals, a point or a comma, is decided once for a whole file."""

import re
from collections.abc import Mapping, Sequence
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
_TWO = re.compile(r"\.[^\n.]*\.")
# Thousands between spaces or apostrophes, with any decimal mark.
_SPACED = re.compile(r"[+-]?[1-9][0-9]{0,2}([ '\u00a0\u2009\u2019\u202f])[0-9]{3}(?:\1[0-9]{3})*(?:[.,][0-9]*)?")
_UNCERTAIN = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}")
_FEATURES = {feature.name: feature for feature in (*FEATURES, *MEASURED)}
# For each column, the units that may follow its numbers, in lower case.
_UNITS = {
    feature.name: tuple({feature.unit.lower(), feature.unit.lower().replace("°", ""), *_OTHER}) if feature.unit else ()
    for feature in _FEATURES.values()
    for _OTHER in [
        {"hours": ("h", "hr", "hrs", "hour"), "years": ("y", "yr", "yrs", "year"), "USD": ("$",)}.get(feature.unit, ())
    ]
}

# Hours, minutes and seconds. Without seconds, 2:30 could also be minutes and seconds.
_CLOCK = re.compile(r"([0-9]{1,5}):([0-5][0-9]):([0-5][0-9])")
_HOURS = frozenset(feature.name for feature in _FEATURES.values() if feature.unit == "hours")


@dataclass
class NumberSurvey:
    """The first texts of one column that prove a decimal point, prove a decimal comma, or can have either mark.

    A text such as 7.234 is a "likely point" if 7,234 is outside the physical range of the column.
    """

    examples: dict[str, str] = field(default_factory=dict)

    def look(self, name: str, texts: Sequence[str]) -> None:
        """Look at the next texts of the column `name`, and keep the first text of each kind."""
        together = "\n".join(texts)
        if "," not in together and ("." not in together or ("point" in self.examples and not _TWO.search(together))):
            return
        for text in texts:
            points = text.count(".")
            if "," in text or points > 1 or (points and "point" not in self.examples):
                self._look_closely(name, text)

    def _look_closely(self, name: str, text: str) -> None:
        bare = _bare(name, text)
        point, comma = _reads(bare, "point"), _reads(bare, "comma")
        if point != comma:
            self.examples.setdefault("point" if point else "comma", text)
        elif point and _UNCERTAIN.fullmatch(bare):
            if "," in bare:
                kind = "either comma"
            else:
                # A vehicle that feeds the grid has negative numbers.
                outside = abs(float(bare.replace(".", ""))) > _FEATURES[name].maximum
                kind = "likely point" if outside else "either point"
            self.examples.setdefault(kind, text)


def decide_mark(surveys: Mapping[str, NumberSurvey], given: DecimalMark | None) -> DecimalMark:
    """Return the mark before the decimals in a file.

    Args:
        surveys: the survey of each column of numbers. All columns of a file use one mark.
        given: the mark that the user gives, which decides.

    Raises:
        BadHistoryFile: columns contradict each other, or a number such as 1,234 or 1.234 has two meanings and no other
            number of the file decides.
    """
    if given is not None:
        return given
    point, comma, either, likely = (
        _first(surveys, kind) for kind in ("point", "comma", "either comma", "likely point")
    )
    if point and comma:
        raise BadHistoryFile(
            f"{point[0]} {point[1]!r} has a decimal point and {comma[0]} {comma[1]!r} a decimal comma;"
            " write all numbers in one way; or say with --decimal which mark zap reads; zap then refuses the other"
            " numbers"
        )
    if not either and not likely:
        either = _first(surveys, "either point")
    if either and not point and not comma:
        raise BadHistoryFile(
            f"{either[0]} {either[1]!r} can be a number with three decimals or a number with a mark between thousands,"
            " and no other number of the file decides; say which mark is meant with --decimal comma or --decimal point"
        )
    return "comma" if comma else "point"


def typed_text(text: str) -> str:
    """Return the text of a cell that is a number in its file, so that its point cannot be a mark between thousands.

    1.234 becomes 1.2340.
    """
    return f"{text}0" if text[-4:-3] == "." and _UNCERTAIN.fullmatch(text) else text


def untyped_text(text: str) -> str:
    """Return the usual text of a number that `typed_text` has made longer. Ids and names that are numbers need it."""
    return text[:-1] if text[-5:-4] == "." and text[-1] == "0" and _UNCERTAIN.fullmatch(text[:-1]) else text


def note_on_mark(surveys: Mapping[str, NumberSurvey], mark: DecimalMark) -> str | None:
    """Return a sentence for people about the mark of a file, or None if the mark is clear without it.

    Args:
        surveys: as in `decide_mark`.
        mark: the result of `decide_mark`.
    """
    likely = _first(surveys, "likely point")
    uncertain = likely or _first(surveys, "either point")
    if mark == "comma":
        meant = uncertain and parse_number(*uncertain, mark)
        also = f"; {uncertain[0]} {uncertain[1]!r} means {meant:,.0f}" if uncertain and meant is not None else ""
        return f"numbers are read with a decimal comma{also}"
    if likely and not _first(surveys, "point"):
        return (
            f"numbers are read with a decimal point, because {likely[0]} {likely[1]!r} would be out of range with a"
            " mark between thousands"
        )
    return None


def parse_number(name: str, text: str, mark: DecimalMark) -> float | None:
    """Return the number that a text means, without the unit of its column; None if the text is not a finite number.

    Args:
        name: the column.
        text: such as `12.5`, `1,234.5`, `12,5 kWh`; in a column of hours also `2:30:00`.
        mark: the mark before the decimals.
    """
    if name in _HOURS and (clock := _CLOCK.fullmatch(text)):
        return int(clock[1]) + int(clock[2]) / 60 + int(clock[3]) / 3600
    bare = text if _PLAIN.fullmatch(text) else _bare(name, text)
    if not _reads(bare, mark):
        return None
    plain = bare.replace(",", "") if mark == "point" else bare.replace(".", "").replace(",", ".")
    number = float(plain)
    return number if isfinite(number) else None


def _bare(name: str, text: str) -> str:
    """Return the text without the unit of its column, without spaces or apostrophes between thousands.

    The sign of a negative number is a hyphen in the result, also where the text has a true minus.
    """
    bare = without_unit(name, text.replace("\u2212", "-"))
    return bare.replace(spaced[1], "") if (spaced := _SPACED.fullmatch(bare)) else bare


def without_unit(name: str, text: str) -> str:
    """Return the text without the unit of its column. A unit follows the number; dollars may also precede it."""
    low = text.lower()
    for unit in _UNITS.get(name, ()):
        if low.endswith(unit) and (bare := text[: len(text) - len(unit)].rstrip())[-1:].isdigit():
            return bare
        if unit in {"$", "usd"} and low.startswith(unit):
            return text[len(unit) :].lstrip()
    return text


def _reads(text: str, mark: DecimalMark) -> bool:
    plain, grouped = (_PLAIN, _GROUPED) if mark == "point" else (_COMMA, _COMMA_GROUPED)
    return plain.fullmatch(text) is not None or grouped.fullmatch(text) is not None


def _first(surveys: Mapping[str, NumberSurvey], kind: str) -> tuple[str, str] | None:
    return next(((name, survey.examples[kind]) for name, survey in surveys.items() if kind in survey.examples), None)
