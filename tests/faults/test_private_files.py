"""Files that zap makes are for its user alone; files that were there keep their mode."""

import stat

from zap.db.engine import create_engine
from zap.db.schema import upgrade


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_database_and_what_lies_beside_it(tmp_path):
    upgrade(f"sqlite:///{tmp_path / 'data' / 'zap.sqlite'}")
    engine = create_engine(f"sqlite:///{tmp_path / 'data' / 'zap.sqlite'}")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE more (id INTEGER)")
        files = sorted((tmp_path / "data").glob("zap.sqlite*"))
        assert {file.name for file in files} >= {"zap.sqlite", "zap.sqlite-wal", "zap.sqlite-shm"}
        assert {file.name: oct(mode(file)) for file in files} == {file.name: oct(0o600) for file in files}
    engine.dispose()


def test_a_database_that_was_there_keeps_its_mode(tmp_path):
    file = tmp_path / "zap.sqlite"
    file.touch()
    file.chmod(0o640)

    upgrade(f"sqlite:///{file}")

    assert mode(file) == 0o640


def test_the_model_file(trained_sqlite):
    assert mode(trained_sqlite.model_file) == 0o600
