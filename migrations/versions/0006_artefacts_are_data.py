"""Artefacts are compressed JSON, and each version has the digest of its model file.

Before this revision the artefact of a version was the model file itself: a compressed pickle of the estimator. The
upgrade reads the data of the pickle with an unpickler that calls nothing, and stores the data as JSON. Nothing is
trained again, and each number keeps its bits. An artefact is left unchanged if it cannot be read, or if its digest
differs from the stored digest: a version with a damaged artefact cannot serve, neither before nor after the upgrade.
`file_sha256` is the digest of the former artefact, so an existing model file still belongs to its version.

Trainings that run during the upgrade end as failed, because older code would store a pickle. Servers with older code
go on with the version that they have loaded, and cannot load another.

A downgrade drops `file_sha256` and leaves the artefacts unchanged. Older code reports that it cannot read them, and a
new training gives a version that it can serve. After the next upgrade the versions serve again. At that upgrade some
artefacts are data already, and the digests of their model files are not known.

This file imports nothing from zap, so that its result does not change when zap changes.

Revision ID: 0006
Revises: 0005
"""

import hashlib
import io
import json
import pickle
import zlib
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COLUMN = "file_sha256"
INDEX = "ix_model_versions_file_sha256"
FIELDS = {
    "hyper_parameters": dict,
    "features": tuple,
    "classes": tuple,
    "contract": dict,
    "columns": tuple,
    "population": dict,
    "cold_weight": float,
    "trees": str,
}
# The most bytes of a decompressed artefact. Only one artefact is in memory at a time.
MOST_BYTES = 1 << 30
ENDED = {
    "type": "urn:zap:problem:training-failed",
    "title": "The training did not finish",
    "status": 500,
    "detail": "the database was upgraded while it ran",
}

VERSIONS = sa.table(
    "model_versions", *map(sa.column, ("model_version", "sha256", COLUMN)), sa.column("artefact", sa.LargeBinary())
)
RUNS = sa.table(
    "training_runs",
    *map(sa.column, ("status", "kind", "started_at", "heartbeat_at", "finished_at")),
    sa.column("report", sa.JSON(none_as_null=True)),
)


def look_first(connection: sa.Connection) -> None:
    """Raise CommandError if a column of another program has the name of the new column. Nothing is changed then."""
    inspector = sa.inspect(connection)
    if not inspector.has_table(VERSIONS.name):
        return
    if COLUMN in {column["name"].lower() for column in inspector.get_columns(VERSIONS.name)}:
        raise CommandError(
            f"{VERSIONS.name} has a column {COLUMN} already, which zap needs for itself; nothing was changed."
            " Rename it, then upgrade again."
        )


def upgrade() -> None:
    connection = op.get_bind()
    look_first(connection)
    running = (RUNS.c.status == "running") & (RUNS.c.kind == "train")
    last_alive = sa.func.coalesce(RUNS.c.heartbeat_at, RUNS.c.started_at)
    connection.execute(sa.update(RUNS).where(running).values(status="failed", report=ENDED, finished_at=last_alive))
    numbers = list(connection.scalars(sa.select(VERSIONS.c.model_version).order_by(VERSIONS.c.model_version)))
    # The table is changed last: on PostgreSQL, servers cannot read it from this change until the end of the upgrade.
    files = [(number, _convert(connection, number)) for number in numbers]
    if connection.dialect.name == "postgresql":
        # This runs the deferred triggers of other programs now: PostgreSQL changes no table with waiting triggers.
        connection.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))
    op.add_column(VERSIONS.name, sa.Column(COLUMN, sa.String()))
    for number, digest in files:
        this = VERSIONS.c.model_version == number
        connection.execute(sa.update(VERSIONS).where(this).values({COLUMN: digest}))
    op.create_index(INDEX, VERSIONS.name, [COLUMN])


def downgrade() -> None:
    op.drop_index(INDEX, VERSIONS.name)
    op.drop_column(VERSIONS.name, COLUMN)


def _convert(connection: sa.Connection, number: int) -> str | None:
    """Store the artefact of a version as data, if it can be read. Return the digest of its model file, if known."""
    this = VERSIONS.c.model_version == number
    artefact, digest = connection.execute(sa.select(VERSIONS.c.artefact, VERSIONS.c.sha256).where(this)).one()
    # A pruned artefact is NULL, and on SQLite another program may have stored a text.
    if isinstance(artefact, bytes) and hashlib.sha256(artefact).hexdigest() == digest and (data := _data(artefact)):
        values = {"artefact": data, "sha256": hashlib.sha256(data).hexdigest()}
        connection.execute(sa.update(VERSIONS).where(this).values(values))
    return None if isinstance(artefact, bytes) and _is_data(artefact) else str(digest)


def _is_data(artefact: bytes) -> bool:
    """Return whether an artefact is data already, because it was stored before a downgrade."""
    try:
        return zlib.decompressobj().decompress(artefact, 1) == b"{"
    except zlib.error:
        return False


def _data(artefact: bytes) -> bytes | None:
    """Return the artefact as compressed JSON; None if it is not a pickle of an estimator."""
    try:
        state = _PlainData(io.BytesIO(_decompressed(artefact))).load()
        if {name: type(value) for name, value in state.items()} != FIELDS:
            return None
        trees = {"kind": "lightgbm", "trees": state.pop("trees")}
        text = json.dumps({"format": 1, **state, "scorer": trees}, allow_nan=False, separators=(",", ":"))
    except Exception:  # noqa: BLE001 - damaged bytes may fail in any way
        return None
    return zlib.compress(text.encode("ascii"), 3)


def _decompressed(artefact: bytes) -> bytes:
    reader = zlib.decompressobj()
    content = reader.decompress(artefact, MOST_BYTES)
    if not reader.eof:
        raise ValueError
    return content


class _PlainData(pickle.Unpickler):
    """Read the arguments of a pickled estimator. Everything else in the pickle is refused, and nothing is called."""

    def find_class(self, module: str, name: str) -> Callable[[Any], Any]:
        if (module, name) != ("zap.ml.model", "restored"):
            raise pickle.UnpicklingError
        return _argument


def _argument(state: Any) -> Any:
    return state
