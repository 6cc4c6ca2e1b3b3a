"""Explanations over HTTP: with an answer, with the rows of a batch, and of a stored prediction."""

import asyncio
import json
import statistics
import threading
import time

import httpx
import numpy as np
import pytest
from conftest import client_of
from sqlalchemy import text

from zap.controllers import batches
from zap.db.engine import write_transaction
from zap.db.tables import InferenceInput, Prediction
from zap.flows import explanations

DRIVER = "sample-1-00003"
TIMES = {"charging_start_time": "2024-05-01T18:00:00"}


def check_sums(explanation, probabilities):
    """Check that an explanation belongs to these probabilities, and that it adds up."""
    best = sorted(probabilities, key=lambda name: -probabilities[name])
    assert [explanation["predicted_class"], explanation["runner_up"]] == best[:2]
    ratio = np.log(probabilities[best[0]] / probabilities[best[1]])
    assert explanation["log_ratio"] == pytest.approx(ratio, abs=1e-9)
    assert sum(explanation["groups"].values()) + explanation["averaging"] == pytest.approx(ratio, abs=1e-9)
    assert 1 <= len(explanation["reasons"]) <= 4
    assert "because" not in json.dumps(explanation).lower()


def test_it_works(client, good_request, rows):
    """Check that an explanation changes neither the answer nor the stored row, and that the whole request is logged."""
    asked = good_request | TIMES | {"user_id": DRIVER}
    plain = client.post("/predict", json=asked).json()
    body = json.dumps(asked | {"explain": True}, indent=1)

    reply = client.post("/predict", content=body, headers={"Content-Type": "application/json"})

    answer = reply.json()
    explanation = answer.pop("explanation")
    assert answer.keys() == plain.keys()
    assert answer["probabilities"] == plain["probabilities"]
    check_sums(explanation, answer["probabilities"])
    assert [part["name"] for part in explanation["parts"]] == ["trees", "logistic"]
    assert explanation["new_driver"] is False
    # The medians of the training sessions are the usual values.
    assert [one["usual"] for one in explanation["reasons"] if one["group"] == "charge_and_distance"] != [None]
    assert rows(client.app, InferenceInput)[-1]["input_data_json"] == body
    before, after = rows(client.app, Prediction)[-2:]
    assert (before["features"], before["probabilities"]) == (after["features"], after["probabilities"])

    stored = client.get(f"/predictions/{answer['prediction_id']}/explanation")
    earlier = client.get(f"/predictions/{plain['prediction_id']}/explanation")

    assert stored.json() == {
        "prediction_id": answer["prediction_id"],
        "model_version": 1,
        "probabilities": answer["probabilities"],
        "explanation": explanation,
    }
    assert earlier.json()["explanation"] == explanation


def test_a_request_that_does_not_ask_gets_none(sqlite_client, good_request):
    for fields in ({}, {"explain": False}):
        assert (
            not {"explanation", "explanation_missing"}
            & sqlite_client.post("/predict", json=good_request | fields).json().keys()
        )


def test_a_new_driver_is_told_that_the_usual_mix_was_answered(sqlite_client, good_request):
    answer = sqlite_client.post("/predict", json=good_request | {"explain": True}).json()

    explanation = answer["explanation"]
    check_sums(explanation, answer["probabilities"])
    assert explanation["new_driver"] is True
    trees, mix = explanation["parts"]
    assert (trees["name"], mix["name"]) == ("trees", "usual_mix")
    assert trees["weight"] + mix["weight"] == pytest.approx(1)
    assert "the usual mix of charger types was answered" in explanation["weights_in_words"]
    assert {name: added for name, added in mix["groups"].items() if added} == {"usual_mix": mix["log_ratio"]}


@pytest.mark.parametrize("value", ["yes", "true", None, 1, 0, 1.0, [], {}, [True]])
def test_explain_is_true_or_false(shared_client, good_request, rows, value):
    before = len(rows(shared_client.app, InferenceInput))

    alone = shared_client.post("/predict", json=good_request | {"explain": value})
    batch = shared_client.post("/predict/batch", json={"inputs": [good_request, good_request | {"explain": value}]})

    for reply, pointer in ((alone, "#/explain"), (batch, "#/inputs/1/explain")):
        assert reply.status_code == 422
        assert reply.headers["content-type"] == "application/problem+json"
        (error,) = reply.json()["errors"]
        assert error["pointer"] == pointer
        assert error["detail"].startswith("must be true or false, not ")
    assert len(rows(shared_client.app, InferenceInput)) == before


def test_explain_twice_is_refused(sqlite_client, good_request):
    body = json.dumps(good_request)[:-1] + ', "explain": true, "explain": true}'

    reply = sqlite_client.post("/predict", content=body, headers={"Content-Type": "application/json"})

    assert reply.json()["errors"] == [{"pointer": "#/explain", "detail": "appears more than once"}]


def csv_of(requests):
    names = [*dict.fromkeys([*requests[0], "explain"])]
    cells = [[str(one.get(name, "")) for name in names] for one in requests]
    return "\n".join(",".join(line) for line in [names, *cells])


@pytest.mark.parametrize("kind", ["application/json", "text/csv", "application/x-ndjson"])
def test_rows_of_a_batch_are_explained(client, good_request, rows, kind):
    asked = [
        good_request | TIMES | {"user_id": DRIVER, "explain": True},
        good_request | TIMES | {"user_id": DRIVER},
        good_request | TIMES | {"user_id": "nobody", "explain": True},
        *(good_request | TIMES | {"user_id": DRIVER, "temperature_c": n, "explain": n % 2 == 0} for n in range(20)),
    ]
    body = {
        "application/json": lambda: json.dumps({"inputs": asked}),
        "text/csv": lambda: csv_of(asked),
        "application/x-ndjson": lambda: "\n".join(map(json.dumps, asked)),
    }[kind]()

    reply = client.post("/predict/batch", content=body, headers={"Content-Type": kind})

    assert reply.status_code == 200
    found = [*map(json.loads, reply.text.splitlines())] if "ndjson" in kind else reply.json()["predictions"]
    wanted = [one.get("explain", False) for one in asked]
    assert ["explanation" in one for one in found] == wanted
    for one in found:
        if "explanation" in one:
            check_sums(one["explanation"], one["probabilities"])
            alone = client.get(f"/predictions/{one['prediction_id']}/explanation").json()
            assert alone["explanation"] == one["explanation"]
    logged = [json.loads(row["input_data_json"]) for row in rows(client.app, InferenceInput)[-len(asked) :]]
    assert [one.get("explain", False) for one in logged] == wanted


def test_a_body_with_too_many_explanations_is_refused_before_it_is_logged(
    sqlite_client, good_request, rows, monkeypatch
):
    monkeypatch.setattr(batches, "MOST_EXPLAINED", 3)
    asked = [good_request | {"explain": True}] * 4
    before = len(rows(sqlite_client.app, InferenceInput))

    reply = sqlite_client.post("/predict/batch", json={"inputs": asked})

    assert reply.status_code == 413
    assert reply.json()["type"] == "urn:zap:problem:batch-too-large"
    assert len(rows(sqlite_client.app, InferenceInput)) == before
    assert sqlite_client.post("/predict/batch", json={"inputs": asked[:3]}).status_code == 200
    lines = "\n".join(map(json.dumps, asked))
    stream = sqlite_client.post("/predict/batch", content=lines, headers={"Content-Type": "application/x-ndjson"})
    assert all("explanation" in json.loads(line) for line in stream.text.splitlines())


@pytest.mark.parametrize("number", [0, 10**9, 2**63, "x", "1_0", "+5", "01"])
def test_the_explanation_of_what_is_not_there_is_a_404(shared_client, number):
    reply = shared_client.get(f"/predictions/{number}/explanation")

    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/problem+json"


def test_a_prediction_of_a_training_has_no_explanation(client):
    reply = client.get("/predictions/1/explanation")

    assert reply.status_code == 404
    assert "has no stored features" in reply.json()["detail"]


def test_an_earlier_version_explains_its_own_predictions(client, good_request, zap_command):
    answer = client.post("/predict", json=good_request | TIMES | {"user_id": DRIVER, "explain": True}).json()
    settings = client.app.state.settings
    assert zap_command("train", "--set", "n_estimators=10", settings=settings).returncode == 0
    client.app.state.production.refresh()
    assert client.post("/predict", json=good_request).json()["model_version"] == 2

    found = client.get(f"/predictions/{answer['prediction_id']}/explanation").json()

    assert found["model_version"] == 1
    assert found["explanation"] == answer["explanation"]


def test_a_version_that_cannot_be_read_is_named(client, good_request):
    answer = client.post("/predict", json=good_request | {"explain": True}).json()
    with write_transaction(client.app.state.engine) as connection:
        connection.execute(text("UPDATE predictions SET model_version = 7 WHERE source = 'inference'"))

    reply = client.get(f"/predictions/{answer['prediction_id']}/explanation")

    assert reply.status_code == 404
    assert "version 7, which predicted, cannot be read (there is no model version 7)" in reply.json()["detail"]


def test_a_pruned_version_is_named(sqlite_client, good_request):
    answer = sqlite_client.post("/predict", json=good_request).json()
    with write_transaction(sqlite_client.app.state.engine) as connection:
        connection.execute(text("UPDATE model_versions SET artefact = NULL, sha256 = 'pruned'"))

    reply = sqlite_client.get(f"/predictions/{answer['prediction_id']}/explanation")

    assert reply.status_code == 404
    assert "version 1, which predicted, cannot be read (the artefact of version 1 was pruned" in reply.json()["detail"]


def test_a_stored_row_of_another_model_is_a_problem(sqlite_client, good_request):
    answer = sqlite_client.post("/predict", json=good_request).json()
    with write_transaction(sqlite_client.app.state.engine) as connection:
        connection.execute(text("UPDATE predictions SET features = x'0000000000000000' WHERE source = 'inference'"))

    reply = sqlite_client.get(f"/predictions/{answer['prediction_id']}/explanation")

    assert reply.status_code == 503
    assert "1 numbers" in reply.json()["detail"]


def test_a_version_of_an_older_zap_explains_without_usual_values(trained, good_request):
    """Remove the importances and usual values, which an older zap did not store with a version."""
    with client_of(trained) as client:
        drop_measured(client.app.state.engine)
        explanation = client.post("/predict", json=good_request | {"explain": True}).json()["explanation"]
        version = client.get("/models/1").json()

    assert {one["usual"] for one in explanation["reasons"] if one["group"] in {"time", "weather", "vehicle"}} <= {None}
    assert (version["importances"], version["usual_values"], version["tested"]) == (None, None, None)


def drop_measured(engine):
    with write_transaction(engine) as connection:
        stored = connection.execute(text("SELECT evaluation FROM model_versions")).scalar_one()
        scores = json.loads(stored) if isinstance(stored, str) else stored
        for name in ("importances", "usual_values", "tested"):
            del scores[name]
        connection.execute(text("UPDATE model_versions SET evaluation = :scores"), {"scores": json.dumps(scores)})


def test_the_importances_of_a_version_are_shown(client):
    version = client.get("/models/1").json()

    importances = version["importances"]
    assert 0 < importances["sessions"] <= 200
    assert list(importances["columns"]) != version["columns"]
    assert sorted(importances["columns"]) == sorted(version["columns"])
    assert sum(one["gain"] for one in importances["columns"].values()) == pytest.approx(1)
    assert "importances" not in version["evaluation"]
    assert version["tested"]["sessions"] == version["test_samples"]
    assert version["tested"]["from"] > version["trained_until"]


def test_an_answer_is_sent_without_an_explanation_that_fails_or_is_late(sqlite_client, good_request, monkeypatch):
    hold = threading.Event()
    asked = good_request | {"explain": True}

    def fail(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(explanations.VersionExplainer, "explain", fail)
        failed = sqlite_client.post("/predict", json=asked)
    with monkeypatch.context() as patch:
        patch.setattr(explanations.VersionExplainer, "explain", lambda *_: hold.wait(20))
        patch.setattr("zap.flows.prediction.PATIENCE_SECONDS", 0.5)
        late = sqlite_client.post("/predict", json=asked)
        hold.set()

    for reply in (failed, late):
        assert reply.status_code == 200
        answer = reply.json()
        assert answer["explanation"] is None
        assert "GET /predictions/{prediction_id}/explanation gives it later" in answer["explanation_missing"]
        later = sqlite_client.get(f"/predictions/{answer['prediction_id']}/explanation")
        assert later.json()["explanation"]["predicted_class"] == answer["predicted_class"]


def test_only_so_many_callers_wait(sqlite_client, good_request, monkeypatch):
    answer = sqlite_client.post("/predict", json=good_request).json()
    monkeypatch.setattr(explanations, "MOST_WAITING", 0)

    stored = sqlite_client.get(f"/predictions/{answer['prediction_id']}/explanation")
    asked = sqlite_client.post("/predict", json=good_request | {"explain": True})

    assert stored.status_code == 503
    assert stored.json()["type"] == "urn:zap:problem:too-busy"
    assert asked.status_code == 200
    assert "0 callers already wait" in asked.json()["explanation_missing"]


def test_other_requests_are_answered_while_an_explanation_runs(sqlite_client, good_request, monkeypatch):
    begun, hold, replies = threading.Event(), threading.Event(), []
    explain = explanations.VersionExplainer.explain

    def waiting(*arguments):
        begun.set()
        assert hold.wait(20)
        return explain(*arguments)

    monkeypatch.setattr(explanations.VersionExplainer, "explain", waiting)
    asked = good_request | {"explain": True}
    asking = threading.Thread(target=lambda: replies.append(sqlite_client.post("/predict", json=asked)))
    asking.start()
    assert begun.wait(20)

    for _ in range(20):
        assert sqlite_client.post("/predict", json=good_request).status_code == 200
    assert sqlite_client.post("/predict/batch", json={"inputs": [good_request] * 20}).status_code == 200
    assert replies == []
    hold.set()
    asking.join()

    assert replies[0].json()["explanation"]["predicted_class"]


def test_explanations_do_not_slow_other_requests(server, good_request):
    """Compare the latency of a plain request beside an explained request and beside another plain request.

    Both cases take turns, request by request, because the speed of a loaded machine changes.
    """
    seconds = {False: [], True: []}
    lasting = []

    async def timed(client, fields):
        begin = time.perf_counter()
        reply = await client.post("/predict", json=good_request | fields)
        assert reply.status_code == 200
        assert ("explanation" in reply.json()) == bool(fields)
        return time.perf_counter() - begin

    async def run():
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            await asyncio.gather(timed(client, {}), timed(client, {"explain": True}))
            for turn in range(300):
                explained = turn % 2 == 1
                other = asyncio.create_task(timed(client, {"explain": True} if explained else {}))
                # The other request is answered now, and its explanation begins.
                await asyncio.sleep(0.003)
                seconds[explained].append(await timed(client, {}))
                lasting.append((await other, explained))

    asyncio.run(run())

    plain, beside = (statistics.median(seconds[explained]) for explained in (False, True))
    whole = statistics.median(one for one, explained in lasting if explained)
    print(f"a plain request: {plain * 1000:.2f} ms beside a plain one, {beside * 1000:.2f} ms beside an explained one"
          f" (ratio {beside / plain:.2f}); an explained request: {whole * 1000:.2f} ms")  # fmt: skip
    assert beside < 2.5 * plain
