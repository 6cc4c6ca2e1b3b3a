"""The model file: an export of the version in production, and what is done when it is not what it should be."""

import io
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import joblib
import pytest
from canary import Canary
from sqlalchemy import insert, select, update
from sqlmodel import col

from zap.db.engine import create_engine, write_transaction
from zap.db.tables import ModelVersion
from zap.db.versions import model_export, model_file
from zap.db.versions.model_export import export, last_restored
from zap.db.versions.model_file import ModelFile
from zap.db.versions.model_registry import Version, load_version, production_version
from zap.errors import DamagedModel
from zap.ml.export import exported
from zap.ml.fitted import sha256


@pytest.fixture
def registry(sqlite_registry):
    return sqlite_registry


@pytest.fixture
def file(trained_sqlite):
    """The model file, as the training exported it."""
    return trained_sqlite.model_file


def add_version(engine, artefact, status="production"):
    """Another version with these bytes, by default the one that serves."""
    with write_transaction(engine) as connection:
        if status == "production":
            connection.execute(update(ModelVersion).values(status="archived"))
        row = dict(connection.execute(select(ModelVersion.__table__)).mappings().first())
        del row["model_version"]
        changed = {"status": status, "artefact": artefact, "sha256": sha256(artefact)}
        changed["file_sha256"] = sha256(exported(artefact))
        added = insert(ModelVersion).returning(col(ModelVersion.model_version))
        return Version(connection.execute(added, row | changed).scalar_one(), changed["sha256"])


def kept_aside(file):
    return [one.read_bytes() for one in file.parent.glob("*.not-zap-*")]


def test_it_works(trained, tmp_path):
    """Write the file of a version, and load the version's model from it."""
    engine = create_engine(trained.database_url)
    new = tmp_path / "new" / "folder" / "model.joblib"

    export(engine, production_version(engine), new)

    assert new.read_bytes() == trained.model_file.read_bytes()
    assert joblib.load(new).classes_.tolist() == list(load_version(engine, production_version(engine)).classes)
    assert last_restored(new) is None
    engine.dispose()


def test_export_leaves_a_good_file_alone(registry, file):
    before = file.stat().st_mtime_ns

    export(registry, production_version(registry), file, was_exported=True)

    assert file.stat().st_mtime_ns == before
    assert last_restored(file) is None


def test_export_keeps_a_strange_file_aside_once_however_many_do_it(registry, file):
    good = file.read_bytes()
    file.write_bytes(b"strange")
    version = production_version(registry)

    threads = [threading.Thread(target=export, args=[registry, version, file]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert file.read_bytes() == good
    assert kept_aside(file) == [b"strange"]


def test_a_file_of_another_version_is_replaced_without_a_copy(registry, file):
    # zap wrote this file, so its bytes are in the database.
    second = add_version(registry, b"second")

    export(registry, second, file)

    assert file.read_bytes() == exported(b"second")
    assert kept_aside(file) == []
    assert last_restored(file) is None


def test_damaged_bytes_are_not_exported(registry, file):
    good = file.read_bytes()
    second = add_version(registry, b"second")
    with write_transaction(registry) as connection:
        this = col(ModelVersion.model_version) == second.model_version
        connection.execute(update(ModelVersion).where(this).values(artefact=b"changed"))

    with pytest.raises(DamagedModel, match="version 2 are damaged; nothing was exported"):
        export(registry, second, file)

    assert file.read_bytes() == good


def test_a_file_of_an_older_zap_stays(registry, file):
    """The upgrade has stored its digest. Its bytes differ from the bytes of an export of today."""
    file.write_bytes(b"of an older zap")
    with write_transaction(registry) as connection:
        connection.execute(update(ModelVersion).values(file_sha256=sha256(b"of an older zap")))

    export(registry, production_version(registry), file, was_exported=True)

    assert file.read_bytes() == b"of an older zap"
    assert last_restored(file) is None


def test_a_version_whose_file_has_no_digest_or_another_is_exported_once(registry, file):
    """A version of an older zap may have no digest; other packages may write the file with other bytes."""
    good = file.read_bytes()
    for digest in (None, "0" * 64):
        with write_transaction(registry) as connection:
            connection.execute(update(ModelVersion).values(file_sha256=digest))
        before = file.stat().st_mtime_ns

        export(registry, production_version(registry), file, was_exported=True)

        assert (file.read_bytes(), file.stat().st_mtime_ns) == (good, before)
        assert last_restored(file) is None
        assert kept_aside(file) == []


# What is said of a file that was not what it should be.


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "it was missing"),
        (b"", "it was empty"),
        (b"strange", f"they are kept in production_model.joblib.not-zap-{sha256(b'strange')[:12]}"),
        (exported(b"second"), "it held another version"),
    ],
)
def test_a_file_that_changed_is_restored_and_that_is_noted(registry, file, content, reason):
    good = file.read_bytes()
    add_version(registry, b"second", "archived")
    file.unlink()
    if content is not None:
        file.write_bytes(content)

    export(registry, production_version(registry), file, was_exported=True)

    assert file.read_bytes() == good
    assert kept_aside(file) == [b"strange"] * (content == b"strange")
    noted = last_restored(file)
    assert noted["model_version"] == 1
    assert reason in noted["reason"]
    assert datetime.now(UTC) - datetime.fromisoformat(noted["restored_at"]) < timedelta(minutes=1)


def test_the_newest_restoration_is_noted(registry, file):
    for content in (b"", b"strange"):
        file.write_bytes(content)
        export(registry, production_version(registry), file, was_exported=True)

    assert "zap did not write" in last_restored(file)["reason"]


def test_the_note_stays_until_another_version_is_exported(registry, file):
    file.unlink()
    export(registry, production_version(registry), file, was_exported=True)
    export(registry, production_version(registry), file)
    assert last_restored(file)["reason"] == "it was missing"

    export(registry, add_version(registry, b"second"), file)

    assert last_restored(file) is None


def test_a_strange_file_at_the_first_export_is_noted_too(registry, tmp_path):
    # The file may be all that is left of an older service.
    older = tmp_path / "model.joblib"
    older.write_bytes(b"of an older service")

    export(registry, production_version(registry), older)

    assert kept_aside(older) == [b"of an older service"]
    assert "zap did not write" in last_restored(older)["reason"]


def test_a_note_that_cannot_be_read_is_none(file):
    note = file.with_name("production_model.restored.json")
    note.write_text("half a no")

    assert last_restored(file) is None


def test_nothing_of_the_file_is_ever_unpickled(registry, file, tmp_path):
    buffer = io.BytesIO()
    joblib.dump(Canary(tmp_path / "unpickled"), buffer)

    for was_exported in (True, False):
        file.write_bytes(buffer.getvalue())
        export(registry, production_version(registry), file, was_exported=was_exported)
        assert last_restored(file)

    assert not (tmp_path / "unpickled").exists()
    # Had it been, this is what would have happened.
    pickle.loads(buffer.getvalue())
    assert (tmp_path / "unpickled").exists()


def test_no_half_written_file_is_left_beside_it(registry, file):
    file.unlink()
    export(registry, production_version(registry), file, was_exported=True)

    found = {one.name for one in file.parent.iterdir()}
    assert found == {file.name, f"{file.name}.lock", "production_model.restored.json"}
    assert json.loads((file.parent / "production_model.restored.json").read_text()) == last_restored(file)


# A folder that blocks.


def put_in_the_way(file, what):
    file.unlink()
    if what == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()


@pytest.mark.parametrize("what", ["pipe", "folder"])
def test_what_is_no_file_is_refused_at_once(registry, file, what):
    put_in_the_way(file, what)

    with pytest.raises(OSError, match=r"this is not a file|Is a directory"):
        export(registry, production_version(registry), file)

    assert not file.is_file()


@pytest.mark.parametrize("what", ["pipe", "folder"])
def test_a_note_that_is_no_file_is_none(file, what):
    file.with_name("production_model.restored.json").write_text("{}")
    put_in_the_way(file.with_name("production_model.restored.json"), what)

    assert last_restored(file) is None


def test_a_folder_that_does_not_answer_keeps_nobody(registry, file, monkeypatch):
    # Operations in a folder on a lost machine never return. Later the folder answers again.
    answers = threading.Event()
    monkeypatch.setattr(model_file, "state_of", lambda _: answers.wait(60) and None)
    monkeypatch.setattr(model_file, "PATIENCE_SECONDS", 0.2)
    kept, version = ModelFile(registry, file), production_version(registry)
    file.unlink()
    before = threading.active_count()

    for _ in range(5):
        kept.keep(version)

    assert not file.exists()
    # No look after the first is begun.
    assert threading.active_count() == before + 1
    answers.set()
    end = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
        kept.keep(version)


def test_a_file_whose_lock_another_process_holds_is_given_up(registry, file, monkeypatch):
    monkeypatch.setattr(model_export, "LOCK_SECONDS", 0.2)
    good = file.read_bytes()
    file.write_bytes(b"strange")
    version = production_version(registry)

    with held_by_another_process(file):
        assert model_file.export_or_log(registry, version, file) is False
    assert file.read_bytes() == b"strange"

    assert model_file.export_or_log(registry, version, file) is True
    assert file.read_bytes() == good


@contextmanager
def held_by_another_process(file):
    code = (
        "import fcntl, sys\nlock = open(sys.argv[1], 'w')\nfcntl.flock(lock, 2)\nprint(1, flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-c", code, f"{file}.lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        yield
        other.stdin.close()


def test_a_file_that_could_not_be_written_is_tried_again(registry, file, monkeypatch):
    kept, version = ModelFile(registry, file), production_version(registry)
    put_in_the_way(file, "folder")
    kept.keep(version)
    file.rmdir()
    kept.keep(version)
    assert not file.exists()

    monkeypatch.setattr(kept, "_not_before", 0)
    kept.keep(version)

    assert file.is_file()


def test_a_new_version_waits_for_no_restoration(registry, file):
    kept = ModelFile(registry, file)
    kept.keep(production_version(registry))
    file.unlink()
    kept.keep(production_version(registry))
    second = add_version(registry, b"second")

    kept.keep(second)

    assert file.read_bytes() == exported(b"second")


def test_a_version_that_does_not_serve_any_more_is_not_exported(registry, file):
    # Another process has exported the next version in the meantime.
    first = production_version(registry)
    second = add_version(registry, b"second")
    export(registry, second, file)

    export(registry, first, file, was_exported=True)

    assert file.read_bytes() == exported(b"second")
    assert last_restored(file) is None
