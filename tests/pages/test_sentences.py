"""zap's English sentences in Ukrainian: each is found again by its template, and its values stay."""

from datetime import datetime
from pathlib import Path
from string import Formatter

import pytest
from babel.messages.pofile import read_po

import zap.pages
from zap.formats.json_body import wrong_number, wrong_session_time, wrong_text
from zap.ml.features import NUMBERS
from zap.ml.verdict import verdict_in_words
from zap.pages.texts import texts_in
from zap.sentences import say, say_many

CATALOGUE = Path(zap.pages.__file__).parent / "catalogues" / "sentences" / "uk.po"
SPACE = "\N{NO-BREAK SPACE}"


def said(text):
    return texts_in("uk").said(text)


def catalogue():
    with CATALOGUE.open("rb") as file:
        return [one for one in read_po(file, locale="uk") if one.id]


def filled(template):
    """Return a sentence of a template, and its values in Ukrainian. A value that is no number is unlike all words."""
    english, ukrainian = {}, {}
    for place, (_, name, spec, conversion) in enumerate(Formatter().parse(template)):
        if name is None:
            continue
        english[name] = 1234 + place if spec.endswith(("d", ",")) or name == "n" else 0.25 if spec else f"X{place}"
        shown = (
            f"{{v:{spec}}}".format(v=english[name])
            if spec
            else repr(english[name])
            if conversion
            else str(english[name])
        )
        number = shown.replace(",", SPACE).replace(".", ",").replace("%", f"{SPACE}%")
        ukrainian[name] = number if spec or name == "n" else shown
    return english, ukrainian


@pytest.mark.parametrize("message", catalogue(), ids=lambda one: str(one.id)[:60])
def test_every_sentence_is_found_again(message):
    one, many = message.id if message.pluralizable else (message.id, None)
    template = many or one
    english, ukrainian = filled(template)
    fixed = template
    for _, name, spec, conversion in Formatter().parse(template):
        fixed = fixed.replace(f"{{{name}{'!' * bool(conversion)}{conversion or ''}{':' * bool(spec)}{spec}}}", "")
    if template.startswith("{") or sum(map(str.isalpha, fixed)) < 8:
        # Such a template is found only if a value is known, such as a number.
        unknown = [name for name, value in english.items() if isinstance(value, str)]
        english |= dict.fromkeys(unknown, 7)
        ukrainian |= dict.fromkeys(unknown, "7")
    text = say_many(one, many, english.pop("n"), **english) if many else say(one, **english)
    # 1234 and so on: the Ukrainian form for four things, or for five and more.
    string = message.string[1 if ukrainian["n"][-1] in "234" else 2] if many else message.string

    assert said(text) == string.format(**ukrainian)
