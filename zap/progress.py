"""Progress: what long work tells of itself, and how the command line shows it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import click


class Progress(Protocol):
    """Called with what is being done, how much of it is done, and of how much; (what, 0, total) when it begins.

    Boosting tells its mean log loss on the training rows too.
    """

    def __call__(self, what: str, done: int, total: int, log_loss: float | None = None, /) -> None: ...


def no_progress(what: str, done: int, total: int, log_loss: float | None = None, /) -> None:
    """For callers with nobody to show it to."""


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """On standard error: a bar for each thing that is done on a terminal, elsewhere a plain line where it begins."""
    from rich.console import Console  # noqa: PLC0415 - only commands that take long need it

    console = Console(stderr=True)
    if console.is_terminal:
        with _bars(console) as advance:
            yield advance
        return
    begun = set()

    def line(what: str, _done: int, _total: int, _log_loss: float | None = None, /) -> None:
        if what not in begun:
            begun.add(what)
            click.echo(f"{what} ...", err=True)

    yield line


@contextmanager
def _bars(console: Any) -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    from rich.progress import Progress as Bars  # noqa: PLC0415

    columns = (
        TextColumn("{task.description:>14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def finish() -> None:
            for task in tasks.values():
                bars.update(task, completed=bars.tasks[task].total)

        def advance(what: str, done: int, total: int, log_loss: float | None = None, /) -> None:
            if what not in tasks:
                # Work that counts nothing itself is done when the next begins.
                finish()
                tasks[what] = bars.add_task(what, total=total, note="")
            bars.update(tasks[what], completed=done, total=total)
            if log_loss is not None:
                bars.update(tasks[what], note=f"log loss {log_loss:.3f}")

        yield advance
        finish()
