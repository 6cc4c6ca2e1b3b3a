"""The fields of forms as JSON values, for the options that the JSON routes read, and the errors beside the fields."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from zap.errors import InvalidRequest

# No number of a form has more characters; Python reads very long ones slowly.
_LONGEST_NUMBER = 40


def filled(form: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Return the fields that are not empty, without the spaces around them."""
    texts = {name: form.get(name, "").strip() for name in names}
    return {name: text for name, text in texts.items() if text}


def numbers(form: Mapping[str, str], names: Iterable[str]) -> dict[str, Any]:
    """Return the fields that are not empty as numbers. What is no number stays a text, which the options refuse."""
    return {name: read_number(text) for name, text in filled(form, names).items()}


def errors_by_field(refused: InvalidRequest) -> dict[str, list[str]]:
    """Return what is wrong with each field, by the last name of its JSON pointer."""
    said: dict[str, list[str]] = {}
    for one in refused.details["errors"]:
        names = [name for name in one["pointer"].removeprefix("#").split("/") if name]
        # An entry of a list is a part of its field.
        name = next((name for name in reversed(names) if not name.isdigit()), "")
        said.setdefault(name, []).append(one["detail"])
    return said


def read_number(text: str) -> int | float | str:
    """Return the number of a text; a text that is no number stays one, and then the JSON route says what is wrong."""
    try:
        number = float(text.replace(",", ".")) if len(text) <= _LONGEST_NUMBER else math.nan
    except ValueError:
        return text
    if not math.isfinite(number):
        return text
    return int(text) if text.lstrip("+-").isdigit() else number
