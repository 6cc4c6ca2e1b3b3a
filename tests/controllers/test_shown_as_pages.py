"""Browsers that ask for a JSON route get its page; programs get JSON as before."""

import re

import pytest
from litestar import Litestar, get
from litestar.params import FromPath
from litestar.testing import TestClient

from zap.controllers.proxy import behind_proxy
from zap.controllers.shown_as_pages import PAGES, shown_as_pages
from zap.settings import Settings

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@get("/quality")
async def quality() -> dict[str, int]:
    return {"sessions": 1}


@get("/pages/quality")
async def quality_page() -> str:
    return "page"


@get("/models/{model_version:int}")
async def model(model_version: FromPath[int]) -> dict[str, int]:
    return {"model_version": model_version}


@get("/pages/models/{number:str}")
async def model_page(number: FromPath[str]) -> str:
    return number


@get("/models")
async def models() -> dict[str, int]:
    return {"without a page": 1}


def asked(path, accept, settings=None, method="GET"):
    app = Litestar([quality, quality_page, model, model_page, models], openapi_config=None)
    wrapped = shown_as_pages(app.asgi_handler, app.routes)
    app.asgi_handler = behind_proxy(wrapped, settings or Settings())
    headers = [(b"accept", one.encode("latin-1")) for one in ([accept] if isinstance(accept, str) else accept)]
    with TestClient(app) as client:
        client.headers.pop("accept")
        return client.request(method, path, headers=headers, follow_redirects=False)


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("/quality", "/pages/quality"),
        ("/quality/", "/pages/quality"),
        ("/quality?version=2&by=day", "/pages/quality?version=2&by=day"),
        ("/models/12", "/pages/models/12"),
    ],
)
def test_a_browser_is_sent_to_the_page(path, page):
    reply = asked(path, BROWSER)

    assert (reply.status_code, reply.headers["location"], reply.headers["vary"]) == (303, page, "Accept")
    assert reply.content == b""


@pytest.mark.parametrize(
    "accept",
    [
        [],
        "*/*",
        "application/json",
        "application/json, text/html",
        "application/json, text/html, application/xhtml+xml",
        "text/*",
        "text/html;q=0.5, */*",
        # Java's HttpURLConnection, and jQuery for pieces of pages.
        "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
        "text/html, */*; q=0.01",
        "\xff",
        ";;q=,",
    ],
)
def test_programs_get_json(accept):
    reply = asked("/quality", accept)

    assert (reply.status_code, reply.json()) == (200, {"sessions": 1})
    assert "vary" not in reply.headers


@pytest.mark.parametrize("query", ["kind=backtest", "version=2&as=json"])
def test_a_page_that_would_show_something_else_is_not_shown(query):
    assert asked(f"/quality?{query}", BROWSER).json() == {"sessions": 1}


def test_a_list_of_accept_headers_is_one_list():
    assert asked("/quality", ["application/xhtml+xml;q=0.5", "text/html"]).status_code == 303


def test_a_route_without_a_page_stays_json():
    assert asked("/models", BROWSER).json() == {"without a page": 1}


@pytest.mark.parametrize("path", ["/models/x", "/models/1/2", "/models/²", "/"])
def test_other_paths_are_not_sent_anywhere(path):
    assert asked(path, BROWSER).status_code == 404


def test_only_get_is_sent_to_a_page():
    assert asked("/quality", BROWSER, method="POST").status_code == 405


def test_the_prefix_of_a_proxy_is_kept():
    reply = asked("/zap/quality", BROWSER, Settings(root_path="/zap"))

    assert reply.headers["location"] == "/zap/pages/quality"


def test_all_routes_exist_and_lead_to_the_pages_of_this_application(sqlite_client):
    paths = {re.sub(r"{[^}]*}", "{}", route.path_format) for route in sqlite_client.app.routes}

    assert set(PAGES) <= paths
    for path, shown in PAGES.items():
        if shown.page in paths:
            asked_path, asked_page = path.format(1), shown.page.format(1)
            reply = sqlite_client.get(asked_path, headers={"accept": BROWSER}, follow_redirects=False)
            assert (reply.status_code, reply.headers["location"]) == (303, asked_page)
            assert {"x-request-id", "cache-control", "vary"} <= set(reply.headers)
            reply = sqlite_client.head(asked_path, headers={"accept": BROWSER}, follow_redirects=False)
            assert reply.status_code == 303
