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
# A number of things, which chooses the form of a sentence.
_WHOLE = re.compile(r"[0-9,]{1,20}")
# Where a sentence, or a part of it, ends in a text of several.
_END = re.compile(r"([.;,:]) ")
# What is left of a text after so many steps stays English, because the time grows fast with the parts of a text.
_MOST_STEPS = 2_000
# A longer text stays English: zap says none, so another program has stored it.
_LONGEST = 10_000
# Sentences within sentences and one after the other, together.
_DEEPEST = 50
# A template with fewer fixed letters fits other texts by chance, so one of its values must be known too.
_FEW_LETTERS = 8
_REMEMBERED = 1_000
Kind = Literal["said", "number", "text"]


class _Said(NamedTuple):
    """A text in another language.

    Attributes:
        unknown: how many letters stayed English because no template has made them.
        kept: how many letters stayed as they are because they are names and the like.
        text: the text.
    """

    unknown: int
    kept: int
    text: str

    @property
    def cost(self) -> tuple[int, int]:
        return self.unknown, self.kept


class _Template(NamedTuple):
    """A template of the catalogue.

    Attributes:
        one: the template, or the template for one thing.
        many: the template for a number of things; None without a number.
        parts: the fixed parts of the text, before, between and after the values.
        fields: the name of each value, and what it is: a sentence, a number (with a format), or a text that stays as
            it is (with the format `s`, or quoted).
        fixed: how many letters are fixed, and how many characters.
        is_short: whether the template is a part of one sentence.
    """

    one: str
    many: str | None
    parts: Sequence[str]
    fields: Sequence[tuple[str, Kind]]
    fixed: tuple[int, int]
    is_short: bool

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
        letters = _letters("".join(parts))
        is_short = letters < _FEW_LETTERS and all(kind != "number" for _, kind in fields)
        return cls(one, many, parts, fields, (letters, len("".join(parts))), is_short)

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
            if name == "n" and self.many is not None and not (_NUMBER.fullmatch(value) and _WHOLE.fullmatch(value)):
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
        # Of two readings that are equally good, the one with more fixed letters is right.
        self._templates = sorted(_templates(catalogue), key=lambda one: one.fixed, reverse=True)
        self._units = {one.one: translations.gettext(one.one) for one in self._templates if not one.fields}
        self._by_letter: dict[str, list[_Template]] = {}
        self.said = lru_cache(_REMEMBERED)(self._said)

    def _said(self, text: str) -> str:
        """Return a text of one or several sentences in the language; what has no template stays as it is."""
        return _Reading(self).read(text).text if len(text) <= _LONGEST else text

    def noted(self, text: str) -> str:
        """Return the note of a person as it is, and a sentence that zap has written as a note in the language."""
        return min([_as_it_is(text), *_Reading(self).sentences(text)], key=lambda one: one.cost).text

    def beginning(self, letter: str) -> Sequence[_Template]:
        """Return the templates whose sentences may begin with a letter."""
        if letter not in self._by_letter:
            self._by_letter[letter] = [one for one in self._templates if one.parts[0][:1] in {"", letter}]
        return self._by_letter[letter]

    def filled(self, template: _Template, values: Mapping[str, str], said: Mapping[str, _Said]) -> str:
        """Return the sentence of a template in the language.

        Args:
            template: the template.
            values: its values in English.
            said: its values in the language.
        """
        if template.many is None:
            found = self._translations.gettext(template.one)
        else:
            n = int(values["n"].replace(",", "")) if "n" in values else 1
            found = self._translations.ngettext(template.one, template.many, n)
        return found.format_map({name: one.text for name, one in said.items()})

    def amount(self, text: str) -> _Said | None:
        """Return a number, with its unit if it has one, in the language; None for another text."""
        amount, _, unit = text.partition(" ")
        found = _NUMBER.fullmatch(amount)
        if found is None or (unit not in self._units and _letters(unit) > 1):
            return None
        number = self._number(found[1]) + ("\N{NO-BREAK SPACE}%" if found[2] else "")
        return _Said(0, 0, f"{number}\N{NO-BREAK SPACE}{self._units.get(unit, unit)}" if unit else number)

    def feature(self, name: str) -> _Said | None:
        """Return the words for a feature, if there are any."""
        return _Said(0, 0, self._features[name]) if name in self._features else None


class _Reading:
    """One text as it is read, so that as little of it as possible stays English.

    Args:
        language: the sentences in a language.
    """

    def __init__(self, language: Sentences) -> None:
        self._language = language
        self._read: dict[str, _Said] = {}
        self._steps = self._depth = 0

    def read(self, text: str) -> _Said:
        """Return a text of one or several sentences."""
        if text not in self._read:
            if self._depth == _DEEPEST:
                return _as_it_is(text)
            self._depth += 1
            self._read[text] = self._best(text)
            self._depth -= 1
        return self._read[text]

    def sentences(self, text: str) -> Iterator[_Said]:
        """Yield what each template says that fits a text."""
        self._steps += 1
        if self._steps > _MOST_STEPS:
            return
        is_several = ". " in text
        for template in self._language.beginning(text[:1]):
            if (is_several and template.is_short) or (values := template.values(text)) is None:
                continue
            said = {name: self._value(name, kind, values[name]) for name, kind in template.fields}
            # A number need not change to be known.
            known = (said[name].text != one or _NUMBER.fullmatch(one) for name, one in values.items())
            if template.fixed[0] >= _FEW_LETTERS or not values or any(known):
                unknown, kept = (sum(getattr(one, what) for one in said.values()) for what in ("unknown", "kept"))
                yield _Said(unknown, kept, self._language.filled(template, values, said))

    def _best(self, text: str) -> _Said:
        amount = self._language.amount(text)
        found = [*self.sentences(text), *filter(None, [amount]), _as_it_is(text)]
        if all(one.unknown for one in found):
            found += self._several(text)
        return min(found, key=lambda one: one.cost)

    def _value(self, name: str, kind: Kind, value: str) -> _Said:
        if name == "feature" and (feature := self._language.feature(value)):
            return feature
        return _Said(0, _letters(value), value) if kind == "text" else self.read(value)

    def _several(self, text: str) -> Iterator[_Said]:
        """Yield each reading of a text as a first sentence, or an unknown first part, and what follows it."""
        for place, one in enumerate(_END.finditer(text)):
            end, begin = one.start() + (one[1] == "."), one.end()
            first = min(self.sentences(text[:end]), default=None, key=lambda one: one.cost)
            if first is None and place == 0:
                first = _as_it_is(text[:end])
            if first is not None:
                rest = self.read(text[begin:])
                joined = first.text + text[end:begin] + rest.text
                yield _Said(first.unknown + rest.unknown, first.kept + rest.kept, joined)
                if one[1] == "." and not first.unknown:
                    # A sentence that is known up to its full stop is one.
                    return


def _as_it_is(text: str) -> _Said:
    return _Said(_letters(text), 0, text)


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def _templates(catalogue: "Catalog") -> Iterator[_Template]:
    for message in catalogue:
        one, many = message.id if isinstance(message.id, tuple | list) else (message.id, None)
        for read in filter(None, (one, many)):
            yield _Template.of(read, one, many)
