"""GET /pages/data, /pages/data/fields and /pages/data/history: what they show, and what they say without data."""

import html
import re
import shutil
from datetime import date, timedelta

import msgspec
import pytest
from conftest import client_of
from monitored import JUDGED, TODAY, count_quality, monitor, watched
from sqlalchemy import delete

from zap.db.engine import write_transaction
from zap.db.monitoring.monitor_states import Remembered, store_monitor
from zap.db.monitoring_tables import MonitorState
from zap.settings import Settings


def text_of(reply):
    """Return what a page says, without its marks."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", reply.text)))


def plot_of(reply, name):
    """Return the data of a plot of a page."""
    data = re.search(rf'data-plot="([^"]*)" data-name="{name}"', reply.text)[1]
    return msgspec.json.decode(data.replace("&#34;", '"').replace("&#39;", "'"))


@pytest.fixture
def monitored(client):
    monitor(client.app.state.engine)
    count_quality(client.app.state.engine)
    return client


@pytest.fixture
def empty(_sqlite_at_head, tmp_path):
    """Yield a client of an app on an empty database."""
    url = f"sqlite:///{shutil.copy(_sqlite_at_head, tmp_path / 'zap.sqlite')}"
    settings = Settings(database_url=url, models_dir=tmp_path / "models", follow=False)
    with client_of(settings, raise_server_exceptions=False) as client:
        yield client


def test_drift_shows_standing_notices_first_with_both_distributions(monitored):
    page = monitored.get("/pages/data")
    text = text_of(page)

    assert page.status_code == 200
    assert text.index("Outside temperature (°C) ▲ drift") < text.index("User type By chance")
    assert "noticed in the week from 9 Mar 2026" in text
    assert "in the newest judged weeks together (up to 4)" in text
    assert re.search(r"above 14\.\d 20% 5\d%", text)
    assert re.search(r"Commuter (49|50|51)% 50%", text)
    assert "that is no fault" in text
    assert "Drivers in the newest judged week 400" in text


def test_the_evidence_is_on_a_scale_of_years_with_the_threshold(monitored):
    plot = plot_of(monitored.get("/pages/data"), "drift-evidence")
    evidence, threshold = plot["lines"]

    assert plot["y_is_log"]
    assert len(plot["x"]) == JUDGED
    assert plot["x"][0] == (date(2026, 1, 5) - date(1970, 1, 1)).days * 86_400
    assert threshold["values"] == [20.0] * JUDGED
    assert max(evidence["values"][:-3]) < 1
    # The notice came after the first changed week, and used the evidence up.
    assert evidence["values"][-3] == 10_000
    assert evidence["values"][-1] < 1


def test_a_feature_is_chosen_in_the_address(monitored):
    page = monitored.get("/pages/data", params={"feature": "temperature_c"})

    assert [line["name"] for line in plot_of(page, "drift-evidence")["lines"]] == [
        "Outside temperature (°C)",
        "all features together",
        "threshold",
    ]
    assert "Commuter" not in page.text
    assert '<option value="temperature_c" selected>' in page.text


def test_harm_is_on_the_same_scale(monitored):
    page = monitored.get("/pages/data")
    plot = plot_of(page, "harm-evidence")
    text = text_of(page)

    assert [len(plot["x"]), set(plot["lines"][1]["values"])] == [100, {20.0}]
    assert "Worse than its test promised 91 200 0.200 " in text
    assert "Worse than guessing 7 200 −0.100" in text
    assert "driver's own share" in text


@pytest.mark.parametrize(
    ("path", "query", "status", "says"),
    [
        ("/pages/data", {"feature": "colour"}, 400, "temperature_c, user_type"),
        ("/pages/data", {"feature": "\0"}, 400, "control characters"),
        ("/pages/data", {"feature": ""}, 200, "Feature"),
        ("/pages/data/fields", {"from": "yesterday"}, 400, "give a day such as"),
        ("/pages/data/fields", {"from": "2026-03-02", "to": "2026-03-01"}, 400, "must not be after"),
        ("/pages/data/fields", {"from": "2024-03-02", "to": "2026-03-01"}, 400, "at most 365 days before"),
        ("/pages/data/fields", {"subject": "cats"}, 400, "requests, sessions"),
        ("/pages/data/fields", {"field": "<b>"}, 400, "temperature_c"),
        ("/pages/data/fields", {"from": "2020-01-01", "to": "2020-01-31"}, 200, "Nothing came on these days"),
    ],
)
def test_wrong_filters_are_explained(monitored, path, query, status, says):
    page = monitored.get(path, params=query)

    assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert says in text_of(page)


def test_the_fields_are_those_of_the_json_route(monitored):
    page = monitored.get("/pages/data/fields")
    report = monitored.get("/quality/data").json()["all_days"]["requests"]
    text = text_of(page)

    assert f"Answered requests {report['answered']:,}" in text
    assert f"Refused {report['refused_share']:.1%} {report['refused']}" in text
    assert "Unknown drivers 10.0%" in text
    assert "Unknown vehicle model 5.0%" in text
    assert "Distance since the last charge (km) out of range 600 80.0%" in text
    assert "Outside temperature (°C) sent as null 590 2.0%" in text
    plot = plot_of(page, "data-quality")
    assert len(plot["x"]) == 30
    assert [line["name"] for line in plot["lines"]] == [
        "refused",
        "without a driver",
        "unknown drivers",
        "completed by zap",
        "unknown vehicle model",
    ]


def test_a_field_of_the_reports_is_chosen_in_the_address(monitored):
    first = TODAY - timedelta(days=49)
    page = monitored.get("/pages/data/fields", params={"subject": "sessions", "field": "temperature_c", "from": first})
    (line,) = plot_of(page, "data-quality")["lines"]

    assert line["values"] == [None] * 10 + [50.0] * 40
    assert "Outside temperature (°C) left out 120 50.0%" in text_of(page)


def test_the_history_has_the_figures_of_the_sessions(client):
    for _ in range(100):
        page = client.get("/pages/data/history")
        if "are being counted" not in page.text:
            break
        client.app.state.history_counter.read(0.5)
    plot, text = plot_of(page, "sessions-by-month"), text_of(page)
    version = client.get("/models/1").json()
    sessions = version["trained_samples"] + version["test_samples"]

    assert f"Sessions {sessions:,}" in text
    assert sum(sum(line["values"]) for line in plot["lines"]) == sessions
    assert "First session 1 Jan 2024" in text
    assert "Counted" in text
    assert "The training could use every session and every value." in text or "values that count as missing" in text


def test_what_the_newest_training_left_out_is_told_with_the_reasons(sqlite_client):
    engine = sqlite_client.app.state.engine
    dropped = {
        "rows": {"no charger type": 12},
        "values": {"temperature_c": {"outside -60 to 60": 3}},
        "strangers": {"sessions without a vehicle": 4},
        "undated": {"user_type": 1234},
    }
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE training_runs SET report = json_set(report, '$.dropped', json(?))",
            (msgspec.json.encode(dropped).decode(),),
        )
    sqlite_client.app.state.history_counter.read(30.0)
    text = text_of(sqlite_client.get("/pages/data/history"))

    assert "sessions left out – no charger type 12" in text
    assert "values that count as missing Outside temperature (°C) outside -60 to 60 3" in text
    assert "sessions that are used, without these facts – sessions without a vehicle 4" in text
    assert "sessions that are used with the value of today User type the value at that time is not stored 1,234" in text


def test_the_report_of_an_older_zap_with_fewer_reasons_is_told_too(sqlite_client):
    with sqlite_client.app.state.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE training_runs SET report = json_set(report, '$.dropped', json(?))",
            ('{"rows":{"no charger type":7}}',),
        )
    sqlite_client.app.state.history_counter.read(30.0)

    assert "sessions left out – no charger type 7" in text_of(sqlite_client.get("/pages/data/history"))


def test_each_page_says_what_is_missing(empty):
    assert "Drift and harm are watched when a version is in production." in empty.get("/pages/data").text
    assert "Nothing came on these days" in empty.get("/pages/data/fields").text
    empty.app.state.history_counter.read(30.0)
    assert "There is no session yet." in empty.get("/pages/data/history").text


def test_a_version_without_references_or_judged_weeks_says_so(sqlite_client):
    engine = sqlite_client.app.state.engine
    with write_transaction(engine) as connection:
        connection.execute(delete(MonitorState))
    assert "is not computed yet" in sqlite_client.get("/pages/data").text
    reference, _ = watched()
    harm = {"limits": {}, "baseline": "prior", "mix": [], "exponents": []}
    with write_transaction(engine) as connection:
        store_monitor(connection, 1, "drift", Remembered({"features": reference.to_plain()}))
        store_monitor(connection, 1, "harm", Remembered(harm))
    page = sqlite_client.get("/pages/data").text
    assert "No week is judged yet" in page
    assert "No day is judged yet" in page
    with write_transaction(engine) as connection:
        store_monitor(connection, 1, "drift", Remembered({"features": None}))
    assert "too few drivers to compare with" in sqlite_client.get("/pages/data").text
