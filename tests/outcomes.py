"""Outcomes of the sessions that a version was tested on, which are asked about over HTTP."""

import pandas as pd
from sqlalchemy import select

import zap
from zap.db.engine import write_transaction
from zap.db.monitoring.quality_days import apply
from zap.db.tables import Prediction
from zap.ml.features import FEATURES
from zap.monitoring.outcome_change import OutcomeChange, OutcomeState

FIELDS = ["user_id", *(feature.name for feature in FEATURES)]
LOGGED = ("prediction_id", "model_version", "predicted_class", "probabilities", "features")


def requests_of(sessions):
    """Return the JSON of requests for these sessions."""
    return [
        {name: None if pd.isna(value) else value for name, value in row.items()}
        | {"charging_start_time": row["charging_start_time"].isoformat()}
        for row in sessions[FIELDS].to_dict("records")
    ]


def last_sessions(settings, n, types=None):
    """Return the last sessions of the history, on which its only version was tested.

    Args:
        settings: of the database.
        n: how many sessions.
        types: only sessions of these charger types, which the evaluation of the version names.
    """
    history = zap.read_history(settings.database_url)
    return (history if types is None else history[history["charger_type"].isin(types)]).iloc[-n:]


def asked_about(client, sessions):
    """Ask about sessions in a batch, and return for each the change from no outcome to its matched outcome."""
    reply = client.post("/predict/batch", json={"inputs": requests_of(sessions)})
    assert reply.status_code == 200, reply.text
    ids = [one["prediction_id"] for one in reply.json()["predictions"]]
    table = Prediction.__table__
    with client.app.state.engine.connect() as connection:
        asked = select(*(table.c[name] for name in LOGGED)).where(table.c.prediction_id.in_(ids))
        logged = {row["prediction_id"]: dict(row) for row in connection.execute(asked).mappings()}
    return [
        OutcomeChange(
            **logged[number],
            user_id=session["user_id"],
            before=None,
            after=OutcomeState(
                session["charging_start_time"].to_pydatetime(), "live", "matched", session["charger_type"]
            ),
        )
        for number, session in zip(ids, sessions.to_dict("records"), strict=True)
    ]


def applied(engine, changes, portion=2000):
    """Add changes to the sums of their days, in transactions of so many changes."""
    for start in range(0, len(changes), portion):
        with write_transaction(engine) as connection:
            apply(connection, changes[start : start + portion])
