"""The page of the audit: who changed what, with filters, in both languages."""

import ast
import html
import re
from pathlib import Path

import zap
from zap.actor import ACTOR, Actor
from zap.db.audit import note
from zap.db.engine import write_transaction
from zap.pages import audit
from zap.pages.audit import changes
from zap.pages.words import CHANGE_WORDS

PAGE = "/pages/audit"


def add(engine, action, subject, who="ann", **values):
    present = ACTOR.set(Actor(who, "203.0.113.9"))
    with write_transaction(engine) as connection:
        note(connection, action, subject, **values)
    ACTOR.reset(present)


def said(page):
    """Return the texts of a page, without tags."""
    assert page.status_code == 200
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page.text)))


def test_it_shows_what_has_changed_and_finds_it(untrained_client, monkeypatch):
    client, engine = untrained_client, untrained_client.app.state.engine
    assert "Nothing was changed yet." in said(client.get(PAGE))
    why = "<b>more</b> trees"
    add(engine, "version.promote", "version 2", before={"production": 1}, after={"production": 2, "why": why})
    add(engine, "plugin.odd", "it <i>self</i>", who="bob", before={"gone": "x" * 400, "same": 1}, after={"same": 1})

    shown = client.get(PAGE)
    text = said(shown)
    assert "version promoted version 2 production : 1 → 2 why : <b>more</b> trees" in text
    # What no word is known for is shown as it is stored.
    assert f"plugin.odd it <i>self</i> gone : {'x' * 300}…" in text
    assert "same" not in text
    assert "<b>more" not in shown.text
    assert "The audit has 2 rows. The newest hash:" in text
    assert re.search(r'<time datetime="\d{4}-[^"]+Z"', shown.text)

    assert "version 2" not in said(client.get(PAGE, params={"who": "bob"}))
    assert "plugin.odd" not in said(client.get(PAGE, params={"action": "version.promote"})).partition("all version")[2]
    assert "No change matches these filters." in said(client.get(PAGE, params={"subject": "nothing"}))
    assert "No change matches" in said(client.get(PAGE, params={"from": "2031-01-01"}))
    assert "bob" in said(client.get(PAGE, params={"from": "2020-01-01", "to": "2031-01-01"}))
    assert client.get(PAGE, params={"from": "yesterday"}).status_code == 400
    # The empty fields of the form are left out of the address.
    assert str(client.get(PAGE, params={"who": "bob", "subject": ""}).url).endswith("/pages/audit?who=bob")

    monkeypatch.setattr(audit, "_ROWS", 1)
    first = client.get(PAGE)
    older = html.unescape(re.search(r'rel="next" href="([^"]+)"', first.text)[1])
    assert "version promoted version 2" in said(client.get(older))

    ukrainian = said(client.get(PAGE, headers={"Accept-Language": "uk"}))
    assert "plugin.odd" in ukrainian
    assert "В аудиті 2 рядки." in ukrainian
    # A browser that asks for the route gets the page.
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    assert "The audit has 2 rows." in said(client.get("/audit?who=bob", headers=browser))


def test_every_action_that_zap_writes_down_has_words_and_a_row_in_the_manual():
    package, written = Path(zap.__file__).parent, set()
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in package.rglob("*.py")]
    named = {
        line.targets[0].id: line.value.value
        for tree in trees
        for line in tree.body
        if isinstance(line, ast.Assign)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.targets[0], ast.Name)
    }
    for call in (one for tree in trees for one in ast.walk(tree)):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") in {"note", "note_now", "note_state"}:
            texts = [one.value for one in ast.walk(call) if isinstance(one, ast.Constant)]
            texts += [named.get(one.id) for one in ast.walk(call) if isinstance(one, ast.Name)]
            written.update(one for one in texts if re.fullmatch(r"[a-z]+\.[a-z-]+", str(one)))
    assert {"key.create", "database.compact", "driver.erase-again"} <= written
    assert written <= set(CHANGE_WORDS)

    rows = (package / "manual" / "audit.md").read_text(encoding="utf-8").partition("## What is written down")[2]
    assert set(re.findall(r"`([a-z]+\.[a-z-]+)`", rows)) >= set(CHANGE_WORDS)


def test_changes_have_each_value_that_differs():
    before, after = {"a": 1, "b": None, "c": [1], "d": "x"}, {"a": 1, "c": [1, 2], "e": {"f": "ü"}}
    assert changes(before, after) == [("c", "[1]", "[1, 2]"), ("d", "x", None), ("e.f", None, "ü")]
