"""Progress on the command line: bars on a terminal, plain lines otherwise."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from zap.progress import Progress


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Yield a `Progress` that writes to standard error: a bar for each phase on a terminal, otherwise a line."""
    from rich.console import Console

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
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

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
                # Some phases never report that they are done: they are done when the next phase begins.
                finish()
                tasks[what] = bars.add_task(what, total=total, note="")
            bars.update(tasks[what], completed=done, total=total)
            if log_loss is not None:
                bars.update(tasks[what], note=f"log loss {log_loss:.3f}")

        yield advance
        finish()
