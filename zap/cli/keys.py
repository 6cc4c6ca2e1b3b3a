"""The commands `keys`: make, list, rotate and revoke the keys of clients."""

import sys
from typing import Any

import click

from zap.cli.command import (
    DATABASE,
    JSON,
    Group,
    WholeNumber,
    confirmed,
    engine_at_head,
    options_named,
    print_json,
    quiet_settings,
    read_settings,
)
from zap.errors import NotConfirmed
from zap.scopes import SCOPES


@click.group(cls=Group)
def keys() -> None:
    """Make, list, rotate and revoke the keys of clients.

    Once there is a key, every route needs one, except health and the login page. A change counts on all servers within
    two seconds.
    """


@keys.command()
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice(list(SCOPES)), required=True, help="What the key may do."
)
@click.option("--expires", metavar="SPAN", help="After how long the key ends, such as 90d or 12h. Default: never.")
@click.option(
    "--requests-per-second", type=float, help="The most requests a second in each server process. Default: no limit."
)
@click.option(
    "--batch-rows-per-day", type=int, help="The most rows of batches a day in all servers. Default: no limit."
)
@DATABASE
@JSON
def create(name: str, scopes: tuple[str, ...], database_url: str | None, as_json: bool, **options: Any) -> None:
    """Make a key, and show it once: zap stores no key, so nobody can see it again."""
    settings = read_settings(database_url=database_url)
    with engine_at_head(settings, upgraded=False) as engine:
        from zap.db.api_keys import create_key
        from zap.formats.key_options import KeyOptions

        said = {field: value for field, value in options.items() if value is not None}
        with options_named(as_json=as_json, option=_option):
            wanted = KeyOptions.read({"name": name, "scopes": list(scopes), **said})
        _print_made(*create_key(engine, wanted), as_json=as_json)


@keys.command("list")
@click.option("--all", "ended", is_flag=True, help="Also show the keys that were revoked or have expired.")
@click.option("--limit", type=WholeNumber(1, 1000), default=1000, show_default=True, help="Show at most this many.")
@DATABASE
@JSON
def list_command(ended: bool, limit: int, database_url: str | None, as_json: bool) -> None:
    """List the keys in use, newest first."""
    with engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine:
        from zap.db.api_keys import list_keys

        found = list_keys(engine, limit, ended=ended)
    if as_json:
        print_json({"keys": found})
    else:
        from zap.cli.shown_keys import print_keys

        print_keys(found)


@keys.command()
@click.argument("key", metavar="NAME_OR_ID")
@click.option("--keep", metavar="SPAN", help="How long the old key lives on, such as 24h or 7d. Default: 24h.")
@DATABASE
@JSON
def rotate(key: str, keep: str | None, database_url: str | None, as_json: bool) -> None:
    """Replace a key. The new key has the name, scopes and limits of the old one, which lives on for a while."""
    with engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine:
        from zap.db.api_keys import rotate_key
        from zap.formats.key_options import Rotation

        with options_named(as_json=as_json):
            rotation = Rotation.read({} if keep is None else {"keep": keep})
        _print_made(*rotate_key(engine, key, rotation.keep), as_json=as_json)


@keys.command()
@click.argument("key", metavar="NAME_OR_ID")
@DATABASE
@JSON
def revoke(key: str, database_url: str | None, as_json: bool) -> None:
    """End a key and its logins. A name ends both keys of a rotation, and an id only one."""
    with engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine:
        from zap.db.api_keys import revoke_keys

        revoked = revoke_keys(engine, key)
    if as_json:
        print_json({"status": "success", "revoked": revoked})
    else:
        for one in revoked:
            click.echo(f"key {one['key_id']} of {one['name']} is revoked")


@keys.command("open")
@click.option("--yes", is_flag=True, help="Remove the keys without a question.")
@DATABASE
@JSON
def open_command(yes: bool, database_url: str | None, as_json: bool) -> None:
    """Remove all keys: every route is open to everybody who reaches the server.

    With ZAP_API_KEY the routes stay closed, and need this key.
    """
    settings = quiet_settings(database_url=database_url)
    if not yes and (sys.stdin is None or not sys.stdin.isatty()):
        raise NotConfirmed("every route would be open to everybody; add --yes to remove the keys anyway")
    if not yes and not confirmed("Remove all keys, and open every route to everybody?"):
        raise NotConfirmed("the answer was no; nothing was changed")
    with engine_at_head(settings, upgraded=False) as engine:
        from zap.db.api_keys import remove_all_keys

        removed = remove_all_keys(engine)
    if as_json:
        print_json({"status": "success", "removed": removed})
    else:
        click.echo(f"removed {removed} key{'s' * (removed != 1)}")


def _print_made(key: str, row: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json({"key": key, **row})
        return
    from zap.cli.shown_keys import print_made

    print_made(key, row)


def _option(field: str) -> str:
    return "NAME" if field == "name" else f"--{field.partition('/')[0].replace('_', '-')}"
