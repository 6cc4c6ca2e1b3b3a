"""What is known of a model version, who put it into production, and runs that keep others out by their heartbeat.

This file is history: it imports nothing of zap, so that it does the same for ever.

Revision ID: 0003
Revises: 0002
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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

RUNS = sa.table(
    "training_runs",
    sa.column("run_id"),
    sa.column("status"),
    sa.column("started_at", STAMP),
    sa.column("finished_at", STAMP),
    sa.column("report", JSON),
)
VERSIONS = sa.table(
    "model_versions",
    sa.column("model_version"),
    sa.column("run_id"),
    sa.column("status"),
    sa.column("created_at", STAMP),
)
ENDED = {
    "type": "urn:zap:problem:training-failed",
    "title": "The training did not finish",
    "status": 500,
    "detail": "the database was upgraded while it ran",
}
OWN = ("training_events", "promotions")
# Where a downgrade keeps the promotions that nobody could know otherwise, until an upgrade takes them up again.
KEPT = "zap_kept_promotions"
KEPT_COLUMNS = ("promoted_at", "action", "from_version", "to_version", "who", "why")


def _promotions(name: str) -> sa.TableClause:
    return sa.table(
        name,
        sa.column("promotion_id"),
        sa.column("promoted_at", STAMP),
        *map(sa.column, ("action", "from_version", "to_version", "who", "why")),
    )


PROMOTIONS = _promotions("promotions")


def look_first(connection: sa.Connection) -> None:
    """Refuse what is in the way and what would be lost, before anything is changed."""
    inspector = sa.inspect(connection)
    there = {name.lower() for name in [*inspector.get_table_names(), *inspector.get_view_names()]}
    if in_the_way := [name for name in OWN if name in there]:
        raise CommandError(
            f"there is something called {' and '.join(in_the_way)} already, which zap needs for itself; "
            "nothing was changed. Rename it, then upgrade again."
        )
    if connection.dialect.name == "sqlite":
        _refuse_strangers(inspector, [table for table in (_old_runs(), _old_versions()) if table.name in there])


def upgrade() -> None:
    connection = op.get_bind()
    look_first(connection)
    _end_runs(connection)
    highest = _highest_ids(connection)
    with _rebuilt("training_runs", _old_runs()) as runs:
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
    with _rebuilt("model_versions", _old_versions()) as versions:
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
    if connection.dialect.name == "sqlite":
        _refuse_strangers(sa.inspect(connection), [_new_runs(), _new_versions()])
    _keep_promotions(connection)
    op.drop_table("promotions")
    op.drop_table("training_events")
    op.drop_index("ix_training_runs_status", "training_runs")
    highest = _highest_ids(connection)
    connection.execute(sa.text("DELETE FROM model_versions WHERE artefact IS NULL"))
    with _rebuilt("model_versions", _new_versions()) as versions:
        versions.alter_column("artefact", existing_type=sa.LargeBinary(), nullable=False)
        for column in _version_columns():
            versions.drop_column(column.name)
        _check_status_last(versions)
    connection.execute(sa.text("UPDATE training_runs SET status = 'failed' WHERE status = 'cancelled'"))
    with _rebuilt("training_runs", _new_runs()) as runs:
        runs.drop_constraint(op.f("ck_training_runs_known_status"), type_="check")
        runs.drop_constraint(op.f("ck_training_runs_kind"), type_="check")
        for name in ("kind", "heartbeat_at", "options"):
            runs.drop_column(name)
        runs.create_check_constraint(op.f("ck_training_runs_status"), OLD_STATUS)
    _continue_ids(connection, highest)


def _end_runs(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Else somebody's deferred trigger would still wait for the end when the table is changed.
        connection.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))
    connection.execute(
        sa.update(RUNS)
        .where(RUNS.c.status == "running")
        .values(status="failed", report=ENDED, finished_at=RUNS.c.started_at)
    )


# What others have built on the tables.


def _refuse_strangers(inspector: sa.Inspector, tables: list[sa.Table]) -> None:
    """SQLite makes a table anew to change it: what somebody else has added inside of it would not be in the new one."""
    lost = [f"- {table.name} has {one}" for table in tables for one in _strangers(inspector, table)]
    if lost:
        raise CommandError(
            "these tables are made anew, and something that zap does not know would be lost; nothing was changed:\n"
            + "\n".join(lost)
            + "\nMove it into a table of your own, or make it an index or a trigger, then try again."
        )


def _strangers(inspector: sa.Inspector, table: sa.Table) -> Iterator[str]:
    columns = [column["name"] for column in inspector.get_columns(table.name)]
    if added := [name for name in columns if name not in table.columns]:
        yield f"columns that zap does not know: {', '.join(added)}"
    known = {constraint.name for constraint in table.constraints}
    for check in inspector.get_check_constraints(table.name):
        if check["name"] not in known:
            yield f"a constraint that zap does not know: CHECK ({check['sqltext']})"
    for unique in inspector.get_unique_constraints(table.name):
        yield f"a constraint that zap does not know: UNIQUE ({', '.join(unique['column_names'])})"
    for key in inspector.get_foreign_keys(table.name):
        if key["constrained_columns"] != ["run_id"] or table.name == "training_runs":
            yield f"a foreign key that zap does not know, of {', '.join(key['constrained_columns'])}"


@contextmanager
def _rebuilt(name: str, as_it_is: sa.Table) -> Iterator[BatchOperations]:
    """Change a table. On SQLite it is made anew, with all indexes and triggers that anybody has put on it."""
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        with op.batch_alter_table(name) as batch:
            yield batch
        return
    before = _built_on(connection, name)
    # Else SQLite looks through all views and triggers when the new table gets its name, and finds that one of them
    # names a table that is not there.
    was_on = connection.exec_driver_sql("PRAGMA legacy_alter_table").scalar()
    connection.exec_driver_sql("PRAGMA legacy_alter_table=ON")
    with op.batch_alter_table(name, copy_from=as_it_is, table_kwargs={"sqlite_autoincrement": True}) as batch:
        yield batch
    connection.exec_driver_sql(f"PRAGMA legacy_alter_table={was_on:d}")
    after = _built_on(connection, name)
    for what, statement in before.items():
        if what not in after:
            _make_again(connection, what, statement)


def _built_on(connection: sa.Connection, table: str) -> dict[str, str]:
    """Return the indexes and triggers of a table on SQLite, by their names."""
    rows = connection.execute(
        sa.text(
            "SELECT name, sql FROM sqlite_master WHERE lower(tbl_name) = :table AND type IN ('index', 'trigger')"
            " AND sql IS NOT NULL ORDER BY type, rowid"
        ),
        {"table": table},
    )
    return {row.name: row.sql for row in rows}


def _make_again(connection: sa.Connection, name: str, statement: str) -> None:
    try:
        connection.exec_driver_sql(statement)
    except sa.exc.DBAPIError as error:
        raise CommandError(
            f"{name} cannot be made again on the changed table ({error.orig}); nothing was changed. Drop it, "
            f"try again, and make it again in another way. It is: {statement}"
        ) from error


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


# What served, and when.


def _record_what_served(connection: sa.Connection) -> None:
    """Take up what a downgrade has kept, and add what has served since then.

    Before promotions were recorded every version was promoted by its training, in the order of their numbers; the one
    that serves came last.
    """
    before = _take_up_kept(connection)
    for row in _derived(connection, since=before):
        connection.execute(sa.insert(PROMOTIONS), row)


def _derived(connection: sa.Connection, since: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Yield the promotions that the versions themselves tell of, after the last one that is known."""
    served = connection.execute(
        sa.select(
            VERSIONS.c.model_version,
            VERSIONS.c.status,
            sa.func.coalesce(RUNS.c.finished_at, VERSIONS.c.created_at, type_=RUNS.c.finished_at.type),
        )
        .join_from(VERSIONS, RUNS, RUNS.c.run_id == VERSIONS.c.run_id)
        .where(VERSIONS.c.status != "candidate")
        .order_by(VERSIONS.c.status == "production", VERSIONS.c.model_version)
    ).all()
    known = set(connection.scalars(sa.select(PROMOTIONS.c.to_version))) if since else set()
    before, moment = (since["to_version"], since["promoted_at"]) if since else (None, None)
    for version, status, promoted_at in served:
        if version in known and (status != "production" or version == before):
            continue
        # A version that was promoted again came after the others, whenever its training was.
        moment = promoted_at if moment is None else max(moment, promoted_at)
        yield {
            "promoted_at": moment,
            "action": "promote",
            "from_version": before,
            "to_version": version,
            "who": None,
            "why": "its training, before changes were recorded",
        }
        before = version


def _keep_promotions(connection: sa.Connection) -> None:
    """Keep what the versions do not tell by themselves: promotions by hand, ways back, who and why."""
    columns = [PROMOTIONS.c[name] for name in KEPT_COLUMNS]
    recorded = [dict(row) for row in connection.execute(_in_order(PROMOTIONS, columns)).mappings()]
    if recorded == list(_derived(connection, since=None)):
        return
    op.create_table(
        KEPT,
        sa.Column("promotion_id", ID, primary_key=True),
        sa.Column("promoted_at", STAMP, nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("from_version", ID),
        sa.Column("to_version", ID, nullable=False),
        sa.Column("who", sa.String()),
        sa.Column("why", sa.String()),
    )
    connection.execute(sa.insert(_kept()), recorded)


def _take_up_kept(connection: sa.Connection) -> dict[str, Any] | None:
    """Give back what a downgrade has kept, where its versions are still there; the last of it."""
    if not sa.inspect(connection).has_table(KEPT):
        return None
    kept = _kept()
    there = set(connection.scalars(sa.select(VERSIONS.c.model_version)))
    last = None
    rows = connection.execute(_in_order(kept, [kept.c[name] for name in KEPT_COLUMNS])).mappings().all()
    for row in rows:
        went_back_from = row["from_version"] if row["action"] == "rollback" else None
        if {row["to_version"], went_back_from} <= {*there, None}:
            last = dict(row) | {"from_version": row["from_version"] if row["from_version"] in there else None}
            connection.execute(sa.insert(PROMOTIONS), last)
    op.drop_table(KEPT)
    return last


def _in_order(table: sa.TableClause, columns: list[sa.ColumnClause[Any]]) -> sa.Select[Any]:
    return sa.select(*columns).order_by(table.c.promotion_id)


def _kept() -> sa.TableClause:
    return _promotions(KEPT)


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
