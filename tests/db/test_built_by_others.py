"""Upgrades keep the views, triggers, indexes and columns that operators built, or refuse before a change."""

import pytest
from alembic import command
from databases import REVISIONS, config_for
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from zap.db.engine import create_engine
from zap.db.schema import upgrade
from zap.errors import AdoptionRefused

RUN = "INSERT INTO training_runs (run_id, status, started_at) VALUES (7, 'finished', '2026-01-01T00:00:00+00:00')"
BUILT = [
    "CREATE TABLE seen (run_id INTEGER)",
    "CREATE VIEW runs_of_ops AS SELECT run_id, status, started_at FROM training_runs",
    (
        "CREATE VIEW versions_of_ops AS SELECT v.model_version, r.status FROM model_versions v"
        " JOIN training_runs r ON r.run_id = v.run_id"
    ),
    "CREATE VIEW predictions_of_ops AS SELECT prediction_id, source FROM predictions",
    'CREATE INDEX "Ops index" ON training_runs (finished_at)',
    "CREATE INDEX ops_versions ON model_versions (created_at, status)",
    "CREATE INDEX ops_predictions ON predictions (predicted_class)",
]
TRIGGER = {
    "sqlite": [
        "CREATE TRIGGER ops_trigger AFTER INSERT ON training_runs BEGIN INSERT INTO seen VALUES (NEW.run_id); END",
        (
            "CREATE TRIGGER ops_of_versions AFTER INSERT ON model_versions"
            " BEGIN INSERT INTO seen SELECT run_id FROM training_runs WHERE run_id = NEW.run_id; END"
        ),
    ],
    "postgresql": [
        (
            "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN INSERT INTO seen VALUES (NEW.run_id); RETURN NULL; END $$"
        ),
        (
            "CREATE CONSTRAINT TRIGGER ops_trigger AFTER INSERT OR UPDATE ON training_runs"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION see()"
        ),
        "CREATE TRIGGER ops_of_versions AFTER INSERT ON model_versions FOR EACH ROW EXECUTE FUNCTION see()",
    ],
}


def run(engine, *statements):
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def rows(engine, query):
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def built(engine):
    """Return the definitions of all views, triggers and indexes in the database."""
    listed = {
        "sqlite": "SELECT name, sql FROM sqlite_master WHERE type <> 'table' AND sql IS NOT NULL",
        "postgresql": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' UNION ALL"
        " SELECT viewname, definition FROM pg_views WHERE schemaname = 'public' UNION ALL"
        " SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    }
    return dict(rows(engine, listed[engine.dialect.name]))


@pytest.fixture
def at(empty_database_url):
    """Brings an empty database of each kind to a revision."""
    engines = []

    def to(revision):
        command.upgrade(config_for(empty_database_url), revision)
        engines.append(create_engine(empty_database_url))
        return engines[-1]

    yield to
    for engine in engines:
        engine.dispose()


def url_of(engine):
    return engine.url.render_as_string(hide_password=False)


# An upgrade from the first revision runs all others. What is built later meets fewer of them.
@pytest.mark.parametrize(
    "revision",
    [
        revision if revision in {REVISIONS[0], *REVISIONS[4::5]} else pytest.param(revision, marks=pytest.mark.long)
        for revision in REVISIONS
    ],
)
def test_views_triggers_and_indexes_outlive_an_upgrade_from_each_revision(at, revision):
    engine = at(revision)
    run(engine, *BUILT, *TRIGGER[engine.dialect.name], RUN)
    theirs = {name: sql for name, sql in built(engine).items() if "ops" in name.lower()}
    assert len(theirs) == 8

    upgrade(url_of(engine))

    assert {name: sql for name, sql in built(engine).items() if name in theirs} == theirs
    assert rows(engine, "SELECT run_id, status FROM runs_of_ops") == [(7, "finished")]
    assert rows(engine, "SELECT * FROM versions_of_ops") == rows(engine, "SELECT * FROM predictions_of_ops") == []
    # They work, and nothing was inserted meanwhile that they saw.
    run(engine, RUN.replace("(7", "(8"))
    assert rows(engine, "SELECT DISTINCT run_id FROM seen ORDER BY 1") == [(7,), (8,)]
    command.check(config_for(url_of(engine)))


def test_a_trigger_that_fires_at_the_end_of_a_transaction_is_no_hindrance(at):
    # PostgreSQL refuses to change a table while such a trigger is pending.
    engine = at("0002")
    run(engine, *BUILT, *TRIGGER[engine.dialect.name], RUN.replace("finished", "running"))

    upgrade(url_of(engine))

    assert rows(engine, "SELECT run_id, status FROM runs_of_ops") == [(7, "failed")]


def test_they_outlive_the_way_down_and_up_again(at):
    engine = at("head")
    run(engine, *BUILT, *TRIGGER[engine.dialect.name], RUN)
    theirs = {name: sql for name, sql in built(engine).items() if "ops" in name.lower()}

    command.downgrade(config_for(url_of(engine)), "0002")
    upgrade(url_of(engine))

    assert {name: sql for name, sql in built(engine).items() if name in theirs} == theirs


def test_views_of_tables_that_are_not_there_are_no_hindrance(tmp_path):
    # SQLite keeps a view after its table was dropped.
    url = f"sqlite:///{tmp_path / 'zap.sqlite'}"
    command.upgrade(config_for(url), "0001")
    engine = create_engine(url)
    run(engine, "CREATE TABLE gone (x)", "CREATE VIEW dangling AS SELECT * FROM gone", "DROP TABLE gone")

    upgrade(url)

    command.check(config_for(url))
    engine.dispose()


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        (["ALTER TABLE training_runs ADD COLUMN ticket TEXT"], "training_runs has columns .* ticket"),
        (["ALTER TABLE model_versions ADD COLUMN owner TEXT"], "model_versions has columns .* owner"),
        (
            ["ALTER TABLE training_runs ADD COLUMN finished_twice TEXT CHECK (finished_twice <> 'x')"],
            "training_runs has a constraint .*CHECK",
        ),
    ],
)
def test_what_would_be_lost_is_refused_before_anything_is_changed(tmp_path, statements, says):
    # On SQLite a table is built anew to change it, which would lose these parts.
    url = f"sqlite:///{tmp_path / 'zap.sqlite'}"
    command.upgrade(config_for(url), "0001")
    engine = create_engine(url)
    run(engine, *statements)
    before = rows(engine, "SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2")

    with pytest.raises(AdoptionRefused, match=says):
        upgrade(url)

    assert rows(engine, "SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2") == before
    assert rows(engine, "SELECT version_num FROM alembic_version") == [("0001",)]
    engine.dispose()


@pytest.mark.parametrize("kind", ["TABLE {} (x INTEGER)", "VIEW {} AS SELECT 1 AS x"])
def test_a_name_that_is_taken_is_refused_before_the_first_revision_changes_anything(at, kind):
    engine = at("0001")
    tables = ("tunings", "promotions", "training_events", "session_facts", "session_text_ids", "session_changes")
    for name in (*tables, "alarms"):
        run(engine, f"CREATE {kind.format(name)}")

        with pytest.raises(AdoptionRefused, match=f"something called {name} already.*nothing was changed"):
            upgrade(url_of(engine))

        assert rows(engine, "SELECT version_num FROM alembic_version") == [("0001",)]
        run(engine, f"DROP {kind.split()[0]} {name}")


def test_an_index_of_somebody_else_with_a_name_of_zaps_is_refused_and_one_that_is_the_same_is_taken(at):
    engine = at("0003")
    run(engine, "CREATE INDEX ix_predictions_model_version ON predictions (predicted_class)")
    with pytest.raises(AdoptionRefused, match="index called ix_predictions_model_version already"):
        upgrade(url_of(engine))
    assert rows(engine, "SELECT version_num FROM alembic_version") == [("0003",)]

    run(
        engine,
        "DROP INDEX ix_predictions_model_version",
        "CREATE INDEX ix_predictions_model_version ON predictions (model_version) WHERE source = 'train'",
        # One that zap would drop is gone already.
        "DROP INDEX ix_predictions_source_model_version",
    )
    upgrade(url_of(engine))
    command.check(config_for(url_of(engine)))


@pytest.mark.parametrize(("before", "column"), [("0007", "charger_type"), ("0008", "charging_start_time")])
def test_an_index_with_the_name_of_an_index_of_sessions_is_refused_and_the_right_one_is_taken(at, before, column):
    engine = at(before)
    name = f"ix_ChargingSessions_{column}"
    run(engine, f'CREATE INDEX "{name}" ON "ChargingSessions" (vehicle_id)')
    with pytest.raises(AdoptionRefused, match=f"index called {name} already"):
        upgrade(url_of(engine))
    assert rows(engine, "SELECT version_num FROM alembic_version") == [(before,)]

    run(engine, f'DROP INDEX "{name}"', f'CREATE INDEX "{name}" ON "ChargingSessions" ({column})')
    upgrade(url_of(engine))
    command.check(config_for(url_of(engine)))


# Objects with the names of the log of changes, with what removes them.
IN_THE_WAY = {
    "sqlite": [
        (
            'CREATE TRIGGER zap_session_deleted AFTER DELETE ON "Users" BEGIN SELECT 1; END',
            "DROP TRIGGER zap_session_deleted",
            "trigger called zap_session_deleted",
        )
    ],
    "postgresql": [
        (
            (
                "CREATE FUNCTION zap_log_session_changes() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RETURN NULL; END $$"
            ),
            "DROP FUNCTION zap_log_session_changes",
            "function called zap_log_session_changes",
        ),
        (
            (
                'CREATE TRIGGER zap_session_deleted BEFORE UPDATE ON "ChargingSessions" FOR EACH ROW'
                " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
            ),
            'DROP TRIGGER zap_session_deleted ON "ChargingSessions"',
            "trigger called zap_session_deleted",
        ),
    ],
}


def test_a_trigger_or_a_function_with_a_name_of_the_log_of_changes_is_refused(at):
    engine = at("0002")
    for made, removed, says in IN_THE_WAY[engine.dialect.name]:
        run(engine, made)
        with pytest.raises(AdoptionRefused, match=f"{says} already.*nothing was changed"):
            upgrade(url_of(engine))
        assert rows(engine, "SELECT version_num FROM alembic_version") == [("0002",)]
        run(engine, removed)
    upgrade(url_of(engine))


@pytest.mark.parametrize("before", ["0007", "0008"])
def test_a_half_built_index_is_built_again(empty_postgresql_url, before):
    command.upgrade(config_for(empty_postgresql_url), before)
    column = {"0007": "charger_type", "0008": "charging_start_time"}[before]
    engine = create_engine(empty_postgresql_url)
    run(
        engine,
        f'CREATE INDEX "ix_ChargingSessions_{column}" ON "ChargingSessions" ({column})',
        f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '\"ix_ChargingSessions_{column}\"'::regclass",
    )

    upgrade(empty_postgresql_url)

    valid = f"SELECT indisvalid FROM pg_index WHERE indexrelid = '\"ix_ChargingSessions_{column}\"'::regclass"
    assert rows(engine, valid) == [(True,)]
    engine.dispose()


def test_a_trigger_that_refuses_what_a_migration_does_is_told_in_a_sentence(at):
    engine = at("0002")
    run(engine, RUN.replace("finished", "running"))
    refusing = {
        "sqlite": [
            "CREATE TRIGGER no BEFORE UPDATE ON training_runs BEGIN SELECT RAISE(ABORT, 'runs are sacred'); END"
        ],
        "postgresql": [
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'runs are sacred'; END $$",
            "CREATE TRIGGER no BEFORE UPDATE ON training_runs FOR EACH ROW EXECUTE FUNCTION no()",
        ],
    }
    run(engine, *refusing[engine.dialect.name])

    with pytest.raises(AdoptionRefused, match="refused a step of the migration: runs are sacred"):
        upgrade(url_of(engine))

    assert rows(engine, "SELECT version_num FROM alembic_version") == [("0002",)]
    assert "kind" not in {column["name"] for column in inspect(engine).get_columns("training_runs")}


def test_a_view_of_what_a_downgrade_would_drop_is_told_in_a_sentence(at):
    engine = at("head")
    run(engine, "CREATE VIEW scored AS SELECT features FROM predictions")

    with pytest.raises(AdoptionRefused, match="refused a step of the migration"):
        command.downgrade(config_for(url_of(engine)), "0001")

    assert rows(engine, "SELECT * FROM scored") == []


# Which version served, and when.

RUN_OF = (
    "INSERT INTO training_runs (run_id, status, started_at, finished_at)"
    " VALUES ({0}, 'finished', '2026-01-0{0}T00:00:00+00:00', '2026-01-0{0}T01:00:00+00:00')"
)
VERSION_OF = (
    "INSERT INTO model_versions"
    " (model_version, run_id, status, created_at, artefact, sha256, hyper_parameters, contract)"
    " VALUES ({0}, {0}, 'archived', '2026-01-0{0}T01:00:00+00:00', '', '', '{{}}', '{{}}')"
)
SERVES = [
    "UPDATE model_versions SET status = 'archived' WHERE status = 'production'",
    "UPDATE model_versions SET status = 'production' WHERE model_version = {0}",
]
CHANGES = "SELECT promoted_at, action, from_version, to_version, who, why FROM promotions ORDER BY promotion_id"


def promotion(hour, action, before, after, who="ann"):
    return (
        "INSERT INTO promotions (promoted_at, action, from_version, to_version, who, why)"
        f" VALUES ('2026-02-01T0{hour}:00:00+00:00', '{action}', {before or 'NULL'}, {after}, '{who}', 'a trial')"
    )


@pytest.fixture
def promoted(at):
    """Versions 1 to 3 were promoted in turn, then 2 came back, in the database at head."""
    engine = at("head")
    run(engine, *(statement.format(number) for number in (1, 2, 3) for statement in (RUN_OF, VERSION_OF)))
    run(engine, *(statement.format(2) for statement in SERVES))
    run(
        engine,
        promotion(1, "promote", None, 1),
        promotion(2, "promote", 1, 2),
        promotion(3, "promote", 2, 3),
        promotion(4, "rollback", 3, 2, who="bob"),
    )
    return engine


@pytest.mark.parametrize("to", ["0002", "0001"])
def test_what_served_is_the_same_after_the_way_down_and_up(promoted, to):
    before = rows(promoted, CHANGES)

    command.downgrade(config_for(url_of(promoted)), to)
    upgrade(url_of(promoted))

    assert rows(promoted, CHANGES) == before
    assert "zap_kept_promotions" not in inspect(promoted).get_table_names()
    command.check(config_for(url_of(promoted)))


def test_what_served_meanwhile_comes_after_it(promoted):
    before = rows(promoted, CHANGES)
    command.downgrade(config_for(url_of(promoted)), "0002")
    run(promoted, RUN_OF.format(4), VERSION_OF.format(4), *(statement.format(4) for statement in SERVES))

    upgrade(url_of(promoted))

    found = rows(promoted, CHANGES)
    assert found[:4] == before
    assert [row[1:4] for row in found[4:]] == [("promote", 2, 4)]
    assert str(found[4][0]) >= str(before[-1][0])


def test_without_what_was_kept_the_version_that_serves_comes_last(at):
    # A downgrade by an older zap keeps nothing about the promotions.
    engine = at("0002")
    run(engine, *(statement.format(number) for number in (1, 2, 3) for statement in (RUN_OF, VERSION_OF)))
    run(engine, *(statement.format(2) for statement in SERVES))

    upgrade(url_of(engine))

    found = rows(engine, CHANGES)
    assert [row[1:4] for row in found] == [("promote", None, 1), ("promote", 1, 3), ("promote", 3, 2)]
    assert sorted(str(row[0]) for row in found) == [str(row[0]) for row in found]


def test_a_downgrade_to_base_takes_what_was_kept_with_the_versions(promoted):
    command.downgrade(config_for(url_of(promoted)), "base")
    assert "zap_kept_promotions" not in inspect(promoted).get_table_names()
    upgrade(url_of(promoted))
    assert rows(promoted, CHANGES) == []
    with pytest.raises(DBAPIError):
        rows(promoted, "SELECT * FROM zap_kept_promotions")
