"""The five tables of ZapApp, adopted where they exist already, and zap's own beside them.

This file is history: it imports nothing of zap, so that it does the same for ever.

Revision ID: 0001
Revises:
"""

import os
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError
from sqlalchemy.schema import CreateIndex, CreateTable

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WALL_TIME = sa.DateTime().with_variant(sa.Text(), "sqlite")
STAMP = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")

TABLES = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

USERS = sa.Table(
    "Users",
    TABLES,
    sa.Column("user_id", sa.String(), primary_key=True),
    sa.Column("user_type", sa.String()),
)
VEHICLES = sa.Table(
    "Vehicles",
    TABLES,
    sa.Column("vehicle_id", ID, primary_key=True),
    sa.Column("user_id", sa.String(), index=True),
    sa.Column("vehicle_model", sa.String()),
    sa.Column("battery_capacity_kwh", sa.Float()),
    sa.Column("vehicle_age_years", sa.Float()),
    sqlite_autoincrement=True,
)
SESSIONS = sa.Table(
    "ChargingSessions",
    TABLES,
    sa.Column("session_id", ID, primary_key=True),
    sa.Column("user_id", sa.String()),
    sa.Column("vehicle_id", ID),
    sa.Column("charging_station_id", sa.String()),
    sa.Column("charging_station_location", sa.String()),
    sa.Column("charger_type", sa.String()),
    sa.Column("charging_start_time", WALL_TIME),
    sa.Column("charging_end_time", WALL_TIME),
    sa.Column("energy_consumed_kwh", sa.Float()),
    sa.Column("charging_duration_hours", sa.Float()),
    sa.Column("charging_rate_kw", sa.Float()),
    sa.Column("charging_cost_usd", sa.Float()),
    sa.Column("time_of_day", sa.String()),
    sa.Column("day_of_week", sa.String()),
    sa.Column("state_of_charge_start", sa.Float()),
    sa.Column("state_of_charge_end", sa.Float()),
    sa.Column("distance_driven_km", sa.Float()),
    sa.Column("temperature_c", sa.Float()),
    sa.Column("timestamp", WALL_TIME),
    sa.Index(None, "user_id", "charging_start_time"),
    sqlite_autoincrement=True,
)
INPUTS = sa.Table(
    "inference_inputs",
    TABLES,
    sa.Column("input_id", ID, primary_key=True),
    sa.Column("request_timestamp", STAMP, nullable=False),
    sa.Column("input_data_json", sa.Text(), nullable=False),
    sqlite_autoincrement=True,
)
PREDICTIONS = sa.Table(
    "predictions",
    TABLES,
    sa.Column("prediction_id", ID, primary_key=True),
    sa.Column("input_id", ID, sa.ForeignKey("inference_inputs.input_id"), index=True),
    sa.Column("prediction_timestamp", STAMP, nullable=False),
    sa.Column("source", sa.String(), nullable=False),
    sa.Column("predicted_class", sa.String(), nullable=False),
    sa.Column("actual_class", sa.String()),
    sa.Column("model_version", ID),
    sa.Column("probabilities", sa.JSON()),
    sa.CheckConstraint("source IN ('train', 'inference')", name="source"),
    sa.Index(None, "source", "model_version"),
    sqlite_autoincrement=True,
)
TRAINING_RUNS = sa.Table(
    "training_runs",
    TABLES,
    sa.Column("run_id", ID, primary_key=True),
    sa.Column("status", sa.String(), nullable=False),
    sa.Column("started_at", STAMP, nullable=False),
    sa.Column("finished_at", STAMP),
    sa.Column("report", sa.JSON()),
    sa.CheckConstraint("status IN ('running', 'finished', 'failed')", name="status"),
    sqlite_autoincrement=True,
)
IN_PRODUCTION = sa.text("status = 'production'")
MODEL_VERSIONS = sa.Table(
    "model_versions",
    TABLES,
    sa.Column("model_version", ID, primary_key=True),
    sa.Column("run_id", ID, sa.ForeignKey("training_runs.run_id"), nullable=False, index=True),
    sa.Column("status", sa.String(), nullable=False),
    sa.Column("created_at", STAMP, nullable=False),
    sa.Column("artefact", sa.LargeBinary(), nullable=False),
    sa.Column("sha256", sa.String(), nullable=False, index=True),
    sa.Column("hyper_parameters", sa.JSON(), nullable=False),
    sa.Column("contract", sa.JSON(), nullable=False),
    sa.Column("evaluation", sa.JSON()),
    sa.CheckConstraint("status IN ('candidate', 'production', 'archived')", name="status"),
    sa.Index(None, "status", unique=True, sqlite_where=IN_PRODUCTION, postgresql_where=IN_PRODUCTION),
    sqlite_autoincrement=True,
)

# Those that existed before zap, children before their parents.
FIXED = (PREDICTIONS, INPUTS, SESSIONS, VEHICLES, USERS)
OWN = (MODEL_VERSIONS, TRAINING_RUNS)
KEPT_PROMOTIONS = "zap_kept_promotions"
ADDED_COLUMNS = ("model_version", "probabilities")
# What a table is called while its rows move to its successor.
OLD = "_zap_old_"
SHOWN_ROWS = 10
# Python reads more than these as a time, even some of the digits in which computers count milliseconds.
NAIVE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?)?")


def look_first(connection: sa.Connection) -> None:
    """Refuse what is in the way, before anything is changed."""
    inspector = sa.inspect(connection)
    taken = {name.lower() for name in [*inspector.get_table_names(), *inspector.get_view_names()]}
    in_the_way = [table.name for table in OWN if table.name in taken]
    if in_the_way:
        raise CommandError(
            f"there is something called {' and '.join(in_the_way)} already, which zap needs for itself; "
            "nothing was changed. Rename it, then upgrade again."
        )


def upgrade() -> None:
    connection = op.get_bind()
    look_first(connection)
    inspector = sa.inspect(connection)
    taken = {_key(name): name for name in [*inspector.get_table_names(), *inspector.get_view_names()]}
    found = {table.name: taken[_key(table.name)] for table in FIXED if _key(table.name) in taken}
    if not found:
        TABLES.create_all(connection, checkfirst=False)
    elif connection.dialect.name == "sqlite":
        _adopt([_look_at(table, found[table.name], inspector) for table in FIXED if table.name in found])
    else:
        _take_up_again([table for table in FIXED if table.name in found], inspector)


def downgrade() -> None:
    """Remove what zap added. A table of ZapApp's that holds rows stays."""
    rows = {table.name: _count(table.name) for table in FIXED}
    # What a later revision has kept of versions that go now.
    op.drop_table(KEPT_PROMOTIONS, if_exists=True)
    for table in OWN:
        op.drop_table(table.name)
    for table in FIXED:
        if rows[table.name]:
            _strip(table)
            _report(f"kept {table.name}: it holds {_in_words(rows[table.name])}")
        elif table is INPUTS and rows[PREDICTIONS.name]:
            _report(f"kept {table.name}, which is empty: {PREDICTIONS.name} refers to it")
        else:
            op.drop_table(table.name)


def _strip(table: sa.Table) -> None:
    for index in table.indexes:
        op.drop_index(index.name, table.name)
    if table is PREDICTIONS:
        for name in ADDED_COLUMNS:
            op.drop_column(table.name, name)


def _take_up_again(found: list[sa.Table], inspector: sa.Inspector) -> None:
    """On PostgreSQL: give back what a downgrade took from the tables that it kept."""
    connection = op.get_bind()
    strange = [
        table.name
        for table in found
        if inspector.get_pk_constraint(table.name)["name"] != table.primary_key.name
        or {column["name"] for column in inspector.get_columns(table.name)}
        != {column.name for column in table.columns if column.name not in ADDED_COLUMNS}
    ]
    if strange:
        raise CommandError(
            f"this PostgreSQL database has {', '.join(strange)} already, and not as zap makes them; zap "
            "adopts SQLite databases only, and nothing was changed. Name an empty database in "
            "ZAP_DATABASE_URL, or rename these tables."
        )
    TABLES.create_all(connection, tables=[table for table in TABLES.sorted_tables if table not in found])
    for table in found:
        if table is PREDICTIONS:
            for name in ADDED_COLUMNS:
                op.add_column(table.name, sa.Column(name, table.c[name].type))
        for index in table.indexes:
            index.create(connection)


@dataclass(frozen=True)
class _Legacy:
    """One of ZapApp's tables as an existing SQLite database has it."""

    table: sa.Table
    name: str
    # The names that it uses for the columns of `table`: they differ at most in upper and lower case.
    columns: dict[str, str]
    # Its columns that `table` does not have.
    strangers: list[str]
    is_view: bool
    # What names a row in a message.
    row: str

    def now_called(self, name: str) -> sa.TableClause:
        return sa.table(name, *map(sa.column, self.columns.values()))


def _look_at(table: sa.Table, name: str, inspector: sa.Inspector) -> _Legacy:
    info = sa.func.pragma_table_xinfo(name).table_valued("name")
    theirs = {_key(column): column for column in op.get_bind().scalars(sa.select(info.c.name))}
    columns = {ours: theirs[_key(ours)] for ours in (c.name for c in table.columns) if _key(ours) in theirs}
    strangers = [column for column in theirs.values() if column not in columns.values()]
    is_view = name in inspector.get_view_names()
    has_rowid = is_view or inspector.get_table_options(name).get("sqlite_with_rowid", True)
    (key,) = table.primary_key.columns
    row = "rowid" if has_rowid else columns.get(key.name, "rowid")
    return _Legacy(table, name, columns, strangers, is_view, row)


def _adopt(legacy: list[_Legacy]) -> None:
    """Rebuild the tables as a new database has them, with every row and every id that is there."""
    connection = op.get_bind()
    problems = [problem for one in legacy for problem in _problems(one)]
    if problems:
        raise CommandError(
            "this database cannot be adopted without losing something; nothing was changed:\n- "
            + "\n- ".join(problems)
            + "\nMend this, then upgrade again."
        )
    _report("adopting " + ", ".join(f"{one.name} ({_in_words(_count(one.name))})" for one in legacy))
    _report(f"a copy of the database as it was: {_write_copy(connection.engine.url.database)}")
    built_on_them = [made for one in legacy for made in _indexes_and_triggers(one)]
    _report_lost_constraints(legacy)
    # Else renaming would rewrite the views, triggers and foreign keys that name these tables.
    connection.exec_driver_sql("PRAGMA legacy_alter_table=ON")
    for one in legacy:
        op.rename_table(one.name, OLD + one.table.name)
    for table in TABLES.sorted_tables:
        connection.execute(CreateTable(table))
    for one in legacy:
        _move_rows(one)
    for table in (PREDICTIONS, INPUTS, SESSIONS, VEHICLES):
        _continue_ids(table)
    _report_orphans()
    for one in legacy:
        op.drop_table(OLD + one.table.name)
    connection.exec_driver_sql("PRAGMA legacy_alter_table=OFF")
    for table in TABLES.sorted_tables:
        for index in table.indexes:
            index.create(connection)
    for name, statement in built_on_them:
        _make_again(name, statement)


# What would be lost.


def _problems(one: _Legacy) -> Iterator[str]:
    """Why this table cannot be adopted, each with the columns or rows that it is about."""
    if one.is_view:
        yield f"{one.name} is a view; rename it"
        return
    if one.strangers:
        yield (
            f"{one.name} has columns that zap does not know: {', '.join(one.strangers)}; move them into "
            "a table of your own and drop them here"
        )
    required = [column.name for column in one.table.columns if not column.nullable]
    missing = [name for name in required if name not in one.columns]
    if missing and _count(one.name):
        yield f"{one.name} holds rows and has no column {', '.join(missing)}, which every row must have"
    elif not missing:
        yield from _bad_ids(one)
        yield from _bad_values(one, [name for name in required if not one.table.c[name].primary_key])


def _bad_ids(one: _Legacy) -> Iterator[str]:
    (key,) = one.table.primary_key.columns
    theirs = sa.column(one.columns[key.name])
    yield from _rows(one, f"{key.name} is NULL", theirs.is_(None))
    # SQLite compares the two as numbers, so that 7, 7.0 and '7' are the id 7, and 7.5 and 'seven' are none.
    same = sa.cast(theirs, key.type)
    good = theirs.is_not(None)
    if key.type is ID:
        yield from _rows(one, f"{key.name} is no whole number", same != theirs)
        good = same == theirs
    double = (
        sa.select(same).select_from(one.now_called(one.name)).where(good).group_by(same).having(sa.func.count() > 1)
    )
    yield from _rows(one, f"{key.name} is there more than once", good & same.in_(double))


def _bad_values(one: _Legacy, required: list[str]) -> Iterator[str]:
    for name in required:
        yield from _rows(one, f"{name} is NULL", sa.column(one.columns[name]).is_(None))
    if one.table is PREDICTIONS:
        source = sa.column(one.columns["source"])
        yield from _rows(one, "source is neither train nor inference", source.not_in(["train", "inference"]))


def _rows(one: _Legacy, what: str, condition: sa.ColumnElement[bool]) -> Iterator[str]:
    """The sentence about the rows that meet the condition, if there are any."""
    row = sa.column(one.row)
    table = one.now_called(one.name)
    connection = op.get_bind()
    total = connection.scalar(sa.select(sa.func.count()).select_from(table).where(condition))
    if total:
        first = connection.scalars(sa.select(row).select_from(table).where(condition).order_by(row).limit(SHOWN_ROWS))
        more = f" and {total - SHOWN_ROWS:,} more" if total > SHOWN_ROWS else ""
        yield f"{one.name}: {what} in row{'s' * (total > 1)} {', '.join(map(str, first))}{more}"


def _count(name: str) -> int:
    return op.get_bind().scalar(sa.select(sa.func.count()).select_from(sa.table(name)))


def _in_words(rows: int) -> str:
    return f"{rows:,} row{'s' * (rows != 1)}"


# The copy.


def _write_copy(database: str) -> Path:
    """A copy beside the file. The open transaction keeps others from writing, and has not written itself."""
    file = Path(database).resolve()
    copy = None
    try:
        copy = _new_file(file)
        with closing(sqlite3.connect(file)) as reader:
            reader.execute("VACUUM INTO ?", (str(copy),))
        with copy.open("rb+") as written:
            os.fsync(written.fileno())
    except (OSError, sqlite3.Error) as error:
        if copy is not None:
            copy.unlink()
        raise CommandError(
            f"no copy could be written beside {file} ({error}), and without one the database is not adopted; "
            f"nothing was changed. It takes {file.stat().st_size:,} bytes in a folder that can be written to."
        ) from error
    return copy


def _new_file(database: Path) -> Path:
    """Make an empty file that its user alone can read."""
    moment = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    number = 1
    while True:
        again = f"-{number}" if number > 1 else ""
        path = database.with_name(f"{database.stem}.before-zap-{moment}{again}{database.suffix}")
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            number += 1
        else:
            os.close(descriptor)
            return path


# The rebuild.


def _move_rows(one: _Legacy) -> None:
    connection = op.get_bind()
    database: sqlite3.Connection = connection.connection.dbapi_connection
    counts: Counter[tuple[str, str]] = Counter()
    old = one.now_called(OLD + one.table.name)
    values = []
    for name, theirs in one.columns.items():
        value = old.c[theirs]
        if one.table.c[name].type is WALL_TIME:
            function = f"zap_wall_time_{name}"
            database.create_function(function, 1, partial(_wall_time, name, counts))
            # As bytes: a text that is not UTF-8 could not be handed to the function.
            value = sa.func.coalesce(getattr(sa.func, function)(sa.cast(value, sa.LargeBinary())), value)
        values.append(value)
    connection.execute(one.table.insert().from_select(list(one.columns), sa.select(*values)))
    for (name, what), times in sorted(counts.items()):
        _report(f"{one.table.name}.{name}: {times:,} times {what}")


def _wall_time(name: str, counts: Counter[tuple[str, str]], stored: bytes | None) -> str | None:
    """A naive time in the one format that compares correctly in SQL; None for what is no naive time and stays."""
    if stored is None:
        return None
    value = stored.decode(errors="replace")
    try:
        moment = datetime.fromisoformat(value) if NAIVE_TIME.fullmatch(value) else None
    except ValueError:
        moment = None
    if moment is None:
        counts[name, "kept as they are: unreadable, or with an offset"] += 1
        return None
    text = str(moment.replace(microsecond=0))
    if text != value:
        counts[name, "rewritten as YYYY-MM-DD HH:MM:SS"] += 1
    return text


def _continue_ids(table: sa.Table) -> None:
    """Let new ids go on above the highest that was ever used, also where its row is gone."""
    connection = op.get_bind()
    sequence = sa.table("sqlite_sequence", sa.column("name"), sa.column("seq"))
    (key,) = table.primary_key.columns
    ever_used = [sa.select(key), sa.select(sequence.c.seq).where(sequence.c.name == OLD + table.name)]
    if table is INPUTS:
        # A new request must not find itself with the prediction of one that is gone.
        ever_used.append(sa.select(PREDICTIONS.c.input_id))
    ids = sa.union_all(*ever_used).subquery().c[0]
    highest = connection.scalar(sa.select(sa.func.max(ids)).where(sa.func.typeof(ids) == "integer"))
    connection.execute(sequence.delete().where(sequence.c.name == table.name))
    if highest:
        connection.execute(sequence.insert().values(name=table.name, seq=highest))


def _report_orphans() -> None:
    request = sa.select(INPUTS.c.input_id).where(INPUTS.c.input_id == PREDICTIONS.c.input_id).exists()
    orphans = op.get_bind().scalar(
        sa.select(sa.func.count()).select_from(PREDICTIONS).where(PREDICTIONS.c.input_id.is_not(None), ~request)
    )
    if orphans:
        # SQLite minds only when somebody changes their input_id, and a prediction is worth keeping by itself.
        _report(f"predictions: {_in_words(orphans)} of a request that is not there; kept as they are")


# What others have built on these tables. (Views, and other tables' foreign keys, only name them and live on.)


def _indexes_and_triggers(one: _Legacy) -> Iterator[tuple[str, str]]:
    """The name and the statement of each index and trigger on the table that is not zap's own."""
    connection = op.get_bind()
    ours = {str(CreateIndex(index).compile(dialect=connection.dialect)) for index in one.table.indexes}
    master = sa.table("sqlite_master", *map(sa.column, ("type", "name", "tbl_name", "sql")))
    there = sa.select(master.c.name, master.c.sql).where(
        master.c.tbl_name == one.name, master.c.type.in_(["index", "trigger"]), master.c.sql.is_not(None)
    )
    for name, statement in connection.execute(there.order_by(master.c.name)):
        if statement not in ours:
            yield name, statement


def _report_lost_constraints(legacy: list[_Legacy]) -> None:
    inspector = sa.inspect(op.get_bind())
    for one in legacy:
        key = [one.columns.get(column.name) for column in one.table.primary_key.columns]
        for unique in inspector.get_unique_constraints(one.name):
            if (names := unique["column_names"]) != key:
                # An index would be kept; a constraint inside of the table is not in the new one.
                said = ", ".join(names)
                _report(f"{one.name}: its constraint UNIQUE ({said}) is not kept; make it again as a unique index")


def _make_again(name: str, statement: str) -> None:
    try:
        op.get_bind().exec_driver_sql(statement)
    except sa.exc.OperationalError as error:
        raise CommandError(
            f"{name} cannot be made again on the adopted table ({error.orig}); nothing was changed. Drop it, "
            f"upgrade, and make it again in another way. It is: {statement}"
        ) from error


def _key(name: str) -> str:
    """What makes two names one: SQLite does not tell upper from lower case, PostgreSQL does."""
    return name.lower() if op.get_context().dialect.name == "sqlite" else name


def _report(line: str) -> None:
    op.get_context().config.attributes["report"](line)
