"""What can be pressed on the pages: the forms, the buttons, and the links that look like buttons.

Each has a name: `POST /pages/models/#/promote` for a form, `plot csv` for a button of a script, and `Promote ->
/pages/models/#/promote` for a link. Numbers and the ids of keys are written as #.
"""

import re
from pathlib import Path

import zap.pages

_TEMPLATES = Path(zap.pages.__file__).parent
_TAG = re.compile(
    r'<figure class="(?P<figure>\w+)'
    r"|<form\b(?P<form>[^>]*)>"
    r'|<button\b(?P<button>[^>]*type="button"[^>]*)>'
    r'|<a\b(?P<link>[^>]*class="button\b[^>]*)>(?P<label>.*?)</a>',
    re.DOTALL,
)
_LABEL = re.compile(r'_\("([^"]*)"')
# The name of the control that is an element, as `in_templates` writes it.
_NAME = """(one) => {
  const plain = (text) => text.replace(/^[←→\\s]+|[←→\\s]+$/g, "");
  const kind = (text) => plain(text).replace(/(?<=^.pages.keys.)[^/]+/, "#").replace(/[0-9]+/g, "#");
  const { copy, save } = one.dataset;
  if (copy !== undefined) return "copy";
  if (save !== undefined) return `${one.closest("figure").classList[0]} ${save}`;
  // Fields of a form may be named `id` and `action` too.
  const form = (name) => one.form.getAttribute(name);
  if (one.form && form("id")) return `#${form("id")}`;
  if (one.form) return `${form("method").toUpperCase()} ${kind(new URL(form("action"), location).pathname)}`;
  return `${kind(one.textContent)} -> ${kind(new URL(one.href).pathname)}`;
}"""
_LINKS = f"""() => [...document.querySelectorAll("a.button")].map((one) => [({_NAME})(one), one.href])"""


def in_templates():
    """Return the names of all controls in the templates. The address of a link is * where its template computes it."""
    return {name for file in _TEMPLATES.glob("*.html") for name in _names(file.read_text(encoding="utf-8"))}


def _names(template):
    figure = ""
    for found in _TAG.finditer(re.sub(r"\{#.*?#\}", "", template, flags=re.DOTALL)):
        if found["figure"]:
            figure = found["figure"]
        elif found["form"] is not None:
            yield from _forms(found["form"])
        elif found["button"]:
            save = re.search(r'data-save="(\w+)"', found["button"])
            yield f"{figure} {save[1]}" if save else "copy"
        elif found["link"]:
            kinds = [_kind(one) for one in re.findall(r'"(/[^"]*)"', found["link"])] or ["*"]
            labels = [re.sub(r"%\(\w+\)s|[0-9]+", "#", one) for one in _LABEL.findall(found["label"])]
            yield from (f"{label} -> {kind}" for label in labels for kind in kinds)


def _forms(tag):
    if identity := re.search(r'id="(\w+)"', tag):
        yield f"#{identity[1]}"
        return
    method = re.search(r'method="(\w+)"', tag)
    yield from (f"{method[1].upper()} {_kind(one)}" for one in re.findall(r'"(/[^"]+)"', tag))


def _kind(path):
    return path.partition("?")[0].replace("%d", "#").replace("/keys/%s", "/keys/#")


def name_of(control):
    """Return the name of a control of an open page, a locator."""
    return control.evaluate(_NAME)


def links_on(page):
    """Return the names of the links that look like buttons on an open page, and their addresses."""
    return dict(page.evaluate(_LINKS))


def never_pressed(pressed):
    """Return the controls of the templates that are not among the pressed ones."""
    anywhere = {f"{one.partition(' -> ')[0]} -> *" for one in pressed if " -> " in one}
    return in_templates() - {*pressed} - anywhere
