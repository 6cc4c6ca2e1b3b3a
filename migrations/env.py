"""How Alembic runs zap's migrations, from its own command line and from zap.db.schema."""

import sys
from typing import Any

from alembic import context
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import Connection, inspect
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString

from zap.db import audit
from zap.db.schema import refuse_newer, run_migrations
from zap.db.stored_json import StoredJson
from zap.db.tables import Stamp, WallTime
from zap.errors import ZapError
from zap.settings import read_settings

TABLES = SQLModel.metadata.tables
INDEXES = {index.name for table in TABLES.values() for index in table.indexes}


def run() -> None:
    """Run what the command asks for, then report what was applied."""
    config = context.config
    report = config.attributes.setdefault("report", config.print_stdout)
    url = config.attributes.get("url") or read_settings().database_url
    applied: list[str] = []

    # The revision before the first step; there is no audit before the first upgrade has ended.
    began: list[str] = []

    def note(*, ctx: Any, step: Any, heads: set[str], **_: Any) -> None:
        applied.append(f"{'up' if step.is_upgrade else 'down'}graded to {', '.join(heads) or 'base'}")
        at_end = not step.is_upgrade or heads == set(context.script.get_heads())
        if began and at_end and inspect(ctx.connection).has_table("audit"):
            action = "database.upgrade" if step.is_upgrade else "database.downgrade"
            after = {"revision": ", ".join(heads)}
            audit.note(ctx.connection, action, "database", before={"revision": began[0]}, after=after)

    def migrate(connection: Connection) -> None:
        revision = refuse_newer(connection)
        if revision is not None and not began:
            began.append(revision)
        look_first(connection, revision)
        postgresql = connection.dialect.name == "postgresql"
        if postgresql:
            # Alembic commits each migration by itself, unless somebody else has begun.
            connection.rollback()
        context.configure(
            connection=connection,
            target_metadata=SQLModel.metadata,
            render_as_batch=True,
            compare_type=True,
            compare_server_default=True,
            include_name=is_ours,
            render_item=render_without_zap,
            autogenerate_plugins=["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"],
            on_version_apply=note,
            transaction_per_migration=postgresql,
        )
        try:
            with context.begin_transaction():
                context.run_migrations()
        finally:
            if postgresql or sys.exc_info()[0] is None:
                for line in applied:
                    report(line)
                applied.clear()

    run_migrations(url, migrate, report)


def look_first(connection: Connection, revision: str | None) -> None:
    """Let every migration of an upgrade refuse what is in its way before the first one changes anything."""
    try:
        steps = [*context.script.iterate_revisions(context.get_revision_argument(), revision)]
    except (KeyError, CommandError, RevisionError):
        # No upgrade.
        return
    for step in reversed(steps):
        if look := getattr(step.module, "look_first", None):
            look(connection)


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Tables of other tools, and indexes that somebody added to zap's, are none of zap's business."""
    return {"table": name in TABLES, "index": name in INDEXES}.get(kind, True)


def render_without_zap(kind: str, item: Any, _context: object) -> str | bool:
    """Column types as plain SQLAlchemy, so that migrations import neither zap nor SQLModel."""
    if kind == "type" and isinstance(item, AutoString):
        return f"sa.String({'' if item.length is None else item.length})"
    if kind == "type" and isinstance(item, WallTime):
        return "sa.DateTime().with_variant(sa.Text(), 'sqlite')"
    if kind == "type" and isinstance(item, Stamp):
        return "sa.DateTime(timezone=True).with_variant(sa.Text(), 'sqlite')"
    if kind == "type" and isinstance(item, StoredJson):
        return "sa.JSON(none_as_null=True)"
    return False


if context.is_offline_mode():
    raise CommandError("zap's migrations look at the database that they change, so there is no --sql for them")
try:
    run()
except ZapError as error:
    if context.config.cmd_opts is None:
        raise
    # The command line of Alembic prints this one without a traceback.
    raise CommandError(error.message) from error
