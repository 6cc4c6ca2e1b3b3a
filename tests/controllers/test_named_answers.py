"""POST /charging-sessions with prediction_id: the answer that a session followed."""

import pytest
from histories import START
from sqlalchemy import select, text

from zap.db.engine import write_transaction
from zap.db.monitoring_tables import SessionPrediction

NAMES = SessionPrediction.__table__


def report(client, **fields):
    return client.post("/charging-sessions", json=START | fields)


def names(client):
    with client.app.state.engine.connect() as connection:
        return {row.session_id: row.prediction_id for row in connection.execute(select(NAMES))}


@pytest.fixture
def ask(client, good_request):
    """Return a function that asks for a driver, and returns the number of the answer."""
    return lambda user_id: client.post("/predict", json=good_request | {"user_id": user_id}).json()["prediction_id"]


def test_it_works(client, ask):
    first, last, driverless = ask("U"), ask(" U "), ask(None)
    said = []
    for fields in (
        {"prediction_id": first},
        {"prediction_id": first},
        {"energy_consumed_kwh": 5.0},
        {"prediction_id": last},
        {"prediction_id": driverless, "energy_consumed_kwh": 6.0},
        {"prediction_id": None},
    ):
        reply = report(client, **fields).json()
        said.append((reply["added"], reply["updated"], reply["unchanged"], names(client)))

    assert said == [
        (1, 0, 0, {7: first}),
        (0, 0, 1, {7: first}),
        (0, 1, 0, {7: first}),
        (0, 1, 0, {7: last}),
        (0, 1, 0, {7: driverless}),
        (0, 1, 0, {}),
    ]


def test_what_no_session_can_have_followed_is_refused(client, ask):
    other, of_training = ask("V"), 1
    sessions = [
        START | {"session_id": 7 + place, "prediction_id": number}
        for place, number in enumerate([other, of_training, 10**9, -1, "1", 1.5])
    ]
    reply = client.post("/charging-sessions", json=sessions)

    assert reply.status_code == 422
    assert {error["pointer"]: error["detail"] for error in reply.json()["errors"]} == {
        "#/0/prediction_id": f"is {other}, which is an answer to another driver",
        "#/1/prediction_id": "is 1, which is a prediction of a training, and no answer to a request",
        "#/2/prediction_id": "is 1000000000, and there is no such prediction; send the number in the answer",
        "#/3/prediction_id": "must be 0 to 9223372036854775807",
        "#/4/prediction_id": "must be a whole number, not a string",
        "#/5/prediction_id": "must be a whole number, not 1.5",
    }
    assert names(client) == {}


def test_a_later_report_is_compared_with_the_stored_driver(client, ask):
    report(client)
    reply = client.post("/charging-sessions", json={"session_id": 7, "prediction_id": ask("V")})

    assert reply.status_code == 422
    assert names(client) == {}


def test_a_removed_session_names_nothing(client, ask):
    report(client, prediction_id=ask("U"))
    client.delete("/charging-sessions/7")

    assert names(client) == {}


def test_a_new_session_does_not_get_the_name_of_one_that_another_program_has_removed(client, ask):
    report(client, prediction_id=ask("U"))
    with write_transaction(client.app.state.engine) as connection:
        connection.execute(text('DELETE FROM "ChargingSessions" WHERE session_id = 7'))
    report(client)

    assert names(client) == {}


def test_a_new_name_is_a_change_of_the_session(client, ask):
    number = ask("U")
    report(client)
    changes = text("SELECT count(*) FROM session_changes WHERE session_id = 7")
    with client.app.state.engine.connect() as connection:
        before = connection.scalar(changes)
    report(client, prediction_id=number)
    with client.app.state.engine.connect() as connection:
        assert connection.scalar(changes) == before + 1
