"""Model versions: their bytes are the truth, the file is an export of them."""

import threading

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from zap.db.engine import create_engine, write_transaction
from zap.db.model_registry import Version, export, load_version, production_version
from zap.db.tables import ModelVersion
from zap.errors import DamagedModel
from zap.ml.model import sha256


@pytest.fixture
def registry(trained):
    engine = create_engine(trained.database_url)
    yield engine
    engine.dispose()


def test_it_works(registry, trained):
    version = production_version(registry)

    model = load_version(registry, version)

    assert version.model_version == 1
    assert model.classes_.tolist() == ["DC Fast Charger", "Level 1", "Level 2"]


def test_before_the_first_training_there_is_none(engine):
    assert production_version(engine) is None


def test_a_version_that_is_not_there_is_damaged(registry):
    with pytest.raises(DamagedModel):
        load_version(registry, Version(99, "0" * 64))


def test_bytes_that_were_changed_in_the_database_do_not_load(registry):
    version = production_version(registry)
    with write_transaction(registry) as connection:
        connection.execute(update(ModelVersion).values(artefact=b"changed"))

    with pytest.raises(DamagedModel, match="SHA-256"):
        load_version(registry, version)


def test_export_leaves_a_good_file_alone(registry, trained):
    before = trained.model_file.stat().st_mtime_ns

    export(registry, production_version(registry), trained.model_file)

    assert trained.model_file.stat().st_mtime_ns == before


def test_export_writes_what_is_missing(registry, trained, tmp_path):
    good = trained.model_file.read_bytes()

    export(registry, production_version(registry), tmp_path / "new" / "folder" / "model.joblib")

    assert (tmp_path / "new" / "folder" / "model.joblib").read_bytes() == good


def test_export_moves_a_strange_file_aside_once_however_many_do_it(registry, trained):
    good = trained.model_file.read_bytes()
    trained.model_file.write_bytes(b"strange")
    version = production_version(registry)

    threads = [threading.Thread(target=export, args=[registry, version, trained.model_file]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert trained.model_file.read_bytes() == good
    assert [file.read_bytes() for file in trained.models_dir.glob("*.not-zap-*")] == [b"strange"]


def test_a_file_of_another_version_is_replaced_without_a_copy(registry, trained):
    """zap wrote it, and its bytes are in the database."""
    with write_transaction(registry) as connection:
        row = dict(connection.execute(select(ModelVersion.__table__)).mappings().first())
        second = {"model_version": 2, "status": "archived", "artefact": b"second", "sha256": sha256(b"second")}
        connection.execute(insert(ModelVersion), row | second)

    export(registry, Version(2, second["sha256"]), trained.model_file)

    assert trained.model_file.read_bytes() == b"second"
    assert list(trained.models_dir.glob("*.not-zap-*")) == []


def test_two_versions_are_never_in_production(registry):
    with registry.connect() as connection:
        row = dict(connection.execute(select(ModelVersion.__table__)).mappings().first())

    with pytest.raises(IntegrityError), write_transaction(registry) as connection:
        connection.execute(insert(ModelVersion), row | {"model_version": 2})
