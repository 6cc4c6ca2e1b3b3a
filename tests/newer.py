"""Make the additions of a newer zap to the schema."""

from sqlalchemy import text

NEWER = "UPDATE alembic_version SET version_num = '9999'"
ADDED = {
    "both": [
        "CREATE TABLE ratings (rating_id INTEGER PRIMARY KEY, prediction_id BIGINT REFERENCES predictions)",
        "ALTER TABLE predictions ADD COLUMN trial INTEGER",
        "ALTER TABLE predictions ADD COLUMN kind VARCHAR NOT NULL DEFAULT 'usual' CHECK (kind IN ('usual', 'trial'))",
        'ALTER TABLE "Users" ADD COLUMN tariff VARCHAR',
        "CREATE INDEX ix_predictions_trial ON predictions (trial, model_version)",
        "CREATE UNIQUE INDEX ix_predictions_once ON predictions (trial, input_id)",
        "CREATE VIEW newest AS SELECT max(prediction_id) AS prediction_id FROM predictions",
    ],
    "sqlite": [],
    "postgresql": [
        "ALTER TABLE predictions ADD COLUMN number BIGINT GENERATED ALWAYS AS IDENTITY",
        "ALTER TABLE predictions ADD COLUMN doubled BIGINT GENERATED ALWAYS AS (model_version * 2) STORED",
        # It takes more than before.
        "ALTER TABLE training_runs DROP CONSTRAINT ck_training_runs_kind",
        "ALTER TABLE training_runs ADD CONSTRAINT ck_training_runs_kind CHECK (kind IN ('train', 'tune', 'trial'))",
        "ALTER TABLE inference_inputs ALTER COLUMN request_timestamp DROP NOT NULL",
    ],
}


def run(engine, *statements):
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def newer(engine):
    run(engine, *ADDED["both"], *ADDED[engine.dialect.name], NEWER)
