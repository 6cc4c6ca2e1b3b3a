"""Model versions: their bytes are the truth, and what is known of each is checked before it is loaded."""

import hashlib
import json
import pickle
import zlib

import pytest
from canary import Canary
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from zap.db.engine import write_transaction
from zap.db.tables import ModelVersion
from zap.db.versions.model_registry import (
    MEASURED,
    Version,
    add_candidate,
    artefact_of,
    list_versions,
    load_version,
    production_version,
    prune_candidates,
    read_version,
    version,
    versions_of_file,
)
from zap.errors import DamagedModel, NotFound
from zap.ml.export import exported
from zap.ml.fitted import sha256


def add_copies(engine, *statuses):
    """Versions like the first one."""
    with write_transaction(engine) as connection:
        first = select(ModelVersion.__table__).order_by(col(ModelVersion.model_version)).limit(1)
        row = dict(connection.execute(first).mappings().one())
        del row["model_version"]
        connection.execute(insert(ModelVersion), [row | {"status": status} for status in statuses])


def change(engine, **values):
    with write_transaction(engine) as connection:
        connection.execute(update(ModelVersion).values(values))


def pruned(engine):
    return [one["model_version"] for one in list_versions(engine, 100) if one["artefact_bytes"] is None][::-1]


def test_it_works(registry):
    version = production_version(registry)

    model = load_version(registry, version)

    assert version.model_version == 1
    assert list(model.classes) == ["DC Fast Charger", "Level 1", "Level 2"]


def test_before_the_first_training_there_is_none(engine):
    assert production_version(engine) is None
    assert list_versions(engine, 10) == []


def test_two_versions_are_never_in_production(registry):
    with pytest.raises(IntegrityError):
        add_copies(registry, "production")


# Adding and reading.


def test_a_new_candidate_does_not_serve_and_loads_as_it_was(registry):
    first = production_version(registry)
    model = load_version(registry, first)

    with write_transaction(registry) as connection:
        artefact = artefact_of(registry, first)
        known = {"hyper_parameters": model.hyper_parameters, "contract": model.contract}
        added = add_candidate(connection, 1, artefact, known | {"note": "by hand", "trained_samples": 1488})

    assert added.model_version == 2
    assert production_version(registry) == first
    assert version(registry, 2) == added
    assert load_version(registry, added).to_bytes() == model.to_bytes() == artefact
    stored = read_version(registry, 2)
    assert (stored["status"], stored["run_id"], stored["note"], stored["trained_samples"]) == (
        "candidate",
        1,
        "by hand",
        1488,
    )
    assert stored["hyper_parameters"] == model.hyper_parameters
    assert stored["contract"] == model.contract
    assert stored["created_at"].tzinfo is not None


def test_all_is_known_of_a_trained_version_but_its_bytes(registry):
    stored = read_version(registry, 1)

    assert [name for name, value in stored.items() if value is None] == ["tuned_until", "note"]
    assert stored.keys() == {
        *ModelVersion.__table__.columns.keys(),
        "artefact_bytes",
        "scores",
        "synthetic_sessions",
        "unreadable",
        *MEASURED,
    } - {"artefact"}
    assert not {*MEASURED} & stored["evaluation"].keys()
    artefact = artefact_of(registry, production_version(registry))
    assert stored["artefact_bytes"] == len(artefact)
    assert stored["sha256"] == hashlib.sha256(artefact).hexdigest()
    assert stored["trained_from"] < stored["trained_until"]
    assert sum(sessions for sessions, _ in stored["rows_by_month"].values()) == stored["trained_samples"]
    assert len(stored["columns"]) > len(stored["features"])
    assert stored["classes"] == ["DC Fast Charger", "Level 1", "Level 2"]
    assert len(stored["golden"]) == 8
    assert json.dumps(stored["evaluation"])


def test_versions_are_listed_newest_first_and_further_back_from_any(registry):
    add_copies(registry, "candidate", "archived", "candidate")

    newest = list_versions(registry, 2)
    older = list_versions(registry, 2, before=3)

    assert [(one["model_version"], one["status"]) for one in (*newest, *older)] == [
        (4, "candidate"),
        (3, "archived"),
        (2, "candidate"),
        (1, "production"),
    ]
    assert list_versions(registry, 2, before=1) == []
    assert "artefact" not in older[-1]
    assert "golden" not in older[-1]


def test_a_list_has_the_headline_of_each_evaluation(registry):
    add_copies(registry, "candidate")
    with write_transaction(registry) as connection:
        this = col(ModelVersion.model_version) == 2
        connection.execute(update(ModelVersion).where(this).values(evaluation=None))

    second, first = list_versions(registry, 2)

    evaluation = read_version(registry, 1)["evaluation"]
    best, by_f1 = evaluation["best_baseline"], evaluation["best_baseline_by_f1"]
    judged = evaluation["judged"]
    assert second["scores"] is None
    assert first["scores"] == read_version(registry, 1)["scores"]
    assert first["scores"] == {
        "test_f1_score": evaluation["test_f1_score"],
        "best_baseline_by_f1": by_f1,
        "best_baseline_f1_score": evaluation["baselines"][by_f1]["weighted_f1"],
        "log_loss": evaluation["log_loss"],
        "best_baseline": best,
        "best_baseline_log_loss": evaluation["baselines"][best]["log_loss"],
        "verdict": evaluation["verdict"],
        "judged_on": {name: judged[name] for name in ("sessions_of", "sessions", "from", "until")},
        "beats_baseline": evaluation["beats_baseline"],
    }


def test_a_version_of_an_older_zap_is_listed_without_a_verdict(sqlite_registry):
    # An older zap compared with one baseline only, by intervals that were too narrow.
    evaluation = read_version(sqlite_registry, 1)["evaluation"]
    newer = ("verdict", "judged", "baseline_differences", "best_baseline_by_f1", "effective_drivers")
    older = {name: value for name, value in evaluation.items() if name not in newer}
    with write_transaction(sqlite_registry) as connection:
        connection.execute(update(ModelVersion).values(evaluation=older))

    (listed,) = list_versions(sqlite_registry, 2)

    assert [listed["scores"][name] for name in ("verdict", "judged_on", "beats_baseline")] == [None] * 3
    assert listed["scores"]["best_baseline_f1_score"] > 0


@pytest.mark.parametrize("read", [version, read_version])
def test_a_version_that_is_not_there_is_not_found(sqlite_registry, read):
    with pytest.raises(NotFound, match="no model version 99"):
        read(sqlite_registry, 99)


def test_a_model_file_is_known_by_its_digest(sqlite_registry):
    file = exported(artefact_of(sqlite_registry, production_version(sqlite_registry)))

    assert versions_of_file(sqlite_registry, sha256(file)) == {1}
    assert versions_of_file(sqlite_registry, sha256(b"strange")) == set()


# Loading.


def test_a_version_that_is_not_there_is_damaged(registry):
    assert artefact_of(registry, Version(99, "0" * 64)) == b""
    with pytest.raises(DamagedModel):
        load_version(registry, Version(99, "0" * 64))


def test_bytes_that_were_changed_in_the_database_do_not_load(registry):
    version = production_version(registry)
    change(registry, artefact=b"changed")

    with pytest.raises(DamagedModel, match="SHA-256"):
        load_version(registry, version)


@pytest.mark.parametrize("wrapped", [False, True])
def test_nothing_in_the_database_is_ever_unpickled(sqlite_registry, tmp_path, wrapped):
    canary = pickle.dumps(Canary(tmp_path / "unpickled"))
    stored = zlib.compress(canary) if wrapped else canary
    change(sqlite_registry, artefact=stored, sha256=sha256(stored))

    with pytest.raises(DamagedModel, match="cannot be read by this code"):
        load_version(sqlite_registry, production_version(sqlite_registry))

    assert not (tmp_path / "unpickled").exists()
    pickle.loads(canary)
    assert (tmp_path / "unpickled").exists()


def renamed(stored, old, new):
    return json.loads(json.dumps(stored).replace(f'"{old}"', f'"{new}"'))


@pytest.mark.parametrize(
    ("what", "old", "new"),
    [
        ("features", "temperature_c", "temperature_f"),
        ("columns", "share[Level 1]", "share[Level 3]"),
        ("classes", "Level 1", "Level 3"),
    ],
)
def test_a_model_that_is_not_what_was_stored_beside_it_is_refused_by_name(sqlite_registry, what, old, new):
    version = production_version(sqlite_registry)
    change(sqlite_registry, **{what: renamed(read_version(sqlite_registry, 1)[what], old, new)})

    with pytest.raises(DamagedModel) as refused:
        load_version(sqlite_registry, version)

    assert f"the {what} of the artefact" in refused.value.message
    assert f"without {new} and with {old}" in refused.value.message


@pytest.mark.parametrize("what", ["features", "columns", "classes"])
def test_another_order_is_refused_too(sqlite_registry, what):
    version = production_version(sqlite_registry)
    change(sqlite_registry, **{what: read_version(sqlite_registry, 1)[what][::-1]})

    with pytest.raises(DamagedModel, match=f"the {what} of the artefact .* their order differs"):
        load_version(sqlite_registry, version)


@pytest.mark.parametrize(
    ("what", "name", "says"),
    [
        ("features", "temperature_c", "the feature temperature_c of golden row 3"),
        ("probabilities", "Level 2", "the probability of 'Level 2' of golden row 3"),
    ],
)
def test_a_model_that_answers_otherwise_than_when_it_was_trained_is_refused_by_name(sqlite_registry, what, name, says):
    stored = read_version(sqlite_registry, 1)
    golden = stored["golden"]
    place = stored["columns"].index(name) if what == "features" else name
    golden[2][what][place] += 0.001
    version = production_version(sqlite_registry)
    change(sqlite_registry, golden=golden)

    with pytest.raises(DamagedModel, match=says):
        load_version(sqlite_registry, version)


def test_a_version_that_is_older_than_what_is_checked_loads(registry):
    version = production_version(registry)
    change(registry, features=None, columns=None, classes=None, golden=None)

    assert load_version(registry, version).classes == ("DC Fast Charger", "Level 1", "Level 2")


# Pruning.


def test_candidates_but_the_newest_lose_their_bytes_and_nothing_else(registry):
    add_copies(registry, *["candidate"] * 4)
    before = read_version(registry, 2)

    with write_transaction(registry) as connection:
        assert prune_candidates(connection, keep=2) == [2, 3]

    assert pruned(registry) == [2, 3]
    assert read_version(registry, 2) == before | {"artefact_bytes": None}
    with pytest.raises(DamagedModel, match=r"the artefact of version 2 was pruned, as the version never served"):
        load_version(registry, version(registry, 2))
    assert load_version(registry, version(registry, 4)).classes == ("DC Fast Charger", "Level 1", "Level 2")


def test_a_version_that_served_is_never_pruned(registry):
    add_copies(registry, "archived", "candidate", "archived")

    with write_transaction(registry) as connection:
        assert prune_candidates(connection, keep=0) == [3]

    assert pruned(registry) == [3]


def test_what_was_pruned_is_not_pruned_again_and_counts_as_a_candidate(registry):
    add_copies(registry, *["candidate"] * 2)
    with write_transaction(registry) as connection:
        assert prune_candidates(connection, keep=1) == [2]
        assert prune_candidates(connection, keep=1) == []
    add_copies(registry, "candidate")

    with write_transaction(registry) as connection:
        assert prune_candidates(connection, keep=2) == []
        assert prune_candidates(connection, keep=1) == [3]
