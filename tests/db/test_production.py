"""Production: the version that serves in one process follows the one that the database names."""

import pytest
from sqlalchemy import insert, select, update
from sqlmodel import col

from zap.db import production as production_module
from zap.db.engine import create_engine, write_transaction
from zap.db.production import Production
from zap.db.tables import ModelVersion
from zap.errors import NoModel


@pytest.fixture
def registry(trained):
    engine = create_engine(trained.database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def production(registry, trained):
    production = Production(registry, trained.model_file)
    production.refresh()
    return production


def promote_copy(registry, **changes):
    """A second version in production, with the first one's bytes unless `changes` says otherwise."""
    with write_transaction(registry) as connection:
        row = dict(connection.execute(select(ModelVersion.__table__)).mappings().first())
        connection.execute(update(ModelVersion).values(status="archived"))
        row.pop("model_version")
        return connection.execute(
            insert(ModelVersion).returning(col(ModelVersion.model_version)), row | {"status": "production"} | changes
        ).scalar_one()


def test_it_works(production):
    assert production.predictor.model_version == 1


def test_nothing_serves_before_the_first_training(engine, tmp_path):
    production = Production(engine, tmp_path / "model.joblib")
    production.refresh()

    with pytest.raises(NoModel, match="zap train"):
        _ = production.predictor
    assert not (tmp_path / "model.joblib").exists()


def test_a_promotion_is_followed(production, registry):
    number = promote_copy(registry)

    production.refresh()

    assert production.predictor.model_version == number


def test_the_same_version_is_not_loaded_again(production):
    before = production.predictor

    production.refresh()

    assert production.predictor is before


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_serving(production, registry, trained):
    promote_copy(registry, artefact=b"damaged")

    for _ in range(3):
        production.refresh()

    assert production.predictor.model_version == 1
    assert list(trained.models_dir.glob("*.not-zap-*")) == []


def test_a_version_that_cannot_be_loaded_at_start_is_told(registry, trained):
    promote_copy(registry, artefact=b"damaged")
    production = Production(registry, trained.model_file)

    production.refresh()

    with pytest.raises(NoModel, match="SHA-256"):
        _ = production.predictor


def test_after_a_damaged_version_a_good_one_serves(production, registry):
    promote_copy(registry, artefact=b"damaged")
    production.refresh()
    with write_transaction(registry) as connection:
        connection.execute(update(ModelVersion).values(status="archived"))
        connection.execute(update(ModelVersion).where(col(ModelVersion.model_version) == 1).values(status="production"))

    production.refresh()

    assert production.predictor.model_version == 1


@pytest.mark.parametrize("change", ["deleted", "emptied", "swapped"])
def test_the_file_is_restored_from_the_database(production, trained, change):
    good = trained.model_file.read_bytes()
    trained.model_file.unlink()
    if change != "deleted":
        trained.model_file.write_bytes(b"" if change == "emptied" else b"strange")

    production.refresh()

    assert trained.model_file.read_bytes() == good


def test_two_servers_that_share_a_folder_do_not_take_turns_for_ever(production, trained):
    """Each finds what the other wrote and does not know it."""
    for number in range(5):
        trained.model_file.write_bytes(b"of another database" + bytes([number]))
        production.refresh()

    assert trained.model_file.read_bytes() == b"of another database\x04"
    assert len(list(trained.models_dir.glob("*.not-zap-*"))) == 1


def test_a_file_that_is_put_there_again_and_again_is_kept_once(production, trained, monkeypatch):
    monkeypatch.setattr(production_module, "RESTORE_SECONDS", 0)
    good = trained.model_file.read_bytes()
    for _ in range(3):
        trained.model_file.write_bytes(b"strange")
        production.refresh()

    assert trained.model_file.read_bytes() == good
    assert [file.read_bytes() for file in trained.models_dir.glob("*.not-zap-*")] == [b"strange"]


def test_a_folder_that_cannot_be_written_does_not_stop_serving(registry, tmp_path):
    (tmp_path / "no-folder").write_text("a file")
    production = Production(registry, tmp_path / "no-folder" / "model.joblib")

    production.refresh()

    assert production.predictor.model_version == 1
