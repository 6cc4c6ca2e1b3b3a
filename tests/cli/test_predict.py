"""zap predict."""

import json

import pytest
from conftest import client_of


def test_it_works(zap_command, trained, good_request):
    body = json.dumps(good_request | {"charging_start_time": "2024-05-01T18:00:00"})
    done = zap_command("predict", settings=trained, text=body)

    assert done.returncode == 0
    answer = json.loads(done.stdout)
    with client_of(trained) as client:
        over_http = client.post("/predict", content=body, headers={"Content-Type": "application/json"}).json()
        record = client.get(f"/predictions/{answer['prediction_id']}").json()
    assert answer["probabilities"] == over_http["probabilities"]
    assert set(answer) == set(over_http)
    # It is logged like a request over HTTP.
    assert record["request"] == json.loads(body)
    assert record["probabilities"] == answer["probabilities"]


def test_a_file_is_read(zap_command, trained_sqlite, good_request, tmp_path):
    (tmp_path / "session.json").write_text(json.dumps(good_request))

    assert zap_command("predict", tmp_path / "session.json", settings=trained_sqlite).returncode == 0


def test_every_bad_field_is_told(zap_command, trained_sqlite, good_request):
    done = zap_command(
        "predict", settings=trained_sqlite, text=json.dumps(good_request | {"temperature_c": 99, "x": 1})
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert "#/temperature_c is 99; must be -60 to 60 °C" in done.stderr
    assert "#/x is not a field" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_what_is_no_object_is_refused(zap_command, trained_sqlite, text):
    assert zap_command("predict", settings=trained_sqlite, text=text).returncode == 2


def test_a_database_that_is_not_there_is_told_with_the_command(zap_command, empty_settings):
    done = zap_command("predict", settings=empty_settings, text="{}")

    assert done.returncode == (15 if empty_settings.url.get_backend_name() == "sqlite" else 16)
    assert "zap db upgrade" in done.stderr


def test_a_version_that_was_trained_on_the_sample_is_told_without_a_log(zap_command, trained_sqlite, good_request):
    done = zap_command("predict", settings=trained_sqlite, text=json.dumps(good_request))

    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: Version 1 was trained on synthetic sessions (zap sample-history)")
