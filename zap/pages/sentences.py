"""zap's English sentences in the language of a reader: reasons, alarms, errors, reports.

A sentence is plain text where it is sent and where it is stored, also in rows of earlier years. The template that has
made it is found by its fixed parts in the catalogue (`catalogues/sentences/*.po`), and what is between them are the
values. A text without a template, such as a person's note, stays as it is.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from string import Formatter
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

if TYPE_CHECKING:
    from babel.messages.catalog import Catalog
    from babel.support import NullTranslations

# A number as zap writes it in English.
_NUMBER = re.compile(r"([+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)(%?)")
# Where a sentence, or a part of it, ends in a text of several.
_END = re.compile(r"([.;,:]) ")
# What is longer, has more parts or is nested deeper stays English, because it would take too long.
_LONGEST, _MOST_PARTS, _DEEPEST = 5_000, 40, 12
# A template with fewer fixed letters fits other texts by chance.
_FEW_LETTERS = 8
_REMEMBERED = 1_000

Kind = Literal["said", "number", "text"]


class _Template(NamedTuple):
    """A template of the catalogue.

    Attributes:
        one: the template, or the template for one thing.
        many: the template for a number of things; None without a number.
        parts: the fixed parts of the text, before, between and after the values.
        fields: the name of each value, and what it is: a sentence, a number (with a format), or a text that stays as
            it is (with the format `s`, or quoted).
        letters: how many letters are fixed.
        is_sure: whether hardly any other text fits. A text that only ends with a sentence fits a template that begins
            with a value.
    """

    one: str
    many: str | None
    parts: Sequence[str]
    fields: Sequence[tuple[str, Kind]]
    letters: int
    is_sure: bool

    @classmethod
    def of(cls, read: str, one: str, many: str | None) -> Self:
        parts, fields, fixed = [], [], ""
        for literal, name, spec, conversion in Formatter().parse(read):
            fixed += literal
            if name is not None:
                kind: Kind = "text" if conversion or spec == "s" else "number" if spec else "said"
                parts.append(fixed)
                fields.append((name, kind))
                fixed = ""
        parts.append(fixed)
        letters = sum(map(str.isalpha, "".join(parts)))
        is_sure = (parts[0] != "" and letters >= _FEW_LETTERS) or all(kind == "number" for _, kind in fields)
        return cls(one, many, parts, fields, letters, is_sure)

    def values(self, text: str) -> dict[str, str] | None:
        """Return the values in a text that the template has made; None for another text."""
        first, last = self.parts[0], self.parts[-1]
        if not self.fields:
            return {} if text == first else None
        if not (text.startswith(first) and text.endswith(last)):
            return None
        begin, end = len(first), len(text) - len(last)
        values: dict[str, str] = {}
        for place, (name, kind) in enumerate(self.fields, 1):
            stop = end if place == len(self.fields) else text.find(self.parts[place], begin, end)
            value = text[begin:stop]
            if stop <= begin or values.setdefault(name, value) != value:
                return None
            if kind == "number" and not _NUMBER.fullmatch(value):
                return None
            begin = stop + len(self.parts[place])
        return values


class Sentences:
    """Say zap's sentences in another language.

    Args:
        catalogue: the templates.
        translations: their translations, in which the values have no formats.
        number: writes an English number in the language.
        features: the words for the names of features. Only a value with the name `feature` is one.
    """

    def __init__(
        self,
        catalogue: "Catalog",
        translations: "NullTranslations",
        number: Callable[[str], str],
        features: Mapping[str, str],
    ) -> None:
        self._translations, self._number, self._features = translations, number, features
        # What was read already is not read again, also within one text: else its time might double with each part.
        self._known = lru_cache(_REMEMBERED)(self._read)
        # Of several templates that fit a text, the one with the most fixed letters has made it.
        self._templates = sorted(
            _templates(catalogue), key=lambda one: (one.letters, sum(map(len, one.parts))), reverse=True
        )
        self._units = {one.one: translations.gettext(one.one) for one in self._templates if not one.fields}
        self._by_letter: dict[str, list[_Template]] = {}

    def said(self, text: str) -> str:
        """Return a text of one or several sentences in the language; what has no template stays as it is."""
        return self._known(text, 0) or text

    def noted(self, text: str) -> str:
        """Return the note of a person as it is, and a sentence that zap has written as a note in the language."""
        return self._sentence(text, 0, is_sure=True) or self._sentence(text, 0, is_sure=False) or text

    def _read(self, text: str, depth: int) -> str | None:
        """Return a text in the language; None if no part of it has a template or is a number."""
        if len(text) > _LONGEST or depth > _DEEPEST:
            return None
        return (
            self._sentence(text, depth, is_sure=True)
            or self._amount(text)
            or self._several(text, depth, is_sure=True)
            or self._sentence(text, depth, is_sure=False)
            or self._several(text, depth, is_sure=False)
            or self._end(text, depth)
        )

    def _sentence(self, text: str, depth: int, *, is_sure: bool) -> str | None:
        """Return the sentence of a template: of one that is sure, or of another one with a value that is known."""
        for template in self._beginning(text[:1]):
            if template.is_sure == is_sure and (values := template.values(text)) is not None:
                kinds = dict(template.fields)
                known = {name: self._value(name, kinds[name], one, depth + 1) for name, one in values.items()}
                if is_sure or any(known.values()):
                    return self._filled(template, values, {name: one or values[name] for name, one in known.items()})
        return None

    def _value(self, name: str, kind: Kind, value: str, depth: int) -> str | None:
        if kind == "text":
            return self._features.get(value) if name == "feature" else None
        return self._known(value, depth)

    def _beginning(self, letter: str) -> Sequence[_Template]:
        """Return the templates whose sentences may begin with a letter."""
        if letter not in self._by_letter:
            self._by_letter[letter] = [one for one in self._templates if one.parts[0][:1] in {"", letter}]
        return self._by_letter[letter]

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
        if found is None or (unit and unit not in self._units and any(map(str.isalpha, unit[1:]))):
            return None
        number = self._number(found[1]) + ("\N{NO-BREAK SPACE}%" if found[2] else "")
        return f"{number}\N{NO-BREAK SPACE}{self._units.get(unit, unit)}" if unit else number

    def _several(self, text: str, depth: int, *, is_sure: bool) -> str | None:
        """Return a text of several sentences or parts, of which the first is known. It is the longest known one."""
        for end, begin in reversed(_ends(text)):
            if (first := self._sentence(text[:end], depth, is_sure=is_sure)) is not None:
                return first + text[end:begin] + (self._known(text[begin:], depth + 1) or text[begin:])
        return None

    def _end(self, text: str, depth: int) -> str | None:
        """Return a text whose first part is not known, and another part is."""
        for _, begin in _ends(text)[:1]:
            if (rest := self._known(text[begin:], depth + 1)) is not None:
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
