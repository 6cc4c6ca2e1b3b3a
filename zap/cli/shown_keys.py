"""Tables and texts about keys that the command line prints."""

from typing import Any

from rich.table import Table

from zap.cli.tables import console, number, text


def print_made(key: str, row: dict[str, Any]) -> None:
    """Print a new key, which nobody can see again."""
    ends = f", until {_minute(row['expires_at'])}" if row["expires_at"] else ""
    shown = console()
    shown.print(f"key {row['key_id']} of {row['name']} may {', '.join(row['scopes'])}{ends}")
    shown.print("Copy the key now: zap does not store it, and shows it only once.")
    # Not wrapped: a person selects it with a double click.
    shown.print(key, soft_wrap=True)


def print_keys(keys: list[dict[str, Any]]) -> None:
    """Print a table of keys."""
    if not keys:
        console().print("no keys; `zap keys create NAME --scope SCOPE` makes one")
        return
    table = Table(
        *(text(name) for name in ("id", "name", "scopes", "status", "until", "last used")),
        number("requests/s"),
        number("batch rows/day"),
    )
    for one in keys:
        ended = one["revoked_at"] or one["expires_at"]
        table.add_row(
            one["key_id"],
            one["name"],
            ", ".join(one["scopes"] or ()),
            one["status"],
            _minute(ended) if ended else "",
            _minute(one["last_used_at"]) if one["last_used_at"] else "",
            f"{one['requests_per_second']:,g}" if one["requests_per_second"] else "",
            f"{one['batch_rows_per_day']:,}" if one["batch_rows_per_day"] else "",
        )
    console().print(table)


def _minute(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
