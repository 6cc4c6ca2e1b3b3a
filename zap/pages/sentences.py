"""zap's English sentences in the language of a reader: reasons, alarms, errors, reports.

A sentence is plain text where it is sent and where it is stored, also in the rows of years ago. Its template in the
catalogue (`catalogues/sentences/*.po`) tells which parts of the text are fixed and which are values, so the template
that has made a sentence is found by its fixed parts. A text without a template, such as a person's note, stays as it
is.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from string import Formatter
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from babel.messages.catalog import Catalog
    from babel.support import NullTranslations

# A number as zap writes it in English.
_NUMBER = re.compile(r"([+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)(%?)")
# Where a sentence, or a part of it, ends in a text of several.
_END = re.compile(r"([.;,:]) ")
# Longer texts, and texts of more parts, stay English, because the time for them grows with the square.
_LONGEST, _MOST_PARTS = 5_000, 40
# A template with fewer letters fits many texts by chance, so one of its values must be known too.
_FEW_LETTERS = 8
_REMEMBERED = 1_000


@dataclass(frozen=True)
class _Template:
    """A template of the catalogue.

    Attributes:
        one: the template, or the template for one thing.
        many: the template for a number of things; None without a number.
        parts: the fixed parts of the text, before, between and after the values.
        fields: the name of each value, and whether it is a number.
    """

    one: str
    many: str | None
    parts: Sequence[str]
    fields: Sequence[tuple[str, bool]]

    @classmethod
    def of(cls, read: str, one: str, many: str | None) -> Self:
        parts, fields, fixed = [], [], ""
        for literal, name, spec, _ in Formatter().parse(read):
            fixed += literal
            if name is not None:
                parts.append(fixed)
                fields.append((name, bool(spec)))
                fixed = ""
        return cls(one, many, [*parts, fixed], fields)

    @property
    def is_sure(self) -> bool:
        """Return whether hardly any other text fits the template."""
        return self.fixed[0] >= _FEW_LETTERS or all(is_number for _, is_number in self.fields)

    @property
    def fixed(self) -> tuple[int, int]:
        """Return how many letters the text always has, and how many characters."""
        fixed = "".join(self.parts)
        return sum(map(str.isalpha, fixed)), len(fixed)

    def values(self, text: str) -> dict[str, str] | None:
        """Return the values in a text that the template has made; None for another text."""
        first, *others = self.parts
        if not others:
            return {} if text == first else None
        if not (text.startswith(first) and text.endswith(others[-1])):
            return None
        begin, end = len(first), len(text) - len(others[-1])
        values: dict[str, str] = {}
        for place, (name, is_number) in enumerate(self.fields, 1):
            fixed = self.parts[place]
            stop = text.find(fixed, begin, end) if place < len(self.fields) else end
            value = text[begin:stop]
            if stop <= begin or values.setdefault(name, value) != value:
                return None
            if is_number and not _NUMBER.fullmatch(value):
                return None
            begin = stop + len(fixed)
        return values


class Sentences:
    """Say zap's sentences in another language.

    Args:
        catalogue: the templates.
        translations: their translations, in which the values have no formats.
        number: writes an English number in the language.
    """

    def __init__(self, catalogue: "Catalog", translations: "NullTranslations", number: Callable[[str], str]) -> None:
        self._translations, self._number = translations, number
        # What was read already is not read again, also within one text: else its time might double with each part.
        self._known = lru_cache(_REMEMBERED)(self._read)
        # Of several templates that fit a text, the one with the most letters that are fixed has made it.
        self._templates = sorted(_templates(catalogue), key=lambda one: one.fixed, reverse=True)
        self._by_start: dict[str, list[_Template]] = {}

    def said(self, text: str) -> str:
        """Return a text of one or several sentences in the language; what has no template stays as it is."""
        return self._known(text) or text

    def noted(self, text: str) -> str:
        """Return the note of a person as it is, and a sentence that zap has written as a note in the language."""
        return self._sentence(text, is_sure=True) or self._sentence(text, is_sure=False) or text

    def _read(self, text: str) -> str | None:
        """Return a text in the language; None if no part of it has a template or is a number."""
        if len(text) > _LONGEST:
            return None
        return (
            self._sentence(text, is_sure=True)
            or self._amount(text)
            or self._several(text)
            or self._sentence(text, is_sure=False)
            or self._end(text)
        )

    def _sentence(self, text: str, *, is_sure: bool) -> str | None:
        """Return the sentence of a template: of one that is sure, or of one that fits many texts."""
        for template in self._beginning(text[:1]):
            if template.is_sure == is_sure and (values := template.values(text)) is not None:
                known = {name: self._known(value) for name, value in values.items()}
                if is_sure or any(known.values()):
                    return self._filled(template, values, {name: one or values[name] for name, one in known.items()})
        return None

    def _beginning(self, letter: str) -> Sequence[_Template]:
        """Return the templates whose sentences may begin with a letter."""
        if letter not in self._by_start:
            self._by_start[letter] = [one for one in self._templates if one.parts[0][:1] in {"", letter}]
        return self._by_start[letter]

    def _filled(self, template: _Template, values: Mapping[str, str], said: Mapping[str, str]) -> str:
        if template.many is None:
            found = self._translations.gettext(template.one)
        else:
            n = int(values["n"].replace(",", "")) if "n" in values else 1
            found = self._translations.ngettext(template.one, template.many, n)
        return found.format_map(said)

    def _amount(self, text: str) -> str | None:
        """Return a number, with its unit if it has one, in the language."""
        amount, _, unit = text.partition(" ")
        found = _NUMBER.fullmatch(amount)
        said = self._known(unit) if any(map(str.isalpha, unit)) else unit
        if found is None or said is None:
            return None
        number = self._number(found[1]) + ("\N{NO-BREAK SPACE}%" if found[2] else "")
        return f"{number}\N{NO-BREAK SPACE}{said}" if said else number

    def _several(self, text: str) -> str | None:
        """Return a text of several sentences or parts, of which the first is sure. It is the longest known one."""
        for end, begin in reversed(_ends(text)):
            if (first := self._sentence(text[:end], is_sure=True)) is not None:
                return first + text[end:begin] + self.said(text[begin:])
        return None

    def _end(self, text: str) -> str | None:
        """Return a text whose first part is not known, and another part is."""
        for _, begin in _ends(text)[:1]:
            if (rest := self._known(text[begin:])) is not None:
                return text[:begin] + rest
        return None


def _ends(text: str) -> list[tuple[int, int]]:
    """Return where each part of a text ends, and where the next one begins; nothing for too many parts."""
    ends = [(one.start() + (one[1] == "."), one.end()) for one in _END.finditer(text)]
    return ends if len(ends) <= _MOST_PARTS else []


def _templates(catalogue: "Catalog") -> Iterator[_Template]:
    for message in catalogue:
        one, many = message.id if isinstance(message.id, tuple | list) else (message.id, None)
        for read in filter(None, (one, many)):
            yield _Template.of(read, one, many)
