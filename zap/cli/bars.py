"""Progress on the command line: bars on a terminal, plain lines or events of the log otherwise."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zap.progress import Progress
from zap.standard_error import tell, tells_events

# Phases that report bytes for most formats of files. A person who counts rows needs a percentage instead of bytes.
_OF_A_FILE = ("checking", "reading")


@contextmanager
def shown_progress(run_id: int | None = None) -> Iterator[Progress]:
    """Yield a `Progress` that writes to standard error: a bar for each phase on a terminal, otherwise a line.

    While the bars are shown, other lines on standard error appear above them.

    Args:
        run_id: the run of a server, whose lines are part of the server's log; None for a command.
    """
    from rich.console import Console

    # With its file, rich knows the encoding, and draws in ASCII where that is all there is.
    console = Console(file=sys.stderr, stderr=True)
    if console.is_terminal and run_id is None and not tells_events():
        with _bars(console) as advance:
            yield advance
        return
    begun = set()
    whose = "" if run_id is None else f"training run {run_id}: "
    values: dict[str, Any] = {} if run_id is None else {"run_id": run_id}

    def line(what: str, _done: int, _total: int, _log_loss: float | None = None, /) -> None:
        if what not in begun:
            begun.add(what)
            tell(f"{whose}{what} ...", **values, phase=what)

    yield line


@contextmanager
def _bars(console: Any) -> Iterator[Progress]:
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    class Done(ProgressColumn):
        """A column that shows how much of a phase is done: a percentage for a file, otherwise a number of parts."""

        def render(self, task: Task) -> str:
            done, total = int(task.completed), int(task.total or 0)
            if task.description in _OF_A_FILE:
                return f"{100 * done // total if total else 100} %"
            return f"{done:>{len(str(total))}}/{total}"

    columns = (
        TextColumn("{task.description:>14}"),
        BarColumn(),
        Done(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def end_last() -> None:
            """End the bar of the last phase with what was done: a search may end before all of its fits."""
            for task in [bars.tasks[number] for number in tasks.values()][-1:]:
                if task.total == 1:
                    # A phase of one part does not report its end: it ends when the next phase begins.
                    bars.update(task.id, completed=1)
                elif not task.finished:
                    bars.update(task.id, note=", ".join(filter(None, [task.fields["note"], "ended early"])))
                bars.stop_task(task.id)

        def advance(what: str, done: int, total: int, log_loss: float | None = None, /) -> None:
            if what not in tasks:
                end_last()
                tasks[what] = bars.add_task(what, total=total, note="")
            bars.update(tasks[what], completed=done, total=total)
            if log_loss is not None:
                bars.update(tasks[what], note=f"training log loss {log_loss:.3f}")

        yield advance
        end_last()
