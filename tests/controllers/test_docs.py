"""GET /docs and the OpenAPI document. The page in a real browser is in test_docs_browser.py."""

import re
import time

import pytest

from zap.ml.features import FEATURES


def document(client):
    return client.get("/openapi.json").json()


def predict_body(client):
    return document(client)["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]


def test_it_works(sqlite_client):
    page = sqlite_client.get("/docs")

    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    for path in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert path.startswith("/docs/assets/")
        assert sqlite_client.get(path).status_code == 200


def test_no_inline_script_is_allowed_nor_needed(sqlite_client):
    page = sqlite_client.get("/docs")

    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "script-src" not in policy
    assert "unsafe-inline" not in policy.replace("style-src 'self' 'unsafe-inline'", "")
    assert re.findall(r"<script(?![^>]*src=)", page.text) == []
    assert "http" not in page.text


def test_the_root_leads_there(sqlite_client):
    assert sqlite_client.get("/").url.path == "/docs"


def test_both_addresses_give_the_same_document(sqlite_client):
    assert sqlite_client.get("/docs/openapi.json").json() == document(sqlite_client)
    assert document(sqlite_client)["openapi"].startswith("3.1")


def test_the_document_is_made_once_a_version(sqlite_client):
    # Making the document takes tens of milliseconds, in which no other request is answered.
    first = document(sqlite_client)
    before = time.process_time()
    for path in ("/openapi.json", "/docs/openapi.json"):
        for _ in range(100):
            assert sqlite_client.get(path).status_code == 200
    asked = time.process_time() - before
    before = time.process_time()
    for _ in range(200):
        assert sqlite_client.get("/health/live").status_code == 200

    assert asked < 3 * (time.process_time() - before)
    production = sqlite_client.app.state.production
    contract = production.predictor.contract
    production.predictor.contract = {**contract, "fields": {**contract["fields"], "temperature_c": "ignored"}}
    assert document(sqlite_client) != first
    assert "temperature_c" not in predict_body(sqlite_client)["schema"]["required"]


def test_every_field_has_its_unit_and_range(sqlite_client):
    properties = predict_body(sqlite_client)["schema"]["properties"]

    for feature in FEATURES:
        field = properties[feature.name]
        assert feature.unit in field["description"]
        if feature.kind == "number":
            assert field["maximum"] == feature.maximum
            assert field.get("minimum", field.get("exclusiveMinimum")) == feature.minimum


def test_the_examples_answer_200(client):
    for example in predict_body(client)["examples"].values():
        assert client.post("/predict", json=example["value"]).status_code == 200


def test_it_shows_what_the_production_version_asks_for(sqlite_client, good_request):
    contract = sqlite_client.app.state.production.predictor.contract

    schema = predict_body(sqlite_client)["schema"]

    assert set(schema["required"]) == set(good_request)
    assert set(schema["properties"]["user_type"]["enum"]) == set(contract["categories"]["user_type"])
    nullable = {name for name, need in contract["fields"].items() if need == "nullable"} & set(good_request)
    assert nullable
    assert all("null" in schema["properties"][name]["type"] for name in nullable)
    assert all("null" not in schema["properties"][name]["type"] for name in set(good_request) - nullable)


def test_before_the_first_training_it_is_there_too(untrained_client):
    assert predict_body(untrained_client)["schema"]["required"] == []


def test_every_error_is_problem_details(sqlite_client):
    for path, methods in document(sqlite_client)["paths"].items():
        for method, operation in methods.items():
            for status, response in operation["responses"].items():
                if int(status) >= 400 and path != "/health/ready":
                    assert set(response["content"]) == {"application/problem+json"}, (path, method, status)


@pytest.mark.parametrize(
    "path", ["/docs/nothing", "/nothing", "/docs/assets/../../app.py", "/docs/assets/%2e%2e/app.py"]
)
def test_what_is_not_there_is_a_404(sqlite_client, path):
    reply = sqlite_client.get(path)

    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["request_id"] == reply.headers["x-request-id"] != ""
    assert sqlite_client.get("/health/ready").json()["refused_requests"] == 1
