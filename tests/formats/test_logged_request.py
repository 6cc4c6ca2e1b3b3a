"""The driver and the moment of a logged request equal the driver and the moment that /predict has read."""

import json
from datetime import datetime

import pytest

from zap.formats.logged_request import driver_of, read_logged
from zap.formats.request import START, USER_ID, parse_request
from zap.settings import Settings

wall_time = Settings(timezone="Europe/London").wall_time
RECEIVED = datetime.fromisoformat("2026-07-01T10:00:00.75")


@pytest.mark.parametrize("driver", ["u1", " 12.0 ", "ü", None])
@pytest.mark.parametrize(
    "start", ["2026-03-02T18:30", "2026-07-02 18:30:00.5Z", "2026-10-25T01:30:00+01:00", "n/a", None]
)
def test_it_reads_as_predict_does(driver, start):
    text = json.dumps({"charging_start_time": start, "user_id": driver, "temperature_c": 5})
    values = parse_request(text.encode(), wall_time).values

    read = read_logged(text, RECEIVED, wall_time)

    assert read.user_id == values[USER_ID] == driver_of(text)
    assert read.asked_at == values[START] or (
        values[START] is None and read.asked_at == RECEIVED.replace(microsecond=0)
    )


@pytest.mark.parametrize("text", ["", "{", "null", "5", '["user_id"]', '{"user_id": 7}', '{"user_id": "NULL"}'])
def test_other_texts_name_no_driver_and_no_moment(text):
    assert read_logged(text, RECEIVED, wall_time) == (None, RECEIVED.replace(microsecond=0))
