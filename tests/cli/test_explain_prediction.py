"""zap explain-prediction."""

import json

import pytest
from sqlalchemy import create_engine, text


def predict(zap_command, settings, body):
    return json.loads(zap_command("predict", settings=settings, text=json.dumps(body)).stdout)


@pytest.fixture
def change(trained_sqlite):
    def run(statement):
        engine = create_engine(trained_sqlite.database_url)
        with engine.begin() as connection:
            connection.execute(text(statement))
        engine.dispose()

    return run


def test_it_works(zap_command, trained, good_request):
    reply = predict(zap_command, trained, good_request | {"user_id": "sample-1-00003", "vehicle_model": "nobody's"})

    done = zap_command("explain-prediction", reply["prediction_id"], "--json", settings=trained)

    assert done.returncode == 0, done.stderr
    explained = json.loads(done.stdout)
    assert explained["equal"] is True
    assert explained["probabilities"] == explained["computed_again"] == reply["probabilities"]
    assert explained["model_version"] == reply["model_version"]
    row = explained["features"]
    assert row["temperature_c"] == 15
    assert row["user_type"] == "Commuter"
    assert row["vehicle_model"] is None
    assert row["sessions"] == reply["history_sessions"] > 5
    assert row["last_type"] in reply["probabilities"]
    assert sum(row[f"share[{name}]"] for name in reply["probabilities"]) == pytest.approx(1)


def test_a_person_sees_a_table(zap_command, trained_sqlite, good_request):
    reply = predict(zap_command, trained_sqlite, good_request)

    done = zap_command("explain-prediction", reply["prediction_id"], settings=trained_sqlite)

    assert done.returncode == 0
    for shown in ("state_of_charge_start", "Commuter", "share[Level 2]", "missing", "equal, bit for bit"):
        assert shown in done.stdout


def test_an_earlier_version_explains_its_own_predictions(zap_command, trained_sqlite, good_request):
    reply = predict(zap_command, trained_sqlite, good_request)
    zap_command("train", "--set", "n_estimators=10", settings=trained_sqlite)

    explained = json.loads(
        zap_command("explain-prediction", reply["prediction_id"], "--json", settings=trained_sqlite).stdout
    )

    assert explained["model_version"] == 1
    assert explained["equal"] is True


def test_a_row_that_somebody_changed_is_told(zap_command, trained_sqlite, good_request, change):
    reply = predict(zap_command, trained_sqlite, good_request)
    change("""UPDATE predictions SET probabilities = replace(probabilities, '0.', '0.0') WHERE source = 'inference'""")

    done = zap_command("explain-prediction", reply["prediction_id"], settings=trained_sqlite)

    assert done.returncode == 21
    assert "The probabilities differ" in done.stdout


@pytest.mark.parametrize(
    ("prediction_id", "says"),
    [("1", "has no stored features"), ("99999999", "there is no prediction 99999999")],
)
def test_what_cannot_be_explained_is_said(zap_command, trained_sqlite, prediction_id, says):
    done = zap_command("explain-prediction", prediction_id, "--json", settings=trained_sqlite)

    assert done.returncode == 20
    assert says in done.stderr
    assert json.loads(done.stdout)["type"] == "urn:zap:problem:not-found"
    assert "Traceback" not in done.stderr


def test_a_stored_row_of_another_length_is_refused(zap_command, trained_sqlite, good_request, change):
    reply = predict(zap_command, trained_sqlite, good_request)
    change("UPDATE predictions SET features = x'0000000000000000' WHERE source = 'inference'")

    done = zap_command("explain-prediction", reply["prediction_id"], settings=trained_sqlite)

    assert done.returncode == 13
    assert "1 numbers" in done.stderr


def test_it_says_why_the_model_chose_the_predicted_type(zap_command, trained, good_request):
    body = good_request | {"user_id": "sample-1-00003", "explain": True}
    reply = predict(zap_command, trained, body)

    done = zap_command("explain-prediction", reply["prediction_id"], "--json", settings=trained)

    explained = json.loads(done.stdout)
    assert explained["explanation"] == reply["explanation"]
    assert explained["explanation"]["predicted_class"] == reply["predicted_class"]
    assert explained["request"] == body
    assert explained["equal"] is True


def test_a_person_sees_the_reasons_and_what_adds_up(zap_command, trained_sqlite, good_request, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    reply = predict(zap_command, trained_sqlite, good_request | {"user_id": "sample-1-00003", "explain": True})

    shown = zap_command("explain-prediction", reply["prediction_id"], settings=trained_sqlite).stdout

    explanation = reply["explanation"]
    assert f"Why the model chose {explanation['predicted_class']}, and not {explanation['runner_up']}" in shown
    for reason in explanation["reasons"]:
        assert f"{reason['contribution']:+.2f}  {reason['text']}" in shown
    assert explanation["weights_in_words"] in shown
    assert f"ln(p1/p2) = {explanation['log_ratio']:.3f}" in shown
    for words in ("the driver's habit", "averaging of the parts", "logistic regression", "sum"):
        assert words in shown


def test_a_version_that_cannot_be_read_is_named(zap_command, trained_sqlite, good_request, change):
    reply = predict(zap_command, trained_sqlite, good_request)
    change("UPDATE model_versions SET artefact = NULL")

    done = zap_command("explain-prediction", reply["prediction_id"], settings=trained_sqlite)

    assert done.returncode == 20
    assert "version 1, which predicted, cannot be read (the artefact of version 1 was pruned" in done.stderr
