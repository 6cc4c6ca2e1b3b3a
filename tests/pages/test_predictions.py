"""The pages of predictions: the list, one answer in full, the form that asks, and a driver."""

import html
import json
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from followed import follow
from listed import add_answers
from sqlalchemy import func, insert, select, update

from zap.db.engine import write_transaction
from zap.db.log import prediction_list
from zap.db.log.prediction_list import Wanted, read_newer, read_page
from zap.db.monitoring_tables import Outcome
from zap.db.tables import ChargingSession, InferenceInput, ModelVersion, Prediction, User
from zap.pages import predictions as list_page
from zap.pages.drawings import time_line, waterfall
from zap.pages.listed import driver_path, what_happened

DRIVER = "sample-1-00003"
ASKED = {"user_id": DRIVER, "charging_start_time": "2024-05-01T18:00:00"}
WHEN = datetime.fromisoformat("2024-05-01T18:00:00")
# After the predictions of the training, because ids and times of answers have the same order.
NOON = datetime(2031, 3, 3, 12, tzinfo=UTC)
LIST, NEW = "/pages/predictions", "/pages/predictions/new"


def token_of(page):
    return re.search(r'name="token" value="([0-9a-f]+)"', page.text)[1]


def said(page):
    """Return the texts of a page, without tags."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page.text)))


def listed(page):
    """Return the ids of the predictions in the table of a page, in order."""
    return [int(one) for one in re.findall(r'at-id"><a href="/pages/predictions/(\d+)"', page.text)]


def links(page):
    """Return the links to older and newer answers."""
    found = {kind: html.unescape(at) for kind, at in re.findall(r'rel="(prev|next)" href="([^"]+)"', page.text)}
    return found.get("next"), found.get("prev")


def field(page, name):
    """Return what a field of the form that asks has in it."""
    form = page.text[page.text.index('<form method="post" action="/pages/predictions/new"') :]
    if found := re.search(rf'<input name="{name}"[^>]*? value="([^"]*)"', form):
        return html.unescape(found[1])
    options = re.search(rf'<select name="{name}".*?</select>', form, re.DOTALL)[0]
    chosen = re.search(r"<option selected>([^<]*)", options)
    return chosen[1] if chosen else ""


@pytest.fixture
def filled(client):
    """Yield a client of an app with 120 answers of all kinds, and their ids."""
    return client, add_answers(client.app.state.engine, range(120), first=NOON)


# The list


def test_the_list_shows_the_newest_answers_and_what_happened(filled):
    client, ids = filled
    page = client.get(LIST)

    assert page.status_code == 200
    assert listed(page) == ids[:-26:-1]
    assert listed(page)[0] == ids[-1]
    text = said(page)
    for words in (
        "✕ wrong used DC Fast Charger",
        "○ superseded",
        "● not yet",
        "○ no driver named",
        "○ backtest",
        "75%",
    ):
        assert words in text
    assert 'href="/pages/drivers/driver%201"' in page.text


def test_older_and_newer_links_lead_through_all_answers_and_back(filled):
    client, ids = filled
    pages, address = [], LIST
    while address:
        page = client.get(address)
        pages.append(listed(page))
        address, _ = links(page)
    assert [one for some in pages for one in some] == ids[::-1]
    assert [len(some) for some in pages] == [25, 25, 25, 25, 20]

    back, address = [], links(page)[1]
    while address:
        page = client.get(address)
        back.append(listed(page))
        _, address = links(page)
    assert back == pages[-2::-1]


FILTERS = [
    ({"driver": "driver 1"}, lambda n: n % 4 != 3 and n % 3 == 1),
    ({"class": "Level 2"}, lambda n: n % 2 == 1),
    ({"version": "2"}, lambda n: 50 <= n < 100),
    ({"outcome": "right"}, lambda _: False),
    ({"outcome": "wrong"}, lambda n: n % 4 == 0),
    ({"outcome": "superseded"}, lambda n: n % 4 == 1),
    ({"outcome": "waiting", "kind": "backtest"}, lambda n: n % 4 == 2 and n % 5 == 4),
    ({"from": "2031-03-03", "to": "2031-03-03"}, lambda _: True),
    ({"from": "2031-03-04"}, lambda _: False),
    ({"to": "2031-03-02"}, lambda _: False),
]


def test_filters_find_their_answers_up_and_down(filled, monkeypatch):
    client, ids = filled
    # On a busy machine, a search that ends after a short time would find fewer answers.
    monkeypatch.setattr(list_page, "_FIRST_SECONDS", 10.0)
    for query, wanted in FILTERS:
        expected = [one for number, one in enumerate(ids) if wanted(number)][::-1]
        pages, address = [], f"{LIST}?{urlencode(query)}"
        while address:
            page = client.get(address)
            assert page.status_code == 200
            pages.append(listed(page))
            address, newer = links(page)
        assert [one for some in pages for one in some] == expected, query
        if len(pages) > 1:
            assert listed(client.get(newer)) == pages[-2], query
        if not expected:
            assert "No answer matches these filters." in said(page)


def test_right_answers_are_found(filled):
    client, ids = filled
    with write_transaction(client.app.state.engine) as connection:
        connection.execute(update(Outcome).where(Outcome.prediction_id == ids[8]).values(actual_class="Level 1"))

    page = client.get(LIST, params={"outcome": "right"})

    assert listed(page) == [ids[8]]
    assert "✓ right" in said(page)
    assert ids[8] not in listed(client.get(LIST, params={"outcome": "wrong"}))


def test_an_id_leads_to_its_prediction_and_empty_fields_leave_the_address(filled):
    client, ids = filled
    to = client.get(LIST, params={"id": str(ids[0]), "driver": ""}, follow_redirects=False)
    short = client.get(f"{LIST}?id=&driver=driver+1&from=&to=&class=&outcome=", follow_redirects=False)

    assert (to.status_code, to.headers["location"]) == (303, f"{LIST}/{ids[0]}")
    assert (short.status_code, short.headers["location"]) == (303, f"{LIST}?driver=driver+1")


@pytest.mark.parametrize("window", [7, 100_000])
def test_a_search_in_many_short_steps_finds_all_answers_and_ends(filled, monkeypatch, window):
    client, ids = filled
    monkeypatch.setattr(prediction_list, "WINDOW", window)
    monkeypatch.setattr(prediction_list, "PAGE_SECONDS", 0)
    monkeypatch.setattr(list_page, "_FIRST_SECONDS", 0)
    monkeypatch.setattr(list_page, "PAGE_SECONDS", 0)
    query, wanted = {"class": "Level 2"}, [one for number, one in enumerate(ids) if number % 2 == 1]
    found, address = [], f"{LIST}?{urlencode(query)}&from=2031-01-01"
    while address:
        page = client.get(address)
        assert page.status_code == 200, address
        found += listed(page)
        address = links(page)[0]
    assert found == wanted[::-1]
    before = read_page(client.app.state.engine, Wanted(predicted_class="none"), 25, min(window, 5), 0).before
    assert before is None


@pytest.mark.parametrize(
    "query",
    ["version=x", "version=0", f"version={2**63}", "version=-1", "version=٣", "from=yesterday", "to=2026-02-30",
     "before=a", "outcome=good", "kind=no", "id=1e3", f"driver={'a' * 501}", "driver=%07"],
)  # fmt: skip
def test_a_wrong_filter_is_named_on_a_page(shared_client, query):
    page = shared_client.get(f"{LIST}?{query}")

    assert page.status_code == 400
    assert page.headers["content-type"].startswith("text/html")
    assert re.search(rf'name="{query.partition("=")[0]}"[^>]* aria-invalid="true"', page.text)


def test_a_search_that_ends_early_goes_on_where_it_ended(filled, monkeypatch):
    client, ids = filled
    monkeypatch.setattr(prediction_list, "WINDOW", 20)
    monkeypatch.setattr(list_page, "_FIRST_SECONDS", 0)
    monkeypatch.setattr(list_page, "PAGE_SECONDS", 0)
    with write_transaction(client.app.state.engine) as connection:
        connection.execute(update(Prediction).where(Prediction.prediction_id == ids[70]).values(predicted_class="rare"))

    page, seen = client.get(LIST, params={"class": "rare"}), 1
    assert "None of the answers that zap has read so far matches the filters." in said(page)
    while not listed(page):
        page, seen = client.get(links(page)[0]), seen + 1

    assert listed(page) == [ids[70]]
    assert seen == 3
    assert "Few of the answers that zap has read match the filters" in said(page)
    assert read_newer(client.app.state.engine, Wanted(predicted_class="rare"), 25, ids[0], 0).after == ids[20]


def test_newer_answers_of_a_driver_with_very_many_are_found(filled, monkeypatch):
    client, ids = filled
    monkeypatch.setattr(prediction_list, "_MOST_OF_A_DRIVER", 3)
    engine, wanted = client.app.state.engine, Wanted(user_id="driver 1")
    theirs = [one for number, one in enumerate(ids) if number % 4 != 3 and number % 3 == 1]

    page = read_newer(engine, wanted, 5, ids[0])

    assert [row["prediction_id"] for row in page.rows] == theirs[:5][::-1]
    assert page.after == theirs[4]
    assert read_page(engine, wanted, 2, page.after).rows == page.rows[1:3]
    assert read_newer(engine, Wanted(input_id=1), 5, 0).after is None


def test_a_part_of_an_id_offers_the_drivers_who_have_it(shared_clients):
    whole = f"{LIST}?driver={DRIVER}&outcome=wrong"

    page = shared_clients.get(LIST, params={"driver": "PLE-1-00003", "outcome": "wrong"})

    assert "No answer matches these filters. The history has drivers whose id contains this:" in said(page)
    assert re.findall(r'<a class="id" href="([^"]*)">', page.text) == [html.escape(whole)]
    # Another driver is not offered for a whole id, and the signs of a pattern mean themselves.
    for text in (DRIVER, "%", "sample_1"):
        assert "whose id contains" not in said(shared_clients.get(LIST, params={"driver": text}))


def test_an_answer_is_found_by_the_id_of_its_request(client, good_request):
    answer = ask(client, good_request)
    ask(client, good_request)

    page = client.get(LIST, params={"input": answer["input_id"]})

    assert listed(page) == [answer["prediction_id"]]
    assert '<span>Request id</span><input name="input"' in client.get(LIST).text


def test_an_answer_stands_on_its_day_of_the_week(filled):
    client, ids = filled

    assert "Mon, 3 Mar 2031, 12:00 UTC" in said(client.get(f"{LIST}/{ids[0]}"))
    older = client.get(LIST, params={"before": ids[1]}, headers={"Accept-Language": "uk"})
    assert "пн, 3 бер. 2031, 12:00 UTC" in said(older)


def test_without_answers_the_list_says_what_to_do(untrained_client):
    page = untrained_client.get(LIST)

    assert page.status_code == 200
    assert "zap has not answered a request yet." in said(page)
    assert f'href="{NEW}"' in page.text


# One answer in full


def ask(client, good_request, **fields):
    return client.post("/predict", json=good_request | ASKED | fields).json()


def test_one_answer_is_shown_with_its_reasons_request_and_past(client, good_request):
    facts = {"battery_capacity_kwh", "vehicle_age_years", "vehicle_model"}
    request = {name: value for name, value in (good_request | ASKED).items() if name not in facts}
    answer = client.post("/predict", json=request).json()
    told = client.get(f"/predictions/{answer['prediction_id']}/explanation").json()["explanation"]

    page = client.get(f"{LIST}/{answer['prediction_id']}")

    text = said(page)
    assert page.status_code == 200
    for name, chance in answer["probabilities"].items():
        assert f"{name} {100 * chance:.1f}%" in text
    for reason in told["reasons"]:
        assert reason["text"] in text
    assert told["weights_in_words"] in text
    assert f"{told['log_ratio']:+.4f}".replace("-", "−") in text
    assert "equal to the last bit" in text
    assert re.search(r"Battery size – [\d.]+ kWh the history", text)
    assert re.search(r"Charge left [\d.]+ [\d.]+ % the request", text)
    assert "zap has not looked for the session yet" in text
    engine = client.app.state.engine
    before = select(func.count()).where(ChargingSession.user_id == DRIVER, ChargingSession.charging_start_time < WHEN)
    with engine.connect() as connection:
        sessions = connection.scalar(before)
    assert sessions > 5
    assert page.text.count('<use href="#mark-session"') == sessions
    assert f"The driver's {sessions} sessions by type" in text
    assert html.escape(json.dumps(request["state_of_charge_start"])) in page.text
    assert f"zap models reproduce {answer['model_version']}" in text


def test_what_happened_then_is_told(client, good_request):
    start = datetime.now(UTC).replace(tzinfo=None, microsecond=0) - timedelta(hours=3)
    first, second = (
        ask(client, good_request, charging_start_time=(start + timedelta(minutes=n)).isoformat()) for n in (0, 5)
    )
    report = {
        "session_id": 800_001,
        "user_id": DRIVER,
        "charger_type": "DC Fast Charger",
        "charging_start_time": (start + timedelta(minutes=20)).isoformat(),
    }
    assert client.post("/charging-sessions", json=[report]).status_code == 200
    state = client.app.state
    follow(state.engine)

    earlier, later = (said(client.get(f"{LIST}/{one['prediction_id']}")) for one in (first, second))

    outcome = client.get(f"/predictions/{second['prediction_id']}").json()["outcome"]
    assert outcome["status"] == "matched"
    assert "800001" in later
    assert "15 minutes after this moment" in later
    assert ("✓ right" if second["predicted_class"] == "DC Fast Charger" else "✕ wrong used DC Fast Charger") in later
    assert "by time: it is the driver's first session after the answer" in later
    assert f"prediction {second['prediction_id']}" in earlier
    assert "○ superseded" in earlier


def test_a_prediction_of_a_training_says_why_it_has_no_explanation(shared_client):
    page = shared_client.get(f"{LIST}/1")

    assert page.status_code == 200
    assert "A training logged this prediction" in said(page)
    assert "Request" not in said(page).partition("Version and proof")[0]


def test_an_answer_whose_version_is_gone_shows_words(sqlite_client, good_request):
    answer = ask(sqlite_client, good_request)
    engine = sqlite_client.app.state.engine
    with write_transaction(engine) as connection:
        row = connection.execute(select(ModelVersion.__table__)).mappings().one()
        older = {**row, "model_version": 7, "status": "archived", "sha256": "0" * 64, "artefact": None}
        connection.execute(insert(ModelVersion), [older])
        connection.execute(
            update(Prediction).where(Prediction.prediction_id == answer["prediction_id"]).values(model_version=7)
        )

    page = sqlite_client.get(f"{LIST}/{answer['prediction_id']}")

    assert page.status_code == 200
    assert "This prediction cannot be explained." in said(page)
    assert "version 7" in said(page)
    assert answer["predicted_class"] in said(page)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        '["no object"]',
        "{",
        "null",
        '{"user_id": 7, "x": [1]}',
        "[" * 3000,
        r'{"user_id": "\ud800", "vehicle_model": ["\ud800"]}',
    ],
)
def test_rows_of_other_programs_are_shown_as_they_are(sqlite_client, text):
    (number,) = add_answers(sqlite_client.app.state.engine, [0], followed=False)
    with write_transaction(sqlite_client.app.state.engine) as connection:
        connection.execute(update(InferenceInput).values(input_data_json=text))
        connection.execute(
            update(Prediction).where(Prediction.prediction_id == number).values(probabilities=None, model_version=None)
        )

    page = sqlite_client.get(f"{LIST}/{number}")

    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "no probabilities" in said(page)
    assert sqlite_client.get(f"/predictions/{number}").status_code == 200


@pytest.mark.parametrize("number", ["99999999", "0", str(2**63), "9" * 400, "-1", "x"])
def test_an_unknown_prediction_is_a_page_with_404(shared_client, number):
    page = shared_client.get(f"{LIST}/{number}")

    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert f'<a class="button" href="{LIST}">All predictions</a>' in page.text


# The form that asks


def test_the_form_fills_in_what_the_history_knows(client):
    page = client.get(NEW, params={"user_id": DRIVER})

    engine = client.app.state.engine
    with engine.connect() as connection:
        last = (
            connection.execute(
                select(ChargingSession.__table__)
                .where(ChargingSession.user_id == DRIVER, ChargingSession.distance_driven_km.is_not(None))
                .order_by(ChargingSession.charging_start_time.desc())
            )
            .mappings()
            .first()
        )
    assert field(page, "user_id") == DRIVER
    assert field(page, "user_type")
    assert float(field(page, "battery_capacity_kwh")) > 0
    assert float(field(page, "distance_driven_km")) == pytest.approx(last["distance_driven_km"], rel=1e-5)
    assert "are logged before you see them" in said(page)


def test_an_answer_of_the_form_is_logged_as_one_of_the_route(client, good_request, rows):
    page = client.get(NEW, params={"user_id": DRIVER})
    form = {name: "" if value is None else str(value) for name, value in (good_request | ASKED).items()}
    before = len(rows(client.app, InferenceInput))

    reply = client.post(NEW, data={"token": token_of(page), "vehicle_id": "", **form}, follow_redirects=False)

    assert reply.status_code == 303
    number = int(reply.headers["location"].rpartition("/")[2])
    assert len(rows(client.app, InferenceInput)) == before + 1
    shown, same = client.get(f"/predictions/{number}").json(), ask(client, good_request)
    assert shown["probabilities"] == same["probabilities"]
    assert shown["request"]["user_id"] == DRIVER
    assert "Why" in said(client.get(reply.headers["location"]))


def test_facts_that_the_form_leaves_empty_come_from_the_history(sqlite_client):
    page = sqlite_client.get(NEW)
    form = {"user_id": DRIVER, "state_of_charge_start": "20,5", "distance_driven_km": "100", "temperature_c": "12"}

    reply = sqlite_client.post(NEW, data={"token": token_of(page), **form}, follow_redirects=False)

    number = int(reply.headers["location"].rpartition("/")[2])
    request = sqlite_client.get(f"/predictions/{number}").json()["request"]
    assert request == {"user_id": DRIVER, "state_of_charge_start": 20.5, "distance_driven_km": 100, "temperature_c": 12}


def test_a_long_number_of_a_vehicle_is_asked_about_exactly(sqlite_client, good_request):
    page = sqlite_client.get(NEW)
    form = {name: str(value) for name, value in good_request.items()} | {"vehicle_id": "9007199254740993"}

    reply = sqlite_client.post(NEW, data={"token": token_of(page), **form}, follow_redirects=False)

    number = int(reply.headers["location"].rpartition("/")[2])
    assert sqlite_client.get(f"/predictions/{number}").json()["request"]["vehicle_id"] == 2**53 + 1


def test_errors_stand_beside_their_fields_and_nothing_is_logged(sqlite_client, rows):
    page = sqlite_client.get(NEW)
    before = len(rows(sqlite_client.app, InferenceInput))
    form = {
        "state_of_charge_start": "152",
        "distance_driven_km": "far",
        "temperature_c": "12",
        "charging_start_time": "soon",
        "vehicle_id": "-3",
        "user_id": "\x07",
    }

    reply = sqlite_client.post(NEW, data={"token": token_of(page), **form}, follow_redirects=False)

    assert reply.status_code == 422
    assert len(rows(sqlite_client.app, InferenceInput)) == before
    for name in (
        "state_of_charge_start",
        "distance_driven_km",
        "charging_start_time",
        "vehicle_id",
        "user_type",
        "user_id",
    ):
        assert f'id="wrong-{name}"' in reply.text
    assert 'id="wrong-temperature_c"' not in reply.text
    assert "Nothing was asked and nothing was logged." in said(reply)
    assert (field(reply, "state_of_charge_start"), field(reply, "temperature_c")) == ("152", "12")
    with sqlite_client.app.state.engine.connect() as connection:
        assert (
            connection.exec_driver_sql("SELECT count(*) FROM data_quality_days WHERE subject = 'refused'").scalar() == 0
        )


@pytest.mark.parametrize(
    ("user_id", "vehicle_id", "wrong"),
    [
        ("", "9" * 30, "vehicle_id"),
        ("", str(2**63), "vehicle_id"),
        ("", "-" + "9" * 30, "vehicle_id"),
        (DRIVER, "my car", "vehicle_id"),
        (DRIVER, "1.5", "vehicle_id"),
        ("a\0b", "", "user_id"),
        ("x" * 501, "", "user_id"),
    ],
)
def test_ids_that_no_database_can_hold_are_errors_beside_their_fields(shared_clients, user_id, vehicle_id, wrong):
    form = {"token": token_of(shared_clients.get(NEW)), "user_id": user_id, "vehicle_id": vehicle_id}

    reply = shared_clients.post(NEW, data=form, follow_redirects=False)

    assert reply.status_code == 422
    assert f'id="wrong-{wrong}"' in reply.text


def test_a_long_vehicle_id_is_asked_about_with_all_its_digits(sqlite_client, good_request):
    page = sqlite_client.get(NEW)
    form = {name: str(value) for name, value in good_request.items() if value is not None}
    largest = 2**63 - 1

    reply = sqlite_client.post(
        NEW, data={**form, "token": token_of(page), "vehicle_id": str(largest)}, follow_redirects=False
    )

    asked = sqlite_client.get(f"/predictions/{reply.headers['location'].rpartition('/')[2]}")
    assert asked.json()["request"]["vehicle_id"] == largest


def test_a_driver_whom_nobody_knows_is_said(shared_client):
    assert "The history does not have this driver." in said(shared_client.get(NEW, params={"user_id": "nobody"}))


def test_the_form_does_not_promise_facts_about_a_driver_whom_nobody_knows(shared_client):
    page = shared_client.get(NEW, params={"user_id": "-1-00003"})

    assert "from the history" in said(shared_client.get(NEW))
    assert "from the history" not in said(page)
    assert re.search(r'<select name="user_type" required>\s*<option value="">choose</option>', page.text)
    assert f'href="{NEW}?user_id={DRIVER}">{DRIVER}</a>' in page.text


def test_the_form_says_when_the_driver_charged_last(sqlite_client):
    engine = sqlite_client.app.state.engine
    session = {"user_id": "guest", "charger_type": "Level 2", "charging_start_time": WHEN}
    with write_transaction(engine) as connection:
        connection.execute(insert(User), [{"user_id": "guest"}, {"user_id": "quiet"}])
        connection.execute(insert(ChargingSession), [session])

    text, without = (said(sqlite_client.get(NEW, params={"user_id": user_id})) for user_id in ("guest", "quiet"))

    assert "The driver's last session: 1 May 2024, 18:00." in text
    assert "The history has no session of this driver." in without
    assert "The facts about the driver" not in text + without


def test_without_a_model_the_form_says_so(untrained_client):
    page = untrained_client.get(NEW)

    assert page.status_code == 200
    assert "No version is in production" in said(page)
    reply = untrained_client.post(NEW, data={"token": token_of(page)})
    assert reply.status_code == 503
    assert reply.headers["content-type"].startswith("text/html")


def test_with_a_key_the_form_needs_a_login(guarded, log_in, rows):
    assert guarded.post(NEW, data={"token": "0"}).status_code == 401
    log_in(guarded)
    assert guarded.post(NEW, data={"token": "0"}).status_code == 403
    assert rows(guarded.app, InferenceInput) == []
    form = {"user_id": DRIVER, "state_of_charge_start": "20", "distance_driven_km": "100", "temperature_c": "12"}

    reply = guarded.post(NEW, data={"token": token_of(guarded.get(NEW)), **form}, follow_redirects=False)

    assert reply.status_code == 303


# A driver


def test_a_driver_has_sessions_and_answers_on_one_line(client, good_request, rows):
    answer = ask(client, good_request)
    state = client.app.state
    follow(state.engine)
    logged = len(rows(client.app, Prediction))

    page = client.get(f"/pages/drivers/{DRIVER}")

    assert page.status_code == 200
    text = said(page)
    with state.engine.connect() as connection:
        sessions = connection.scalar(select(func.count()).where(ChargingSession.user_id == DRIVER))
    assert f"Sessions {sessions} the last one:" in text
    assert page.text.count('<use href="#mark-session"') == sessions
    assert len(re.findall(r'<use href="#mark-(?:right|wrong|answer)"', page.text)) == 1
    assert listed(page) == [answer["prediction_id"]]
    assert f'href="{NEW}?user_id={DRIVER}"' in page.text
    assert "zap shows no answer that it has not logged" in text
    assert len(rows(client.app, Prediction)) == logged


def test_right_and_wrong_answers_are_counted(filled):
    client, ids = filled
    with write_transaction(client.app.state.engine) as connection:
        connection.execute(update(Outcome).where(Outcome.prediction_id == ids[4]).values(actual_class="Level 1"))
    theirs = [n for n in range(120) if n % 4 != 3 and n % 3 == 1]
    matched = [n for n in theirs if n % 4 == 0]
    assert 4 in matched

    page = client.get("/pages/drivers/driver%201")

    text = said(page)
    for outcome in ("right", "wrong"):
        assert f'href="{LIST}?driver=driver+1&amp;outcome={outcome}"' in page.text
    assert "with exactly this id" not in text
    assert f"Right 1 Wrong {len(matched) - 1}" in text
    assert f"of {len(theirs)} answers" in text


@pytest.mark.parametrize(
    "user_id", ["a/b", "ключ №7", "a b", "50%", "%41", "?x=1#y", "..", ".", "a/../b", "<b>", "a\\b", "x/", "&amp;"]
)
def test_a_driver_may_have_an_id_of_any_characters(sqlite_client, user_id):
    engine = sqlite_client.app.state.engine
    start = WHEN
    with write_transaction(engine) as connection:
        connection.execute(
            insert(ChargingSession), [{"user_id": user_id, "charger_type": "Level 2", "charging_start_time": start}]
        )

    page = sqlite_client.get(driver_path(user_id), follow_redirects=False)
    found = sqlite_client.get("/pages/drivers", params={"user_id": user_id})

    assert page.status_code == 200
    assert re.search(r"<h1>(.*)</h1>", page.text)[1] == str(html.escape(f"Driver {user_id}"))
    assert "Sessions 1 the last one" in said(page)
    assert "Sessions 1 the last one" in said(found)


@pytest.mark.parametrize(
    ("path", "status"), [("nobody", 200), ("%07", 404), ("%20", 404), ("a" * 501, 404), ("%FF", 404)]
)
def test_a_driver_whom_zap_does_not_know(shared_client, path, status):
    page = shared_client.get(f"/pages/drivers/{path}")

    assert page.status_code == status
    if status == 200:
        assert "zap knows no session of this driver and no answer to this driver." in said(page)
        assert "zap does not know a driver with exactly this id." in said(page)


def test_the_page_of_an_unknown_driver_offers_drivers_with_a_similar_id(shared_clients):
    page = shared_clients.get("/pages/drivers/-1-00003")

    assert f'<a class="id" href="/pages/drivers/{DRIVER}">{DRIVER}</a>' in page.text


@pytest.mark.parametrize(
    ("path", "user_id"), [("a/b", "a/b"), ("a//b%20c", "a//b c"), ("a/b/", "a/b"), ("a%2Fb/c", "a/b/c")]
)
def test_a_slash_of_an_id_need_not_be_encoded(shared_client, path, user_id):
    page = shared_client.get(f"/pages/drivers/{path}")

    assert page.status_code == 200
    assert re.search(r"<h1>(.*)</h1>", page.text)[1] == f"Driver {user_id}"


def test_no_driver_is_no_page(shared_client):
    assert shared_client.get("/pages/drivers").status_code == 404


# What is drawn


def test_the_steps_of_a_waterfall_add_up():
    told = {"groups": {"habit": 1.5, "time": -0.5, "vehicle": 0.0}, "averaging": 0.25, "log_ratio": 1.25}

    fall = waterfall(told)

    assert [step.code for step in fall.steps] == ["habit", "time", "averaging", "total"]
    habit, time, averaging, total = fall.steps
    assert habit.x == total.x == fall.zero
    assert time.x + time.width == pytest.approx(habit.x + habit.width, abs=0.02)
    assert averaging.x == time.x
    assert averaging.x + averaging.width == pytest.approx(total.x + total.width, abs=0.02)
    assert all(0 <= step.x <= step.x + step.width <= 100 for step in fall.steps)


def test_many_types_share_the_last_lane_of_a_time_line():
    start = WHEN
    dated = [("session", start + timedelta(days=n), f"type {n % 12:02d}") for n in range(100)]

    line = time_line(dated, start + timedelta(days=200))

    assert len(line.lanes) == 9
    assert line.lanes[-1][0] is None
    assert (line.points[0].x, line.asked) == (2.0, 98.0)
    assert time_line([]) is None
    assert time_line(dated[:1]).ticks[0][0] == start


def test_an_answer_without_a_session_waits_for_the_horizon():
    row = {"outcome": "waiting", "asked_at": WHEN, "predicted_class": "a", "actual_class": None}
    day = timedelta(days=1)

    assert what_happened(row, WHEN, day) == "waiting"
    assert what_happened(row, WHEN + 2 * day, day) == "no_session"
    assert what_happened({**row, "outcome": None}, WHEN + day, day) == "unfollowed"
