"""The texts of the pages in a language: the catalogue, numbers, dates and times.

The catalogues are `catalogues/*.po`, and for the sentences that the other rooms make `catalogues/sentences/*.po`. They
are read when the first page is asked for in their language. `make catalogue` updates them.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zap.pages.sentences import Sentences

if TYPE_CHECKING:
    from babel.messages.catalog import Catalog
    from babel.support import NullTranslations

_CATALOGUES = Path(__file__).with_name("catalogues")
# What is shown where a value is missing.
NOTHING = "–"


def marked(text: str) -> str:
    """Mark a text in Python for the catalogue. The template translates it: `{{ _(text) }}`."""
    return text


class Texts:
    """Write texts, numbers, dates and times in one language. Templates have the methods as filters of their names.

    Args:
        language: `en` or `uk`.
    """

    def __init__(self, language: str) -> None:
        # Imported here, because a process that shows no page does not need Babel.
        from babel import Locale, dates  # noqa: PLC0415

        self.language = language
        self.translations = _translations(_read(_CATALOGUES, language))
        self._locale = Locale(language)
        self._dates = dates
        symbols = self._locale.number_symbols["latn"]
        self._signs = str.maketrans({",": symbols["group"], ".": symbols["decimal"], "-": "−"})
        self._percent = "%" if language == "en" else "\N{NO-BREAK SPACE}%"
        self._sentences = self._read_sentences()

    def filters(self) -> dict[str, Callable[..., str | None]]:
        """Return the filters of templates by name."""
        return {
            "number": self.number,
            "plain": self.plain,
            "percent": self.percent,
            "signed": self.signed,
            "day": self.day,
            "utc_day": self.utc_day,
            "moment": self.moment,
            "ago": self.ago,
            "seconds": self.seconds,
            "said": self.said,
            "noted": self.noted,
        }

    def _read_sentences(self) -> Sentences | None:
        catalogue = _read(_CATALOGUES / "sentences", self.language)
        if catalogue is None:
            return None
        # Imported here, because its texts are marked with a function of this module.
        from zap.pages.data_words import FIELD_WORDS  # noqa: PLC0415

        features = {name: self.translations.gettext(text) % () for name, text in FIELD_WORDS.items() if name}
        return Sentences(catalogue, _translations(catalogue), lambda number: number.translate(self._signs), features)

    def said(self, text: str) -> str:
        """Return a text that zap has said in English, in this language. Only for texts that no person has written."""
        return text if self._sentences is None else self._sentences.said(text)

    def noted(self, text: str | None) -> str | None:
        """Return a note in this language if zap has written it, and a note of a person as it is."""
        return text if self._sentences is None or text is None else self._sentences.noted(text)

    def number(self, value: float | None, decimals: int = 0) -> str:
        """Return a number with its decimals, such as 1,234.50."""
        return NOTHING if value is None else f"{value:,.{decimals}f}".translate(self._signs)

    def plain(self, value: Any) -> str:
        """Return a number with as few decimals as it needs, as a form shows it."""
        if value is None:
            return NOTHING
        if not isinstance(value, int | float):
            # Another program has stored it.
            return str(value)
        return self.number(value) if float(value).is_integer() else f"{value:g}".translate(self._signs)

    def signed(self, value: float | None, decimals: int = 0) -> str:
        """Return a number with its sign, also +."""
        return NOTHING if value is None else f"{value:+,.{decimals}f}".translate(self._signs)

    def percent(self, share: float | None, decimals: int = 0) -> str:
        """Return a share (0 to 1) in percent."""
        return NOTHING if share is None else self.number(100 * share, decimals) + self._percent

    def day(self, day: date | str | None) -> str:
        """Return a day, such as 3 Nov 2026. A text is a day or a moment in ISO 8601."""
        if day is None:
            return NOTHING
        if isinstance(day, str):
            day = datetime.fromisoformat(day)
        return self._dates.format_date(day, "d MMM y", locale=self._locale)

    def utc_day(self, seconds: float) -> str:
        """Return the day of a moment in seconds since 1970."""
        return self.day(datetime.fromtimestamp(seconds, UTC).date())

    def moment(self, moment: datetime | None) -> str:
        """Return a moment as it is stored, to the minute."""
        return NOTHING if moment is None else self._dates.format_datetime(moment, "d MMM y, HH:mm", locale=self._locale)

    def ago(self, moment: datetime | None) -> str:
        """Return how long ago a moment (UTC) was, such as "3 hours ago"."""
        if moment is None:
            return NOTHING
        passed = moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)
        return self._dates.format_timedelta(min(passed, timedelta(seconds=-1)), add_direction=True, locale=self._locale)

    def seconds(self, seconds: float | None) -> str:
        """Return a length of time, such as "14 minutes"."""
        if seconds is None:
            return NOTHING
        return self._dates.format_timedelta(timedelta(seconds=seconds), threshold=1.5, locale=self._locale)


@cache
def texts_in(language: str) -> Texts:
    """Return the texts in a language."""
    return Texts(language)


def _read(folder: Path, language: str) -> "Catalog | None":
    """Return the catalogue of a language. English is the language of the texts, so it has no catalogue."""
    from babel.messages.pofile import read_po  # noqa: PLC0415

    if language == "en":
        return None
    with (folder / f"{language}.po").open("rb") as file:
        return read_po(file, locale=language)


def _translations(catalogue: "Catalog | None") -> "NullTranslations":
    """Return the translations of a catalogue."""
    from babel.messages.mofile import write_mo  # noqa: PLC0415
    from babel.support import NullTranslations, Translations  # noqa: PLC0415

    if catalogue is None:
        return NullTranslations()
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return Translations(compiled)
