"""Add the tables of what happened after an answer, and log every session that is added, however old it is.

The tables: how far the follower has read, outcomes, the sums of live quality, the counts of data quality, the states of
monitors, alarms with their outbox, trials and what challengers answered.

Until now the triggers on ChargingSessions did not log a session that was added more than 60 days after its start. An
outcome of an old answer may depend on such a session, so the limit is gone. A downgrade brings it back, and drops the
tables: the alarms, the trials and the answers that reports named are lost then.

This file imports nothing from zap, so that its result does not change when zap changes.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STAMP = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
WALL_TIME = sa.DateTime().with_variant(sa.Text(), "sqlite")
JSON = sa.JSON(none_as_null=True)
MATCHED = sa.text("session_id IS NOT NULL")
STANDING = sa.text("until IS NULL")
UNDELIVERED = sa.text("delivered_at IS NULL AND given_up_at IS NULL")
RUNNING = sa.text("status = 'running'")
# In the order in which they are made.
TABLES = (
    "follower",
    "outcomes",
    "session_predictions",
    "quality_days",
    "data_quality_days",
    "monitor_states",
    "alarms",
    "alarm_deliveries",
    "trials",
    "trial_predictions",
)
# The trigger of added sessions on SQLite, and the function of all triggers on PostgreSQL.
INSERTED = "zap_session_inserted"
FUNCTION = "zap_log_session_changes"
LIMIT = " WHEN NEW.charging_start_time >= date('now', '-60 days')"
LIMIT_OF_ROWS = " WHERE charging_start_time >= (now() AT TIME ZONE 'UTC')::date - 60"
LIMIT_OF_ROW = "(TG_OP = 'INSERT' AND NEW.charging_start_time >= (now() AT TIME ZONE 'UTC')::date - 60)"


def look_first(connection: sa.Connection) -> None:
    """Raise CommandError if another program's table or view has the name of a new table. Nothing is changed then."""
    inspector = sa.inspect(connection)
    there = {name.lower() for name in [*inspector.get_table_names(), *inspector.get_view_names()]}
    for name in TABLES:
        if name in there:
            raise CommandError(
                f"there is something called {name} already, which zap needs for itself; nothing was changed."
                " Rename it, then upgrade again."
            )


def upgrade() -> None:
    look_first(op.get_bind())
    _make_outcomes()
    _make_sums()
    _make_alarms()
    _make_trials()
    log_all_inserts(op.get_bind())


def downgrade() -> None:
    for name in reversed(TABLES):
        op.drop_table(name)
    _log_inserts(op.get_bind(), LIMIT, LIMIT_OF_ROWS, LIMIT_OF_ROW)


def log_all_inserts(connection: sa.Connection) -> None:
    """Make the trigger of added sessions again, without its limit of age.

    A later zap calls this too, after it has made the triggers of revision 0009 again.
    """
    _log_inserts(connection, "", "", "TG_OP = 'INSERT'")


def _log_inserts(connection: sa.Connection, limit: str, limit_of_rows: str, limit_of_row: str) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {INSERTED}")
        connection.exec_driver_sql(
            f'CREATE TRIGGER {INSERTED} AFTER INSERT ON "ChargingSessions" FOR EACH ROW{limit} BEGIN'  # noqa: S608
            " INSERT INTO session_changes (session_id, user_id, charging_start_time, changed_at) VALUES"
            " (NEW.session_id, NEW.user_id, NEW.charging_start_time,"
            " strftime('%Y-%m-%dT%H:%M:%f', 'now') || '000+00:00'); END"
        )
        return
    schema = connection.scalar(
        sa.text("SELECT quote_ident(nspname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
                " WHERE pg_class.oid = to_regclass('session_changes')")
    )  # fmt: skip
    body = BODY.format(
        function=f"{schema}.{FUNCTION}",
        log=f"{schema}.session_changes (session_id, user_id, charging_start_time, changed_at, transaction_id,"
        " oldest_running)",
        stamps=STAMPS,
        limit_of_rows=limit_of_rows,
        limit_of_row=limit_of_row,
    )
    connection.exec_driver_sql(body)


STAMPS = (
    "clock_timestamp(), (SELECT pg_current_xact_id()::text::bigint),"
    " (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint)"
)
# As in revision 0009, where the reasons are.
BODY = """
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_LEVEL = 'ROW' THEN
        IF TG_OP = 'UPDATE' OR {limit_of_row} THEN
            INSERT INTO {log} SELECT
            NEW.session_id, NEW.user_id, to_char(NEW.charging_start_time, 'YYYY-MM-DD HH24:MI:SS'), {stamps};
        END IF;
        IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND (OLD.session_id, OLD.user_id, OLD.charging_start_time)
            IS DISTINCT FROM (NEW.session_id, NEW.user_id, NEW.charging_start_time)) THEN
            INSERT INTO {log} SELECT
            OLD.session_id, OLD.user_id, to_char(OLD.charging_start_time, 'YYYY-MM-DD HH24:MI:SS'), {stamps};
        END IF;
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO {log}
        SELECT session_id, user_id, to_char(charging_start_time, 'YYYY-MM-DD HH24:MI:SS'), {stamps}
        FROM new_rows{limit_of_rows};
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO {log}
        SELECT session_id, user_id, to_char(charging_start_time, 'YYYY-MM-DD HH24:MI:SS'), {stamps}
        FROM (
            SELECT session_id, user_id, charging_start_time FROM new_rows
            UNION ALL (
                SELECT session_id, user_id, charging_start_time FROM old_rows
                EXCEPT SELECT session_id, user_id, charging_start_time FROM new_rows
            )
        ) AS changed;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO {log}
        SELECT session_id, user_id, to_char(charging_start_time, 'YYYY-MM-DD HH24:MI:SS'), {stamps}
        FROM old_rows;
    ELSE
        INSERT INTO {log} SELECT NULL, NULL, NULL, {stamps};
    END IF;
    RETURN NULL;
END $$
"""


def _id(name: str) -> sa.Column[int]:
    """Return the column of a number that the row gets from elsewhere."""
    return sa.Column(name, ID, autoincrement=False, nullable=False)


def _make_outcomes() -> None:
    op.create_table(
        "follower",
        _id("follower_id"),
        sa.Column("holder", sa.String()),
        sa.Column("heartbeat_at", STAMP),
        sa.Column("prediction_id", ID, nullable=False),
        sa.Column("missing", JSON),
        sa.Column("session_mark", JSON),
        sa.Column("rematched_until", ID),
        sa.PrimaryKeyConstraint("follower_id", name="pk_follower"),
    )
    op.create_table(
        "outcomes",
        _id("prediction_id"),
        sa.Column("model_version", ID),
        sa.Column("user_id", sa.String()),
        sa.Column("asked_at", WALL_TIME, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("session_id", ID),
        sa.Column("actual_class", sa.String()),
        sa.Column("lag_seconds", ID),
        sa.Column("matched_by", sa.String()),
        sa.Column("superseded_by", ID),
        sa.CheckConstraint("kind IN ('live', 'backtest')", name=op.f("ck_outcomes_kind")),
        sa.CheckConstraint(
            "status IN ('matched', 'superseded', 'waiting', 'no_driver')", name=op.f("ck_outcomes_status")
        ),
        sa.PrimaryKeyConstraint("prediction_id", name="pk_outcomes"),
    )
    op.create_index("ix_outcomes_user_id_asked_at_prediction_id", "outcomes", ["user_id", "asked_at", "prediction_id"])
    op.create_index("ix_outcomes_model_version_asked_at", "outcomes", ["model_version", "asked_at"])
    op.create_index(
        "ix_outcomes_session_id", "outcomes", ["session_id"], sqlite_where=MATCHED, postgresql_where=MATCHED
    )
    op.create_table(
        "session_predictions",
        _id("session_id"),
        sa.Column("prediction_id", ID, nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_session_predictions"),
    )
    op.create_index("ix_session_predictions_prediction_id", "session_predictions", ["prediction_id"])


def _make_sums() -> None:
    op.create_table(
        "quality_days",
        _id("model_version"),
        sa.Column("day", WALL_TIME, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("answers", JSON, nullable=False),
        sa.Column("sums", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("model_version", "day", "kind", name="pk_quality_days"),
    )
    op.create_table(
        "data_quality_days",
        sa.Column("day", WALL_TIME, nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("field", sa.String(), nullable=False),
        sa.Column("found", sa.String(), nullable=False),
        sa.Column("count", ID, nullable=False),
        sa.PrimaryKeyConstraint("day", "subject", "field", "found", name="pk_data_quality_days"),
    )
    op.create_table(
        "monitor_states",
        _id("model_version"),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("reference", JSON),
        sa.Column("state", JSON),
        sa.Column("prediction_id", ID),
        sa.Column("updated_at", STAMP, nullable=False),
        sa.CheckConstraint("kind IN ('drift', 'harm')", name=op.f("ck_monitor_states_kind")),
        sa.PrimaryKeyConstraint("model_version", "kind", name="pk_monitor_states"),
    )


def _make_alarms() -> None:
    op.create_table(
        "alarms",
        sa.Column("alarm_id", ID, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("since", STAMP, nullable=False),
        sa.Column("until", STAMP),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("evidence", JSON),
        sa.Column("acknowledged_by", sa.String()),
        sa.Column("acknowledged_at", STAMP),
        sa.PrimaryKeyConstraint("alarm_id", name="pk_alarms"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_alarms_kind_subject",
        "alarms",
        ["kind", "subject"],
        unique=True,
        sqlite_where=STANDING,
        postgresql_where=STANDING,
    )
    op.create_table(
        "alarm_deliveries",
        sa.Column("delivery_id", ID, nullable=False),
        sa.Column("alarm_id", ID, nullable=False),
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", STAMP, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", STAMP, nullable=False),
        sa.Column("delivered_at", STAMP),
        sa.Column("given_up_at", STAMP),
        sa.Column("last_error", sa.String()),
        sa.PrimaryKeyConstraint("delivery_id", name="pk_alarm_deliveries"),
        sa.ForeignKeyConstraint(["alarm_id"], ["alarms.alarm_id"], name="fk_alarm_deliveries_alarm_id_alarms"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_alarm_deliveries_alarm_id", "alarm_deliveries", ["alarm_id"])
    op.create_index("ix_alarm_deliveries_message_id", "alarm_deliveries", ["message_id"], unique=True)
    op.create_index(
        "ix_alarm_deliveries_next_attempt_at",
        "alarm_deliveries",
        ["next_attempt_at"],
        sqlite_where=UNDELIVERED,
        postgresql_where=UNDELIVERED,
    )


def _make_trials() -> None:
    versions = "model_versions.model_version"
    op.create_table(
        "trials",
        sa.Column("trial_id", ID, nullable=False),
        sa.Column("model_version", ID, nullable=False),
        sa.Column("champion_version", ID, nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("epsilon", sa.Float(), nullable=False),
        sa.Column("on_better", sa.String(), nullable=False),
        sa.Column("started_at", STAMP, nullable=False),
        sa.Column("longest_until", STAMP, nullable=False),
        sa.Column("ended_at", STAMP),
        sa.Column("after_prediction_id", ID, nullable=False),
        sa.Column("state", JSON),
        sa.Column("evidence", JSON),
        sa.Column("who", sa.String()),
        sa.Column("why", sa.String()),
        sa.CheckConstraint(
            "status IN ('running', 'better', 'not_worse', 'worse', 'undecided', 'ended')",
            name=op.f("ck_trials_status"),
        ),
        sa.CheckConstraint("on_better IN ('promote', 'tell')", name=op.f("ck_trials_on_better")),
        sa.PrimaryKeyConstraint("trial_id", name="pk_trials"),
        sa.ForeignKeyConstraint(["model_version"], [versions], name="fk_trials_model_version_model_versions"),
        sa.ForeignKeyConstraint(["champion_version"], [versions], name="fk_trials_champion_version_model_versions"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_trials_model_version",
        "trials",
        ["model_version"],
        unique=True,
        sqlite_where=RUNNING,
        postgresql_where=RUNNING,
    )
    op.create_table(
        "trial_predictions",
        _id("trial_id"),
        _id("prediction_id"),
        sa.Column("predicted_class", sa.String(), nullable=False),
        sa.Column("probabilities", JSON, nullable=False),
        sa.Column("features", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("trial_id", "prediction_id", name="pk_trial_predictions"),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.trial_id"], name="fk_trial_predictions_trial_id_trials"),
    )
