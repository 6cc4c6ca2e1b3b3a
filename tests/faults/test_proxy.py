"""zap behind nginx, under a path prefix that nginx removes, and under one that it leaves: with the manual's example."""

import contextlib
import json
import re

import httpx
import pytest
from conftest import absent, client_of
from faults.clients import connected, head, server_on
from faults.nginx import PROGRAM, example, running
from playwright.sync_api import expect
from servers import free_port, until

from zap.app import create_app
from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.alarms import raise_alarm
from zap.errors import InvalidSettings

NDJSON = "application/x-ndjson"
HOST = "zap.example.com"
ORIGIN = "https://app.example.com"


@pytest.fixture(scope="module")
def nginx():
    return PROGRAM or absent("nginx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the server's database."""
    return tmp_path_factory.mktemp("behind")


@pytest.fixture(scope="module")
def server(_trained_sqlite, folder):
    limits = {"root_path": "/zap", "trusted_proxies": "127.0.0.1", "cors_origins": ORIGIN, "allowed_hosts": HOST}
    with contextlib.closing(server_on(_trained_sqlite, folder, **limits)) as server:
        yield server.wait()


@pytest.fixture(scope="module")
def proxies(nginx, server, tmp_path_factory):
    """The addresses of zap behind nginx: once it leaves the prefix in the path, once it removes it."""
    location = example(0)
    passed = "proxy_pass http://127.0.0.1:8000;"
    assert passed in location
    ports = [free_port(), free_port()]
    servers = "".join(
        f"server {{ listen 127.0.0.1:{port}; {location.replace(passed, f'proxy_pass {server.url}{ending};')} }}\n"
        for port, ending in zip(ports, ("", "/"), strict=True)
    )
    with running(tmp_path_factory.mktemp("nginx"), servers, ports):
        yield [f"http://127.0.0.1:{port}/zap" for port in ports]


@pytest.fixture(params=["left", "removed"])
def url(request, proxies):
    """zap's address for clients."""
    return proxies[request.param == "removed"]


def test_the_documentation_is_found(url):
    page = httpx.get(f"{url}/docs")

    assert page.status_code == 200
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert links
    for link in links:
        assert link.startswith("/zap/docs/assets/")
        assert httpx.get(httpx.URL(url).join(link)).status_code == 200
    for path in ("/openapi.json", "/docs/openapi.json"):
        assert httpx.get(f"{url}{path}").json()["servers"] == [{"url": "/zap"}]
    assert 'href="/zap/docs"' in httpx.get(f"{url}/").text
    assert "/zap/docs lists" in httpx.get(f"{url}/nothing").json()["detail"]


def test_the_manual_is_found(url):
    page = httpx.get(f"{url}/manual/performance")

    links = {link for link in re.findall(r'(?:src|href|data-index)="([^"#]+)', page.text) if link.startswith("/")}
    assert {"/zap/manual/start", "/zap/manual/search.json", "/zap/manual/performance.svg"} < links
    assert [link for link in links if httpx.get(httpx.URL(url).join(link)).status_code != 200] == []


def test_it_works_in_a_browser(url, browser):
    page = browser.new_page()
    page.goto(f"{url}/docs")
    block = page.locator("[id$='-predict']")
    block.locator(".opblock-summary-control").click(timeout=60_000)
    block.get_by_role("button", name="Execute").click()
    expect(block.locator(".live-responses-table .response-col_status").last).to_contain_text("200", timeout=60_000)
    page.close()


def test_a_training_is_found_where_the_reply_says(url):
    long = {"hyper_parameters": {"n_estimators": 10_000, "num_leaves": 200}}
    begun = httpx.post(f"{url}/train-model", json=long, headers={"Prefer": "respond-async"}, timeout=60)
    assert begun.status_code == 202
    place = httpx.URL(url).join(begun.headers["location"])
    assert place.path.startswith("/zap/training-runs/")

    refused = httpx.post(f"{url}/train-model", timeout=60)
    assert refused.status_code == 409
    assert refused.headers["location"] == refused.json()["training_run"] == begun.headers["location"]

    # The events come while they happen, not when the training is over.
    with httpx.stream("GET", f"{place}/events", timeout=60) as events:
        lines = events.iter_lines()
        # On a slow machine zap first says that the training is still running.
        assert next(line for line in lines if line.startswith("id: "))
        assert httpx.get(place).json()["status"] == "running"
        assert httpx.delete(place, timeout=60).status_code == 200
        assert "event: end" in list(lines)


def test_every_route_that_reads_answers_as_without_the_proxy(url, server, good_request):
    asked = httpx.post(f"{url}/predict", json=good_request | {"user_id": "Zoë/1"}, timeout=60).json()
    numbers = {"prediction_id": asked["prediction_id"], "user_id": "nobody", "key_id": 1}
    numbers |= {"model_version": 1, "run_id": 1, "trial_id": 1}
    paths = httpx.get(f"{url}/openapi.json").json()["paths"]
    reading = [path.format(**numbers) for path, methods in paths.items() if "get" in methods]
    assert {"/quality", "/quality/data", "/alarms", "/trials", f"/predictions/{asked['prediction_id']}"} < set(reading)

    for path in reading:
        direct, behind = (httpx.get(f"{base}{path}", timeout=60) for base in (server.url, url))
        assert behind.status_code == direct.status_code, path
        assert behind.headers["content-type"] == direct.headers["content-type"], path
        assert behind.status_code < 500, path


def test_what_happened_after_answers_is_read_and_changed(url, folder, good_request):
    driver = "Zoë/1 + 1"
    ids = [
        httpx.post(f"{url}/predict", json=good_request | {"user_id": driver}, timeout=60).json()["prediction_id"]
        for _ in range(3)
    ]
    query = {"user_id": driver, "from": "2026-01-01T00:00:00+01:00", "limit": 1}
    until(lambda: ids[-1] in listed(url, query)[:1])
    assert listed(url, query)[:3] == ids[::-1]

    explained = httpx.get(f"{url}/predictions/{ids[0]}/explanation", timeout=60)
    assert explained.json()["prediction_id"] == ids[0]
    data = httpx.get(f"{url}/quality/data").json()
    assert data["all_days"]["requests"]["answered"] >= 3
    assert httpx.get(f"{url}/quality", params={"by": "week"}).json()["by"] == "week"
    back = httpx.get(f"{url}/quality", params={"from": "2026-03-02", "to": "2026-03-01"})
    assert (back.status_code, back.json()["errors"][0]["pointer"]) == (400, "#/from")

    engine = create_engine(f"sqlite:///{folder}/zap.sqlite")
    with write_transaction(engine) as connection:
        raise_alarm(connection, "harm", f"version {httpx.URL(url).port}", "it is worse", {"drivers": 41}, posts=False)
    engine.dispose()
    alarm = httpx.get(f"{url}/alarms").json()["alarms"][0]
    seen = httpx.post(f"{url}/alarms/{alarm['alarm_id']}/acknowledge", json={"who": "Zoë"})
    assert (seen.status_code, seen.json()["acknowledged_by"]) == (200, "Zoë")

    assert httpx.post(f"{url}/models/1/trial", json={"weeks": 4}).status_code == 409
    assert httpx.post(f"{url}/models/1/trial/end").status_code == 404
    assert "/zap/docs lists" in httpx.get(f"{url}/trials/1/nothing").json()["detail"]


def listed(url, query):
    """Return the ids of all pages of answers."""
    found, before = [], {}
    while before is not None:
        page = httpx.get(f"{url}/predictions", params=query | before, timeout=60)
        assert page.status_code == 200, page.text
        found += [one["prediction_id"] for one in page.json()["predictions"]]
        next_before = page.json()["next_before"]
        before = None if next_before is None else {"before": next_before}
    return found


def test_lines_are_answered_while_they_come(url, good_request):
    line = json.dumps(good_request).encode() + b"\n"
    port = httpx.URL(url).port
    with connected(port) as (connection,):
        connection.sendall(
            head("/zap/predict/batch", f"Content-Type: {NDJSON}", f"Content-Length: {2 * len(line)}") + line
        )
        received = b""
        while b"predicted_class" not in received:
            received += connection.recv(65536)
        connection.sendall(line)
        while received.count(b"predicted_class") < 2:
            received += connection.recv(65536)
    assert received.startswith(b"HTTP/1.1 200 ")


def test_without_the_proxy_it_answers_too(server, good_request):
    assert httpx.post(f"{server.url}/predict", json=good_request).status_code == 200
    assert httpx.post(f"{server.url}/zap/predict", json=good_request).status_code == 200
    assert httpx.get(f"{server.url}/zapper/health/live").status_code == 404


@pytest.mark.parametrize(
    ("sent", "prefix"), [("/other", "/other"), ("/a/b/", "/a/b"), ('/"><script>', "/zap"), ("//evil.example", "/zap")]
)
def test_a_trusted_proxy_says_the_prefix(server, sent, prefix):
    said = {"X-Forwarded-Prefix": sent, "X-Forwarded-Proto": "https", "X-Forwarded-Host": HOST}

    page = httpx.get(f"{server.url}/docs", headers=said)
    document = httpx.get(f"{server.url}/openapi.json", headers=said).json()

    assert f'src="{prefix}/docs/assets/docs.js"' in page.text
    assert document["servers"] == [{"url": prefix}]


def test_pages_have_the_prefix_in_their_addresses_and_cookies_that_only_https_sends(server):
    said = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": HOST}
    with httpx.Client(base_url=server.url, headers=said) as client:
        page = client.get("/zap/?a=1")

    addresses = re.findall(r'(?:src|href|action)="([^"#]+)"', page.text)
    assert len(addresses) > 10
    assert [one for one in addresses if not one.startswith("/zap/")] == []
    assert 'name="next" value="/?a=1"' in page.text
    cookie = page.headers["set-cookie"].lower()
    assert "path=/zap" in cookie
    assert "secure" in cookie
    for address in addresses:
        if "/assets/" in address:
            assert httpx.get(f"{server.url}{address}").status_code == 200
    token = re.search(r'name="token" value="([0-9a-f]+)"', page.text)[1]
    sent = {"token": token, "scheme": "dark", "next": "/?a=1"}
    visit = re.search(r"zap_visit=[^;]+", page.headers["set-cookie"])[0]
    reply = httpx.post(f"{server.url}/zap/pages/choices", data=sent, headers={**said, "Cookie": visit})
    assert (reply.status_code, reply.headers["location"]) == (303, "/zap/?a=1")


def test_what_others_say_counts_for_nothing(trained_sqlite):
    said = {"X-Forwarded-Prefix": "/evil", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    for settings in (trained_sqlite, trained_sqlite.model_copy(update={"trusted_proxies": "10.0.0.0/8"})):
        with client_of(settings) as client:
            assert "evil" not in client.get("/docs", headers=said).text
            assert client.get("/openapi.json", headers=said).json()["servers"] == [{"url": "/"}]


def test_pages_of_other_origins_are_allowed_by_name(server, good_request):
    for origin, allowed in ((ORIGIN, ORIGIN), ("https://evil.example", None), (f"{ORIGIN}.evil.example", None)):
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        asked["Access-Control-Request-Headers"] = "content-type, x-api-key"
        before = httpx.options(f"{server.url}/predict", headers=asked)
        assert (before.status_code == 204) == (allowed is not None)
        assert before.headers.get("access-control-allow-origin") == allowed
    reply = httpx.post(f"{server.url}/predict", json=good_request, headers={"Origin": ORIGIN})
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == ORIGIN
    assert httpx.post(f"{server.url}/predict", json={}, headers={"Origin": ORIGIN}).headers[
        "access-control-allow-origin"
    ] == ORIGIN  # fmt: skip


def test_by_default_no_page_of_another_origin_is_allowed(sqlite_client):
    reply = sqlite_client.get("/health/live", headers={"Origin": ORIGIN})

    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("prefix", ["/models", "/predict", "/docs", "/manual", "/pages"])
def test_a_prefix_that_is_a_route_is_refused(trained_sqlite, prefix):
    with pytest.raises(InvalidSettings, match="path of zap itself"):
        create_app(trained_sqlite.model_copy(update={"root_path": prefix}))
