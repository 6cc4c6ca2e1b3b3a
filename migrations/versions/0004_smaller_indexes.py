"""The indexes of predictions have only the rows that are looked for by them.

Of a training's rows no request is known, and requests' are not looked for by their version: each row was in two
indexes, and is in one. To build them anew takes about a second for each million predictions. On PostgreSQL nobody
waits for that: the new ones are built, and the old ones dropped, while others read and write.

This file is history: it imports nothing of zap, so that it does the same for ever.

Revision ID: 0004
Revises: 0003
"""

from typing import NamedTuple

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


class _Index(NamedTuple):
    name: str
    columns: list[str]
    # Which rows it has; None: all.
    where: str | None = None


INPUT_ID = "ix_predictions_input_id"
OLD = (_Index("ix_predictions_source_model_version", ["source", "model_version"]), _Index(INPUT_ID, ["input_id"]))
NEW = (
    _Index("ix_predictions_model_version", ["model_version"], "source = 'train'"),
    _Index(INPUT_ID, ["input_id"], "input_id IS NOT NULL"),
)
# What an index is called while its successor with the same name is built.
BEFORE = "_before"


def look_first(connection: sa.Connection) -> None:
    """Refuse what is in the way, before anything is changed."""
    new, _ = NEW
    there = _there(connection, new.name)
    if there is not None and there != (new.columns, True):
        raise CommandError(
            f"there is an index called {new.name} already, which is not the one that zap makes; nothing was changed."
            " Rename it, then upgrade again."
        )


def upgrade() -> None:
    look_first(op.get_bind())
    _exchange(OLD, NEW)


def downgrade() -> None:
    _exchange(NEW, OLD)


def _exchange(gone: tuple[_Index, ...], made: tuple[_Index, ...]) -> None:
    if op.get_bind().dialect.name == "sqlite":
        for index in gone:
            op.drop_index(index.name, "predictions", if_exists=True)
        for index in made:
            if _there(op.get_bind(), index.name) is None:
                _create(index)
        return
    # Each step stands by itself: an exchange that was interrupted goes on where it was.
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        for index in made:
            there = _there(connection, index.name)
            if there is not None and there != (index.columns, index.where is not None):
                op.execute(f"ALTER INDEX {index.name} RENAME TO {index.name}{BEFORE}")
                there = None
            if there is not None and not _is_whole(connection, index.name):
                _drop(index.name)
                there = None
            if there is None:
                _create(index, postgresql_concurrently=True)
        for index in gone:
            _drop(f"{index.name}{BEFORE}" if index.name in {one.name for one in made} else index.name)


def _create(index: _Index, **options: bool) -> None:
    where = None if index.where is None else sa.text(index.where)
    op.create_index(index.name, "predictions", index.columns, sqlite_where=where, postgresql_where=where, **options)


def _drop(name: str) -> None:
    op.drop_index(name, "predictions", if_exists=True, postgresql_concurrently=True)


def _there(connection: sa.Connection, name: str) -> tuple[list[str], bool] | None:
    """Return the columns of the index with this name, and whether it has only some rows; None where none is there."""
    if connection.dialect.name == "sqlite":
        sql = connection.scalar(
            sa.text("SELECT sql FROM sqlite_master WHERE type = 'index' AND lower(name) = :name"), {"name": name}
        )
        columns = list(connection.scalars(sa.text("SELECT name FROM pragma_index_info(:name)"), {"name": name}))
        return None if sql is None else (columns, " WHERE " in sql)
    row = connection.execute(
        sa.text(
            "SELECT array(SELECT attname::text FROM pg_attribute WHERE attrelid = indexrelid ORDER BY attnum),"
            " indpred IS NOT NULL FROM pg_index WHERE indexrelid = to_regclass(:name)"
        ),
        {"name": name},
    ).one_or_none()
    return None if row is None else (list(row[0]), row[1])


def _is_whole(connection: sa.Connection, name: str) -> bool:
    """Return whether an index is of use: one whose making was interrupted is not."""
    whole: bool = connection.scalar(
        sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"), {"name": name}
    )
    return whole
