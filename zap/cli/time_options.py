"""The options `--from` and `--to`: days and moments, read as the parameters `from` and `to` of the routes are read."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from datetime import date, datetime


def day(_context: click.Context, _option: click.Parameter, text: str | None) -> "date | None":
    """Return the day of an option, such as 2026-03-02; None if it is not given.

    Raises:
        BadParameter: the text is no day. click adds the name of the option.
    """
    from zap.formats.time_range import read_day

    read = None if text is None else read_day(text)
    if text is not None and read is None:
        raise click.BadParameter(f"{text!r} is not a day; give a day such as 2026-03-02")
    return read


def moment(_context: click.Context, _option: click.Parameter, text: str | None) -> "datetime | None":
    """Return the moment of an option in UTC; None if it is not given.

    The text is a day (its midnight), or a date and time; in UTC unless it has an offset.

    Raises:
        BadParameter: the text is no moment. click adds the name of the option.
    """
    from zap.formats.time_range import read_moment

    read = None if text is None else read_moment(text)
    if text is not None and read is None:
        raise click.BadParameter(f"{text!r} is not a moment; give a day such as 2026-03-02, or a date and time")
    return read


def check_range(wrong: str | None) -> None:
    """Refuse the options `--from` and `--to` together.

    Args:
        wrong: what `wrong_days` or `wrong_moments` says.

    Raises:
        UsageError: something is wrong.
    """
    if wrong is not None:
        raise click.UsageError(f"--from {wrong}")
