"""Bodies and numbers for the routes, which this server answers with success as they stand."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from zap.db.example_rows import ExampleRows
from zap.errors import InvalidRequest
from zap.formats.request import START, USER_ID, Request, complete_request, example_request
from zap.formats.request_rows import INPUTS
from zap.formats.session_report import SESSION_ID, example_reports
from zap.ml.features import FACTS, MANUAL_USER

SAMPLE, STRANGER = "a driver of the sample history", "a driver whom zap does not know"
EXPLAINED = "explained prediction"
# Just after the sample history, as in the example of README.
_SAMPLE_START = "2025-01-06T18:30:00"
TRAININGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "with rolling windows": {"windows": True},
    "serve it only if it is better": {"promote": "if_better", "note": "weekly training"},
}
TRIALS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "promote it if it is better": {"on_better": "promote", "weeks": 4, "who": "ann", "why": "more trees"},
}
REASONS: dict[str, dict[str, Any]] = {
    "without a reason": {},
    "with a reason": {"who": "ann", "why": "the new version requires too many fields"},
}
ACKNOWLEDGEMENTS: dict[str, dict[str, Any]] = {"seen": {"who": "ann"}}

KEYS: dict[str, dict[str, Any]] = {
    "a backend": {"name": "backend", "scopes": ["predict", "report"]},
    "with an end and limits": {
        "name": "partner",
        "scopes": ["predict"],
        "expires": "90d",
        "requests_per_second": 50,
        "batch_rows_per_day": 100_000,
    },
}
ROTATIONS: dict[str, dict[str, Any]] = {"for a day": {}, "for a week": {"keep": "7d"}}


class Known(NamedTuple):
    """What the examples depend on.

    Attributes:
        contract: the request fields of the version in production; None before the first training.
        model_version: the version in production; None before the first training.
        rows: the rows of the database that examples may name.
    """

    contract: Mapping[str, Any] | None = None
    model_version: int | None = None
    rows: ExampleRows = ExampleRows()


def predictions(known: Known) -> dict[str, dict[str, Any]]:
    """Return bodies of /predict by name. The first one is about a driver of the sample history, if zap has one."""
    whole = example_request(known.contract)
    if known.rows.driver is None or known.contract is None:
        return {"a session": whole}
    sample = {USER_ID: known.rows.driver, **{name: value for name, value in whole.items() if name not in FACTS}}
    sample[START] = _SAMPLE_START
    try:
        complete_request(
            Request("", sample, []), known.rows.facts, known.contract, datetime.fromisoformat(_SAMPLE_START)
        )
    except InvalidRequest:
        return {"a session": whole}
    return {SAMPLE: sample, STRANGER: whole | {START: _SAMPLE_START}}


def batches(known: Known) -> dict[str, Any]:
    """Return a body of /predict/batch in JSON, in CSV and in NDJSON."""
    rows = list(predictions(known).values())
    several = rows if len(rows) > 1 else rows * 2
    # An empty cell is null, which is no way to leave a field out: the rows of a table have all fields.
    whole = example_request(known.contract)
    names = [*([USER_ID] if USER_ID in rows[0] else []), *whole]
    table = [[{**whole, **row}.get(name, "") for name in names] for row in several]
    return {
        "json": {INPUTS: several},
        "csv": "".join(",".join(map(str, line)) + "\n" for line in (names, *table)),
        "ndjson": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in several),
    }


def reports(known: Known) -> dict[str, dict[str, Any]]:
    """Return bodies of /charging-sessions by name: the report of a start, and of the end of that session.

    The session of a driver of the sample history has another id than the session of an unknown driver, because an id
    belongs to one driver.
    """
    examples = example_reports()
    driver = known.rows.driver
    for fields in examples.values():
        if driver is None:
            fields[SESSION_ID] += 1
        else:
            fields[USER_ID] = driver
    return examples


def path_values(known: Known) -> dict[str, int | str]:
    """Return a value for each parameter of a path. The routes answer it if the database has a row for it.

    The session is the session of the example reports. EXPLAINED is the prediction for a route that explains one.
    """
    report = next(iter(reports(known).values()))
    return {
        "session_id": str(report[SESSION_ID]),
        "user_id": known.rows.driver or MANUAL_USER,
        "prediction_id": known.rows.prediction_id or 1,
        EXPLAINED: known.rows.answer_id or 1,
        "run_id": known.rows.run_id or 1,
        "trial_id": known.rows.trial_id or 1,
        "model_version": known.model_version or 1,
        "alarm_id": known.rows.alarm_id or 1,
        "key_id": "Gb2tYw8R",
    }
