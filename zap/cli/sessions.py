"""The commands `sessions`, which change single sessions of the history."""

import click

from zap.cli.command import DATABASE, JSON, Group, engine_at_head, print_json, read_settings


@click.group(cls=Group)
def sessions() -> None:
    """Manage the charging sessions of the history."""


# An id may begin with a minus sign: zap gives negative numbers to sessions without an id.
@sessions.command(context_settings={"ignore_unknown_options": True})
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@DATABASE
@JSON
def remove(ids: tuple[str, ...], database_url: str | None, as_json: bool) -> None:
    """Remove sessions from the history: all of them, or none if one does not exist.

    An ID is the session_id of a report or of a file, a number or a text. Every server predicts without the sessions
    within two seconds.
    """
    with engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine:
        from zap.db.history.session_removal import remove_sessions
        from zap.formats.session_ids import read_session_id

        wanted = list(dict.fromkeys(map(read_session_id, ids)))
        remove_sessions(engine, wanted)
    if as_json:
        print_json({"removed": wanted})
    else:
        click.echo(f"removed {len(wanted):,} session{'s' * (len(wanted) != 1)} from the history")
