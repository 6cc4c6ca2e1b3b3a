"""The templates are compiled once, before the first person looks, and for all languages."""

import threading

import pytest
from jinja2 import Environment

from zap.pages import templates, texts


@pytest.fixture
def compiled(monkeypatch):
    """Return the list of the templates that are compiled, in environments of their own."""
    found, compile_ = [], Environment.compile
    for made in (templates.environment, templates._compiled):
        made.cache_clear()
    monkeypatch.setattr(templates, "_PAUSE_SECONDS", 0)
    monkeypatch.setattr(
        Environment,
        "compile",
        lambda self, source, name=None, *more: found.append(name) or compile_(self, source, name, *more),
    )
    return found


def test_each_template_is_compiled_once_for_all_languages(compiled):
    templates.prepare()

    assert sorted(compiled) == sorted(path.name for path in templates._FOLDER.glob("*.html"))
    english, ukrainian = (
        templates.environment(one).from_string("{{ 0.5 | number(1) }}").render() for one in ("en", "uk")
    )
    assert (english, ukrainian) == ("0.5", "0,5")


def test_a_process_that_stops_prepares_no_more(compiled):
    templates.prepare(lambda: bool(compiled))

    assert len(compiled) == 1


def test_the_event_loop_reads_no_catalogue(sqlite_client, monkeypatch):
    readers = set()

    class Texts(texts.Texts):
        def __init__(self, language):
            readers.add(threading.current_thread().name.partition("_")[0])
            super().__init__(language)

    monkeypatch.setattr(texts, "Texts", Texts)
    for page in ("/pages/trainings", "/pages/models/1/trial"):
        texts.texts_in.cache_clear()
        assert sqlite_client.get(page).status_code == 200

    assert readers == {"pages"}


def test_a_server_prepares_its_pages(sqlite_client):
    templates.environment.cache_clear()
    with sqlite_client.portal() as portal:
        portal.call(sqlite_client.app.on_startup[-1], sqlite_client.app)

    pool = sqlite_client.app.state.page_threads
    pool.close()

    assert "quality.html" in [name for _, name in templates.environment("uk").cache]
