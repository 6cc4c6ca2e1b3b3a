"""The filters in the address of a page. A form also sends empty fields, which do not count."""

from collections.abc import Collection
from datetime import date
from typing import Any
from urllib.parse import urlencode

from litestar import Request
from litestar.exceptions import ValidationException

from zap.formats.time_range import read_day
from zap.formats.values import CONTROL, LARGEST_ID, LONGEST_TEXT
from zap.pages.fields import read_number
from zap.pages.reader import read_reader
from zap.sentences import say

_LONGEST_SHOWN = 40


class Query:
    """The filters of a request. The methods raise ValidationException for a value that they cannot read.

    Args:
        request: the request.
    """

    def __init__(self, request: Request[Any, Any, Any]) -> None:
        sent, self._language = request.query_params, read_reader(request).language
        self.has_empty = any(not value.strip() for value in sent.values())
        self.values = {name: value.strip() for name, value in sent.items() if value.strip()}

    def text(self, name: str) -> str | None:
        """Return a text."""
        value = self.values.get(name)
        if value is not None and (len(value) > LONGEST_TEXT or CONTROL.search(value)):
            raise wrong_filter(
                name, say("has more than {longest_text} characters, or control characters", longest_text=LONGEST_TEXT)
            )
        return value

    def number(self, name: str) -> int | None:
        """Return a number from 1 on."""
        value = self.values.get(name)
        if value is None:
            return None
        number = read_number(value, self._language)
        if not isinstance(number, int) or not 1 <= number <= LARGEST_ID:
            raise wrong_filter(name, say("is {value!r}; give a whole number from 1 on", value=value[:_LONGEST_SHOWN]))
        return number

    def day(self, name: str) -> date | None:
        """Return a day."""
        value = self.values.get(name)
        day = None if value is None else read_day(value)
        if day is None and value is not None:
            raise wrong_filter(name, say("is {value!r}; give a day such as 2026-03-02", value=value[:_LONGEST_SHOWN]))
        return day

    def choice(self, name: str, choices: Collection[str]) -> str | None:
        """Return one of some words."""
        value = self.values.get(name)
        if value is not None and value not in choices:
            raise wrong_filter(
                name,
                say("is {value!r}; give one of: {choices:s}", value=value[:_LONGEST_SHOWN], choices=", ".join(choices)),
            )
        return value


def address(path: str, values: dict[str, Any]) -> str:
    """Return a path with the filters that are given: those with a value."""
    query = urlencode({name: value for name, value in values.items() if value is not None})
    return f"{path}?{query}" if query else path


def wrong_filter(name: str, detail: str) -> ValidationException:
    """Return the error of a filter."""
    return ValidationException(f"{name}: {detail}", extra=[{"key": name, "message": detail}])
