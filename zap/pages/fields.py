"""The fields of forms as JSON values, for the options that the JSON routes read, and the errors beside the fields."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from zap.errors import InvalidRequest

# No number of a form has more characters; Python reads very long ones slowly.
_LONGEST_NUMBER = 40
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
# What separates groups of three digits: spaces also break no line or are narrow. In English a comma does it too.
_SPACES = " \N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{THIN SPACE}"
_SEPARATOR = {"en": re.compile(f"[{_SPACES},]"), "uk": re.compile(f"[{_SPACES}]")}
_GROUPED = {
    "en": re.compile(rf"[+-]?[0-9]{{1,3}}(?:(?:[{_SPACES}][0-9]{{3}})+|(?:,[0-9]{{3}})+)(?:\.[0-9]+)?"),
    "uk": re.compile(rf"[+-]?[0-9]{{1,3}}(?:[{_SPACES}][0-9]{{3}})+(?:[.,][0-9]+)?"),
}


def filled(form: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Return the fields that are not empty, without the spaces around them."""
    texts = {name: form.get(name, "").strip() for name in names}
    return {name: text for name, text in texts.items() if text}


def numbers(form: Mapping[str, str], names: Iterable[str], language: str) -> dict[str, Any]:
    """Return the fields that are not empty as numbers. What is no number stays a text, which the options refuse."""
    return {name: read_number(text, language) for name, text in filled(form, names).items()}


def errors_by_field(refused: InvalidRequest) -> dict[str, list[str]]:
    """Return what is wrong with each field, by the last name of its JSON pointer."""
    said: dict[str, list[str]] = {}
    for one in refused.details["errors"]:
        names = [name for name in one["pointer"].removeprefix("#").split("/") if name]
        # An entry of a list is a part of its field.
        name = next((name for name in reversed(names) if not name.isdigit()), "")
        said.setdefault(name, []).append(one["detail"])
    return said


def read_number(text: str, language: str) -> int | float | str:
    """Return the number that a person has typed; a text that is no number stays one, and the JSON route says why not.

    A number may be written as the pages write it: with a decimal comma in Ukrainian, with groups of three digits and
    with the minus sign of typography. A point, and a comma that separates no group, are decimal in every language.
    """
    plain = text.strip().replace("\N{MINUS SIGN}", "-")
    if _GROUPED[language].fullmatch(plain):
        plain = _SEPARATOR[language].sub("", plain)
    plain = plain.replace(",", ".")
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(plain):
        return text
    if plain.lstrip("+-").isdigit():
        return int(plain)
    number = float(plain)
    return number if math.isfinite(number) else text
