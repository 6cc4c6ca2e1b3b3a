"""The templates of the pages: Jinja, with everything escaped, and with an error for every unknown name."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zap import __version__
from zap.pages import figures, words
from zap.pages.assets import assets_digest
from zap.pages.reader import LANGUAGES, Reader
from zap.pages.texts import texts_in

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).parent


def rendered(reader: Reader, template: str, values: Mapping[str, Any]) -> bytes:
    """Return a page for its reader. It takes milliseconds, so call it in a thread."""
    page = environment(reader.language).get_template(template)
    assets = f"{reader.prefix}/pages/assets/{assets_digest()}"
    text: str = page.render(reader=reader, path=reader.path, assets=assets, **values)
    # A row of another program may have half of a surrogate pair, which UTF-8 does not have.
    return text.encode(errors="replace")


@cache
def environment(language: str) -> "Environment":
    """Return the environment of the templates in a language."""
    # Imported here, because a process that shows no page does not need Jinja.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415

    texts = texts_in(language)
    made = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
    )
    made.install_gettext_translations(texts.translations, newstyle=True)  # type: ignore[attr-defined] # of the extension
    made.filters.update(texts.filters())
    made.globals.update(version=__version__, languages=LANGUAGES, figures=figures, words=words)
    return made
