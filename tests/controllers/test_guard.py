"""Test the check before every route: keys and their scopes, the Host header, and pages of other sites."""

import json
import shutil
import time
from statistics import median

import pytest
from conftest import client_of
from keyed import ask, make_key, routes_of
from litestar import asgi, get
from litestar.exceptions import PermissionDeniedException
from litestar.types import Receive, Scope, Send
from pydantic import SecretStr

from zap.app import create_app
from zap.controllers.guard import needed_scopes
from zap.db.api_keys import list_keys, revoke_keys
from zap.scopes import ADMIN, ERASE, PREDICT, PROMOTE, READ, REPORT, SCOPES, TRAIN, needs
from zap.server import wrong_headers
from zap.settings import Settings

KEY = "correct horse battery"
# All that is open when there is a key. The assets are the files of the login page.
OPEN = {
    *("/health/live", "/health/ready", "/pages/login", "/pages/logout", "/pages/choices"),
    "/pages/assets/999999999/999999999",
}
# What some routes have to need. Each other route needs what it declares.
NEEDED = {
    ("POST", "/predict"): {PREDICT},
    ("POST", "/predict/batch"): {PREDICT},
    ("GET", "/predictions"): {READ},
    ("GET", "/"): {READ},
    ("GET", "/docs"): set(),
    ("GET", "/openapi.json"): set(),
    ("GET", "/manual"): set(),
    ("POST", "/charging-sessions"): {REPORT},
    ("DELETE", "/charging-sessions/999999999"): {REPORT},
    ("DELETE", "/drivers/999999999"): {ERASE},
    ("GET", "/drivers/999999999/export"): {ERASE},
    ("POST", "/train-model"): {TRAIN},
    ("POST", "/alarms/999999999/acknowledge"): {TRAIN},
    ("POST", "/models/999999999/promote"): {PROMOTE},
    ("POST", "/models/rollback"): {PROMOTE},
    ("POST", "/pages/models/rollback"): {PROMOTE, READ},
}


@pytest.fixture(scope="module")
def sqlite_client(_trained_sqlite, tmp_path_factory):
    """One app for all tests that change nothing: most of them are refused."""
    folder = tmp_path_factory.mktemp("guard")
    shutil.copytree(_trained_sqlite, folder, dirs_exist_ok=True)
    settings = Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models")
    with client_of(settings, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def keyed(_trained_sqlite, tmp_path_factory):
    """One app with a key for each scope, all of which are in `client.keys`, and a key that was revoked."""
    folder = tmp_path_factory.mktemp("keyed")
    shutil.copytree(_trained_sqlite, folder, dirs_exist_ok=True)
    settings = Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models", follow=False)
    with client_of(settings, raise_server_exceptions=False) as client:
        engine = client.app.state.engine
        client.keys = {scope: make_key(engine, scope) for scope in SCOPES}
        client.revoked = make_key(engine, ADMIN, name="revoked")
        revoke_keys(engine, "revoked")
        client.app.state.api_keys.look(engine)
        yield client


@pytest.fixture
def guarded(trained_sqlite):
    settings = trained_sqlite.model_copy(update={"api_key": SecretStr(KEY)})
    with client_of(settings) as client:
        yield client


def is_refused_by_scope(reply):
    return reply.status_code == 403 and "needs a key with the scope" in reply.text


def test_every_route_takes_each_key_that_has_its_scopes_and_no_other(keyed):
    found = {}
    for method, path, handler in routes_of(keyed.app):
        needed = found[method, path] = needed_scopes(handler)
        for scope, key in keyed.keys.items():
            reply = ask(keyed, method, path, **{"X-API-Key": key})
            allowed = needed is None or scope == ADMIN or needed <= {scope}
            assert is_refused_by_scope(reply) != allowed, (method, path, scope, reply.text)
            assert reply.status_code != 401, (method, path, scope)
            assert reply.status_code < 500, (method, path, scope, reply.text)
            if not allowed and reply.headers["content-type"] == "application/problem+json":
                assert reply.json()["type"] == "urn:zap:problem:scope-missing"
                assert reply.json()["needed_scopes"] == sorted(needed - {scope})
            # As Prometheus and generated clients send it.
            bearer = ask(keyed, method, path, Authorization=f"Bearer {key}")
            assert bearer.status_code == reply.status_code, (method, path, scope)
    assert {path for (_, path), needed in found.items() if needed is None} == OPEN
    for route, needed in NEEDED.items():
        assert found[route] == needed, route
    # What changes something needs more than the right to read.
    for (method, path), needed in found.items():
        assert method == "GET" or needed is None or needed - {READ}, (method, path)


def wrong_keys(keyed):
    right = keyed.keys[ADMIN]
    key_id, secret = right.split("_")[1:]
    digest = keyed.app.state.api_keys.find(right.encode()).digest.hex()
    return {
        "none": None,
        "empty": "",
        "another": "a" * 16,
        "revoked": keyed.revoked,
        "one letter": right[:-10] + ("a" if right[-10] != "a" else "b") + right[-9:],
        "cut": right[:-1],
        "longer": right + "0",
        "small": right.lower(),
        "the id": key_id,
        "the secret": secret,
        "a name": "admin",
        "what is stored": digest,
        "quoted": "' OR 1=1 --",
        "two": f"{right},{right}",
        "long": "x" * 8_000,
    }


def test_every_route_refuses_every_wrong_key_alike(keyed):
    keys = wrong_keys(keyed)
    for method, path, handler in routes_of(keyed.app):
        if needed_scopes(handler) is None:
            continue
        for name, key in keys.items():
            for headers in ({}, {"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
                if key is None and headers:
                    continue
                reply = ask(keyed, method, path, **headers)
                is_page = "page" in handler.opt
                # 429 after a hundred of them, and 303 to the login page, for pages.
                assert reply.status_code in ({401, 429, 303} if is_page else {401, 429}), (method, path, name)
                assert "location" not in reply.headers or "/pages/login" in reply.headers["location"]
                if key and len(key) > 20:
                    assert key not in reply.text + str(reply.headers)
    # Wrong keys shut nobody out, and other ways of a browser to say who it is are none of zap's.
    assert ask(keyed, "GET", "/models", **{"X-API-Key": keyed.keys[READ]}).status_code == 200
    assert ask(keyed, "GET", "/models", Authorization="Basic YWRtaW46YWRtaW4=").status_code == 401


def test_a_401_says_how_to_send_a_key_and_what_is_wrong_with_one(keyed, monkeypatch):
    monkeypatch.setattr(wrong_headers, "_MOST", 10**9)
    right = keyed.keys[READ]
    missing = ask(keyed, "GET", "/models")
    assert missing.headers["www-authenticate"] == 'ApiKey realm="zap", Bearer realm="zap"'
    assert missing.headers["content-type"] == "application/problem+json"
    assert "X-API-Key" in missing.json()["detail"]
    cut = ask(keyed, "GET", "/models", **{"X-API-Key": right[:-1]})
    assert "checksum" in cut.json()["detail"]
    assert "has ended" in ask(keyed, "GET", "/models", **{"X-API-Key": keyed.revoked}).json()["detail"]


def test_very_many_wrong_keys_are_told_to_stop_and_shut_nobody_out(trained_sqlite):
    with client_of(trained_sqlite.model_copy(update={"api_key": SecretStr(KEY)})) as client:
        statuses = [ask(client, "GET", "/models", **{"X-API-Key": f"wrong {n}"}).status_code for n in range(102)]
        assert statuses == [401] * 100 + [429] * 2
        refused = ask(client, "GET", "/models", **{"X-API-Key": "wrong"})
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert ask(client, "GET", "/models").status_code == 401
        assert ask(client, "GET", "/models", **{"X-API-Key": KEY}).status_code == 200


def test_the_time_of_a_look_up_tells_nothing_about_keys(keyed):
    """A key with the right id, or with all of its letters but one, takes as long as a key of no resemblance."""
    find, right = keyed.app.state.api_keys.find, keyed.keys[ADMIN]
    alike = [right[:-1] + ("a" if right[-1] != "a" else "b"), right[:13] + "0" * 36, "0" * len(right)]
    times = {key: [] for key in alike}
    for _ in range(400):
        for key, taken in times.items():
            sent = key.encode()
            began = time.perf_counter_ns()
            for _ in range(20):
                find(sent)
            taken.append(time.perf_counter_ns() - began)
    middle = [median(taken) for taken in times.values()]
    spread = max(median([abs(one - median(taken)) for one in taken]) for taken in times.values())
    # The medians differ by less than single measurements do, and by far less than the work for one more letter.
    assert max(middle) - min(middle) < max(3 * spread, 0.15 * min(middle)), times


def test_it_works(guarded, good_request):
    assert guarded.post("/predict", json=good_request, headers={"X-API-Key": KEY}).status_code == 200
    # The key of the settings has all scopes, also the scope admin.
    assert guarded.get("/openapi.json", headers={"Authorization": f"bearer {KEY}"}).status_code == 200
    assert guarded.get("/models", headers={"X-API-Key": KEY}).status_code == 200
    assert guarded.head("/models").status_code == 401
    assert guarded.head("/models", headers={"X-API-Key": KEY}).status_code == 200


def test_with_the_key_of_the_settings_nothing_else_is_open(guarded):
    for method, path, _ in routes_of(guarded.app):
        reply = ask(guarded, method, path)
        assert (reply.status_code in {401, 303} and path not in OPEN) or path in OPEN, (method, path)
        assert KEY not in reply.text


def test_a_browser_that_asks_for_the_manual_or_the_docs_is_led_to_the_login(guarded):
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    for path in ("/manual", "/docs", "/serving"):
        reply = guarded.get(path, headers=browser, follow_redirects=False)
        assert (reply.status_code, reply.headers["location"]) == (303, f"/pages/login?next=%2F{path[1:]}")
    assert guarded.get("/docs").status_code == 401


def test_without_a_key_everything_is_open(sqlite_client, good_request):
    assert sqlite_client.get("/models").status_code == 200
    assert sqlite_client.post("/predict", json=good_request).status_code == 200
    assert sqlite_client.get("/docs", headers={"X-API-Key": "none is needed"}).status_code == 200


def test_the_key_is_asked_for_before_the_body_is_read(guarded):
    assert guarded.post("/predict", content=b"nonsense").status_code == 401


def test_a_route_that_declares_nothing_needs_admin(trained_sqlite):
    @get("/forgotten")
    async def forgotten() -> dict[str, str]:
        return {}

    @asgi("/plain", copy_scope=True)
    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    # A scope closes a route even if its router says that it is public.
    @get("/scoped", opt={"public": True, **needs(READ)})
    async def scoped() -> dict[str, str]:
        return {}

    app = create_app(trained_sqlite)
    for route in (forgotten, plain, scoped):
        app.register(route)
    with client_of(app) as client:
        keys = {scope: make_key(client.app.state.engine, scope) for scope in (ADMIN, READ, PREDICT)}
        client.app.state.api_keys.look(client.app.state.engine)
        for path in ("/forgotten", "/plain", "/scoped"):
            assert client.get(path).status_code == 401
        for path in ("/forgotten", "/plain"):
            assert is_refused_by_scope(client.get(path, headers={"X-API-Key": keys[READ]}))
        assert client.get("/forgotten", headers={"X-API-Key": keys[ADMIN]}).status_code == 200
        assert client.get("/scoped", headers={"X-API-Key": keys[READ]}).status_code == 200
        assert is_refused_by_scope(client.get("/scoped", headers={"X-API-Key": keys[PREDICT]}))


def test_a_guard_of_the_route_is_asked_on_predict_too(trained_sqlite, good_request):
    async def deny(*_):
        raise PermissionDeniedException

    app = create_app(trained_sqlite)
    (handler,) = [route.route_handler for route in app.routes if route.path == "/predict"]
    handler.resolve_guards().append(deny)
    with client_of(app) as client:
        assert client.post("/predict", json=good_request).status_code == 403


def test_what_may_change_what_serves_needs_promote(keyed):
    train = {"X-API-Key": keyed.keys[TRAIN]}
    for promote in ("always", "if_better", "trial"):
        reply = keyed.post("/train-model", json={"promote": promote}, headers=train)
        assert is_refused_by_scope(reply), promote
        assert reply.json()["detail"] == f"promote: {promote} needs a key with the scope promote"
    assert is_refused_by_scope(keyed.post("/train-model", headers=train))
    reply = keyed.post("/models/1/trial", json={"on_better": "promote"}, headers=train)
    assert is_refused_by_scope(reply)
    # Version 1 serves, so it cannot be on trial: the scope was enough.
    assert keyed.post("/models/1/trial", headers=train).status_code == 409
    reply = keyed.post("/train-model", json={"promote": "never", "history_from": "2100-01-01"}, headers=train)
    assert reply.status_code == 422


def test_the_document_says_which_scope_each_route_needs(keyed, sqlite_client):
    document = keyed.get("/openapi.json", headers={"X-API-Key": keyed.keys[PREDICT]}).json()
    handlers = {(method.lower(), path): handler for method, path, handler in routes_of(keyed.app)}

    assert ("post", "/predict") in {(m, p) for p, methods in document["paths"].items() for m in methods}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            asked = "/".join("999999999" if part.startswith("{") else part for part in path.split("/"))
            needed = needed_scopes(handlers[method, asked])
            names = [] if needed is None else sorted(needed)
            closed = [] if needed is None else [{"ApiKey": names}, {"Bearer": names}]
            assert operation.get("security", []) == closed, path
            assert ("401" in operation["responses"]) == (needed is not None)
            assert needed is None or f"Needs a key with the scope {' and '.join(names)}." in operation["description"]
            assert "421" in operation["responses"]
    schemes = document["components"]["securitySchemes"]
    assert schemes["ApiKey"]["name"] == "X-API-Key"
    assert schemes["Bearer"]["scheme"] == "bearer"
    assert "securitySchemes" not in sqlite_client.get("/openapi.json").json().get("components", {})


def test_a_key_may_have_any_letters(trained_sqlite, good_request):
    settings = trained_sqlite.model_copy(update={"api_key": SecretStr("langer schlüssel")})
    with client_of(settings) as client:
        for key, status in (("langer schlüssel", 200), ("langer schlussel", 401)):
            # As curl sends it: the bytes of the terminal.
            reply = client.post("/predict", json=good_request, headers={"X-API-Key": key.encode()})
            assert reply.status_code == status


def test_no_list_and_no_reply_shows_a_key(keyed):
    for key in keyed.keys.values():
        assert key not in str(list_keys(keyed.app.state.engine, 1000, ended=True))
        assert keyed.app.state.api_keys.find(key.encode()).digest.hex() not in str(
            list_keys(keyed.app.state.engine, 1000, ended=True)
        )


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "zap.example.com.evil.example", "a_b", "zap"],
)
@pytest.mark.parametrize("path", ["/predict", "/models", "/docs", "/health/ready", "/openapi.json", "/nothing"])
def test_a_host_that_zap_does_not_know_is_told_nothing(sqlite_client, host, path):
    # The owner of a web page may let its name lead to this machine (DNS rebinding).
    method = "POST" if path == "/predict" else "GET"

    reply = sqlite_client.request(
        method, path, headers={"Host": f"{host}:8000"}, json={} if path == "/predict" else None
    )

    assert reply.status_code == (404 if path == "/nothing" else 421)
    if path != "/nothing":
        assert "ZAP_ALLOWED_HOSTS" in reply.json()["detail"]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:8000", "[::1]:8000", "10.1.2.3", "localhost."]
)
def test_an_address_and_localhost_are_known(sqlite_client, host):
    assert sqlite_client.get("/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("allowed", "host", "status"),
    [
        ("zap.example.com", "zap.example.com", 200),
        ("zap.example.com", "ZAP.example.com:443", 200),
        ("zap.example.com", "example.com", 421),
        ("zap.example.com", "a.zap.example.com", 421),
        ("*.example.com", "zap.example.com", 200),
        ("*.example.com", "example.com", 421),
        ("*.example.com", "evilexample.com", 421),
        ("a.example, b.example", "b.example", 200),
        ("*", "anything.example", 200),
    ],
)
def test_other_names_are_a_setting(trained_sqlite, allowed, host, status):
    with client_of(trained_sqlite.model_copy(update={"allowed_hosts": allowed})) as client:
        assert client.get("/models", headers={"Host": host}).status_code == status


def test_the_name_that_zap_listens_on_is_known(trained_sqlite):
    with client_of(trained_sqlite.model_copy(update={"host": "Zap.local"})) as client:
        assert client.get("/models", headers={"Host": "zap.local:8000"}).status_code == 200


FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8000"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://127.0.0.1:9000"},
    {"Origin": "null"},
    {"Origin": ""},
]
CHANGES = [
    ("POST", "/models/rollback"),
    ("POST", "/models/1/promote"),
    ("POST", "/train-model"),
    ("POST", "/predict"),
    ("POST", "/predict/batch"),
    ("POST", "/charging-sessions"),
    ("DELETE", "/training-runs/1"),
    ("DELETE", "/drivers/ann"),
]


@pytest.mark.parametrize("headers", FOREIGN, ids=json.dumps)
@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_a_page_of_another_site_changes_nothing(sqlite_client, headers, method, path):
    reply = sqlite_client.request(method, path, headers=headers)

    assert reply.status_code == 403
    assert reply.json()["type"] == "urn:zap:problem:cross-site-request"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8000"},
        # Behind a proxy that shows zap over https and passes another Host.
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://zap.example.com"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://127.0.0.1:8000"},
        {},
    ],
)
def test_pages_of_zap_and_programs_may_ask(sqlite_client, good_request, headers):
    assert sqlite_client.post("/predict", json=good_request, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("zap.example.com", "https://zap.example.com", 200),
        ("zap.example.com", "https://zap.example.com:443", 200),
        ("zap.example.com:80", "http://zap.example.com", 200),
        ("zap.example.com:8443", "https://zap.example.com", 403),
    ],
)
def test_older_browsers_say_the_origin_alone(trained_sqlite, good_request, host, origin, status):
    with client_of(trained_sqlite.model_copy(update={"allowed_hosts": "zap.example.com"})) as client:
        reply = client.post("/predict", json=good_request, headers={"Host": host, "Origin": origin})
        assert reply.status_code == status


def test_a_page_whose_origin_is_set_may_ask(trained_sqlite, good_request):
    settings = trained_sqlite.model_copy(update={"cors_origins": "https://app.example.com"})
    with client_of(settings) as client:
        for origin, status in (("https://app.example.com", 200), ("https://other.example.com", 403)):
            headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
            assert client.post("/predict", json=good_request, headers=headers).status_code == status


@pytest.mark.parametrize("encoding", ["gzip", "deflate, gzip", "br", "identity, gzip", "x" * 5_000])
@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_a_compressed_body_is_refused(sqlite_client, encoding, method, path):
    reply = sqlite_client.request(
        method, path, headers={"Content-Encoding": encoding, "Content-Type": "application/json"}
    )

    assert reply.status_code == 415
    assert reply.headers["accept-encoding"] == "identity"
    assert len(reply.content) < 1_000


def test_a_body_that_says_that_it_is_as_it_is_is_answered(sqlite_client, good_request):
    assert (
        sqlite_client.post("/predict", json=good_request, headers={"Content-Encoding": "identity"}).status_code == 200
    )


@pytest.mark.parametrize(
    "host", ["localhost:evil.example", "[localhost]", "[::1", "localhost:80:80", "l" * 60_000, "@localhost"]
)
def test_a_host_that_is_no_name_with_a_port_is_not_known(sqlite_client, host):
    assert sqlite_client.get("/models", headers={"Host": host}).status_code in {400, 421}


def test_a_coding_in_front_of_chunked_is_refused(sqlite_client):
    reply = sqlite_client.post("/predict", content=iter([b"{}"]), headers={"Transfer-Encoding": "gzip, chunked"})

    assert reply.status_code == 415
