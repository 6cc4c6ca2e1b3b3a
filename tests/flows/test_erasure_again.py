"""Drivers who were erased stay erased after the restore of an older backup, and after a copy of an older file."""

import shutil
from pathlib import Path

import pytest
from erased import OF_OTHERS, driver_with_everything, in_files, traces
from pydantic import SecretStr
from sqlalchemy import delete

from zap.db.engine import create_engine, write_transaction
from zap.db.erasure.erasure_key import FILE_NAME
from zap.db.erasure.ledger import ERASURES, ledger_file, read_ledger
from zap.db.monitoring_tables import Outcome
from zap.db.schema import check_at_head
from zap.errors import NoErasureKey
from zap.flows.database_backup import back_up
from zap.flows.database_restore import RestoreOptions, restore
from zap.flows.driver_erasure import erase_driver, key_if_any
from zap.flows.erasure_again import erase_again, ledgers_beside


def test_a_restored_backup_has_no_driver_who_was_erased_after_it(trained, tmp_path):
    engine = create_engine(trained.database_url)
    user_id = driver_with_everything(engine, trained)
    backup = tmp_path / "backups" / "before.zapbackup"
    backup.parent.mkdir()
    back_up(trained.database_url, backup)
    erase_driver(engine, trained, user_id)
    with engine.connect() as connection:
        (entry,) = read_ledger(connection)
    engine.dispose()

    with pytest.raises(NoErasureKey, match="1 drivers were erased after"):
        restore(backup, trained.database_url, RestoreOptions(replace=True))
    key = key_if_any(trained)
    restored = restore(backup, trained.database_url, RestoreOptions(replace=True, erasure_key=key))

    assert "1 driver erased after the backup was made: erased again" in restored.notes
    assert traces(engine, f"{user_id}'", f'{user_id}"') == []
    with engine.connect() as connection:
        assert read_ledger(connection) == [entry]
    # Another driver, whose id contains the id, is back, and so are the requests of nobody.
    assert "inference_inputs" in traces(engine, f"{user_id}0")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM inference_inputs").scalar() == OF_OTHERS
    check_at_head(engine)
    engine.dispose()
    if trained.url.get_backend_name() == "sqlite":
        assert in_files(trained.database_url, f'{user_id}"') == []

    # The key is lost: whoever restores decides.
    other = RestoreOptions(replace=True, keep_erased=True)
    assert "are back" in restore(backup, trained.database_url, other).notes[-1]
    assert "Users" in traces(engine, f"{user_id}'")
    engine.dispose()


def test_a_lost_key_brings_nobody_back_who_was_erased_with_the_key_that_is_here(trained, tmp_path):
    engine = create_engine(trained.database_url)
    user_id = driver_with_everything(engine, trained)
    backup = tmp_path / "before.zapbackup"
    back_up(trained.database_url, backup)
    erase_driver(engine, trained, "somebody else")
    # The key is lost, and the next erasure is noted with another one.
    (trained.models_dir / FILE_NAME).unlink()
    later = trained.model_copy(update={"erasure_key": SecretStr("another key of erasures, long enough")})
    erase_driver(engine, later, user_id)
    engine.dispose()

    options = RestoreOptions(replace=True, erasure_key=key_if_any(later), keep_erased=True)
    restored = restore(backup, trained.database_url, options)

    assert "1 driver erased after the backup was made: erased again" in restored.notes
    assert any("with a key that is not here, are back" in one for one in restored.notes)
    assert traces(engine, f"{user_id}'", f'{user_id}"') == []
    assert "inference_inputs" in traces(engine, "somebody else")
    with engine.connect() as connection:
        assert len(read_ledger(connection)) == 2
    engine.dispose()


def test_an_older_file_that_somebody_has_copied_is_worked_through_with_the_ledger_beside_it(trained_sqlite, tmp_path):
    engine = create_engine(trained_sqlite.database_url)
    user_id = driver_with_everything(engine, trained_sqlite)
    back_up(trained_sqlite.database_url, tmp_path / "older")
    erase_driver(engine, trained_sqlite, user_id)
    engine.dispose()
    database = Path(trained_sqlite.database_url.removeprefix("sqlite:///"))
    for ending in ("", "-wal", "-shm"):
        Path(f"{database}{ending}").unlink(missing_ok=True)
    shutil.copy(tmp_path / "older", database)
    # In this backup, the follower had read nothing: the requests themselves say who asked.
    with write_transaction(engine) as connection:
        connection.execute(delete(Outcome))
        connection.exec_driver_sql('DELETE FROM "Users"')

    newer, key = ledgers_beside(trained_sqlite.database_url), key_if_any(trained_sqlite)
    assert erase_again(engine, newer, key) == (1, 1)
    assert erase_again(engine, newer, key) == (0, 0)

    assert traces(engine, f"{user_id}'", f'{user_id}"') == []
    with engine.connect() as connection:
        assert connection.execute(ERASURES.select()).one().driver_hash == newer[0].driver_hash
    engine.dispose()
    assert ledger_file(trained_sqlite.database_url).exists()
