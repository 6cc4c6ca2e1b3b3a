"""A SQLite file that is removed or replaced under a running server: refused, and no strange file is written into."""

import os
import shutil
import sqlite3
import time
from pathlib import Path

import httpx
import pytest
from faults.asking import ask
from servers import until

BESIDE = ("-wal", "-shm")


@pytest.fixture
def database(trained_sqlite, tmp_path):
    """A database in a folder of its own, by a symbolic link; its settings, its folder, and the link."""
    folder, link = tmp_path / "data", tmp_path / "link.sqlite"
    folder.mkdir()
    shutil.move(tmp_path / "zap.sqlite", folder / "zap.sqlite")
    link.symlink_to(folder / "zap.sqlite")
    return trained_sqlite.model_copy(update={"database_url": f"sqlite:///{link}"}), folder, link


def answered(file):
    """The predictions in a file that no server has open, which must be whole."""
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    found = {row[0] for row in connection.execute("SELECT prediction_id FROM predictions WHERE source = 'inference'")}
    connection.close()
    return found


def replace_file(folder, link, backup):
    backup.rename(folder / "zap.sqlite")


def replace_all(folder, link, backup):
    for ending in BESIDE:
        (folder / f"zap.sqlite{ending}").unlink()
    backup.rename(folder / "zap.sqlite")


def point_link_elsewhere(folder, link, backup):
    link.unlink()
    link.symlink_to(backup)


def remove_file(folder, link, backup):
    (folder / "zap.sqlite").unlink()


def move_folder(folder, link, backup):
    folder.rename(folder.with_name("moved"))


def remove_wal(folder, link, backup):
    (folder / "zap.sqlite-wal").unlink()


def remove_shm(folder, link, backup):
    (folder / "zap.sqlite-shm").unlink()


def remove_both(folder, link, backup):
    for ending in BESIDE:
        (folder / f"zap.sqlite{ending}").unlink()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (replace_file, "replaced"),
        (replace_all, "replaced"),
        (point_link_elsewhere, "replaced"),
        (remove_file, "removed or moved"),
        (move_folder, "removed or moved"),
        (remove_wal, "-wal file of the database was removed"),
        (remove_shm, "-shm file of the database was removed"),
        (remove_both, "-wal file of the database was removed"),
    ],
)
def test_a_file_that_is_not_the_one_that_was_opened_is_refused(serve, database, good_request, fault, said):
    settings, folder, link = database
    server = serve(settings).wait()
    with sqlite3.connect(folder / "zap.sqlite") as connection:
        connection.execute("VACUUM INTO ?", [str(folder / "backup.sqlite")])
    connection.close()
    before = {body["prediction_id"] for _, body, _ in ask(server.url, good_request, 20)}
    # Another name of the same file, so that it can be read once it is gone.
    os.link(folder / "zap.sqlite", folder.parent / "opened.sqlite")

    fault(folder, link, folder / "backup.sqlite")
    late = [answer for _ in range(5) for answer in ask(server.url, good_request, 4)]

    assert {status for status, _, _ in late} == {503}
    assert said in late[0][1]["detail"]
    assert str(folder) not in late[0][1]["detail"]
    ready = httpx.get(f"{server.url}/health/ready")
    assert ready.status_code == 503
    assert said in ready.json()["checks"]["database"]
    assert said in ready.json()["checks"]["log"]
    session = {
        "session_id": 900001, "user_id": "sample-1-00003", "charger_type": "Level 1",
        "charging_start_time": "2024-06-01T12:00:00",
    }  # fmt: skip
    for path, body in (("/charging-sessions", session), ("/models/1/promote", {}), ("/train-model", {})):
        assert httpx.post(f"{server.url}{path}", json=body).status_code == 503, path
    assert httpx.get(f"{server.url}/models").status_code == 503
    until(lambda: "is not the one that was opened" in server.log())
    # The rest of what was in the WAL follows within a moment.
    time.sleep(1.5)
    server.stop()
    assert server.log().count("is not the one that was opened") == 1
    # What was answered is in the file that was opened, wherever that is now, and in no other one.
    if fault is move_folder:
        folder = folder.with_name("moved")
    opened = answered(folder.parent / "opened.sqlite")
    assert before <= opened
    assert len(opened) <= len(before) + 20
    if fault in {replace_file, replace_all}:
        assert answered(folder / "zap.sqlite") == set()
        assert serves_again(serve, settings, good_request)
    if fault is point_link_elsewhere:
        assert answered(folder / "backup.sqlite") == set()
    if fault in {remove_wal, remove_shm, remove_both}:
        assert answered(folder / "zap.sqlite") == opened
        assert serves_again(serve, settings, good_request)
    if fault is remove_file:
        assert not (folder / "zap.sqlite").exists()


def serves_again(serve, settings, request):
    return ask(serve(settings).wait().url, request, 1)[0][0] == 200


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_file_that_is_overwritten_in_its_place_is_refused_and_stays_whole(serve, database, good_request, workers):
    # `cp` keeps the inode, and the old WAL would damage the restored file.
    settings, folder, _ = database
    server = serve(settings, "--workers", workers).wait()
    file, backup = folder / "zap.sqlite", folder / "backup.sqlite"
    answers = {body["prediction_id"] for _, body, _ in ask(server.url, good_request, 20)}
    with sqlite3.connect(file) as connection:
        connection.execute("VACUUM INTO ?", [str(backup)])
    connection.close()
    # Somebody who sets the time of the file, and checkpoints, change nothing of it.
    os.utime(file)
    for _ in range(3):
        assert {status for status, _, _ in ask(server.url, good_request, 20)} == {200}
        with sqlite3.connect(file) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        connection.close()
    assert {status for status, _, _ in ask(server.url, good_request, 20)} == {200}

    # Each worker looks twice a second what the last checkpoint has left in the file.
    time.sleep(1.2)

    shutil.copyfile(backup, file)

    late = [answer for _ in range(5) for answer in ask(server.url, good_request, 4)]
    assert {status for status, _, _ in late} == {503}
    assert "other bytes were written" in late[0][1]["detail"]
    assert httpx.get(f"{server.url}/health/ready").status_code == 503
    time.sleep(1.5)
    server.stop()
    assert answered(file) == answers
    assert serves_again(serve, settings, good_request)


def test_a_folder_that_comes_back_is_served_again_without_a_restart(serve, database, good_request):
    settings, folder, _ = database
    server = serve(settings).wait()
    before = {body["prediction_id"] for _, body, _ in ask(server.url, good_request, 5)}
    move_folder(folder, None, None)
    assert ask(server.url, good_request, 1)[0][0] == 503

    folder.with_name("moved").rename(folder)

    until(lambda: ask(server.url, good_request, 1)[0][0] == 200)
    after = {body["prediction_id"] for _, body, _ in ask(server.url, good_request, 5)}
    until(lambda: httpx.get(f"{server.url}/health/ready").status_code == 200)
    server.stop()
    assert before | after <= answered(folder / "zap.sqlite")


def test_a_wal_that_a_long_reader_keeps_is_warned_about_and_emptied_when_it_has_gone(
    serve, trained_sqlite, good_request, monkeypatch
):
    file = trained_sqlite.url.database
    server = serve(trained_sqlite).wait()
    reader = sqlite3.connect(file, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM predictions").fetchall()
    writer = sqlite3.connect(file, isolation_level=None, timeout=60)
    writer.execute("CREATE TABLE large (bytes BLOB)")
    for _ in range(280):
        writer.execute("INSERT INTO large VALUES (zeroblob(1048576))")
    writer.close()
    wal = Path(f"{file}-wal")
    assert wal.stat().st_size > 280 * 2**20

    warned = until(lambda: httpx.get(f"{server.url}/health/ready").json().get("database_warning"))

    assert "keeps a transaction open" in warned
    assert httpx.get(f"{server.url}/health/ready").status_code == 200
    assert "the WAL of the database grows" in server.log()
    reader.execute("COMMIT")
    reader.close()
    until(lambda: wal.stat().st_size <= 64 * 2**20)
    until(lambda: "database_warning" not in httpx.get(f"{server.url}/health/ready").json())
    assert ask(server.url, good_request, 1)[0][0] == 200
