"""Numbers in forms: each language reads what its pages show."""

import pytest

from zap.pages.fields import read_number
from zap.pages.texts import texts_in

SPACE = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("text", "language", "number"),
    [
        ("0,5", "uk", 0.5),
        ("0.5", "uk", 0.5),
        (f"1{SPACE}234,5", "uk", 1234.5),
        ("1 234", "uk", 1234),
        ("1\N{NARROW NO-BREAK SPACE}000\N{NARROW NO-BREAK SPACE}000", "uk", 1_000_000),
        ("1,234", "uk", 1.234),
        ("\N{MINUS SIGN}5,5", "uk", -5.5),
        ("1,234", "en", 1234),
        ("12,345.5", "en", 12345.5),
        ("1,5", "en", 1.5),
        ("0,2", "en", 0.2),
        ("-1", "en", -1),
        (" 7 ", "uk", 7),
        ("1e-3", "en", 0.001),
    ],
)
def test_a_number_is_read_as_the_language_writes_it(text, language, number):
    assert read_number(text, language) == number
    assert type(read_number(text, language)) is type(number)


@pytest.mark.parametrize(
    "text",
    ["", "much", "1 2", "1.234,5", "1,2,3", "12 34", "1_000", "nan", "inf", "1e999", "٣", "9" * 41, "--1", "0x1"],
)
@pytest.mark.parametrize("language", ["en", "uk"])
def test_what_is_no_number_stays_as_it_was_typed(text, language):
    assert read_number(text, language) == text


@pytest.mark.parametrize("number", [0, 7, 0.05, 30.5, -1, -12.25, 1_000_000, 10_000, 1234.5, 2**31 - 1])
@pytest.mark.parametrize("language", ["en", "uk"])
def test_what_a_form_shows_is_read_again(number, language):
    assert read_number(texts_in(language).plain(number), language) == number
