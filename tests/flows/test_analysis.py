"""Analysis: the history, a model and its evaluation in Python, as HTTP and the training's report have them."""

import hashlib
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from histories import add_sessions, session_row
from PIL import Image
from sklearn.inspection import permutation_importance
from sqlalchemy import text, update
from sqlmodel import col

import zap
from zap.db.engine import create_engine, write_transaction
from zap.db.runs.training_runs import read_run
from zap.db.tables import ModelVersion
from zap.db.versions.model_registry import read_version
from zap.errors import (
    DamagedModel,
    DatabaseBehind,
    DatabaseUnavailable,
    InvalidSettings,
    NoModel,
    NotFound,
    UnusableHistory,
    ZapError,
)
from zap.flows.training import run_training
from zap.formats.training_options import TrainingOptions
from zap.ml.features import FEATURES, KNOWN_ONLY_AFTER
from zap.ml.history_columns import driver_column
from zap.ml.model import ChargerTypeModel
from zap.ml.pasts import Pasts

ROOT = Path(zap.__file__).parents[1]
ASKED = ["user_id", *(feature.name for feature in FEATURES)]
QUICK = {"n_estimators": 10}


def run(settings, *statements):
    engine = create_engine(settings.database_url)
    with write_transaction(engine) as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def add(settings, *sessions):
    engine = create_engine(settings.database_url)
    add_sessions(engine, *sessions)
    engine.dispose()


def train(settings, **options):
    engine = create_engine(settings.database_url)
    asked = TrainingOptions(**{"hyper_parameters": QUICK, "promote": "never"} | options)
    report = run_training(engine, settings, options=asked)
    engine.dispose()
    return report


def stored(settings, number=1):
    engine = create_engine(settings.database_url)
    known = read_version(engine, number)
    engine.dispose()
    return known


# The package.


def test_importing_zap_is_light_and_its_names_are_there():
    code = (
        "import sys, zap\n"
        "heavy = {'pandas', 'numpy', 'lightgbm', 'sqlalchemy', 'sklearn', 'zap.flows.analysis'}\n"
        "assert {'read_history', 'load_model', 'evaluate'} <= set(dir(zap)), dir(zap)\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert callable(zap.read_history) and 'zap.flows.analysis' in sys.modules\n"
        "from zap import *\n"
        "assert evaluate is zap.evaluate and load_model is zap.load_model"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_zap_has_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'zap' has no attribute 'read_histories'"):
        zap.read_histories  # noqa: B018


# The history.


def test_a_history_is_read_cleaned_and_what_was_dropped_can_be_seen(trained):
    run(
        trained,
        """UPDATE "ChargingSessions" SET charger_type = ' ' WHERE session_id = -5""",
        """UPDATE "ChargingSessions" SET temperature_c = 900 WHERE session_id IN (-6, -7)""",
    )

    history = zap.read_history(trained.database_url)

    report = train(trained)
    assert len(history) == report["trained_samples"] + report["test_samples"]
    assert set(ASKED) < set(history)
    assert history["charging_start_time"].is_monotonic_increasing
    assert history.attrs["dropped"] == json.loads(json.dumps(history.attrs["dropped"])) == report["dropped"]
    assert history.attrs["dropped"]["rows"] == {"no charger type": 1}
    assert history.attrs["dropped"]["values"] == {"temperature_c": {"outside -60 to 60 °C": 2}}
    assert history.attrs["synthetic_sessions"] == len(history)


def test_the_configured_database_is_the_default(trained_sqlite, monkeypatch):
    monkeypatch.setenv("ZAP_DATABASE_URL", trained_sqlite.database_url)

    pd.testing.assert_frame_equal(zap.read_history(), zap.read_history(trained_sqlite.database_url))
    assert zap.load_model().classes_.tolist() == ["DC Fast Charger", "Level 1", "Level 2"]
    assert zap.evaluate() == zap.evaluate(trained_sqlite.database_url)


def test_the_database_is_only_read(trained_sqlite):
    url, file = trained_sqlite.database_url, Path(trained_sqlite.url.database)
    before = hashlib.sha256(file.read_bytes()).hexdigest()

    zap.read_history(url)
    zap.load_model(url)
    zap.evaluate(url)

    assert hashlib.sha256(file.read_bytes()).hexdigest() == before
    # Nor is anything left beside it.
    assert [path for path in file.parent.iterdir() if path.name.startswith("zap.sqlite-")] == []


ASKS = {"read_history": zap.read_history, "load_model": zap.load_model, "evaluate": zap.evaluate}


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_a_database_that_is_not_there_is_named_and_not_made(ask, tmp_path):
    with pytest.raises(DatabaseUnavailable, match=r"no file .*gone\.sqlite.*set ZAP_DATABASE_URL"):
        ask(f"sqlite:///{tmp_path / 'gone.sqlite'}")
    with pytest.raises(DatabaseUnavailable, match=r"no file data/charge_database_alt\.sqlite"):
        ask()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_a_database_that_is_not_at_head_is_refused_and_not_upgraded(ask, empty_database_url):
    if empty_database_url.startswith("sqlite"):
        Path(empty_database_url.removeprefix("sqlite:///")).touch()

    for _ in range(2):
        with pytest.raises(DatabaseBehind, match="zap db upgrade"):
            ask(empty_database_url)


def test_what_is_no_database_url_is_refused_with_what_to_write():
    with pytest.raises(InvalidSettings, match="sqlite:///FILE"):
        zap.read_history("data/zap.sqlite")


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
@pytest.mark.parametrize("wrong", [3, True, Path("zap.sqlite")], ids=str)
def test_a_first_argument_that_is_no_text_is_refused_in_words(ask, wrong):
    with pytest.raises(TypeError, match=r"first argument must be the URL of the database.*\"sqlite:///.*version=3"):
        ask(wrong)


@pytest.mark.parametrize("ask", [zap.load_model, zap.evaluate])
@pytest.mark.parametrize("wrong", [True, "3", 1.0], ids=str)
def test_a_version_is_a_number_and_is_named(trained_sqlite, ask, wrong):
    with pytest.raises(TypeError, match=f"version is {wrong!r}; give the number of a version"):
        ask(trained_sqlite.database_url, version=wrong)
    with pytest.raises(TypeError, match="positional"):
        ask(trained_sqlite.database_url, 1)


def test_a_server_that_does_not_answer_is_told_without_the_password():
    with pytest.raises(ZapError) as refused:
        zap.read_history("postgresql+psycopg://zap:secret@127.0.0.1:1/zap")

    assert isinstance(refused.value, DatabaseUnavailable)
    assert "secret" not in refused.value.message


def test_a_database_without_history_or_model_is_told_so(database_url):
    with pytest.raises(UnusableHistory, match="no history, there is no session; add sessions with zap import-history"):
        zap.read_history(database_url)
    for ask in (zap.load_model, zap.evaluate):
        with pytest.raises(NoModel, match="zap train"):
            ask(database_url)
        with pytest.raises(NotFound, match="no model version 7"):
            ask(database_url, version=7)


def test_a_history_of_which_nothing_can_be_used_is_told_so(trained_sqlite):
    run(trained_sqlite, 'UPDATE "ChargingSessions" SET charging_start_time = NULL')

    with pytest.raises(UnusableHistory, match=r"none of its sessions is usable: \{'no readable start': 1652\}"):
        zap.read_history(trained_sqlite.database_url)


# The model.


def test_a_model_is_that_of_production_or_of_a_number_and_of_the_file(trained):
    train(trained)
    history = zap.read_history(trained.database_url)

    production, first, second = (zap.load_model(trained.database_url, version=number) for number in (None, 1, 2))
    file = joblib.load(trained.model_file)

    answers = [one.predict_proba(history, history=history).tobytes() for one in (production, first, file, second)]
    assert answers[0] == answers[1] == answers[2] != answers[3]
    assert {type(one) for one in (production, file)} == {ChargerTypeModel}
    assert second.n_estimators == 10


@pytest.mark.parametrize("what", ["artefact", "golden", "columns"])
def test_a_model_is_checked_as_serving_checks_it(trained_sqlite, what):
    known = stored(trained_sqlite)
    golden = [one | {"probabilities": dict.fromkeys(one["probabilities"], 0.5)} for one in known["golden"]]
    other = {"artefact": b"another", "golden": golden, "columns": known["columns"][::-1]}[what]
    engine = create_engine(trained_sqlite.database_url)
    with write_transaction(engine) as connection:
        connection.execute(update(ModelVersion).where(col(ModelVersion.model_version) == 1).values({what: other}))
    engine.dispose()

    for ask in (zap.load_model, zap.evaluate):
        with pytest.raises(DamagedModel, match={"artefact": "SHA-256", "golden": "golden row 1"}.get(what, "order")):
            ask(trained_sqlite.database_url)


def test_answers_are_those_of_http_to_the_bit(client):
    # The drivers are known and new, values are missing, and some past sessions have an unknown type.
    settings = client.app.state.settings
    run(
        settings,
        """UPDATE "ChargingSessions" SET charger_type = 'Megawatt' WHERE session_id % 7 = 0""",
        # Sessions that start together, of one driver.
        'UPDATE "ChargingSessions" SET charging_start_time = (SELECT max(s.charging_start_time)'
        ' FROM "ChargingSessions" s WHERE s.user_id = "ChargingSessions".user_id)'
        " WHERE session_id % 50 = 0",
        'UPDATE "ChargingSessions" SET charging_end_time = NULL, energy_consumed_kwh = NULL WHERE session_id % 9 = 0',
    )
    history = zap.read_history(settings.database_url)
    model = zap.load_model(settings.database_url)
    asked = pd.concat(
        [
            history.sample(60, random_state=1),
            history.drop_duplicates("user_id", keep="last").sample(20, random_state=1),
            history[history["distance_driven_km"].isna() | history["temperature_c"].isna()],
            history.sample(9, random_state=2).assign(charging_start_time=pd.Timestamp("2024-12-31 23:59:59")),
            history.head(3).assign(user_id=["nobody", None, " "], user_type="Commuter"),
        ]
    )[ASKED].sample(frac=1, random_state=3)

    probabilities, answers = (ask(asked, history=history) for ask in (model.predict_proba, model.predict))

    types = model.classes_.tolist()
    known = Pasts(history).known(asked, types, model.population_, 15)[:, driver_column("sessions", len(types))]
    assert (known > 0).sum() > 80
    assert asked["user_type"].nunique() > 2
    assert asked.isna().to_numpy().sum() > 30
    for row, found, answer, sessions in zip(
        asked.to_dict("records"), probabilities.tolist(), answers.tolist(), known.tolist(), strict=True
    ):
        body = {name: None if pd.isna(value) else value for name, value in row.items()}
        body["charging_start_time"] = row["charging_start_time"].isoformat()
        reply = client.post("/predict", json=body)
        assert reply.status_code == 200, reply.text
        said = reply.json()
        assert list(said["probabilities"].values()) == found
        assert said["predicted_class"] == answer
        assert said["history_sessions"] == sessions


# The evaluation.


def without_windows(evaluation):
    left_out = ("windows", "at_plug_in", "pooled_exponents")
    return {name: value for name, value in evaluation.items() if name not in left_out}


def test_an_evaluation_is_that_of_the_training(trained):
    found = zap.evaluate(trained.database_url)

    assert found == without_windows(stored(trained)["evaluation"])
    assert found["test_f1_score"] > 0.5


@pytest.mark.parametrize(
    "options",
    [
        {"history_from": pd.Timestamp("2024-02-10 12:00").to_pydatetime()},
        {"history_to": pd.Timestamp("2024-03-20").to_pydatetime(), "test_share": 0.3},
    ],
    ids=" ".join,
)
def test_an_evaluation_of_other_options_is_that_of_its_training(trained_sqlite, options):
    report = train(trained_sqlite, **options)

    found = zap.evaluate(trained_sqlite.database_url, version=2)

    assert found == without_windows(stored(trained_sqlite, 2)["evaluation"])
    assert found["confusion_matrix"] == report["confusion_matrix"]
    assert found != zap.evaluate(trained_sqlite.database_url)


def test_a_version_that_was_judged_on_windows_is_evaluated_on_the_last_part(trained_sqlite):
    report = train(trained_sqlite, windows=True)

    found = zap.evaluate(trained_sqlite.database_url, version=2)

    assert report["windows"] is not None
    assert "windows" not in found
    assert {name for name in found if found[name] != report[name]} <= {"beats_baseline", "verdict", "judged"}


def test_sessions_that_came_later_do_not_matter(trained_sqlite):
    before = zap.evaluate(trained_sqlite.database_url)
    add(trained_sqlite, session_row("sample-1-00000", "Level 1", "2024-09-01 10:00:00"))

    assert zap.evaluate(trained_sqlite.database_url) == before


NOT_THOSE = "not the scores of version 1's training: "
CHANGES = {
    "learned from": (
        """UPDATE "ChargingSessions" SET charger_type = 'Level 1' WHERE charging_start_time LIKE '2024-02-1%'""",
        r"have changed in 2024-02 \(values changed in its \d+ sessions\)$",
    ),
    "fewer to learn from": (
        """DELETE FROM "ChargingSessions" WHERE charging_start_time LIKE '2024-02-11%'""",
        r"have changed in 2024-02 \(\d+ sessions then, \d+ now\)",
    ),
    "both": (
        """UPDATE "ChargingSessions" SET charger_type = 'Level 1' WHERE charging_start_time LIKE '2024-02-1%';
        DELETE FROM "ChargingSessions" WHERE charging_start_time > '2024-04-28'""",
        r"changed in 2024-02 \(values .*\); and only \d+ of the 166 test sessions still exist",
    ),
    "tested on": (
        """UPDATE "ChargingSessions" SET charger_type = 'Level 1' WHERE charging_start_time > '2024-04-28'""",
        r"the test sessions have changed, or the code that computes scores has \(test_f1_score,",
    ),
    "gone": (
        """DELETE FROM "ChargingSessions" WHERE charging_start_time > '2024-04-28'""",
        r"only \d+ of the 166 test sessions still exist",
    ),
}


@pytest.mark.parametrize(("change", "says"), CHANGES.values(), ids=CHANGES)
def test_what_has_changed_is_told(trained_sqlite, change, says):
    before = zap.evaluate(trained_sqlite.database_url)
    run(trained_sqlite, *change.split(";"))

    with pytest.warns(UserWarning, match=NOT_THOSE + f".*{says}") as warned:
        found = zap.evaluate(trained_sqlite.database_url)

    assert found.keys() == before.keys()
    assert found != before
    assert warned[0].filename == __file__


def test_without_the_tested_sessions_there_is_no_evaluation(trained_sqlite):
    until = stored(trained_sqlite)["trained_until"]
    run(trained_sqlite, f"""DELETE FROM "ChargingSessions" WHERE charging_start_time > '{until}'""")

    with pytest.raises(UnusableHistory, match="none of the sessions that version 1 was tested on"):
        zap.evaluate(trained_sqlite.database_url)


def test_a_version_without_fingerprints_is_told_so(trained_sqlite):
    engine = create_engine(trained_sqlite.database_url)
    with write_transaction(engine) as connection:
        connection.execute(update(ModelVersion).values(trees_sha256=None))
    engine.dispose()

    with pytest.raises(NotFound, match="version 1 cannot be evaluated again"):
        zap.evaluate(trained_sqlite.database_url)


# On real sessions.


def test_on_dundee_who_drives_matters_as_the_report_says(trained_on_dundee_once):
    # Without a history every driver is new: the F1 differs, and the importance of all past columns is 0.
    settings = trained_on_dundee_once
    engine = create_engine(settings.database_url)
    report = read_run(engine, 1)["report"]
    engine.dispose()
    history = zap.read_history(settings.database_url)
    tested = history.tail(report["test_samples"])
    bound = joblib.load(settings.model_file).with_history(history)

    evaluation = zap.evaluate(settings.database_url)
    asked = tested[[*ASKED, *sorted(KNOWN_ONLY_AFTER & set(tested) - {"charger_type"})]]
    found = permutation_importance(
        bound, asked, tested["charger_type"], scoring="f1_weighted", n_repeats=1, random_state=1
    )

    assert evaluation["test_f1_score"] == report["test_f1_score"]
    assert (bound.predict(tested) == tested["charger_type"]).mean() == evaluation["accuracy"]
    importances = dict(zip(asked, found.importances_mean, strict=True))
    assert importances["user_id"] > 0.2
    assert importances["charging_start_time"] > 0
    assert [name for name in importances if name in KNOWN_ONLY_AFTER and importances[name] != 0] == []
    nameless = joblib.load(settings.model_file).predict(tested.drop(columns="user_id")) == tested["charger_type"]
    assert nameless.mean() < evaluation["accuracy"] - 0.15


# The manual and the notebook.


def test_the_lines_of_the_manual_run(trained, monkeypatch):
    page = (ROOT / "zap" / "manual" / "python.md").read_text()
    (lines,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.setenv("ZAP_DATABASE_URL", trained.database_url)
    told = {}

    exec(lines, told)

    assert len(lines.strip().splitlines()) <= 12
    model, last, history = (told[name] for name in ("model", "last", "history"))
    assert told["probabilities"].shape == (100, 3)
    assert told["answers"].tolist() == model.classes_[told["probabilities"].argmax(axis=1)].tolist()
    assert told["evaluation"] == without_windows(stored(trained)["evaluation"])
    assert {"share[Level 2]", "temperature_c"} < set(told["importances"].index)
    assert told["importances"].is_monotonic_decreasing
    assert told["contributions"].index.tolist() == last.index.tolist()
    assert told["bound"].predict_proba(last).tobytes() == told["probabilities"].tobytes()
    hit = told["answers"] == last["charger_type"]
    assert hit.mean() > (model.predict(last.drop(columns="user_id")) == last["charger_type"]).mean() + 0.1
    assert len(history) == 1652


def test_the_notebook_shows_the_figures_of_the_report(trained_sqlite, monkeypatch, capsys, tmp_path):
    engine = create_engine(trained_sqlite.database_url)
    report = read_run(engine, 1)["report"]
    engine.dispose()
    monkeypatch.setenv("ZAP_DATABASE_URL", trained_sqlite.database_url)

    told = runpy.run_path(str(ROOT / "tests" / "notebook.py"))

    evaluation = told["evaluation"]
    assert evaluation == {name: report[name] for name in evaluation}
    assert told["display"].confusion_matrix.tolist() == report["confusion_matrix"]
    drawn = [[cell.get_text() for cell in row] for row in told["display"].text_]
    assert drawn == [[str(count) for count in row] for row in report["confusion_matrix"]]
    assert [tick.get_text() for tick in told["axes"].get_xticklabels()] == report["classes"]
    with Image.open(tmp_path / "confusion_matrix.png") as picture:
        assert picture.size == (720, 600)
        assert len(np.unique(np.asarray(picture.convert("L")))) > 50
    printed = capsys.readouterr().out
    assert f"weighted F1 {report['test_f1_score']:.3f}" in printed
    assert "share[" in printed


def test_a_version_is_evaluated_again_on_the_types_that_it_was_judged_on(trained_sqlite, recwarn):
    # Types that were too rare at the training have become common since.
    rare = [
        session_row("sample-1-00000", "Rare", start)
        for start in ("2024-02-10 10:00:00", "2024-04-28 10:00:00", "2024-04-29 10:00:00")
    ]
    add(trained_sqlite, *rare)
    report = train(trained_sqlite)
    add(trained_sqlite, *[session_row("sample-1-00000", "Rare", f"2024-09-{day:02} 10:00:00") for day in range(1, 25)])

    found = zap.evaluate(trained_sqlite.database_url, version=2)

    assert report["left_out_types"]["too_few_sessions"] == {"types": 1, "sessions": 3, "largest": {"Rare": 3}}
    assert found["classes"] == report["classes"] == ["DC Fast Charger", "Level 1", "Level 2"]
    assert found["log_loss"] == report["log_loss"]
    assert not recwarn.list
