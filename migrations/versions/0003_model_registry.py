"""What is known of a model version, who put it into production, and runs that keep others out by their heartbeat.

This file is history: it imports nothing of zap, so that it does the same for ever.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations
from alembic.util import CommandError

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STAMP = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
WALL_TIME = sa.DateTime().with_variant(sa.Text(), "sqlite")
JSON = sa.JSON(none_as_null=True)

OLD_STATUS = "status IN ('running', 'finished', 'failed')"
NEW_STATUS = "status IN ('running', 'finished', 'failed', 'cancelled')"
KNOWN_STATUS = "status IN ('candidate', 'production', 'archived')"
RUNNING = sa.text("status = 'running'")
IN_PRODUCTION = sa.text("status = 'production'")

RUNS = sa.table("training_runs", *map(sa.column, ("status", "started_at", "finished_at")), sa.column("report", JSON))
ENDED = {
    "type": "urn:zap:problem:training-failed",
    "title": "The training did not finish",
    "status": 500,
    "detail": "the database was upgraded while it ran",
}
OWN = ("training_events", "promotions")


def upgrade() -> None:
    connection = op.get_bind()
    inspector = sa.inspect(connection)
    there = {name.lower() for name in [*inspector.get_table_names(), *inspector.get_view_names()]}
    if in_the_way := [name for name in OWN if name in there]:
        raise CommandError(
            f"there is something called {' and '.join(in_the_way)} already, which zap needs for itself; "
            "nothing was changed. Rename it, then upgrade again."
        )
    connection.execute(
        sa.update(RUNS)
        .where(RUNS.c.status == "running")
        .values(status="failed", report=ENDED, finished_at=RUNS.c.started_at)
    )
    highest = _highest_ids(connection)
    with op.batch_alter_table("training_runs", copy_from=_old_runs(), table_kwargs=_KEEPS_IDS) as runs:
        runs.add_column(sa.Column("kind", sa.String(), nullable=False, server_default="train"))
        runs.add_column(sa.Column("heartbeat_at", STAMP))
        runs.add_column(sa.Column("options", JSON))
        runs.drop_constraint(op.f("ck_training_runs_status"), type_="check")
        runs.create_check_constraint(op.f("ck_training_runs_known_status"), NEW_STATUS)
        runs.create_check_constraint(op.f("ck_training_runs_kind"), "kind IN ('train', 'tune')")
    op.create_index(
        "ix_training_runs_status",
        "training_runs",
        ["status"],
        unique=True,
        sqlite_where=RUNNING,
        postgresql_where=RUNNING,
    )
    with op.batch_alter_table("model_versions", copy_from=_old_versions(), table_kwargs=_KEEPS_IDS) as versions:
        versions.alter_column("artefact", existing_type=sa.LargeBinary(), nullable=True)
        for column in _version_columns():
            versions.add_column(column)
        _check_status_last(versions)
    _continue_ids(connection, highest)
    op.create_table(
        "training_events",
        sa.Column("event_id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("created_at", STAMP, nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.PrimaryKeyConstraint("event_id", name="pk_training_events"),
        sa.ForeignKeyConstraint(["run_id"], ["training_runs.run_id"], name="fk_training_events_run_id_training_runs"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_training_events_run_id", "training_events", ["run_id"])
    op.create_table(
        "promotions",
        sa.Column("promotion_id", ID, nullable=False),
        sa.Column("promoted_at", STAMP, nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("from_version", ID),
        sa.Column("to_version", ID, nullable=False),
        sa.Column("who", sa.String()),
        sa.Column("why", sa.String()),
        sa.CheckConstraint("action IN ('promote', 'rollback')", name=op.f("ck_promotions_action")),
        sa.PrimaryKeyConstraint("promotion_id", name="pk_promotions"),
        sa.ForeignKeyConstraint(
            ["from_version"], ["model_versions.model_version"], name="fk_promotions_from_version_model_versions"
        ),
        sa.ForeignKeyConstraint(
            ["to_version"], ["model_versions.model_version"], name="fk_promotions_to_version_model_versions"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_promotions_to_version", "promotions", ["to_version"])
    _record_what_served(connection)


def downgrade() -> None:
    connection = op.get_bind()
    op.drop_table("promotions")
    op.drop_table("training_events")
    op.drop_index("ix_training_runs_status", "training_runs")
    highest = _highest_ids(connection)
    connection.execute(sa.text("DELETE FROM model_versions WHERE artefact IS NULL"))
    with op.batch_alter_table("model_versions", copy_from=_new_versions(), table_kwargs=_KEEPS_IDS) as versions:
        versions.alter_column("artefact", existing_type=sa.LargeBinary(), nullable=False)
        for column in _version_columns():
            versions.drop_column(column.name)
        _check_status_last(versions)
    connection.execute(sa.text("UPDATE training_runs SET status = 'failed' WHERE status = 'cancelled'"))
    with op.batch_alter_table("training_runs", copy_from=_new_runs(), table_kwargs=_KEEPS_IDS) as runs:
        runs.drop_constraint(op.f("ck_training_runs_known_status"), type_="check")
        runs.drop_constraint(op.f("ck_training_runs_kind"), type_="check")
        for name in ("kind", "heartbeat_at", "options"):
            runs.drop_column(name)
        runs.create_check_constraint(op.f("ck_training_runs_status"), OLD_STATUS)
    _continue_ids(connection, highest)


_KEEPS_IDS = {"sqlite_autoincrement": True}


def _check_status_last(versions: BatchOperations) -> None:
    """Alembic copies the constraints of a table in no order, and the text of the table would differ from run to run."""
    versions.drop_constraint(op.f("ck_model_versions_status"), type_="check")
    versions.create_check_constraint(op.f("ck_model_versions_status"), KNOWN_STATUS)


def _highest_ids(connection: sa.Connection) -> list[tuple[str, int]]:
    """The highest ids that SQLite has given in the tables that are made anew, those of rows that are gone too."""
    if connection.dialect.name != "sqlite":
        return []
    rows = connection.execute(
        sa.text("SELECT name, seq FROM sqlite_sequence WHERE name IN ('training_runs', 'model_versions')")
    )
    return [(row.name, row.seq) for row in rows]


def _continue_ids(connection: sa.Connection, highest: list[tuple[str, int]]) -> None:
    """No id is given twice."""
    for name, seq in highest:
        connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": name})
        connection.execute(
            sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), {"name": name, "seq": seq}
        )


def _record_what_served(connection: sa.Connection) -> None:
    """Before this every version was promoted by its training, in the order of their numbers."""
    served = connection.execute(
        sa.text(
            "SELECT v.model_version, coalesce(r.finished_at, v.created_at) AS promoted_at FROM model_versions v"
            " JOIN training_runs r ON r.run_id = v.run_id WHERE v.status <> 'candidate' ORDER BY v.model_version"
        )
    ).all()
    before = None
    for version, promoted_at in served:
        connection.execute(
            sa.text(
                "INSERT INTO promotions (promoted_at, action, from_version, to_version, why)"
                " VALUES (:promoted_at, 'promote', :before, :version, 'its training, before changes were recorded')"
            ),
            {"promoted_at": promoted_at, "before": before, "version": version},
        )
        before = version


# SQLite makes a table anew to change it, and needs to know what it is.


def _runs(*more: sa.schema.SchemaItem) -> sa.Table:
    return sa.Table(
        "training_runs",
        sa.MetaData(naming_convention=NAMES),
        sa.Column("run_id", ID, primary_key=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("started_at", STAMP, nullable=False),
        sa.Column("finished_at", STAMP),
        sa.Column("report", sa.JSON()),
        *more,
        sqlite_autoincrement=True,
    )


def _old_runs() -> sa.Table:
    return _runs(sa.CheckConstraint(OLD_STATUS, name="status"))


def _new_runs() -> sa.Table:
    return _runs(
        sa.Column("kind", sa.String(), nullable=False, server_default="train"),
        sa.Column("heartbeat_at", STAMP),
        sa.Column("options", JSON),
        sa.CheckConstraint(NEW_STATUS, name="known_status"),
        sa.CheckConstraint("kind IN ('train', 'tune')", name="kind"),
    )


def _versions(*more: sa.schema.SchemaItem, artefact_is_there: bool) -> sa.Table:
    metadata = sa.MetaData(naming_convention=NAMES)
    sa.Table("training_runs", metadata, sa.Column("run_id", ID, primary_key=True))
    return sa.Table(
        "model_versions",
        metadata,
        sa.Column("model_version", ID, primary_key=True),
        sa.Column("run_id", ID, sa.ForeignKey("training_runs.run_id"), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_at", STAMP, nullable=False),
        sa.Column("artefact", sa.LargeBinary(), nullable=not artefact_is_there),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("hyper_parameters", sa.JSON(), nullable=False),
        sa.Column("contract", sa.JSON(), nullable=False),
        sa.Column("evaluation", sa.JSON()),
        *more,
        sa.CheckConstraint(KNOWN_STATUS, name="status"),
        sa.Index(None, "run_id"),
        sa.Index(None, "sha256"),
        sa.Index(None, "status", unique=True, sqlite_where=IN_PRODUCTION, postgresql_where=IN_PRODUCTION),
        sqlite_autoincrement=True,
    )


def _version_columns() -> list[sa.Column]:
    return [
        sa.Column("hyper_parameters_from", sa.String()),
        sa.Column("features", JSON),
        sa.Column("columns", JSON),
        sa.Column("classes", JSON),
        sa.Column("trained_from", WALL_TIME),
        sa.Column("trained_until", WALL_TIME),
        sa.Column("tuned_until", WALL_TIME),
        sa.Column("trained_samples", sa.Integer()),
        sa.Column("test_samples", sa.Integer()),
        sa.Column("rows_sha256", sa.String()),
        sa.Column("rows_by_month", JSON),
        sa.Column("trees_sha256", sa.String()),
        sa.Column("seed", sa.Integer()),
        sa.Column("libraries", JSON),
        sa.Column("code_version", sa.String()),
        sa.Column("golden", JSON),
        sa.Column("note", sa.String()),
    ]


def _old_versions() -> sa.Table:
    return _versions(artefact_is_there=True)


def _new_versions() -> sa.Table:
    return _versions(*_version_columns(), artefact_is_there=False)
