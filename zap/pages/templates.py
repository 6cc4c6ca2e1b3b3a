"""The templates of the pages: Jinja, with everything escaped, and with an error for every unknown name."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any

from zap import __version__
from zap.pages import figures, words
from zap.pages.assets import assets_digest
from zap.pages.reader import LANGUAGES, Reader
from zap.pages.texts import texts_in

if TYPE_CHECKING:
    from jinja2 import Environment

    from zap.pages.compiled import CompiledTemplates

_FOLDER = Path(__file__).parent
_PAUSE_SECONDS = 0.01


def rendered(reader: Reader, template: str, values: Mapping[str, Any]) -> bytes:
    """Return a page for its reader. It takes milliseconds, so call it in a thread."""
    page = environment(reader.language).get_template(template)
    assets = f"{reader.prefix}/pages/assets/{assets_digest()}"
    text: str = page.render(reader=reader, path=reader.path, assets=assets, **values)
    # A row of another program may have half of a surrogate pair, which UTF-8 does not have.
    return text.encode(errors="replace")


def prepare(stopped: Callable[[], bool] = lambda: False) -> None:
    """Compile all templates, so that the first person who looks does not wait for it. It takes half a second of a core.

    It pauses after each template, because the event loop answers requests meanwhile.

    Args:
        stopped: whether to stop.
    """
    for language in LANGUAGES:
        made = environment(language)
        for template in made.list_templates(extensions=["html"]):
            if stopped():
                return
            made.get_template(template)
            sleep(_PAUSE_SECONDS)


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
        # All environments have the code of one compilation. Constants are not computed in it, because filters write
        # them in a language.
        optimized=False,
        bytecode_cache=_compiled(),
        # Of each template that was compiled.
        cache_size=-1,
        extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
    )
    made.install_gettext_translations(texts.translations, newstyle=True)  # type: ignore[attr-defined] # of the extension
    made.filters.update(texts.filters())
    made.globals.update(version=__version__, languages=LANGUAGES, figures=figures, words=words)
    return made


@cache
def _compiled() -> "CompiledTemplates":
    from zap.pages.compiled import CompiledTemplates  # noqa: PLC0415

    return CompiledTemplates()
