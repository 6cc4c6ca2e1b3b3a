"""The texts of the pages and the sentences of zap: each is marked, is in its catalogue, and has a translation."""

import re
from pathlib import Path
from string import Formatter

import pytest
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po
from jinja2 import Environment

import zap.pages

FOLDER = Path(zap.pages.__file__).parent
TEMPLATES = [path for path in FOLDER.glob("*.html") if path.name != "manual.html"]
KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2), "marked": None}
# The sentences of all rooms.
SAID = {"say": None, "say_many": (1, 2), "phrase": None}
# Names that are the same in every language.
NAMES = {"zap", "CSV", "SVG", "PNG", "UTC"}
SPOKEN = r'\b(?:title|alt|aria-label|placeholder)="([^"]*)"'


def texts_of(path, keywords):
    method = "jinja2.ext.babel_extract" if path.suffix == ".html" else "python"
    for _, text, _, _ in extract_from_file(method, path, keywords=keywords, options={"trimmed": "false"}):
        yield text[0] if isinstance(text, tuple) else text


@pytest.fixture(scope="module", params=["pages", "sentences"])
def catalogue(request):
    """Return a catalogue by its texts, and as the attribute `used` the texts in the code."""
    if request.param == "pages":
        file, paths, keywords = "uk.po", [*TEMPLATES, *FOLDER.glob("*.py")], KEYWORDS
    else:
        file, paths, keywords = "sentences/uk.po", FOLDER.parent.rglob("*.py"), SAID
    with (FOLDER / "catalogues" / file).open("rb") as opened:
        found = {one.id[0] if one.pluralizable else one.id: one for one in read_po(opened, locale="uk") if one.id}
    return Catalogue(found, {text for path in paths for text in texts_of(path, keywords)})


class Catalogue(dict):
    def __init__(self, found, used):
        super().__init__(found)
        self.used = used


def test_every_text_is_in_the_catalogue_and_translated(catalogue):
    used = catalogue.used

    assert len(used) > 300
    assert used - set(catalogue) == set(), "run: make catalogue"
    assert set(catalogue) - used == set(), "run: make catalogue"
    for text, one in catalogue.items():
        given = one.string if one.pluralizable else (one.string,)
        assert all(given), f"{text!r} has no translation"
        assert len(given) == (3 if one.pluralizable else 1)
        assert not one.fuzzy


def test_a_translation_has_the_placeholders_of_its_text(catalogue):
    for text, one in catalogue.items():
        for given in one.string if one.pluralizable else (one.string,):
            assert sorted(re.findall(r"%\(\w+\)s|%%", given)) == sorted(re.findall(r"%\(\w+\)s|%%", text)), text
            assert values_in(given) <= values_in(text), text
            assert not any(spec or conversion for _, _, spec, conversion in parsed(given)), text


def parsed(text):
    # A pattern of the pages, such as %(n)s, has no braces.
    return list(Formatter().parse(text))


def values_in(text):
    return {name for _, name, _, _ in parsed(text) if name}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_no_template_has_a_text_that_is_not_marked(path):
    tokens = Environment(extensions=["jinja2.ext.i18n", "jinja2.ext.do"]).lex(path.read_text())
    # What Jinja computes becomes a mark, so that attributes around it stay whole.
    html, inside = "", False
    for _, kind, text in tokens:
        inside = (inside or kind.endswith("_begin")) and not kind.endswith("_end")
        html += text if kind == "data" else "\0" if kind.endswith("_end") else ""
    said = re.findall(SPOKEN, html) + re.sub(r"<[^>]*>", "\n", html).splitlines()
    words = {word for one in said for word in re.findall(r"[^\W\d_]{2,}", one)}

    assert words - NAMES == set()
