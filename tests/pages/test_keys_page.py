"""The pages of keys: a key is made and shown once, rotated and revoked after questions; nobody locks everybody out."""

import html
import re

from conftest import client_of
from keyed import make_key

from zap.db.api_keys import list_keys, note_use
from zap.db.tables import utc_now
from zap.formats.api_key import is_whole

KEYS = "/pages/keys"


def said(page):
    """Return the texts of a page, without tags."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page.text)))


def section(page, heading):
    return said(page).partition(heading)[2]


def token_on(page):
    return re.search(r'name="token" value="([0-9a-f]+)"', page.text)[1]


def send(client, path, **form):
    """Send the form on the page at a path."""
    return client.post(path, data={"token": token_on(client.get(path)), **form}, follow_redirects=False)


def id_of(engine, name):
    return next(one["key_id"] for one in list_keys(engine, 9) if one["name"] == name and not one["replaced_by"])


def key_on(page):
    """Return the new key that a page shows."""
    return re.search(r"<code>(zap_[^<]+)</code>", page.text)[1]


def test_a_key_is_made_shown_once_rotated_and_revoked(guarded, log_in):
    client, engine = guarded, guarded.app.state.engine
    log_in(client)
    assert "This page is open with ZAP_API_KEY." in said(client.get(KEYS))

    wrong = send(client, KEYS, name="<b>app", expires="soon", requests_per_second="-1")
    assert wrong.status_code == 422
    errors = dict(re.findall(r'id="wrong-(\w+)">([^<]+)<', wrong.text))
    assert errors.keys() == {"expires", "requests_per_second", "scopes"}
    assert "such as 90d, 12h or 30m" in errors["expires"]
    assert 'value="&lt;b&gt;app"' in wrong.text
    assert list_keys(engine, 9, ended=True) == []

    form = {"name": "<b>app", "scopes.predict": "on", "scopes.report": "on", "expires": "90d"}
    made = send(client, KEYS, **form, requests_per_second="50", batch_rows_per_day="100 000")
    assert (made.status_code, made.headers["cache-control"]) == (200, "no-store")
    key = key_on(made)
    assert is_whole(key)
    (row,) = list_keys(engine, 9)
    assert (row["scopes"], row["requests_per_second"], row["batch_rows_per_day"]) == (["predict", "report"], 50, 100000)
    assert (row["expires_at"] - row["created_at"]).days == 90
    # This process knows it at once, and it may not see the page.
    other = {"X-API-Key": key, "Cookie": ""}
    assert client.get("/openapi.json", headers=other).status_code == 200
    page = client.get(KEYS)
    assert key not in page.text
    assert "<b>app" not in page.text
    assert "predict ask for predictions report report and remove sessions" in said(page)
    assert "Requests a second: 50 Rows of batches a day: 100,000" in said(page)
    taken = send(client, KEYS, **form)
    assert (taken.status_code, "a key has the name <b>app already" in said(taken)) == (409, True)

    old = row["key_id"]
    assert "7d, 24h or 30m" in said(client.get(f"{KEYS}/{old}/rotate"))
    assert "such as 90d" in said(send(client, f"{KEYS}/{old}/rotate", keep="2031"))
    rotated = send(client, f"{KEYS}/{old}/rotate", keep="1h")
    new = key_on(rotated)
    assert f"The old key {old} lives on until" in said(rotated)
    assert client.get("/openapi.json", headers={"X-API-Key": new}).status_code == 200
    assert "replaced, lives on" in section(client.get(KEYS), "Replaced keys that live on")
    assert "This key was replaced already." in said(client.get(f"{KEYS}/{old}/rotate"))
    again = client.post(f"{KEYS}/{old}/rotate", data={"token": token_on(client.get(KEYS)), "keep": "1h"})
    assert (again.status_code, "was rotated already" in said(again)) == (409, True)

    newest = id_of(engine, "<b>app")
    assert "Nobody has used this key yet" in said(client.get(f"{KEYS}/{newest}/revoke"))
    note_use(engine, {newest: utc_now()})
    assert "It was last used: 1 second ago" in said(client.get(f"{KEYS}/{newest}/revoke"))
    revoked = send(client, f"{KEYS}/{newest}/revoke")
    assert (revoked.status_code, revoked.headers["location"]) == (303, KEYS)
    assert client.get("/openapi.json", headers={"X-API-Key": new}).status_code == 401
    assert newest in section(client.get(KEYS), "Keys that have ended")
    assert "There is nothing to revoke." in said(client.get(f"{KEYS}/{newest}/revoke"))
    assert client.get(f"{KEYS}/nobody/revoke").status_code == 404
    ukrainian = said(client.get(KEYS, headers={"Accept-Language": "uk"}))
    assert "запитувати прогнози" in ukrainian


def test_nobody_is_locked_out_and_only_an_admin_sees_the_page(trained_sqlite, log_in):
    with client_of(trained_sqlite.model_copy(update={"follow": False})) as client:
        engine = client.app.state.engine
        first = client.get(KEYS)
        assert "zap keys create NAME --scope admin" in said(first)
        assert 'name="scopes.admin"' not in first.text
        refused = client.post(KEYS, data={"token": token_on(first), "name": "mine", "scopes.admin": "on"})
        assert (refused.status_code, list_keys(engine, 9, ended=True)) == (409, [])

        admin, reader = make_key(engine, "admin", name="ann"), make_key(engine, "read", name="eve")
        client.app.state.api_keys.look(engine)
        log_in(client, reader)
        assert f'href="{KEYS}"' not in client.get("/").text
        assert client.get(KEYS).status_code == 403
        assert client.get(f"{KEYS}/{id_of(engine, 'ann')}/revoke").status_code == 403
        client.cookies.clear()
        log_in(client, admin)
        assert f'href="{KEYS}"' in client.get("/").text
        ann = f"{KEYS}/{id_of(engine, 'ann')}/revoke"
        assert "You need another key to come back." in said(client.get(ann))
        last = send(client, ann)
        assert (last.status_code, "no other key with the scope admin would be left" in said(last)) == (409, True)
        assert client.get(KEYS).status_code == 200
