"""GET /docs and the OpenAPI document. The page in a real browser is in test_docs_browser.py."""

import json
import re
import time

import pytest
from sqlalchemy import func, text, update

from zap.controllers import docs, openapi
from zap.db.engine import write_transaction
from zap.db.monitoring.alarms import raise_alarm
from zap.db.tables import User
from zap.formats.values import LONGEST_SESSION_TEXT, LONGEST_TEXT
from zap.ml.features import FEATURES


def document(client):
    return client.get("/openapi.json").json()


def body(client, path, kind="application/json"):
    return document(client)["paths"][path]["post"]["requestBody"]["content"][kind]


def predict_schema(client):
    assert body(client, "/predict")["schema"] == {"$ref": "#/components/schemas/PredictRequest"}
    return document(client)["components"]["schemas"]["PredictRequest"]


def test_it_works(shared_client):
    page = shared_client.get("/docs")

    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    for path in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert path.startswith("/docs/assets/")
        assert shared_client.get(path).status_code == 200


def test_no_inline_script_is_allowed_nor_needed(shared_client):
    page = shared_client.get("/docs")

    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "script-src" not in policy
    assert "unsafe-inline" not in policy.replace("style-src 'self' 'unsafe-inline'", "")
    assert re.findall(r"<script(?![^>]*src=)", page.text) == []
    assert "http" not in page.text


def test_both_addresses_give_the_same_document(shared_client):
    assert shared_client.get("/docs/openapi.json").json() == document(shared_client)
    assert document(shared_client)["openapi"].startswith("3.1")


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

    # A document made for each request would take fifty times as long.
    assert asked < 10 * (time.process_time() - before)
    production = sqlite_client.app.state.production
    contract = production.predictor.contract
    production.predictor.contract = {**contract, "fields": {**contract["fields"], "temperature_c": "ignored"}}
    assert document(sqlite_client) != first
    assert "temperature_c" not in predict_schema(sqlite_client)["required"]


def test_every_field_has_its_unit_and_range(shared_client):
    properties = predict_schema(shared_client)["properties"]

    for feature in FEATURES:
        field = properties[feature.name]
        assert feature.unit in field["description"]
        if feature.kind == "number":
            assert field["maximum"] == feature.maximum
            assert field.get("minimum", field.get("exclusiveMinimum")) == feature.minimum


def test_the_examples_answer_200(client):
    examples = body(client, "/predict")["examples"]
    sample, stranger = (client.post("/predict", json=example["value"]).json() for example in examples.values())

    assert (sample["history_sessions"] > 0, stranger["history_sessions"]) == (True, 0)
    for kind in ("application/json", "text/csv", "application/x-ndjson"):
        ((_, example),) = body(client, "/predict/batch", kind)["examples"].items()
        content = example["value"] if isinstance(example["value"], str) else json.dumps(example["value"])
        reply = client.post("/predict/batch", content=content, headers={"Content-Type": kind})
        assert reply.status_code == 200, reply.text
        assert reply.text.count("predicted_class") == 2
        assert '"history_sessions":0' in reply.text
        assert re.search('"history_sessions":[1-9]', reply.text)


def test_without_a_sample_history_the_examples_name_nobody(sqlite_client):
    with sqlite_client.app.state.engine.begin() as connection:
        connection.execute(update(User).values(user_id="driver-" + User.user_id))
    examples = [example["value"] for example in body(sqlite_client, "/predict")["examples"].values()]

    assert [example.get("user_id") for example in examples] == [None]
    assert sqlite_client.post("/predict", json=examples[0]).status_code == 200
    for report in body(sqlite_client, "/charging-sessions")["examples"].values():
        assert sqlite_client.post("/charging-sessions", json=report["value"]).status_code == 200


def test_no_real_driver_is_named(sqlite_client):
    """A real driver whose id begins like the ids of the sample is in no example, because anybody may read them."""
    with sqlite_client.app.state.engine.begin() as connection:
        connection.execute(update(User).values(user_id="sample-ann-" + func.substr(User.user_id, -5)))

    assert "sample-ann" not in sqlite_client.get("/openapi.json").text


def test_the_examples_follow_the_database(sqlite_client, monkeypatch):
    monkeypatch.setattr(docs, "_FRESH_SECONDS", 0)
    assert len(body(sqlite_client, "/predict")["examples"]) == 2
    with sqlite_client.app.state.engine.begin() as connection:
        connection.execute(update(User).values(user_id="driver-" + User.user_id))
    assert len(body(sqlite_client, "/predict")["examples"]) == 1
    # Without the database the document stays as it was.
    with sqlite_client.app.state.engine.begin() as connection:
        connection.execute(text("ALTER TABLE training_runs RENAME TO away"))
    assert len(body(sqlite_client, "/predict")["examples"]) == 1


def test_the_ids_of_paths_are_answered(sqlite_client, good_request):
    # The example of an explanation names the answer to the first request.
    assert sqlite_client.post("/predict", json=good_request).status_code == 200
    # The example of a removal names the session of the example reports.
    report = next(iter(body(sqlite_client, "/charging-sessions")["examples"].values()))["value"]
    assert sqlite_client.post("/charging-sessions", json=report).status_code == 200
    with write_transaction(sqlite_client.app.state.engine) as connection:
        raise_alarm(connection, "harm", "version 1", "it is worse", None, posts=False)
    operations = [
        (method, path, operation)
        for path, methods in document(sqlite_client)["paths"].items()
        for method, operation in methods.items()
    ]
    # What removes something comes last.
    for method, path, operation in sorted(operations, key=lambda one: one[0] == "delete"):
        ids = {one["name"]: one["example"] for one in operation.get("parameters", ()) if one["in"] == "path"}
        # What ends a training; trials, which another version than the one in production needs; and keys, of which the
        # first one closes all routes.
        left_out = "trial" in path or "keys" in path or (method, path) == ("delete", "/training-runs/{run_id}")
        if ids and not left_out:
            expected = 204 if path.startswith("/charging-sessions") else 200
            needed = {"json": {"who": "ann"}} if operation.get("requestBody", {}).get("required") else {}
            assert sqlite_client.request(method, path.format(**ids), **needed).status_code == expected, path


def test_it_shows_what_the_production_version_asks_for(shared_client, good_request):
    contract = shared_client.app.state.production.predictor.contract

    schema = predict_schema(shared_client)

    assert set(schema["required"]) == {"state_of_charge_start", "distance_driven_km", "temperature_c"}
    assert schema["properties"]["user_type"]["examples"] == list(contract["categories"]["user_type"])
    # A training changes what is known, and no client has to be generated again.
    assert "enum" not in schema["properties"]["user_type"]
    nullable = {name for name, need in contract["fields"].items() if need == "nullable"} & set(good_request)
    assert nullable
    assert all("null" in schema["properties"][name]["type"] for name in nullable)
    # The start may be null too, which means now.
    required = {one.name for one in FEATURES if contract["fields"][one.name] == "required" and not one.context}
    assert required
    assert all("null" not in schema["properties"][name]["type"] for name in required)


def test_before_the_first_training_it_is_there_too(untrained_client):
    assert predict_schema(untrained_client)["required"] == []


def test_every_error_is_problem_details(shared_client):
    for path, methods in document(shared_client)["paths"].items():
        for method, operation in methods.items():
            for status, response in operation["responses"].items():
                if int(status) >= 400 and path != "/health/ready":
                    assert set(response["content"]) == {"application/problem+json"}, (path, method, status)


@pytest.mark.parametrize(
    "path", ["/docs/nothing", "/nothing", "/docs/assets/../../app.py", "/docs/assets/%2e%2e/app.py"]
)
def test_what_is_not_there_is_a_404(shared_client, path):
    before = shared_client.get("/health/ready").json()["refused_requests"]

    reply = shared_client.get(path)

    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["request_id"] == reply.headers["x-request-id"] != ""
    assert shared_client.get("/health/ready").json()["refused_requests"] == before + 1


def walked(schema, place="#"):
    """Every part of a document that is an object, with its place."""
    if isinstance(schema, dict):
        yield place, schema
        for name, part in schema.items():
            yield from walked(part, f"{place}/{name}")
    elif isinstance(schema, list):
        for number, part in enumerate(schema):
            yield from walked(part, f"{place}/{number}")


def test_the_groups_are_in_the_order_of_the_story_each_with_a_sentence(shared_client):
    tags = document(shared_client)["tags"]

    names = ["predictions", "sessions", "drivers", "training", "models", "quality", "serving"]
    names += ["alarms", "audit", "keys", "health"]
    assert [tag["name"] for tag in tags] == names
    used = {
        tag for methods in document(shared_client)["paths"].values() for one in methods.values() for tag in one["tags"]
    }
    assert used == {tag["name"] for tag in tags}
    for tag in tags:
        assert tag["description"].endswith(".")
        assert shared_client.get(tag["externalDocs"]["url"]).status_code == 200


def test_the_routes_are_in_the_order_of_their_groups(shared_client):
    whole = document(shared_client)

    # A route that nobody has placed would come after the last group.
    assert set(whole["paths"]) == set(openapi._ORDER)
    groups = [one["tags"][0] for methods in whole["paths"].values() for one in methods.values()]
    names = [tag["name"] for tag in whole["tags"]]
    assert groups == sorted(groups, key=names.index)
    paths = list(whole["paths"])
    for first, later in (("/predict", "/predict/batch"), ("/quality", "/quality/data"), ("/alarms", "/health/live")):
        assert paths.index(first) < paths.index(later)


def test_every_body_has_a_name(shared_client):
    whole = document(shared_client)
    for path, methods in whole["paths"].items():
        for operation in methods.values():
            for kind, content in operation.get("requestBody", {"content": {}})["content"].items():
                assert list(content["schema"]) == ["$ref"] or kind != "application/json", path
    # Elsewhere no object is described without a name, except maps.
    inline = [
        place
        for place, schema in walked(whole)
        if "properties" in schema and place.rpartition("/")[0] != "#/components/schemas" and "examples" not in place
    ]
    assert inline == []


def test_a_text_without_an_offset_is_no_date_time(shared_client):
    schemas = document(shared_client)["components"]["schemas"]
    requests = ("PredictRequest", "ChargingSession", "TrainingOptions")

    assert [place for name in requests for place, one in walked(schemas[name]) if "format" in one] == []
    for name, field in (
        ("PredictRequest", "charging_start_time"),
        ("ChargingSession", "charging_end_time"),
        ("TrainingOptions", "history_from"),
    ):
        schema = schemas[name]["properties"][field]
        for time_ in ("2026-03-02T18:30:00", "2026-03-02 18:30", "2026-03-02T18:30:00.5+01:00", "2026-03-02T18:30Z"):
            assert re.search(schema["pattern"], time_)
        for time_ in ("now", "2026-13-02T18:30:00", "2026-03-02T25:30"):
            assert not re.search(schema["pattern"], time_)


def test_the_report_of_a_run_names_its_types(shared_client):
    schema = document(shared_client)["components"]["schemas"]["RunDetail"]["properties"]["report"]

    named = [one["$ref"].rpartition("/")[2] for one in schema["anyOf"] if "$ref" in one]
    assert named == ["TrainReply", "Problem"]


def test_every_text_says_what_characters_it_may_have(shared_client):
    schemas = document(shared_client)["components"]["schemas"]
    for name in ("PredictRequest", "ChargingSession", "TrainingOptions", "Reason"):
        for place, schema in walked(schemas[name]):
            if "string" in schema.get("type", ()) and "enum" not in schema:
                assert schema["maxLength"] in {LONGEST_SESSION_TEXT, LONGEST_TEXT}, place
                assert not re.search(schema["pattern"], "a\x00b"), place


def test_every_number_of_a_parameter_has_its_range(shared_client):
    found = [one for place, one in walked(document(shared_client)["paths"]) if "in" in one and "schema" in one]
    numbers = [one for one in found if one["schema"].get("type") == "integer"]

    ids = {"prediction_id", "run_id", "model_version", "alarm_id", "trial_id", "version", "input_id"}
    assert {one["name"] for one in numbers} == {"limit", "before"} | ids
    assert all({"minimum", "maximum"} <= one["schema"].keys() for one in numbers)
