"""Web pages of others in a real browser: they change nothing on a zap that runs on the visitor's machine."""

import contextlib
import http.server
import threading

import httpx
import pytest
from faults.clients import server_on

SEND = """async ([url, method, type]) => {
    const body = method === "DELETE" ? undefined : '{"promote": "never"}';
    const how = type ? {mode: "cors", headers: {"Content-Type": type}} : {mode: "no-cors"};
    try {
        return (await fetch(url, {method, body, ...how})).status;
    } catch (error) { return String(error); }
}"""
SUBMIT = """url => {
    const form = `<form method="post" enctype="text/plain" action="${url}">`;
    document.body.innerHTML = form + `<input name='{"why":"x","a' value='b"}'></form>`;
    document.forms[0].submit();
}"""
CHANGES = ["/models/rollback", "/models/1/promote", "/train-model", "/predict", "/predict/batch", "/charging-sessions"]


@pytest.fixture(scope="module")
def server(_trained_sqlite, tmp_path_factory):
    with contextlib.closing(server_on(_trained_sqlite, tmp_path_factory.mktemp("pages"))) as server:
        yield server.wait()


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>a page</title>")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def other_site():
    """The port of a web server of somebody else."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["http://evil.example", "http://localhost", "http://127.0.0.1"])
def page(browser, request, other_site):
    """A page of another site, and of other ports of this machine."""
    page = browser.new_page()
    page.goto(f"{request.param}:{other_site}/")
    yield page
    page.close()


def changed(server):
    """What a page might have changed."""
    return [
        httpx.get(f"{server.url}{path}", params={"limit": 1}).json()
        for path in ("/models/history", "/training-runs", "/models")
    ]


def predictions(server, good_request):
    return httpx.post(f"{server.url}/predict", json=good_request).json()["prediction_id"]


def test_a_page_of_another_site_changes_nothing(server, page, good_request):
    before, last = changed(server), predictions(server, good_request)

    for host in ("127.0.0.1", "localhost"):
        for path in CHANGES:
            for kind in (None, "application/json"):
                page.evaluate(SEND, [f"http://{host}:{server.port}{path}", "POST", kind])
        page.evaluate(SEND, [f"http://{host}:{server.port}/training-runs/1", "DELETE", "text/plain"])
        with page.expect_navigation():
            page.evaluate(SUBMIT, f"http://{host}:{server.port}/models/rollback")
        assert "cross-site-request" in page.content()
        page.go_back()

    assert changed(server) == before
    assert predictions(server, good_request) == last + 1


def test_a_name_that_leads_to_this_machine_reads_and_changes_nothing(server, browser):
    # The browser treats such a page as a page of zap (DNS rebinding).
    before = changed(server)
    page = browser.new_page()
    reply = page.goto(f"http://evil.example:{server.port}/docs")
    assert reply.status == 421

    for path in ("/models", "/predictions/1", "/openapi.json", "/health/ready"):
        assert page.evaluate(SEND.replace("body, ", ""), [path, "GET", "application/json"]) == 421
    for path in CHANGES:
        assert page.evaluate(SEND, [path, "POST", "application/json"]) == 421
    page.close()

    assert changed(server) == before


def test_the_documentation_itself_may_ask(server, browser):
    page = browser.new_page()
    for host in ("127.0.0.1", "localhost"):
        page.goto(f"http://{host}:{server.port}/docs")
        assert page.evaluate(SEND, ["/models/rollback", "POST", "application/json"]) == 422
    page.close()
