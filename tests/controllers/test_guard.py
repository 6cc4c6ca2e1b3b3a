"""Test the check before every route: the API key, the Host header, and pages of other sites."""

import json
import shutil

import pytest
from conftest import client_of
from litestar import asgi, get
from litestar.exceptions import PermissionDeniedException
from litestar.types import Receive, Scope, Send
from pydantic import SecretStr

from zap.app import create_app
from zap.settings import Settings

KEY = "correct horse battery"
PUBLIC = {
    "/docs",
    "/docs/openapi.json",
    "/openapi.json",
    "/health/live",
    "/health/ready",
    "/manual",
    "/manual/start",
}
IDS = ("model_version", "prediction_id", "run_id", "session_id", "alarm_id", "trial_id")
WITHOUT_ID = dict.fromkeys(IDS, "1")


@pytest.fixture(scope="module")
def sqlite_client(_trained_sqlite, tmp_path_factory):
    """One app for all tests that change nothing: most of them are refused."""
    folder = tmp_path_factory.mktemp("guard")
    shutil.copytree(_trained_sqlite, folder, dirs_exist_ok=True)
    settings = Settings(database_url=f"sqlite:///{folder / 'zap.sqlite'}", models_dir=folder / "models")
    with client_of(settings, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def guarded(trained_sqlite):
    settings = trained_sqlite.model_copy(update={"api_key": SecretStr(KEY)})
    with client_of(settings) as client:
        yield client


def operations(client):
    """Every method and path of the document, with numbers in the place of parameters."""
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method in methods:
            yield method, path.format(**WITHOUT_ID)


def test_it_works(guarded, good_request):
    assert guarded.post("/predict", json=good_request, headers={"X-API-Key": KEY}).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": ""}, {"X-API-Key": "wrong"}, {"X-API-Key": KEY.upper()}])
def test_without_the_key_everything_but_health_and_docs_is_refused(guarded, headers):
    asked = set(operations(guarded))
    assert ("get", "/predictions/1") in asked
    assert ("post", "/predict") in asked

    for method, path in asked:
        reply = guarded.request(method, path, headers=headers)

        assert (reply.status_code == 401) == (path not in PUBLIC), (method, path)
        if reply.status_code == 401:
            assert reply.headers["content-type"] == "application/problem+json"
            assert reply.headers["www-authenticate"] == 'ApiKey realm="zap"'
            assert KEY not in reply.text


@pytest.mark.parametrize("path", sorted(PUBLIC))
def test_health_and_docs_need_no_key(guarded, path):
    assert guarded.get(path).status_code == 200


def test_the_assets_of_the_docs_need_no_key(guarded):
    assert guarded.get("/docs/assets/swagger-ui.css").status_code == 200


@pytest.mark.parametrize("path", ["/models", "/models/1", "/models/history", "/training-runs", "/predictions/1"])
def test_with_the_key_everything_is_answered(guarded, path):
    assert guarded.get(path, headers={"X-API-Key": KEY}).status_code == 200
    assert guarded.head(path, headers={"X-API-Key": KEY}).status_code == 200
    assert guarded.head(path).status_code == 401


def test_the_key_is_asked_for_before_the_body_is_read(guarded):
    assert guarded.post("/predict", content=b"nonsense").status_code == 401


def test_a_route_that_declares_nothing_is_closed(trained_sqlite):
    @get("/forgotten")
    async def forgotten() -> dict[str, str]:
        return {}

    @asgi("/plain", copy_scope=True)
    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    app = create_app(trained_sqlite.model_copy(update={"api_key": SecretStr(KEY)}))
    app.register(forgotten)
    app.register(plain)
    with client_of(app) as client:
        assert client.get("/forgotten").status_code == 401
        assert client.get("/forgotten", headers={"X-API-Key": KEY}).status_code == 200
        assert client.get("/plain").status_code == 401


@pytest.mark.parametrize("opt", [{"scope": "audit"}, {"public": True, "scope": "audit"}])
def test_a_route_with_a_scope_is_closed_and_the_document_names_the_scope(trained_sqlite, opt):
    @get("/scoped", opt=opt)
    async def scoped() -> dict[str, str]:
        return {}

    app = create_app(trained_sqlite.model_copy(update={"api_key": SecretStr(KEY)}))
    app.register(scoped)
    with client_of(app) as client:
        assert client.get("/scoped").status_code == 401
        assert client.get("/scoped", headers={"X-API-Key": KEY}).status_code == 200
        assert client.get("/openapi.json").json()["paths"]["/scoped"]["get"]["security"] == [{"ApiKey": ["audit"]}]


def test_a_guard_of_the_route_is_asked_on_predict_too(trained_sqlite, good_request):
    async def deny(*_):
        raise PermissionDeniedException

    app = create_app(trained_sqlite)
    (handler,) = [route.route_handler for route in app.routes if route.path == "/predict"]
    handler.resolve_guards().append(deny)
    with client_of(app) as client:
        assert client.post("/predict", json=good_request).status_code == 403


def test_the_docs_show_the_lock_where_the_key_is_needed(guarded, sqlite_client):
    document = guarded.get("/openapi.json").json()

    for path, methods in document["paths"].items():
        for operation in methods.values():
            closed = path not in PUBLIC
            assert [list(one) for one in operation.get("security", [])] == ([["ApiKey"]] if closed else [])
            assert ("401" in operation["responses"]) == closed
            assert "421" in operation["responses"]
    assert document["components"]["securitySchemes"]["ApiKey"]["name"] == "X-API-Key"
    assert "securitySchemes" not in sqlite_client.get("/openapi.json").json().get("components", {})


def test_a_key_may_have_any_letters(trained_sqlite, good_request):
    settings = trained_sqlite.model_copy(update={"api_key": SecretStr("langer schlüssel")})
    with client_of(settings) as client:
        for key, status in (("langer schlüssel", 200), ("langer schlussel", 401)):
            # As curl sends it: the bytes of the terminal.
            reply = client.post("/predict", json=good_request, headers={"X-API-Key": key.encode()})
            assert reply.status_code == status


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
