"""What schemathesis has to know about zap: how bodies of its media types are sent, and which bodies zap may refuse."""

import json

import schemathesis
from schemathesis.checks import CheckContext
from schemathesis.core import NotSet

# Values that only the database can judge: the types of the history, the facts about a driver, the time of a session
# beside the time that is stored, days that the calendar does not have, and ranges of too many days.
JUDGED_BY_THE_DATABASE = frozenset({
    "user_type", "battery_capacity_kwh", "vehicle_age_years", "user_id", "charger_type", "vehicle_id", "session_id",
    "charging_start_time", "charging_end_time", "from", "to", "prediction_id",
})  # fmt: skip


@schemathesis.serializer("text/csv", "application/x-ndjson")
def as_text(_, value):
    return (value if isinstance(value, str) else json.dumps(value)).encode()


@schemathesis.check
def a_right_body_is_refused_only_for_what_the_database_knows(_: CheckContext, response, case):
    """Raise if zap refuses a request that the document allows."""
    if (
        case.meta is None
        or not case.meta.generation.mode.is_positive
        or case.media_type in {"text/csv", "application/x-ndjson"}
    ):
        return
    if response.status_code not in {400, 413, 415, 422}:
        return
    errors = response.json().get("errors", [])
    refused = {error["pointer"].rpartition("/")[2] for error in errors}
    assert errors, response.text
    assert refused <= JUDGED_BY_THE_DATABASE, f"a right request is refused: {response.text}"


@schemathesis.hook
def filter_case(_, case):
    """Leave out requests that start a training, which takes long: without a body, or with a blank one."""
    blank = isinstance(case.body, NotSet) or (isinstance(case.body, bytes) and not case.body.strip())
    return not blank or case.operation.path != "/train-model"
