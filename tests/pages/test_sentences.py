"""zap's English sentences in Ukrainian: each is found again by its template, and its values stay."""

import time
from pathlib import Path
from string import Formatter

import pytest
from babel.messages.pofile import read_po

import zap.pages
from zap.pages.texts import texts_in
from zap.sentences import say, say_many

CATALOGUE = Path(zap.pages.__file__).parent / "catalogues" / "sentences" / "uk.po"
SPACE = "\N{NO-BREAK SPACE}"


def said(text):
    return texts_in("uk").said(text)


def catalogue():
    with CATALOGUE.open("rb") as file:
        return [one for one in read_po(file, locale="uk") if one.id]


def value_of(name, spec, conversion, *, is_known):
    """Return a value for a template, and how it is written in Ukrainian."""
    if spec == "s" or conversion:
        return "Xy", "'Xy'" if conversion else "Xy"
    if not spec and not is_known and name != "n":
        return "Xy", "Xy"
    value = 1234 if spec.endswith(("d", ",")) or not spec else 0.25
    return value, format(value, spec).replace(",", SPACE).replace(".", ",").replace("%", f"{SPACE}%")


@pytest.mark.parametrize("message", catalogue(), ids=lambda one: str(one.id)[:60])
def test_every_sentence_is_found_again(message):
    one, many = message.id if message.pluralizable else (message.id, None)
    fields = [(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(many or one) if name]
    # A sentence that begins with a value, or has few words, is found only if it has a value that is known.
    fixed = "".join(literal for literal, *_ in Formatter().parse(one))
    is_known = (many or one).startswith("{") or sum(map(str.isalpha, fixed)) < 8
    values = {field[0]: value_of(*field, is_known=is_known) for field in fields}
    english = {name: value for name, (value, _) in values.items()}
    text = say_many(one, many, english.pop("n"), **english) if many else say(one, **english)

    # The second form of a plural is for 1,234 things.
    string = message.string[1] if many else message.string
    assert said(text) == string.format(**{name: shown for name, (_, shown) in values.items()})


@pytest.mark.parametrize(
    ("english", "ukrainian"),
    [
        ("is -5; must be 0 to 100 %", f"значення −5; має бути від 0 до 100{SPACE}%"),
        (
            "started by zap: the newest training, run 3, began 21 days ago",
            "почав zap: найновіше навчання, 3, почалося 21 день тому",
        ),
        (
            "For Level 2: the driver's last 5 sessions used Level 2 (usual: 26 % of all sessions)",
            f"За Level 2: останні 5 сесій водія були на Level 2 (зазвичай: 26{SPACE}% усіх сесій)",
        ),
        (
            "For Level 2: of all sessions, 44 % used Level 2 and 26 % used Level 1",
            f"За Level 2: з усіх сесій 44{SPACE}% були на Level 2, а 26{SPACE}% — на Level 1",
        ),
        (
            "must be one of always, if_better, trial, running",
            "має бути одне з: always, if_better, trial, running",
        ),
        (
            "hour: up to 5 had 10% of the drivers in training, and has 60% of 1,200 drivers in the newest week",
            f"Година дня: до 5 — у навчанні 10{SPACE}% водіїв, а в найновішому тижні 60{SPACE}% (водіїв: 1{SPACE}200)",
        ),
        (
            "null is not accepted: the training history of this model has no missing values",
            "порожнє значення (null) не приймається: історія, на якій навчено цю модель, не має пропущених значень",
        ),
        (
            "Training run 4 failed: the training was cancelled; the version in production is unchanged.",
            "Навчання 4 зазнало невдачі: навчання скасовано; версія, яка працює, не змінилася.",
        ),
    ],
)
def test_sentences_within_sentences(english, ukrainian):
    assert said(english) == ukrainian


@pytest.mark.parametrize(
    "note",
    [
        "a look",
        "Anna says: better than before, and cheaper",
        "5 of us",
        "is it good?",
        "",
        # These look like sentences about a number of things, but have no such number.
        "1.5 errors: the charge and the distance",
        "5% types (Level 2)",
        "the newest training, run 3, began 1.5 days ago",
        "the driver's last few sessions used Level 2",
    ],
)
def test_the_note_of_a_person_stays(note):
    assert texts_in("uk").noted(note) == note


@pytest.mark.parametrize(
    "text",
    [
        "For a is b and c, and d: " * 100,
        "is a and " * 500,
        "5 " * 2_000,
        "version 1: " * 30,
        "1 of 1 and 2, and " * 200,
        # Another program has stored it.
        "must be 0 to 5; is 'x'; must be one of a: " * 20_000,
    ],
)
def test_no_text_takes_long(text):
    begin = time.process_time()
    said(text)

    assert time.process_time() - begin < 1
