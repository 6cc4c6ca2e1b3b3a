"""Production: the version that serves in one process follows the one that the database names."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import OperationalError
from sqlmodel import col

from zap.db.engine import write_transaction
from zap.db.tables import ModelVersion
from zap.db.versions import last_seen
from zap.db.versions import model_file as model_file_module
from zap.db.versions import production as production_module
from zap.db.versions.model_export import last_restored
from zap.db.versions.model_registry import artefact_of, load_version, production_version
from zap.db.versions.production import Production
from zap.db.versions.promotions import promote, roll_back
from zap.errors import NoModel, VersionReplaced
from zap.formats.promotion_reason import Reason
from zap.ml.export import exported
from zap.ml.fitted import sha256


@pytest.fixture
def production(registry, trained):
    production = Production(registry, trained.model_file)
    production.refresh()
    return production


def promote_copy(registry, **changes):
    """A second version in production, with the first one's bytes unless `changes` says otherwise."""
    with write_transaction(registry) as connection:
        first = select(ModelVersion.__table__).where(col(ModelVersion.model_version) == 1)
        row = dict(connection.execute(first).mappings().one())
        row.pop("model_version")
        added = insert(ModelVersion).returning(col(ModelVersion.model_version))
        number = connection.execute(added, row | {"status": "candidate"} | changes).scalar_one()
        promote(connection, number, Reason())
        return number


def another_artefact(registry):
    """Return the artefact of a model that differs from the first version in what it says of new drivers."""
    model = load_version(registry, production_version(registry))
    return replace(model, cold_weight=0.0 if model.cold_weight else 1.0).to_bytes()


def stored(artefact):
    """Return the columns of a version with this artefact."""
    return {"artefact": artefact, "sha256": sha256(artefact), "file_sha256": sha256(exported(artefact))}


def test_it_works(production, trained):
    assert production.predictor.model_version == 1
    assert production.refused is None
    assert last_restored(trained.model_file) is None


def test_nothing_serves_before_the_first_training(engine, tmp_path):
    production = Production(engine, tmp_path / "model.joblib")
    production.refresh()

    with pytest.raises(NoModel, match="zap train"):
        _ = production.predictor
    assert production.refused is None
    assert not (tmp_path / "model.joblib").exists()


def test_a_promotion_is_followed(production, registry):
    number = promote_copy(registry)

    production.refresh()

    assert production.predictor.model_version == number


def test_a_rollback_is_followed(production, registry):
    promote_copy(registry)
    production.refresh()

    roll_back(registry, Reason())
    production.refresh()

    assert production.predictor.model_version == 1
    assert production.refused is None


def test_the_same_version_is_not_loaded_again(production):
    before = production.predictor

    production.refresh()

    assert production.predictor is before


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_serving(production, registry, trained):
    promote_copy(registry, artefact=b"damaged")

    for _ in range(3):
        production.refresh()

    assert production.predictor.model_version == 1
    assert "version 2: the artefact's SHA-256 is" in production.refused
    assert list(trained.models_dir.glob("*.not-zap-*")) == []


def test_a_version_that_this_code_reads_otherwise_leaves_the_old_one_serving(production, registry):
    promote_copy(registry, classes=["Level 1", "Level 2", "Level 3"])

    production.refresh()

    assert production.predictor.model_version == 1
    assert "version 2: the classes of the artefact differ from" in production.refused


def test_a_version_that_cannot_be_loaded_at_start_is_told(registry, trained):
    promote_copy(registry, artefact=b"damaged")
    production = Production(registry, trained.model_file)

    production.refresh()

    with pytest.raises(NoModel, match="SHA-256"):
        _ = production.predictor


def test_after_a_damaged_version_a_good_one_serves(production, registry):
    good = artefact_of(registry, production_version(registry))
    promote_copy(registry, artefact=b"damaged")
    production.refresh()
    number = promote_copy(registry, artefact=good)

    production.refresh()

    assert production.predictor.model_version == number == 3
    assert production.refused is None


def test_after_a_damaged_version_the_one_that_served_serves_again(production, registry):
    promote_copy(registry, artefact=b"damaged")
    production.refresh()
    before = production.predictor
    roll_back(registry, Reason())

    production.refresh()

    assert production.predictor is before
    assert production.refused is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [("deleted", "it was missing"), ("emptied", "it was empty"), ("swapped", "it held bytes that zap did not write")],
)
def test_the_file_is_restored_from_the_database(production, trained, change, reason):
    good = trained.model_file.read_bytes()
    trained.model_file.unlink()
    if change != "deleted":
        trained.model_file.write_bytes(b"" if change == "emptied" else b"strange")

    production.refresh()

    assert trained.model_file.read_bytes() == good
    assert last_restored(trained.model_file)["reason"].startswith(reason)


def test_a_file_that_is_not_there_yet_is_no_surprise(registry, tmp_path):
    production = Production(registry, tmp_path / "new" / "model.joblib")

    production.refresh()

    assert (tmp_path / "new" / "model.joblib").exists()
    assert last_restored(tmp_path / "new" / "model.joblib") is None


def test_a_promoted_version_is_exported_and_what_was_said_of_the_one_before_is_gone(production, registry, trained):
    trained.model_file.unlink()
    production.refresh()
    assert last_restored(trained.model_file)["model_version"] == 1
    artefact = another_artefact(registry)
    promote_copy(registry, **stored(artefact), golden=None)

    production.refresh()

    assert production.predictor.model_version == 2
    assert trained.model_file.read_bytes() == exported(artefact)
    assert last_restored(trained.model_file) is None


def test_two_servers_that_share_a_folder_do_not_take_turns_for_ever(production, trained):
    # Each server finds a file that the other wrote, and does not know its version.
    for number in range(5):
        trained.model_file.write_bytes(b"of another database" + bytes([number]))
        production.refresh()

    assert trained.model_file.read_bytes() == b"of another database\x04"
    assert len(list(trained.models_dir.glob("*.not-zap-*"))) == 1


def test_a_file_that_is_put_there_again_and_again_is_kept_once(production, trained, monkeypatch):
    monkeypatch.setattr(model_file_module, "RESTORE_SECONDS", 0)
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


def test_a_version_that_was_mended_serves(production, registry, monkeypatch):
    # zap tries to load the version again from time to time.
    good = artefact_of(registry, production_version(registry))
    number = promote_copy(registry, artefact=b"damaged")
    production.refresh()
    with write_transaction(registry) as connection:
        this = col(ModelVersion.model_version) == number
        connection.execute(update(ModelVersion).where(this).values(artefact=good))
    production.refresh()
    assert production.predictor.model_version == 1

    monkeypatch.setattr(production, "_retry_after", 0)
    production.refresh()

    assert production.predictor.model_version == number
    assert production.refused is None


def test_other_bytes_under_the_number_that_serves_are_loaded(production, registry, trained):
    # After a backup is restored, a number may belong to another training.
    before = production.predictor
    artefact = another_artefact(registry)
    with write_transaction(registry) as connection:
        connection.execute(update(ModelVersion).values(**stored(artefact), golden=None))

    production.refresh()

    assert production.predictor is not before
    assert production.predictor.model_version == 1
    assert trained.model_file.read_bytes() == exported(artefact)


# Which version may answer.


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock of production, which a test moves on."""
    clock = SimpleNamespace(now=0.0)
    for module in (last_seen, production_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_version_answers_only_if_it_was_in_production_a_moment_ago(clock, production, registry):
    production.check_serves(1)
    number = promote_copy(registry)

    # The last look has seen it.
    clock.now += 1.4
    production.check_serves(1)
    clock.now += 0.2

    with pytest.raises(VersionReplaced, match="version 1 may not be in production"):
        production.check_serves(1)
    production.check_serves(number)


def test_a_version_in_the_place_of_one_that_cannot_be_loaded_goes_on_answering(clock, production, registry):
    promote_copy(registry, artefact=b"damaged")
    production.refresh()
    clock.now += 60

    production.check_serves(1)


def test_a_database_that_does_not_answer_says_no(clock, production, registry, monkeypatch):
    def gone(_engine):
        raise OperationalError("SELECT", None, Exception("gone"))

    monkeypatch.setattr(production_module, "production_version", gone)
    production.check_serves(1)
    clock.now += 2
    with pytest.raises(VersionReplaced):
        production.check_serves(1)
