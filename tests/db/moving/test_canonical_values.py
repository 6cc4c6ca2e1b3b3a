"""The one form of values: what stays, what is rewritten, and what means nothing."""

import math

import pytest

from zap.db.moving.canonical_values import OddValue, Undecodable, canonical_form
from zap.db.tables import ChargingSession, InferenceInput, ModelVersion, Prediction

COLUMNS = {
    "text": ChargingSession.__table__.c.user_id,
    "wall": ChargingSession.__table__.c.charging_start_time,
    "stamp": InferenceInput.__table__.c.request_timestamp,
    "real": ChargingSession.__table__.c.temperature_c,
    "whole": Prediction.__table__.c.model_version,
    "small": ModelVersion.__table__.c.seed,
    "json": Prediction.__table__.c.probabilities,
    "bytes": Prediction.__table__.c.features,
}
NOTHING = object()


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", ""),
        ("text", "\x01🚗\\N\n"),
        ("wall", "2026-03-02 18:30:00"),
        ("wall", "2026-03-02 18:30:00.25"),
        ("stamp", "2026-03-02T18:30:00.000001+00:00"),
        ("real", 1e-320),
        ("real", math.inf),
        ("whole", -(2**63)),
        ("small", 2**31 - 1),
        ("json", ' {"a": [1e400, "\\u0000"], "a": null}'),
        ("bytes", b"\0\xff"),
    ],
)
def test_what_zap_writes_stays(kind, value):
    assert canonical_form(COLUMNS[kind])(value) == value


@pytest.mark.parametrize(
    ("kind", "value", "instead"),
    [
        ("stamp", "2026-03-02T18:30:00", "2026-03-02T18:30:00.000000+00:00"),
        ("stamp", "2026-03-02 18:30:00.5+01:00", "2026-03-02T17:30:00.500000+00:00"),
        ("stamp", "2026-03-02T18:30:00.000000+01:00", "2026-03-02T17:30:00.000000+00:00"),
        ("stamp", "0001-01-01T00:00:00+01:00", NOTHING),
        ("stamp", "1762723596760", NOTHING),
        ("stamp", 1762723596, NOTHING),
        ("stamp", "2026-13-02T18:30:00.000000+00:00", NOTHING),
        ("wall", "2026-03-02T18:30", "2026-03-02 18:30:00"),
        ("wall", "2026-03-02 18:30:00.250", "2026-03-02 18:30:00.25"),
        ("wall", "2026-03-02", "2026-03-02 00:00:00"),
        ("wall", "2026-03-02 18:30:00+00:00", NOTHING),
        ("wall", "infinity", NOTHING),
        ("wall", "", NOTHING),
        ("real", math.nan, None),
        ("real", "1.5", NOTHING),
        ("real", b"1.5", NOTHING),
        ("whole", 1.5, NOTHING),
        ("whole", True, NOTHING),
        ("small", 2**31, NOTHING),
        ("json", "{'a': 1}", NOTHING),
        ("json", "Infinity", NOTHING),
        ("json", "[" * 100_000, NOTHING),
        ("json", 5, NOTHING),
        ("text", "a\0", NOTHING),
        ("text", b"a", NOTHING),
        ("text", Undecodable(b"\xff"), NOTHING),
        ("bytes", "a", NOTHING),
    ],
)
def test_other_forms_are_rewritten_or_refused(kind, value, instead):
    with pytest.raises(OddValue) as odd:
        canonical_form(COLUMNS[kind])(value)

    assert odd.value.has_instead == (instead is not NOTHING)
    if odd.value.has_instead:
        assert odd.value.instead == instead
        assert odd.value.why
    assert len(odd.value.shown) < 70


def test_minus_zero_is_zero():
    assert math.copysign(1, canonical_form(COLUMNS["real"])(-0.0)) == 1
