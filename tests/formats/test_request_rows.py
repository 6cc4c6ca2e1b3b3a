"""Many requests in one body: each row is read like a single request, within bounds."""

import json
import time
import tracemalloc
from datetime import datetime

import pytest
from conftest import EXAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st

from zap.errors import BatchTooLarge, InvalidRequest, MalformedJson
from zap.formats import request_rows as batch
from zap.formats.request import NAMES, complete_request, parse_request
from zap.formats.request_csv import read_csv
from zap.formats.request_rows import Refusal, completed, invalid_batch, read_json, read_rows
from zap.ml.features import FEATURES
from zap.settings import Settings

NOW = datetime.fromisoformat("2026-03-02T18:30:00")
KNOWN = {"user_type": ["Commuter", "Casual Driver"], "vehicle_model": ["Leaf"]}
wall_time = Settings(timezone="Europe/London").wall_time

NUMBERS = st.one_of(st.integers(1, 50), st.floats(1.0, 50.0))
TEXTS = st.sampled_from(
    ["Commuter", "Leaf", 'a "b" \\', "Citroën", "", "\ud800", "x" * 501, "NULL", "Casual\u00a0Driver", "a\tb", "a:b,c"]
)
TIMES = st.sampled_from(["2026-03-02T18:30:00", "2026-03-02T18:30:00+02:00", "2026-03-02", "soon", "0001-01-01T00:00Z"])
ODD = st.one_of(st.none(), st.booleans(), st.lists(st.integers(), max_size=1), TEXTS, st.integers(-70, 2_100), TIMES)
USUAL = {
    **{feature.name: NUMBERS if feature.kind == "number" else TEXTS for feature in FEATURES},
    "vehicle_model": st.sampled_from(["Leaf", "a:b,c", "Citroën", ""]),
    "charging_start_time": st.sampled_from(["2026-03-02T18:30:00", "2026-03-02T18:30:00+02:00"]),
    "user_type": st.sampled_from(KNOWN["user_type"]),
    "explain": st.booleans(),
}


@st.composite
def rows(draw):
    """Build the text of a row: most fields are valid, some are odd, missing, unknown or repeated."""
    fields = []
    for name in NAMES:
        how = draw(st.integers(0, 40))
        if how:
            fields.append((name, draw(ODD if how == 1 else USUAL.get(name, st.none()))))
    how = draw(st.integers(0, 15))
    if how == 0:
        return draw(st.sampled_from([b"", b"7", b"[]", b"{", b"\xff", b'{"a": 1} {}', b'{"a": NaN}', b"[" * 2_000]))
    if how == 1:
        fields.append(draw(st.tuples(st.sampled_from(["colour", "predicted_class", *NAMES]), ODD)))
    pairs = (f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=how == 2)}" for name, value in fields)
    text = "{" + ", ".join(pairs) + "}"
    return (text.replace("user", "\\u0075ser") if how == 3 else text).encode(errors="surrogatepass")


@st.composite
def contracts(draw):
    needs = {feature.name: draw(st.sampled_from(["required", "nullable", "ignored"])) for feature in FEATURES}
    return {"fields": needs, "categories": KNOWN}


def alone(text, contract):
    try:
        request = parse_request(text, wall_time)
        return repr((complete_request(request, {}, contract, NOW), request.explain))
    except (InvalidRequest, MalformedJson) as error:
        return Refusal.of(error)


@settings(max_examples=EXAMPLES)
@given(st.lists(rows(), min_size=1, max_size=5), contracts())
def test_a_row_is_read_as_a_request_alone(texts, contract):
    found = [completed(row, {}, contract, NOW) for row in read_rows(texts, contract, wall_time, NOW)]

    in_order = [
        row.refusal or repr(({feature.name: row.values[feature.name] for feature in FEATURES}, row.explain))
        for row in found
    ]
    assert in_order == [alone(text, contract) for text in texts]
    assert all(row.text == text.decode() for row, text in zip(found, texts, strict=True) if row.refusal is None)


def test_too_many_values_are_refused_before_they_are_decoded():
    body = b'{"inputs": [' + b"1," * 300_000 + b"1]}"
    tracemalloc.start()

    with pytest.raises(BatchTooLarge, match="ZAP_BATCH_ROWS"):
        read_json(body, 1_000)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_commas_in_texts_are_not_counted():
    row = json.dumps({"vehicle_model": ',\\\\",' * 50})

    assert len(read_json(f'{{"inputs": [{row}, {row}]}}'.encode(), 2).texts) == 2


@pytest.mark.parametrize("body", [b'"' + b'\\",' * 200_000, b'"' * 400_001 + b"," * 100, b"[" * 9_000 + b"," * 90])
def test_a_body_that_is_not_a_document_is_refused_quickly(body):
    started = time.monotonic()

    with pytest.raises((BatchTooLarge, MalformedJson)):
        read_json(body, 2)
    assert time.monotonic() - started < 2


def test_very_many_columns_are_refused_without_a_check_of_each():
    with pytest.raises(InvalidRequest, match="1 error") as caught:
        read_csv(b",".join(b"state_of_charge_%d" % n for n in range(20_000)), 10)

    assert "20,000 columns" in caught.value.details["errors"][0]["detail"]


def test_errors_that_are_not_shown_are_only_counted(monkeypatch):
    request = parse_request(json.dumps({f"name{n}": n for n in range(5_000)}).encode(), wall_time)
    assert len(request.errors) == 5_000
    assert len({id(error) for error in request.errors}) == 100

    placed, calls = batch.placed, []
    monkeypatch.setattr(batch, "placed", lambda *arguments: calls.append(1) or placed(*arguments))
    refusal = Refusal(request.errors[:60])
    error = invalid_batch(((place, refusal) for place in range(1_000)), [])
    assert len(calls) == 2
    assert error.message.startswith("60000 errors: #/inputs/0/name0, ")
    assert error.message.endswith(" and 59900 more")


def test_a_backslash_makes_its_own_row_slow_and_no_other(monkeypatch):
    loads, looked = json.loads, []
    monkeypatch.setattr(json, "loads", lambda text, **how: looked.append(text) or loads(text, **how))
    contract = {"fields": {feature.name: "ignored" for feature in FEATURES}, "categories": KNOWN}
    escaped = rb'{"vehicle_model": "a \"b\""}'

    read_rows([b"{}", escaped, b'{"user_type": "x"}'] * 2, contract, wall_time, NOW)

    assert looked == [escaped] * 2


def test_the_decoder_of_rows_is_made_once_for_a_contract(monkeypatch):
    make, made = batch.complete_decoder, []
    monkeypatch.setattr(batch, "complete_decoder", lambda contract: made.append(contract) or make(contract))
    contract = {"fields": {feature.name: "nullable" for feature in FEATURES}, "categories": KNOWN}
    other = contract | {"fields": {feature.name: "required" for feature in FEATURES}}

    for one in (contract, contract, other, other):
        read_rows([b"{}"], one, wall_time, NOW)

    assert made == [contract, other]
