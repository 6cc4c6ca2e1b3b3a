"""The upgrade that turns artefacts from pickles into data: versions of an older zap serve as they did before."""

import io
import pickle
import zlib
from dataclasses import replace
from pathlib import Path

import joblib
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import insert, select, text, update

from zap.db.engine import create_engine
from zap.db.schema import migrations_folder, upgrade
from zap.db.tables import ModelVersion, Promotion, TrainingRun
from zap.db.versions.model_export import last_restored
from zap.db.versions.model_registry import load_version, read_version, version
from zap.db.versions.production import Production
from zap.db.versions.promotions import promote_version, roll_back
from zap.errors import AdoptionRefused, DamagedModel
from zap.formats.promotion_reason import Reason
from zap.ml.fitted import sha256
from zap.ml.golden_check import scored
from zap.ml.inference import Predictor
from zap.ml.model import ChargerTypeModel, restored

VERSIONS = ModelVersion.__table__


class Pickled:
    """An estimator as an older zap pickled it: a call of `restored` with the fields of the model."""

    def __init__(self, state):
        self.state = state

    def __reduce__(self):
        return restored, (self.state,)


class Canary:
    """Leave a mark when the object is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def older_artefact(model):
    state = vars(model) | {"population": model.population.counts, "trees": model.scorer["trees"]}
    del state["scorer"]
    buffer = io.BytesIO()
    joblib.dump(Pickled(state), buffer, compress=("zlib", 3))
    return buffer.getvalue()


def change(engine, number, **values):
    with engine.begin() as connection:
        columns = {name: value for name, value in values.items() if name in VERSIONS.columns}
        connection.execute(update(VERSIONS).where(VERSIONS.c.model_version == number).values(columns))


def downgrade(engine):
    config = Config(attributes={"url": url_of(engine), "report": lambda _: None})
    config.set_main_option("script_location", str(migrations_folder()))
    command.downgrade(config, "0005")


def url_of(engine):
    return engine.url.render_as_string(hide_password=False)


def row_of(engine, number):
    with engine.connect() as connection:
        stored = select(VERSIONS.c.artefact, VERSIONS.c.sha256).where(VERSIONS.c.model_version == number)
        return tuple(connection.execute(stored).one())


def answers(model, golden):
    """Return the bytes of the features and the probabilities of all golden rows."""
    predictor = Predictor(model, 1)
    return [repr(scored(predictor, one["request"], [], [])) for one in golden]


@pytest.fixture
def models(trained):
    """Return the two models of `older`."""
    engine = create_engine(trained.database_url)
    fitted = load_version(engine, version(engine, 1))
    engine.dispose()
    # The versions of an older zap are trees alone, and name no estimator.
    params = {name: value for name, value in fitted.hyper_parameters.items() if name != "estimator"}
    scorer = {"kind": "lightgbm", "trees": fitted.scorer["trees"]}
    first = replace(fitted, hyper_parameters=params, scorer=scorer)
    return [first, replace(first, cold_weight=0.1 if first.cold_weight != 0.1 else 0.3)]


@pytest.fixture
def older(trained, models, tmp_path):
    """A database of revision 0005 on each engine: version 1 serves, version 2 is a candidate, the others are damaged.

    3 has another digest, 4 is no pickle, 5 calls a function, 6 lacks a field, 7 was pruned.
    """
    engine = create_engine(trained.database_url)
    with engine.begin() as connection:
        row = dict(connection.execute(select(VERSIONS)).mappings().one()) | {"status": "candidate"}
        del row["model_version"]
        connection.execute(insert(VERSIONS), [row] * 6)
    artefacts = [older_artefact(model) for model in models]
    lacking = {"hyper_parameters": {}, "trees": "tree"}
    damaged = [b"no pickle", zlib.compress(pickle.dumps(Canary(tmp_path / "unpickled")))]
    damaged.append(zlib.compress(pickle.dumps(Pickled(lacking))))
    for number, artefact in zip((1, 2, 4, 5, 6), artefacts + damaged, strict=True):
        change(engine, number, artefact=artefact, sha256=sha256(artefact))
    # The trees alone answer only drivers without a past as the trained version does.
    change(engine, 1, golden=[one for one in row["golden"] if not one["past"]])
    change(engine, 2, golden=None)
    change(engine, 3, artefact=artefacts[0], sha256="0" * 64)
    change(engine, 7, artefact=None)
    trained.model_file.write_bytes(artefacts[0])
    downgrade(engine)
    yield engine
    engine.dispose()


def test_versions_of_an_older_zap_serve_and_nothing_is_trained_again(older, models, trained):
    before = {number: row_of(older, number) for number in range(1, 8)}

    upgrade(url_of(older))

    golden = read_version(older, 1)["golden"]
    assert golden
    for number, model in enumerate(models, start=1):
        loaded = load_version(older, version(older, number))
        assert loaded.to_bytes() == model.to_bytes()
        assert answers(loaded, golden) == answers(model, golden)
        assert read_version(older, number)["file_sha256"] == before[number][1] != read_version(older, number)["sha256"]
    production = Production(older, trained.model_file)
    production.refresh()
    assert production.predictor.model_version == 1
    promote_version(older, 2, Reason())
    production.refresh()
    assert production.predictor.model_version == 2
    roll_back(older, Reason())
    production.refresh()
    assert production.predictor.model_version == 1
    with older.connect() as connection:
        assert len(connection.execute(select(TrainingRun.__table__)).all()) == 1
        assert len(connection.execute(select(Promotion.__table__)).all()) == 3


def test_damaged_and_pruned_versions_stay_as_they_are(older, tmp_path):
    before = {number: row_of(older, number) for number in range(3, 8)}

    upgrade(url_of(older))

    assert {number: row_of(older, number) for number in range(3, 8)} == before
    for number, said in ((3, "SHA-256"), (4, "train again"), (5, "train again"), (6, "train again"), (7, "was pruned")):
        with pytest.raises(DamagedModel, match=said):
            load_version(older, version(older, number))
    assert not (tmp_path / "unpickled").exists()


def as_estimator(model):
    """Return the artefact of a model that this code has read: it names the estimator, which an older zap did not."""
    return ChargerTypeModel.from_fitted(model).to_bytes()


def test_the_model_file_of_an_older_zap_stays_until_another_version_serves(older, models, trained):
    """It is the file of its version: neither copied aside nor restored. `joblib.load` reads it."""
    upgrade(url_of(older))
    before = trained.model_file.read_bytes()
    production = Production(older, trained.model_file)

    production.refresh()

    assert trained.model_file.read_bytes() == before
    assert joblib.load(trained.model_file).to_bytes() == as_estimator(models[0])
    for number in (2, 1, 2):
        promote_version(older, number, Reason())
        production.refresh()
        assert joblib.load(trained.model_file).to_bytes() == as_estimator(models[number - 1])
    assert last_restored(trained.model_file) is None
    assert list(trained.models_dir.glob("*.not-zap-*")) == []


def test_a_running_training_ends_because_older_code_would_store_a_pickle(older):
    with older.begin() as connection:
        connection.execute(text("UPDATE training_runs SET status = 'running', finished_at = NULL"))

    upgrade(url_of(older))

    with older.connect() as connection:
        (run,) = connection.execute(select(TrainingRun.__table__)).mappings()
    assert (run["status"], run["report"]["detail"]) == ("failed", "the database was upgraded while it ran")
    assert run["finished_at"] == run["heartbeat_at"] > run["started_at"]


def test_versions_serve_after_down_and_up_again(older, models):
    upgrade(url_of(older))
    downgrade(older)

    upgrade(url_of(older))

    assert load_version(older, version(older, 1)).to_bytes() == models[0].to_bytes()
    # The digest of the file went with the column, and the digest of the artefact is another one.
    assert read_version(older, 1)["file_sha256"] is None


def test_a_column_of_somebody_else_is_named_and_nothing_changes(older):
    before = row_of(older, 1)
    with older.begin() as connection:
        connection.execute(text("ALTER TABLE model_versions ADD COLUMN file_sha256 INTEGER"))

    with pytest.raises(AdoptionRefused, match="has a column file_sha256 already"):
        upgrade(url_of(older))

    assert row_of(older, 1) == before
