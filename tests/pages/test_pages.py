"""What all pages share: policy, logins, forms, languages, colours, prefixes, errors and assets."""

import hashlib
import html
import json
import re
from datetime import date, timedelta
from pathlib import Path

import pytest
from conftest import client_of
from keyed import make_key
from litestar.routes import HTTPRoute
from pydantic import SecretStr
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import OperationalError
from sqlmodel import col

import zap
from zap.app import create_app
from zap.db import logins
from zap.db.api_keys import revoke_keys
from zap.db.engine import write_transaction
from zap.db.login_tables import Login, WrongKey
from zap.db.logins import begin_login, has_login
from zap.db.monitoring.data_quality_days import REFUSED, apply
from zap.db.tables import utc_now
from zap.db.wrong_keys import WITHIN, note_wrong_key, seconds_to_wait
from zap.pages import overview as overview_page
from zap.pages.page import own_path
from zap.public import PAGE_SECURITY_POLICY
from zap.server.logins import client_network

KEY = "correct horse battery"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
VENDOR = Path(zap.__file__).parent / "static" / "vendor"
# What the text of a licence says.
LICENCES = {"MIT": "MIT", "MPL-2.0": "Mozilla Public License, version 2.0"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def token_of(page):
    return re.search(r'name="token" value="([0-9a-f]+)"', page.text)[1]


def pages_of(app, method):
    """Return the paths of all pages that answer a method."""
    return {
        route.path
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if method in handler.http_methods and "page" in handler.opt
    }


@pytest.mark.parametrize("path", ["/", "/pages/nothing"])
def test_every_page_has_the_policy_and_nothing_inline(shared_client, path):
    page = shared_client.get(path)

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == POLICY == PAGE_SECURITY_POLICY
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "same-origin"
    assert page.headers["cache-control"] == "no-store"
    assert re.findall(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", page.text) == []


def test_the_links_to_assets_lead_somewhere_and_are_kept_for_long(shared_client):
    found = re.findall(r'(?:src|href)="(/pages/assets/[^"]+)"', shared_client.get("/").text)
    assert {one.rpartition("/")[2] for one in found} == {
        "icon.svg",
        "pages.css",
        "overview.css",
        "pages.js",
        "runs.js",
        "fresh.js",
    }
    for address in found:
        reply = shared_client.get(address)
        assert reply.status_code == 200
        assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
    imported = found[0].rpartition("/")[0] + "/uPlot.esm.js"
    assert shared_client.get(imported).headers["content-type"].startswith("text/javascript")


def test_an_asset_at_the_address_of_another_zap_is_not_kept(shared_client):
    assert shared_client.get("/pages/assets/0123456789abcdef/pages.css").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", ["nothing.css", "..%2fmanual.css", "manifest.json"])
def test_there_is_no_other_asset(shared_client, name):
    assert shared_client.get(f"/pages/assets/0123456789abcdef/{name}").status_code == 404


@pytest.mark.parametrize("folder", [VENDOR, Path(__file__).with_name("vendor")], ids=["of zap", "of tests"])
def test_vendored_files_are_as_the_manifest_says(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    listed = {name: digest for one in manifest for name, digest in one["files"].items()}

    assert {path.name for path in folder.iterdir()} == {*listed, "manifest.json"}
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    for one in manifest:
        assert one["version"] in (folder / next(iter(one["files"]))).read_text()
        assert LICENCES[one["licence"]] in (folder / one["licence_file"]).read_text()


# Logins


def test_with_a_key_pages_ask_for_it_once(guarded, log_in):
    first = guarded.get("/?a=1", follow_redirects=False)
    assert (first.status_code, first.headers["location"]) == (303, "/pages/login?next=%2F%3Fa%3D1")
    assert "/pages/models" not in guarded.get("/").text

    reply = log_in(guarded, after="/?a=1")

    assert (reply.status_code, reply.headers["location"]) == (303, "/?a=1")
    cookie = reply.headers["set-cookie"]
    assert cookie.startswith("zap_login=")
    for part in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=43200"):
        assert part.lower() in cookie.lower()
    assert "secure" not in cookie.lower()
    assert KEY not in reply.text + str(reply.headers)
    assert guarded.get("/", follow_redirects=False).status_code == 200
    assert guarded.get("/pages/login", follow_redirects=False).status_code == 303
    assert 'href="/pages/models"' in guarded.get("/").text


def test_all_pages_are_closed_without_a_login(guarded):
    open_ = {"/pages/login", "/pages/logout", "/pages/choices"}
    for path in pages_of(guarded.app, "GET") - open_:
        asked = re.sub(r"{\w+:\w+}", "1", path)
        assert guarded.get(asked, follow_redirects=False).status_code == 303, path
    for path in pages_of(guarded.app, "POST") - open_:
        asked = re.sub(r"{\w+:\w+}", "1", path)
        reply = guarded.post(asked, data={"token": "0"}, follow_redirects=False)
        assert reply.status_code == 401, path
        assert "/pages/login" in reply.text


def test_a_wrong_key_is_refused_on_the_page(guarded, log_in):
    reply = log_in(guarded, key="wrong")

    assert reply.status_code == 403
    assert "no key of this server" in reply.text
    assert "zap_login" not in reply.headers.get("set-cookie", "")
    assert guarded.get("/", follow_redirects=False).status_code == 303


def test_the_form_of_a_second_tab_leads_on_after_the_login_in_the_first(guarded, log_in):
    second = {"token": token_of(guarded.get("/pages/login")), "key": KEY, "next": "/manual"}
    log_in(guarded)
    login = guarded.cookies["zap_login"]

    reply = guarded.post("/pages/login", data=second, follow_redirects=False)

    assert (reply.status_code, reply.headers["location"]) == (303, "/manual")
    assert guarded.cookies["zap_login"] == login
    reply = guarded.post("/pages/login", data={"next": "//evil.example"}, follow_redirects=False)
    assert (reply.status_code, reply.headers["location"]) == (303, "/")


def test_logout_ends_the_login(guarded, log_in):
    log_in(guarded)
    token = token_of(guarded.get("/"))

    reply = guarded.post("/pages/logout", data={"token": token}, follow_redirects=False)

    assert reply.status_code == 303
    assert guarded.get("/", follow_redirects=False).status_code == 303


def test_a_copied_cookie_ends_with_its_login(trained, log_in):
    settings = trained.model_copy(update={"api_key": SecretStr(KEY), "follow": False})
    with client_of(settings) as client, client_of(settings) as other_worker:
        log_in(client)
        cookie = client.cookies["zap_login"]
        log_in(other_worker)
        still = other_worker.cookies["zap_login"]
        for worker in (client, other_worker):
            worker.cookies.set("zap_login", cookie)
            assert worker.get("/models").status_code == 200
        client.post("/pages/logout", data={"token": token_of(client.get("/"))}, follow_redirects=False)

        for worker in (client, other_worker):
            worker.cookies.clear()
            worker.cookies.set("zap_login", cookie)
            assert worker.get("/models").status_code == 401
            # It leads to the form, and not round in a circle.
            asked = worker.get("/pages/models")
            assert 'name="key"' in asked.text
            assert "Log out" not in asked.text
            worker.cookies.clear()
        other_worker.cookies.set("zap_login", still)
        assert other_worker.get("/", follow_redirects=False).status_code == 200
    # Also after a restart. A key in the header needs no login.
    with client_of(settings) as again:
        again.cookies.set("zap_login", cookie)
        assert again.get("/models").status_code == 401
        assert again.get("/models", headers={"X-API-Key": KEY}).status_code == 200


def test_rows_of_logins_go_when_they_have_expired(sqlite_engine, monkeypatch):
    begin_login(sqlite_engine, "old", "setting", timedelta(seconds=-1))
    assert not has_login(sqlite_engine, "old")
    begin_login(sqlite_engine, "new", "setting", timedelta(hours=1))
    assert has_login(sqlite_engine, "new")
    with sqlite_engine.connect() as connection:
        assert connection.scalars(select(col(Login.login))).all() == ["new"]
    # Whoever has a key cannot fill the table.
    monkeypatch.setattr(logins, "_MOST_LOGINS", 3)
    for number in range(5):
        begin_login(sqlite_engine, str(number), "setting", timedelta(hours=2 + number))
    with sqlite_engine.connect() as connection:
        assert sorted(connection.scalars(select(col(Login.login)))) == ["2", "3", "4"]


def behind_a_proxy(settings):
    """Return a client of an app whose requests come from a proxy at 127.0.0.1."""
    app = create_app(settings)
    asked = app.asgi_handler

    async def from_proxy(scope, receive, send):
        await asked({**scope, "client": ("127.0.0.1", 5)}, receive, send)

    app.asgi_handler = from_proxy
    return client_of(app)


def from_address(client, address):
    """Let the requests of a client come from an address, through a proxy that zap trusts."""
    client.headers["X-Forwarded-For"] = f"203.0.113.9, {address}"
    client.headers["X-Forwarded-Proto"] = "http"


def test_too_many_wrong_keys_of_an_address_are_refused(trained, log_in):
    changes = {"api_key": SecretStr(KEY), "follow": False, "trusted_proxies": "127.0.0.1"}
    settings = trained.model_copy(update=changes)
    with behind_a_proxy(settings) as client, behind_a_proxy(settings) as other:
        from_address(client, "192.0.2.1")
        # Some proxies add the port.
        from_address(other, "192.0.2.1:50123")
        assert [log_in((client, other)[n % 2], key="wrong").status_code for n in range(10)] == [403] * 10

        refused = log_in(client)

        assert refused.status_code == 429
        assert 890 <= int(refused.headers["retry-after"]) <= 900
        assert "Too many wrong keys came from your address. Try again in 15 minutes." in refused.text
        assert "zap_login" not in refused.headers.get("set-cookie", "")
        assert log_in(other).status_code == 429
        from_address(other, "[2001:db8::2]:50124")
        assert log_in(other, key="wrong").status_code == 403
        assert log_in(other).status_code == 303
        # The key in the header is still accepted.
        assert client.get("/models", headers={"X-API-Key": KEY}).status_code == 200
        engine = client.app.state.engine
        with write_transaction(engine) as connection:
            assert {*connection.scalars(select(col(WrongKey.client)))} == {"192.0.2.1", "2001:db8::/64"}
            connection.execute(update(WrongKey).values(since=utc_now() - WITHIN))
        assert log_in(client).status_code == 303
        assert note_wrong_key(engine, "192.0.2.3") is None
        with engine.connect() as connection:
            assert connection.scalars(select(col(WrongKey.client))).all() == ["192.0.2.3"]


def test_after_very_many_wrong_keys_each_address_has_one(sqlite_engine):
    for number in range(20):
        for _ in range(5):
            note_wrong_key(sqlite_engine, f"192.0.2.{number}")
    assert seconds_to_wait(sqlite_engine, "192.0.2.1") > 0
    assert seconds_to_wait(sqlite_engine, "192.0.2.99") == 0

    note_wrong_key(sqlite_engine, "192.0.2.99")

    assert seconds_to_wait(sqlite_engine, "192.0.2.99") > 0
    with write_transaction(sqlite_engine) as connection:
        rows = [{"client": str(n), "since": utc_now(), "count": 1} for n in range(1500)]
        connection.execute(insert(WrongKey), rows)
    note_wrong_key(sqlite_engine, "192.0.2.99")
    with sqlite_engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(WrongKey)) <= 1000


@pytest.mark.parametrize(
    ("client", "network"),
    [
        (("192.0.2.1", 5), "192.0.2.1"),
        (("::ffff:192.0.2.1", 5), "192.0.2.1"),
        (("2001:db8:1:2:3:4:5:6", 5), "2001:db8:1:2::/64"),
        (("testclient", 5), "testclient"),
        (None, ""),
    ],
)
def test_the_client_of_a_key(client, network):
    assert client_network(client) == network


def test_a_login_reads_but_changes_nothing_without_a_form(guarded, log_in):
    assert guarded.get("/models").status_code == 401
    log_in(guarded)

    assert guarded.get("/models").status_code == 200
    assert guarded.post("/models/1/promote").status_code == 401
    assert guarded.delete("/training-runs/1").status_code == 401


def test_a_changed_key_ends_logins(guarded, log_in, trained_sqlite):
    log_in(guarded)
    cookie = guarded.cookies["zap_login"]
    settings = trained_sqlite.model_copy(update={"api_key": type(guarded.app.state.settings.api_key)(f"{KEY}!")})

    with client_of(settings) as other:
        other.cookies.set("zap_login", cookie)
        assert other.get("/", follow_redirects=False).status_code == 303


@pytest.mark.parametrize(
    "after", ["https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example", "evil", "/\nevil", ""]
)
def test_a_login_leads_to_no_other_site(guarded, log_in, after):
    assert own_path(after) == "/"
    assert log_in(guarded, after=after).headers["location"] == "/"


def test_a_very_long_address_leads_to_the_login_too(guarded):
    page = guarded.get("/pages/predictions?driver=" + "x" * 3000)

    assert page.status_code == 200
    assert 'name="key"' in page.text


def test_without_a_key_the_login_page_leads_on(shared_client):
    reply = shared_client.get("/pages/login?next=/manual", follow_redirects=False)

    assert (reply.status_code, reply.headers["location"]) == (303, "/manual")


# Forms


@pytest.mark.parametrize("form", [{"other": "1"}, {"token": ""}, {"token": "0" * 64}, {"token": "ї"}])
def test_every_form_without_its_token_is_refused(shared_client, form):
    shared_client.get("/")
    asked = pages_of(shared_client.app, "POST")
    assert {"/pages/choices", "/pages/login", "/pages/first-training"} <= asked
    for path in asked:
        reply = shared_client.post(re.sub(r"{\w+:\w+}", "1", path), data=form, follow_redirects=False)

        assert reply.status_code == 403, path
        assert "open it again" in reply.text
        assert reply.headers["content-security-policy"] == POLICY


def test_a_token_of_another_visit_is_refused(trained_sqlite):
    with client_of(trained_sqlite) as one:
        token = token_of(one.get("/"))
        one.cookies.clear()
        assert one.post("/pages/choices", data={"token": token}).status_code == 403
        one.get("/")
        assert one.post("/pages/choices", data={"token": token}).status_code == 403


@pytest.mark.parametrize("form", ["/pages/choices", "/pages/first-training", "/pages/logout"])
def test_a_refused_form_leaves_no_address_without_a_page(trained_sqlite, form):
    with client_of(trained_sqlite) as client:
        refused = client.post(form, data={"token": "0"})
        assert refused.status_code == 403
        # The page of the error has a form too, which leads back to its address.
        after = re.search(r'name="next" value="([^"]*)"', refused.text)[1]
        reply = client.post(
            "/pages/choices", data={"token": token_of(client.get("/")), "scheme": "dark", "next": after}
        )
        assert (reply.status_code, reply.url.path) == (200, "/")
        assert reply.headers["content-type"].startswith("text/html")


def test_a_page_of_another_site_sends_no_form(sqlite_client):
    token = token_of(sqlite_client.get("/"))
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}

    assert sqlite_client.post("/pages/choices", data={"token": token}, headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"token=%FF", "application/x-www-form-urlencoded", 422),
        (b"&".join(b"a=1" for _ in range(300)), "application/x-www-form-urlencoded", 422),
        (b"a" * 70_000, "application/x-www-form-urlencoded", 413),
    ],
)
def test_a_body_that_is_no_form_is_refused(shared_client, body, kind, status):
    reply = shared_client.post("/pages/choices", content=body, headers={"Content-Type": kind})

    assert reply.status_code == status
    assert reply.headers["content-type"].startswith("text/html")


# Languages and colours


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("uk", "uk"), ("uk-UA,en;q=0.5", "uk"), ("en-GB,uk;q=0.9", "en"), ("de", "en"), ("", "en"), ("uk;q=x,en", "en"),
     ("*;q=0.1,uk;q=0.2", "uk")],
)  # fmt: skip
def test_the_language_is_that_of_the_browser(shared_client, accepted, language):
    page = shared_client.get("/", headers={"Accept-Language": accepted})

    assert f'<html lang="{language}"' in page.text
    assert ("Огляд" in page.text) == (language == "uk")


def test_a_chosen_language_and_chosen_colours_stay(trained_sqlite):
    with client_of(trained_sqlite) as client:
        form = {"token": token_of(client.get("/")), "language": "uk", "scheme": "dark", "next": "/?a=1"}
        reply = client.post("/pages/choices", data=form, follow_redirects=False)

        assert (reply.status_code, reply.headers["location"]) == (303, "/?a=1")
        assert '<html lang="uk" data-scheme="dark"' in client.get("/", headers={"Accept-Language": "en"}).text

        form |= {"language": "klingon", "scheme": "<script>"}
        client.post("/pages/choices", data=form, follow_redirects=False)
        assert '<html lang="uk" data-scheme="dark"' in client.get("/").text


# Errors


def test_an_unknown_page_is_a_page(shared_client):
    reply = shared_client.get("/pages/<script>")

    assert reply.status_code == 404
    assert "<h1" in reply.text
    assert "<script>" not in reply.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/pages/models", 405),
        ("POST", "/pages/quality", 405),
        ("GET", "/pages/models/1/nothing", 404),
        ("GET", "/nothing", 404),
    ],
)
def test_a_browser_without_a_route_gets_a_page(shared_client, method, path, status):
    page = shared_client.request(method, path, headers={"Accept": BROWSER})
    problem = shared_client.request(method, path, headers={"Accept": "*/*"})

    assert (page.status_code, problem.status_code) == (status, status)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == POLICY
    assert "<h1" in page.text
    assert problem.headers["content-type"] == "application/problem+json"
    assert page.headers.get("allow") == problem.headers.get("allow")


def test_a_database_that_fails_is_a_page_without_its_reason(sqlite_client, monkeypatch):
    def fail(*_):
        raise OperationalError("SELECT secret", {}, Exception("/secret/path"))

    monkeypatch.setattr(overview_page, "_read", fail)
    reply = sqlite_client.get("/")

    assert reply.status_code == 503
    assert reply.headers["retry-after"] == "1"
    assert "secret" not in reply.text
    assert "Try again" in reply.text


def test_a_program_gets_problems_from_the_other_routes(shared_client):
    assert shared_client.get("/models/999").headers["content-type"] == "application/problem+json"


def test_the_links_to_json_give_a_browser_json(sqlite_client, good_request):
    number = sqlite_client.post("/predict", json=good_request).json()["prediction_id"]
    with write_transaction(sqlite_client.app.state.engine) as connection:
        apply(connection, REFUSED, {date(2026, 3, 2): {("temperature_c", "missing"): 1}})
    for path in (f"/pages/predictions/{number}", "/pages/quality", "/pages/data/fields?from=2026-03-02&to=2026-03-05"):
        links = re.findall(r'<a [^>]*href="([^"]*)"[^>]*>[^<]* as JSON</a>', sqlite_client.get(path).text)
        assert links
        for link in links:
            reply = sqlite_client.get(html.unescape(link), headers={"accept": BROWSER}, follow_redirects=False)
            assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json"), link


# Keys


def test_pages_show_what_a_key_may_do_and_routes_refuse_the_rest(trained_sqlite, log_in):
    settings = trained_sqlite.model_copy(update={"follow": False})
    with client_of(settings) as client:
        engine = client.app.state.engine
        read, train = make_key(engine, "read", name="ann"), make_key(engine, "read", "train", name="bob")
        predict = make_key(engine, "predict")
        client.app.state.api_keys.look(engine)
        log_in(client, key=read)
        page = client.get("/pages/models/1").text
        assert "ann" in page
        assert "/promote" not in page
        assert "disabled>Start the training" in client.get("/pages/trainings").text
        token = token_of(client.get("/pages/trainings"))
        for path in ("/pages/trainings", "/pages/models/1/promote", "/pages/predictions/new"):
            refused = client.post(path, data={"token": token}, follow_redirects=False)
            assert refused.status_code == 403
            assert "needs a key with the scope" in refused.text
        client.cookies.clear()

        log_in(client, key=train)
        trainings = client.get("/pages/trainings").text
        assert "disabled>Start the training" not in trainings
        assert 'value="never"' in trainings
        assert 'value="always"' not in trainings
        refused = client.post("/pages/trainings", data={"token": token_of(client.get("/")), "promote": "always"})
        assert refused.status_code == 403
        # The name of the key stands for the person.
        begin = client.get("/pages/models/1/trial").text
        assert "bob" in begin
        assert 'name="who"' not in begin
        client.cookies.clear()

        log_in(client, key=predict)
        assert client.get("/").status_code == 403
        assert client.get("/manual").status_code == 200
        revoke_keys(engine, "predict")
        client.app.state.api_keys.look(engine)
        assert client.get("/manual").status_code == 401
