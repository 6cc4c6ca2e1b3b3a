"""The options `--from` and `--to`: days and moments, read as the parameters `from` and `to` of the routes are read."""

from typing import Any

import click


class Day(click.ParamType):
    """A day, such as 2026-03-02."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the day of a text.

        Raises:
            BadParameter: the text is no day. The error names the option.
        """
        from zap.formats.time_range import read_day

        day = read_day(value) if isinstance(value, str) else value
        return self.fail(f"{value!r} is not a day; give a day such as 2026-03-02", param, ctx) if day is None else day


class Moment(click.ParamType):
    """A moment: a day (its midnight), or a date and time; in UTC unless it has an offset."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the moment of a text, in UTC.

        Raises:
            BadParameter: the text is no moment. The error names the option.
        """
        from zap.formats.time_range import read_moment

        moment = read_moment(value) if isinstance(value, str) else value
        if moment is None:
            self.fail(f"{value!r} is not a moment; give a day such as 2026-03-02, or a date and time", param, ctx)
        return moment


def check_range(wrong: str | None) -> None:
    """Refuse the options `--from` and `--to` together.

    Args:
        wrong: what `wrong_days` or `wrong_moments` says.

    Raises:
        UsageError: something is wrong.
    """
    if wrong is not None:
        raise click.UsageError(f"--from {wrong}")
