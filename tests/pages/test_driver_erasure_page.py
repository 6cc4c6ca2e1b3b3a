"""A driver is exported and erased on the pages, after a question; a key without the scope sees no button for it."""

import html
import io
import re
import zipfile

from conftest import client_of
from erased import TEXT_ID, driver_with_everything, traces
from keyed import make_key

ASK, EXPORT = "/pages/erase-driver", "/pages/export-driver"


def said(page):
    """Return the texts of a page, without tags."""
    assert page.status_code == 200, page.text
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page.text)))


def token_of(page):
    return re.search(r'name="token" value="([^"]+)"', page.text)[1]


def test_a_driver_is_exported_and_erased_after_a_question(client):
    state = client.app.state
    user_id = driver_with_everything(state.engine, state.settings)
    (state.settings.models_dir / "older.sqlite").write_bytes(b"SQLite format 3\0")
    links = html.unescape(client.get(f"/pages/drivers/{user_id}").text)
    assert f"{ASK}?user_id={user_id}" in links
    assert f"{EXPORT}?user_id={user_id}" in links

    exported = client.get(EXPORT, params={"user_id": user_id})
    assert (exported.headers["content-type"], exported.headers["cache-control"]) == ("application/zip", "no-store")
    with zipfile.ZipFile(io.BytesIO(exported.content)) as zipped:
        assert TEXT_ID.encode() in zipped.read("session_text_ids.ndjson")

    question = client.get(ASK, params={"user_id": user_id})
    asked = said(question)
    counted = dict(re.findall(r"(charging sessions|vehicles|requests|answers): (\d+)", asked))
    assert counted.keys() == {"charging sessions", "vehicles", "requests", "answers"}
    assert "Versions that may have learned from this driver stay as they are: 1." in asked
    assert ("older.sqlite" in asked) == (state.engine.dialect.name == "sqlite")
    # The question changes nothing, and a form without its token neither.
    assert client.post(ASK, data={"user_id": user_id}).status_code == 403
    assert "Users" in traces(state.engine, f"{user_id}'")

    erased = client.post(ASK, data={"user_id": user_id, "token": token_of(question)})
    gone = said(erased)
    assert traces(state.engine, f"{user_id}'", f'{user_id}"') == []
    for name in ("charging sessions", "vehicles", "requests", "answers"):
        assert f"{name} {counted[name]} " in gone
    assert "1 version may have learned from this driver (1)" in gone
    again = client.post(ASK, data={"user_id": user_id, "token": token_of(question)})
    assert again.status_code == 404
    assert "was erased already" in again.text
    assert client.get(ASK).status_code == client.get(EXPORT, params={"user_id": user_id}).status_code == 404
    # Nothing is known of this driver any more, so there is nothing to press.
    assert ASK not in client.get(f"/pages/drivers/{user_id}").text
    assert "Стерти водія a b&c?" in said(
        client.get(ASK, params={"user_id": "a b&c"}, headers={"Accept-Language": "uk"})
    )


def test_a_key_without_the_scope_is_refused_and_sees_no_button(trained_sqlite, log_in):
    with client_of(trained_sqlite.model_copy(update={"follow": False})) as client:
        engine = client.app.state.engine
        user_id = driver_with_everything(engine, trained_sqlite)
        read, erase = make_key(engine, "read"), make_key(engine, "read", "erase")
        client.app.state.api_keys.look(engine)
        log_in(client, key=read)
        page = client.get(f"/pages/drivers/{user_id}")
        assert ASK not in page.text
        assert EXPORT not in page.text
        sent = {"user_id": user_id, "token": token_of(client.get("/pages/predictions/new"))}
        refused = [client.get(ASK, params=sent), client.get(EXPORT, params=sent), client.post(ASK, data=sent)]
        assert [one.status_code for one in refused] == [403] * 3
        assert "Users" in traces(engine, f"{user_id}'")
        client.cookies.clear()

        log_in(client, key=erase)
        assert ASK in client.get(f"/pages/drivers/{user_id}").text
        assert client.get(EXPORT, params={"user_id": user_id}).status_code == 200
        question = client.get(ASK, params={"user_id": user_id})
        sent["token"] = token_of(question)
        assert client.post(ASK, data=sent).status_code == 200
        with engine.connect() as connection:
            who = (
                connection.exec_driver_sql("SELECT DISTINCT who FROM audit WHERE action LIKE 'driver.%'")
                .scalars()
                .all()
            )
        assert who == ["read and erase"]
