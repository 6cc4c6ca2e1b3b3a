"""The triggers of tables: who notices that they are missing, and who makes them again."""

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from alembic import command
from databases import LEAST_RIGHTS, config_for, connect, role_in
from sqlalchemy import inspect, select, text

from zap.db.database_watch import DatabaseWatch
from zap.db.engine import create_engine
from zap.db.history.session_changes import CHANGES, changes_since, prune_changes
from zap.db.schema import check_at_head, check_rights, upgrade
from zap.db.triggers import TRIGGERS, are_logged, lost_triggers
from zap.errors import DatabaseUnavailable

TODAY = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
# As a tool makes a table anew, such as pandas with if_exists="replace".
ANEW = (
    'CREATE TABLE copied AS SELECT * FROM "ChargingSessions"',
    'DROP TABLE "ChargingSessions"',
    'ALTER TABLE copied RENAME TO "ChargingSessions"',
)
LOSSES = {
    "sqlite": [ANEW, ("DROP TRIGGER zap_session_updated",)],
    "postgresql": [
        ANEW,
        ('DROP TRIGGER zap_session_updated ON "ChargingSessions"',),
        ('ALTER TABLE "ChargingSessions" DISABLE TRIGGER zap_session_updated',),
        # As pg_restore --disable-triggers does.
        (
            'ALTER TABLE "ChargingSessions" DISABLE TRIGGER ALL',
            'ALTER TABLE "ChargingSessions" ENABLE TRIGGER ALL',
        ),
    ],
}


def run(engine, *statements):
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def url_of(engine):
    return engine.url.render_as_string(hide_password=False)


def add(session_id, start=TODAY):
    return (
        'INSERT INTO "ChargingSessions" (session_id, user_id, charging_start_time)'
        f" VALUES ({session_id}, 'u', '{start:%Y-%m-%d %H:%M:%S}')"
    )


def logged(engine):
    """The sessions in the log, in order, without what the upgrade itself has logged."""
    with engine.connect() as connection:
        return connection.scalars(
            select(CHANGES.c.session_id).where(CHANGES.c.session_id.is_not(None)).order_by(CHANGES.c.change_id)
        ).all()


@pytest.mark.parametrize("which", range(4))
def test_lost_triggers_are_told_and_made_again(engine, database_url, which, capsys):
    """Warn at each check, let the watch log it once, and make the triggers again with an upgrade."""
    losses = LOSSES[engine.dialect.name]
    assert check_at_head(engine) is None
    with engine.connect() as connection:
        _, mark = changes_since(connection, None)
    run(engine, *losses[which % len(losses)])

    warning = check_at_head(engine)
    assert "lacks the triggers zap_session_" in warning
    assert "Run `zap db upgrade`" in warning
    watch = DatabaseWatch(engine)
    watch.look()
    assert watch.warning == warning
    with engine.connect() as connection:
        # Nobody can know what has changed.
        assert changes_since(connection, mark)[0] is None

    lines = []
    upgrade(database_url, lines.append)

    (line,) = lines
    assert line.startswith("made the triggers ")
    assert check_at_head(engine) is None
    with engine.connect() as connection:
        days, mark = changes_since(connection, mark)
        assert days is None
        assert changes_since(connection, mark)[0] == set()
    run(engine, add(1), "UPDATE \"ChargingSessions\" SET charger_type = 'A'")
    assert logged(engine) == [1, 1]


def test_the_upgrade_says_that_it_made_them_again(engine, database_url, zap_command):
    run(engine, *LOSSES[engine.dialect.name][1])
    engine.dispose()

    done = zap_command("models", "list", "--database-url", database_url)
    assert "warning: ChargingSessions lacks the triggers zap_session_updated" in done.stderr

    done = zap_command("db", "upgrade", "--database-url", database_url)
    assert done.returncode == 0
    assert "made the triggers zap_session_updated of ChargingSessions again" in done.stderr
    assert "warning" not in zap_command("models", "list", "--database-url", database_url).stderr


def test_a_database_without_the_table_is_not_told_to_make_triggers(engine, database_url):
    run(engine, 'DROP TABLE "ChargingSessions"')

    with engine.connect() as connection:
        assert lost_triggers(connection) == {}
        assert not are_logged(connection)
    upgrade(database_url)
    assert check_at_head(engine) is None


def test_the_names_are_those_of_the_migration(engine):
    with engine.connect() as connection:
        assert lost_triggers(connection) == {}
    names = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger' ORDER BY 1",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
    }[engine.dialect.name]
    with engine.connect() as connection:
        names_of_all = sorted(name for one in TRIGGERS for name in one.names[engine.dialect.name])
        assert connection.scalars(text(names)).all() == names_of_all


# The way up and down.


def test_down_and_up_again(engine, database_url):
    run(engine, add(1))
    command.downgrade(config_for(database_url), "0008")

    assert "session_changes" not in inspect(engine).get_table_names()
    indexes = [index["name"] for index in inspect(engine).get_indexes("ChargingSessions")]
    assert "ix_ChargingSessions_charging_start_time" not in indexes
    # No trigger is left behind that would refuse changes.
    run(engine, add(2), 'UPDATE "ChargingSessions" SET user_id = NULL', 'DELETE FROM "ChargingSessions"')

    upgrade(database_url)
    assert logged(engine) == []
    run(engine, add(3))
    assert logged(engine) == [3]
    command.check(config_for(database_url))


def test_an_adopted_database_logs_changes(zapapp_database, tmp_path):
    file = shutil.copyfile(zapapp_database, tmp_path / "zapapp.sqlite")
    upgrade(f"sqlite:///{file}")
    engine = create_engine(f"sqlite:///{file}")

    with closing(sqlite3.connect(file)) as other:
        other.execute("UPDATE ChargingSessions SET charger_type = 'Level 1' WHERE session_id IN (5, 6)")
        other.commit()

    assert logged(engine) == [5, 6]
    assert check_at_head(engine) is None
    engine.dispose()


# Roles on PostgreSQL that own nothing.


def test_the_changes_of_a_role_without_rights_to_the_log_are_logged(empty_postgresql_url):
    upgrade(empty_postgresql_url)
    engine = create_engine(empty_postgresql_url)
    rights = ('GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON "ChargingSessions" TO {role}',)
    with role_in(empty_postgresql_url, *rights) as url, connect(url, autocommit=True) as other:
        # Objects of the role with the same names are not used instead.
        other.execute("SET search_path = pg_temp, public")
        other.execute("CREATE TEMP TABLE session_changes (x INTEGER)")
        other.execute(add(7).replace('"ChargingSessions"', 'public."ChargingSessions"'))
        other.execute('DELETE FROM public."ChargingSessions"')
    assert logged(engine) == [7, 7]
    engine.dispose()


def test_a_role_that_only_predicts_reads_the_log_and_prunes_nothing(empty_postgresql_url):
    upgrade(empty_postgresql_url)
    owner = create_engine(empty_postgresql_url)
    run(owner, add(1))
    run(owner, add(2))
    old = datetime.now(UTC) - timedelta(hours=2)
    with owner.begin() as connection:
        connection.execute(CHANGES.update().values(changed_at=old))
    with role_in(empty_postgresql_url, *LEAST_RIGHTS) as url:
        engine = create_engine(url)
        check_rights(engine)
        with engine.connect() as connection:
            assert changes_since(connection, None)[0] is None
        assert prune_changes(engine) == 0
        run(owner, 'DROP TRIGGER zap_session_updated ON "ChargingSessions"')
        # It cannot make the triggers again, and says who can.
        with pytest.raises(DatabaseUnavailable, match="as the owner, run `zap db upgrade`"):
            upgrade(url)
        engine.dispose()
    assert prune_changes(owner) > 0
    owner.dispose()
