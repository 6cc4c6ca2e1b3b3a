"""A driver whose id is a number is one driver, in every format of a history and of a request."""

import json
import struct

import numpy as np
import pandas as pd
import pytest
from conftest import client_of
from histories import add_sessions, session_row
from sqlalchemy import select

from zap.db.engine import create_engine
from zap.db.history.history_rows import SESSIONS
from zap.db.tables import InferenceInput, Prediction
from zap.db.versions.production import Production
from zap.flows.file_prediction import FilePrediction
from zap.flows.history_import import import_history

HISTORIES = {
    "text.csv": ["7", ""], "float.csv": ["7.0", ""],
    "number.json": [7, None], "float.json": [7.0, None], "text.json": ["7", None],
    "int.parquet": [7, 7], "float.parquet": [7.0, np.nan], "text.parquet": ["7", None],
}  # fmt: skip
ASKED = {
    "int.csv": [7, 7], "float.csv": [7.0, np.nan], "int.parquet": [7, 7], "float.parquet": [7.0, np.nan],
    "text.parquet": ["7", None], "number.ndjson": [7, None], "float.ndjson": [7.0, None], "text.ndjson": ["7", None],
}  # fmt: skip


def write(path, rows):
    frame = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_one_driver_in_all_formats(trained_sqlite, good_request, tmp_path):
    engine = create_engine(trained_sqlite.database_url)
    for day, (name, ids) in enumerate(HISTORIES.items(), 1):
        rows = [{"user_id": one, "charger_type": "Level 2", "charging_start_time": f"2026-01-{day:02} 1{hour}:00:00"}
                for hour, one in enumerate(ids)]  # fmt: skip
        import_history(engine, write(tmp_path / name, rows), wall_time=trained_sqlite.wall_time)
    with engine.connect() as connection:
        stored = connection.scalars(select(SESSIONS.c.user_id).where(SESSIONS.c.user_id.like("7%"))).all()
    # The file of whole numbers has the driver in both rows.
    assert set(stored) == {"7"}
    past = len(stored)
    assert past == len(HISTORIES) + 1

    production = Production(engine, trained_sqlite.model_file)
    production.refresh()
    files = FilePrediction(engine, production.predictor, trained_sqlite.wall_time)
    sessions, size = production.predictor.columns.index("sessions"), len(production.predictor.columns)
    found = {}
    for name, ids in ASKED.items():
        rows = [good_request | {"user_id": one, "vehicle_id": 1.0, "charging_start_time": "2026-05-01T10:00:00"}
                for one in ids]  # fmt: skip
        files.predict(write(tmp_path / f"asked-{name}", rows), tmp_path / f"out-{name}", skip=False)
        with engine.connect() as connection:
            newest = select(Prediction.features).order_by(Prediction.prediction_id.desc()).limit(len(ids))
            first = connection.scalars(newest).all()[-1]
        found[name] = struct.unpack(f"<{size}d", first)[sessions]
    engine.dispose()

    assert found == dict.fromkeys(ASKED, past)
    with client_of(trained_sqlite) as client:
        body = good_request | {"charging_start_time": "2026-05-01T10:00:00"}
        for text in ("7", "7.0", " 7", "7\u00a0"):
            assert client.post("/predict", json=body | {"user_id": text}).json()["history_sessions"] == past
            csv = f"{','.join(body)},user_id\n{','.join(map(str, body.values()))},{text}\n"
            reply = client.post("/predict/batch", content=csv.encode(), headers={"Content-Type": "text/csv"})
            assert reply.json()["predictions"][0]["history_sessions"] == past
        assert client.post("/predict", json=body | {"user_id": 7}).status_code == 422


def report(client, **fields):
    start = {"session_id": 1_000_001, "charger_type": "Level 2", "charging_start_time": "2026-03-02T18:30:00"}
    return client.post("/charging-sessions", json=start | fields)


def stored(client, session_id=1_000_001):
    with client.app.state.engine.connect() as connection:
        row = connection.execute(select(SESSIONS).where(SESSIONS.c.session_id == session_id)).mappings().one_or_none()
    return row and dict(row)


def past_of(client, request, user_id):
    """Return how many past sessions each route knows, after a check that they agree."""
    body = request | {"user_id": user_id, "charging_start_time": "2026-05-01T10:00:00"}
    one = client.post("/predict", json=body).json()
    kinds = {
        "application/json": json.dumps({"inputs": [body, request]}),
        "application/x-ndjson": json.dumps(body) + "\n",
    }
    for kind, content in kinds.items():
        reply = client.post("/predict/batch", content=content, headers={"Content-Type": kind})
        line = json.loads(reply.text.splitlines()[0])
        answer = line["predictions"][0] if "predictions" in line else line
        assert {name: answer[name] for name in ("probabilities", "history_sessions")} == {
            name: one[name] for name in ("probabilities", "history_sessions")
        }
    return one["history_sessions"]


def test_a_reported_name_is_stored_in_its_plain_form_and_found_in_every_form(client, good_request):
    reply = report(client, user_id=" Zo\u00eb\u00a0\u00a0K ", charger_type="Level\u00a02", charging_station_id="391.0",
                   charging_station_location="\ufeffNew  York ")  # fmt: skip

    assert reply.json()["added"] == 1
    row = stored(client)
    assert row["user_id"] == "Zo\u00eb K"
    assert row["charger_type"] == "Level 2"
    assert (row["charging_station_id"], row["charging_station_location"]) == ("391", "New York")
    for text in ("Zo\u00eb K", "Zo\u00eb\u00a0K", "  Zo\u00eb   K", "Zo\u200b\u00eb K\u200e"):
        assert past_of(client, good_request, text) == 1
    assert past_of(client, good_request, "zo\u00eb k") == 0
    # A report in another form is a report about the same driver.
    assert report(client, user_id="Zo\u00eb\u00a0K").json() == {
        "status": "success", "added": 0, "updated": 0, "unchanged": 1,
        "spellings": {"user_id": {"Zo\u00eb\u00a0K": "Zo\u00eb K"}},
    }  # fmt: skip


@pytest.mark.parametrize("word", ["NULL", "n/a", "-", ""])
def test_a_word_for_nothing_in_a_report_is_null(sqlite_client, good_request, word):
    client = sqlite_client
    refused = report(client, user_id=word, charger_type=word).json()["errors"]

    assert [error["pointer"] for error in refused] == ["#/user_id", "#/charger_type"]
    assert (
        refused[0]["detail"] == f"is {word!r}, which counts as null; it is required: session 1000001 is not known yet"
    )
    assert report(client, user_id="ann", charging_station_id=word, charging_end_time=word).json()["added"] == 1
    assert (stored(client)["charging_station_id"], stored(client)["charging_end_time"]) == (None, None)
    # It erases nothing.
    assert report(client, user_id=word, charger_type=word).json()["unchanged"] == 1
    assert stored(client)["user_id"] == "ann"
    assert past_of(client, good_request, word) == 0


def test_an_older_history_may_have_ids_in_another_form(client, good_request):
    add_sessions(client.app.state.engine, *(session_row(user_id="bob  7.0", start=f"2024-02-0{day}T10:00:00")
                                            for day in (1, 2)))  # fmt: skip

    # A training does not change ids, so the text as it is stored means this driver, and another form another driver.
    assert past_of(client, good_request, "bob  7.0") == 2
    assert past_of(client, good_request, "bob 7.0") == 0
    assert report(client, user_id="bob  7.0").json()["added"] == 1
    assert stored(client)["user_id"] == "bob  7.0"
    assert past_of(client, good_request, "bob  7.0") == 3


def test_a_category_in_another_form_is_the_same_category(client, good_request, rows):
    plain = good_request | {"vehicle_model": "Nissan LEAF", "charging_start_time": "2026-05-01T10:00:00"}
    first = client.post("/predict", json=plain).json()

    for odd in ({"vehicle_model": "Nissan\u00a0LEAF "}, {"user_type": " Commuter\u200b"}):
        reply = client.post("/predict", json=plain | odd)
        assert reply.json()["probabilities"] == first["probabilities"]
        # The log has the request as it was sent.
        sent = rows(client.app, InferenceInput)[-1]["input_data_json"]
        assert json.loads(sent) == plain | odd
        batch = client.post("/predict/batch", json={"inputs": [plain | odd]}).json()["predictions"][0]
        assert batch["probabilities"] == first["probabilities"]
    unknown = client.post("/predict", json=plain | {"vehicle_model": "n/a"}).json()
    assert (
        unknown["probabilities"]
        == client.post("/predict", json=plain | {"vehicle_model": None}).json()["probabilities"]
    )


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({}, {"charging_end_time": "2027-03-04T18:30:00"}, "more than a year after"),
        ({"charging_end_time": "2026-03-02T20:00:00"}, {"charging_start_time": "2025-03-01T18:30:00"}, "before the"),
    ],
)  # fmt: skip
def test_a_later_report_cannot_make_a_session_longer_than_a_year(sqlite_client, first, second, said):
    assert report(sqlite_client, user_id="ann", **first).json()["added"] == 1
    reply = sqlite_client.post("/charging-sessions", json={"session_id": 1_000_001} | second)

    assert (reply.status_code, said in reply.text) == (422, True)
