"""Rows that another program has damaged: no page and no JSON route fails, and pages say what cannot be read."""

import html
import json
import re
import shutil
from typing import NamedTuple

import pytest
from conftest import client_of
from filled import fill
from litestar.routes import HTTPRoute
from monitored import monitor
from servers import until
from sqlalchemy import LargeBinary, insert, text, update
from sqlmodel import SQLModel
from trialled import add_copies

from zap.db.engine import create_engine, write_transaction
from zap.db.monitoring.trials import begin_trial
from zap.db.monitoring_tables import MonitorState
from zap.db.stored_json import StoredJson
from zap.db.tables import TrainingEvent, TrainingRun, Tuning, utc_now
from zap.formats.trial_options import TrialOptions
from zap.settings import Settings

# Values that are no JSON, or JSON of another shape. SQLite stores every one of them. WRONG_PARTS stands for the stored
# value with a text in a list instead of each of its parts.
WRONG_PARTS = "wrong parts"
DAMAGES = ["{no JSON", "null", "[1]", '{"a": {"b": []}}', WRONG_PARTS, b"\xff\xfe"]
# No page reads them: the follower, and what challengers have answered. The artefact is checked by its digest.
UNREAD = {"follower", "trial_predictions", "artefact"}
COLUMNS = [
    (table.name, column.name)
    for table in SQLModel.metadata.sorted_tables
    for column in table.columns
    if isinstance(column.type, StoredJson | LargeBinary) or column.name == "input_data_json"
    if not {table.name, column.name} & UNREAD
]
RUN = {"kind": "train", "started_at": utc_now(), "finished_at": utc_now(), "options": {"note": "of the test"}}


class Database(NamedTuple):
    """A server on a database that has been in use, and the addresses of all its pages and JSON routes."""

    client: object
    engine: object
    addresses: list

    def damage(self, damage, columns=COLUMNS, rows=""):
        """Damage columns, and return what restores them."""
        kept = []
        with self.engine.begin() as connection:
            for table, column in columns:
                where = rows or f"rowid > (SELECT max(rowid) - 20 FROM {table})"
                found = connection.execute(text(f"SELECT rowid, {column} FROM {table} WHERE {where}")).all()
                kept.append((table, column, found))
                for row, value in found:
                    self._put(connection, table, column, row, damaged(value, damage))
        return kept

    def restore(self, kept):
        with self.engine.begin() as connection:
            for table, column, found in kept:
                for row, value in found:
                    self._put(connection, table, column, row, value)

    @staticmethod
    def _put(connection, table, column, row, value):
        connection.execute(
            text(f"UPDATE {table} SET {column} = :value WHERE rowid = :row"), {"value": value, "row": row}
        )
        if table == "monitor_states":
            # A report of an unchanged state is not made again.
            connection.execute(update(MonitorState).values(updated_at=utc_now()))


def damaged(value, damage):
    if damage != WRONG_PARTS:
        return damage
    try:
        stored = json.loads(value)
    except (TypeError, ValueError):
        return "wrong"
    return json.dumps({name: ["x"] for name in stored} if isinstance(stored, dict) else ["x", 1])


@pytest.fixture(scope="module")
def database(_trained_sqlite, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    shutil.copytree(_trained_sqlite, folder, dirs_exist_ok=True)
    url = f"sqlite:///{folder / 'zap.sqlite'}"
    engine = create_engine(url)
    fill(engine, weeks=2, sessions=80)
    monitor(engine)
    add_copies(engine, 2, hyper_parameters_from="tuning 1")
    with write_transaction(engine) as connection:
        begin_trial(connection, 2, TrialOptions())
        connection.execute(insert(TrainingRun), RUN | {"status": "failed", "report": {"title": "a", "detail": "b"}})
        connection.execute(insert(TrainingRun), RUN | {"status": "finished", "kind": "tune", "report": {"tuning": 1}})
        event = {"run_id": 1, "created_at": utc_now(), "data": {"phase": "fit", "done": 1, "total": 2, "log_loss": 0.7}}
        connection.execute(insert(TrainingEvent), [event, event])
        found = {"log_loss": 0.5, "default_log_loss": 0.6, "sessions": 9, "seed": 1, "trials": [{}]}
        tuning = {"created_at": utc_now(), "hyper_parameters": {"num_leaves": 31}, "evidence": found}
        connection.execute(insert(Tuning), tuning)
    settings = Settings(database_url=url, models_dir=folder / "models", follow=False)
    with client_of(settings, raise_server_exceptions=False) as client:
        until(lambda: "are being counted" not in client.get("/pages/data/history").text)
        yield Database(client, engine, addresses_of(client.app, engine))
    engine.dispose()


def addresses_of(app, engine):
    """Return the addresses of all pages and JSON routes, with ids that are stored."""
    with engine.connect() as connection:
        prediction, driver = connection.execute(
            text("SELECT prediction_id, user_id FROM outcomes ORDER BY prediction_id DESC LIMIT 1")
        ).one()
    paths = [
        route.path
        for route in app.routes
        if isinstance(route, HTTPRoute) and "rest:path" not in route.path
        for handler in route.route_handlers
        if "GET" in handler.http_methods and not route.path.startswith(("/docs", "/manual", "/openapi"))
        if not handler.opt.get("public")
    ]
    ids = {"prediction_id": prediction, "number": prediction, "user_id": f"/{driver}"}
    paths = [re.sub(r"\{(\w+):\w+\}", lambda one: str(ids.get(one[1], 1)), path).replace("//", "/") for path in paths]
    more = ["/pages/models/2", "/models/2", "/pages/models/compare?first=1&second=2", "/pages/models/2/promote"]
    more += [
        "/pages/models/2/trial/end",
        "/pages/trainings/2",
        "/pages/trainings/3",
        "/training-runs/2",
        "/quality?by=day",
    ]
    more += ["/pages/data?feature=temperature_c", "/pages/predictions/1", "/predictions/1", "/alarms?all=true"]
    return [*paths, *more]


def failures(database, addresses):
    """Return the addresses that fail, apart from a problem that says in words what is damaged."""
    found = []
    for address in addresses:
        reply = database.client.get(address, follow_redirects=False)
        is_said = reply.status_code == 503 and re.search("cannot be read|cannot be used", reply.text)
        if reply.status_code >= 500 and not (is_said and not address.startswith("/pages")):
            found.append((address, reply.status_code, reply.text[-300:]))
    return found


def said(database, address):
    """Return what a page says."""
    page = database.client.get(address)
    assert page.status_code == 200, address
    return re.sub(r"\s+", " ", html.unescape(re.sub("<[^>]*>", " ", page.text)))


def test_the_addresses_are_there(database):
    assert len(database.addresses) > 40
    statuses = {address: database.client.get(address).status_code for address in database.addresses}
    assert {path for path, status in statuses.items() if status not in {200, 204}} == {
        "/pages/drivers",
        "/pages/export-driver",
        "/pages/erase-driver",
        "/pages/keys/1/rotate",
        "/pages/keys/1/revoke",
        "/pages/models/rollback",
        "/pages/models/1/trial/end",
    }


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_address_fails_if_everything_is_damaged(database, damage):
    kept = database.damage(damage)
    try:
        assert failures(database, database.addresses) == []
    finally:
        database.restore(kept)


# What is no JSON at all is damaged in all columns together above, and in some columns alone below.
@pytest.mark.parametrize("damage", [pytest.param("{", marks=pytest.mark.long), WRONG_PARTS])
@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_no_address_fails_if_a_column_is_damaged(database, table, column, damage):
    addresses = [one for one in database.addresses if one.startswith("/pages") or one == "/" or table[:5] in one]
    kept = database.damage(damage, [(table, column)])
    try:
        assert failures(database, addresses) == []
    finally:
        database.restore(kept)


# What is damaged (the column, and the rows), and what the pages then say.
WORDS = [
    ("model_versions", "evaluation", "model_version = 1", "/pages/models/1", "The stored evaluation cannot be read."),
    ("model_versions", "evaluation", "model_version = 1", "/", "The stored evaluation cannot be read."),
    ("model_versions", "libraries", "model_version = 1", "/pages/models/1", "so this cannot be read: libraries"),
    ("model_versions", "features", "model_version = 2", "/pages/models/compare?first=1&second=2", "read: features"),
    ("predictions", "probabilities", "", "/pages/predictions/{}", "The stored probabilities cannot be read."),
    ("training_runs", "report", "run_id = 1", "/pages/trainings/1", "What is stored about its result cannot be read."),
    ("training_runs", "report", "run_id = 1", "/pages/data/history", "so this cannot be read: report"),
    ("training_runs", "report", "run_id = 2", "/pages/trainings", "partly unreadable"),
    ("training_runs", "options", "run_id = 2", "/pages/trainings/2", "The stored options cannot be read."),
    ("monitor_states", "state", "", "/pages/data", "what the monitor of drift remembers of version 1 cannot be read"),
    (
        "monitor_states",
        "reference",
        "",
        "/pages/data",
        "what the monitor of harm remembers of version 1 cannot be read",
    ),
    ("quality_days", "sums", "", "/pages/quality", "so this cannot be read: quality_days 20"),
    ("quality_days", "answers", "", "/pages/quality", "so this cannot be read: quality_days 20"),
    ("serving_counts", "buckets", "", "/", "stored minutes cannot be read, so their answers are not counted."),
    ("tunings", "hyper_parameters", "", "/pages/trainings", "what tuning 1 has found cannot be read"),
    ("trials", "state", "", "/pages/models", "so this cannot be read: state"),
    ("trials", "state", "", "/", "on trial Version 2 ▲ partly unreadable"),
    ("trials", "evidence", "", "/pages/models/2", "What the looks have found cannot be read."),
]


@pytest.mark.parametrize("damaged", WORDS, ids=lambda one: f"{one[0]}.{one[1]} on {one[3]}")
def test_pages_say_what_cannot_be_read(database, damaged):
    table, column, rows, address, words = damaged
    last = max(int(one.rpartition("/")[2]) for one in database.addresses if re.fullmatch(r"/predictions/\d+", one))
    assert words not in said(database, address.format(last))
    kept = database.damage("[1", [(table, column)], rows)
    try:
        assert words in said(database, address.format(last))
    finally:
        database.restore(kept)


def test_a_part_of_a_report_is_left_out_and_named(database):
    report = json.dumps({"model_version": 1, "phases": {"read": [1]}, "message": "the words of the report"})
    kept = database.damage(report, [("training_runs", "report")], "run_id = 1")
    try:
        page = said(database, "/pages/trainings/1")
        assert "so this cannot be read: report.phases" in page
        assert "the words of the report" in page
        assert "Sessions by month and type" in said(database, "/pages/data/history")
        run = database.client.get("/training-runs/1").json()
        assert run["unreadable"] == ["report.phases"]
        assert run["report"] == {"model_version": 1, "message": "the words of the report"}
        # The stream of its events ends.
        assert "event: end" in database.client.get("/training-runs/1/events").text
    finally:
        database.restore(kept)


def test_the_overview_stands_without_the_scores_of_guessing(database):
    with database.engine.connect() as connection:
        stored = connection.execute(text("SELECT evaluation FROM model_versions WHERE model_version = 1")).scalar_one()
    changed = json.dumps(json.loads(stored) | {"best_baseline": "of another program"})
    # Without live scores, the verdict is about the test.
    kept = database.damage("1", [("quality_days", "sums")])
    kept += database.damage(changed, [("model_versions", "evaluation")], "model_version = 1")
    try:
        assert "The stored evaluation cannot be read." in said(database, "/")
    finally:
        database.restore(kept)


def test_lists_have_the_other_rows(database):
    kept = database.damage("{", [("model_versions", "evaluation")], "model_version = 2")
    kept += database.damage("{", [("training_runs", "report"), ("training_runs", "options")], "run_id = 2")
    try:
        versions = database.client.get("/models").json()["models"]
        assert [(one["model_version"], bool(one["scores"]), one.get("unreadable")) for one in versions] == [
            (3, True, None),
            (2, False, ["evaluation"]),
            (1, True, None),
        ]
        assert said(database, "/pages/models").count("partly unreadable") == 1
        runs = database.client.get("/training-runs").json()["training_runs"]
        assert [(one["run_id"], one.get("unreadable")) for one in runs] == [(3, None), (2, ["options"]), (1, None)]
        assert said(database, "/pages/trainings").count("partly unreadable") == 1
    finally:
        database.restore(kept)
