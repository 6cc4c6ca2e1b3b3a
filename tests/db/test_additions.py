"""A database that a newer zap has upgraded: it is worked on where that only added, else refused."""

import json

import httpx
import pytest
from databases import HEAD
from faults.asking import ask
from newer import NEWER, newer, run
from servers import until

from zap.db.engine import create_engine
from zap.db.schema import check_at_head, upgrade
from zap.errors import DatabaseAhead

NOT_OURS = "the schema of the database is not the schema that this zap makes"
CHANGED = {
    "a table is gone": ("DROP TABLE training_events", "training_events is missing"),
    "a column is gone": ('ALTER TABLE "Vehicles" DROP COLUMN vehicle_model', "Vehicles has no column vehicle_model"),
    "a column has another name": (
        "ALTER TABLE predictions RENAME COLUMN actual_class TO outcome",
        "predictions has no column actual_class",
    ),
    "a value is never two rows": (
        "CREATE UNIQUE INDEX once ON predictions (input_id)",
        "predictions has a unique index .* of input_id",
    ),
}
CHANGED_POSTGRESQL = {
    "a new column must be given": (
        "ALTER TABLE predictions ADD COLUMN place VARCHAR NOT NULL",
        "predictions.place must have a value",
    ),
    "an old column must be given": (
        "ALTER TABLE predictions ALTER COLUMN actual_class SET NOT NULL",
        "predictions.actual_class must not be NULL",
    ),
    "a column has another type": (
        "ALTER TABLE predictions ALTER COLUMN predicted_class TYPE INTEGER USING 1",
        "predictions.predicted_class has the type INTEGER",
    ),
    "a column holds less": (
        "ALTER TABLE inference_inputs ALTER COLUMN input_data_json TYPE VARCHAR(20)",
        "inference_inputs.input_data_json holds only 20 characters",
    ),
    "a number is given by the database alone": (
        """ALTER TABLE predictions ALTER COLUMN prediction_id DROP DEFAULT,
                                   ALTER COLUMN prediction_id ADD GENERATED ALWAYS AS IDENTITY""",
        "predictions.prediction_id is computed by the database",
    ),
    "a known check asks for more": (
        """ALTER TABLE predictions DROP CONSTRAINT ck_predictions_source;
           ALTER TABLE predictions ADD CONSTRAINT ck_predictions_source
           CHECK (source IN ('train', 'inference') AND length(predicted_class) > 100)""",
        "predictions has another check ck_predictions_source",
    ),
    "a check is new": (
        "ALTER TABLE predictions ADD CONSTRAINT never CHECK (model_version > 100)",
        "predictions has a check that this zap does not know, never",
    ),
    "a check takes less": (
        (
            "ALTER TABLE predictions DROP CONSTRAINT ck_predictions_source,"
            " ADD CONSTRAINT ck_predictions_source CHECK (source IN ('train', 'live'))"
        ),
        "predictions has another check",
    ),
    "a foreign key is new": (
        "ALTER TABLE predictions ADD FOREIGN KEY (model_version) REFERENCES model_versions",
        "predictions has a foreign key .* of model_version",
    ),
    "a key is another": (
        "ALTER TABLE session_facts DROP CONSTRAINT pk_session_facts",
        "session_facts has another primary key",
    ),
}


def test_a_database_that_a_newer_zap_has_added_to_is_worked_on(engine, database_url):
    newer(engine)

    assert f"revision 9999, which is newer than this zap (its newest is {HEAD})" in check_at_head(engine)
    lines = []
    upgrade(database_url, lines.append)
    (line,) = lines
    assert "there is nothing to upgrade" in line


@pytest.mark.parametrize("change", CHANGED)
def test_a_database_that_a_newer_zap_has_changed_is_refused(engine, database_url, change):
    statement, says = CHANGED[change]
    run(engine, statement, NEWER)

    for refused in (lambda: check_at_head(engine), lambda: upgrade(database_url)):
        with pytest.raises(DatabaseAhead, match=rf"revision 9999, .*newest is {HEAD}.*install the newer zap.*{says}"):
            refused()


@pytest.mark.parametrize("change", CHANGED_POSTGRESQL)
def test_what_would_stop_a_row_of_this_zap_is_refused(empty_postgresql_url, change):
    upgrade(empty_postgresql_url)
    engine = create_engine(empty_postgresql_url)
    statement, says = CHANGED_POSTGRESQL[change]
    run(engine, statement, NEWER)
    with pytest.raises(DatabaseAhead, match=says):
        check_at_head(engine)
    engine.dispose()


def test_another_programs_database_is_refused(empty_database_url):
    engine = create_engine(empty_database_url)
    run(
        engine,
        "CREATE TABLE alembic_version (version_num VARCHAR(32))",
        "INSERT INTO alembic_version VALUES ('theirs')",
    )
    with pytest.raises(DatabaseAhead, match="another program has migrated it"):
        check_at_head(engine)
    with pytest.raises(DatabaseAhead):
        upgrade(empty_database_url)
    engine.dispose()


# Serving.


def test_a_zap_that_serves_goes_on_and_says_so_and_one_that_starts_serves_too(
    serve, zap_command, trained, good_request
):
    server = serve(trained).wait()
    assert ask(server.url, good_request, 1)[0][0] == 200
    engine = create_engine(trained.database_url)

    newer(engine)

    ready = until(lambda: warned(server))
    assert "newer than this zap" in ready.json()["database_warning"]
    assert {status for status, _, _ in ask(server.url, good_request, 20)} == {200}
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    assert [line["level"] for line in lines if line["event"] == NOT_OURS] == ["warning"]

    upgraded = zap_command("db", "upgrade", settings=trained)
    assert upgraded.returncode == 0
    assert "nothing to upgrade" in upgraded.stderr
    assert "at head" not in upgraded.stderr
    listed = zap_command("models", "list", settings=trained)
    assert listed.returncode == 0
    assert "warning: the database is at revision 9999" in listed.stderr
    another = serve(trained).wait()
    assert {status for status, _, _ in ask(another.url, good_request, 5)} == {200}
    until(lambda: warned(another))

    # A real change.
    run(
        engine,
        "DROP VIEW newest",
        "ALTER TABLE tunings RENAME TO searches",
        "UPDATE alembic_version SET version_num = 'b'",
    )
    engine.dispose()
    until(lambda: httpx.get(f"{server.url}/health/ready").status_code == 503)
    assert "tunings is missing" in httpx.get(f"{server.url}/health/ready").json()["checks"]["database"]
    refused = zap_command("serve", "--port", "1", settings=trained)
    assert refused.returncode == 17
    assert "tunings is missing" in refused.stderr
    until(lambda: "this zap cannot use the schema of the database any more" in server.log())


def warned(server):
    ready = httpx.get(f"{server.url}/health/ready")
    assert ready.status_code == 200, ready.text
    return ready if "database_warning" in ready.json() else None
