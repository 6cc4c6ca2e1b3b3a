"""The command `sample-history`, which adds a synthetic history or takes it out again."""

import sys
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from zap.cli.bars import shown_progress
from zap.cli.command import DATABASE, JSON, Command, confirmed, engine_at_head, print_json, read_settings
from zap.errors import NotConfirmed
from zap.progress import Progress

if TYPE_CHECKING:
    from sqlalchemy import Engine

_MIXED = (
    "the database holds charging sessions that are not part of the sample; a model that learns from both says nothing"
    " about real drivers"
)


@click.command("sample-history", cls=Command)
@click.option("--seed", type=int, default=42, show_default=True, help="The seed of the random numbers.")
@click.option("--drivers", type=int, default=400, show_default=True, help="The number of drivers, 1 to 50,000.")
@click.option("--months", type=int, default=12, show_default=True, help="The number of months with sessions, 1 to 120.")
@click.option("--yes", is_flag=True, help="Add the sample without a question, also beside real sessions.")
@click.option("--remove", is_flag=True, help="Remove all samples: their users, vehicles and sessions.")
@DATABASE
@JSON
@click.pass_context
def sample_history_command(  # noqa: PLR0913, PLR0917 - one for each option
    ctx: click.Context,
    seed: int,
    drivers: int,
    months: int,
    yes: bool,
    remove: bool,
    database_url: str | None,
    as_json: bool,
) -> None:
    """Add a synthetic history, or remove it.

    zap prints the best scores that a model can reach on the history. Equal options give equal sessions. If the database
    holds other sessions, zap asks first. With --remove, zap takes out every sample that was added.
    """
    given = [name for name in ("seed", "drivers", "months") if _is_given(ctx, name)]
    if remove and given:
        raise click.UsageError(f"--remove removes all samples; leave out {', '.join(f'--{name}' for name in given)}")
    settings = read_settings(database_url=database_url)
    with engine_at_head(settings, upgraded=True) as engine:
        if not remove:
            _ask(engine, yes=yes)
        with shown_progress() as progress:
            if remove:
                report = remove_sample_history(engine, progress)
            else:
                report = add_sample_history(engine, progress, seed=seed, drivers=drivers, months=months)
    if as_json:
        print_json(report)
    else:
        for name, value in report.items():
            click.echo(f"{name.replace('_', ' ')}: {value}")


def add_sample_history(engine: "Engine", progress: Progress, **options: int) -> dict[str, Any]:
    """Add a synthetic history to the database; return its size and the best possible scores."""
    from zap.db.history.history_store import upsert_history
    from zap.ml.sample import sample_history

    sample = sample_history(**options)
    upsert_history(engine, sample.users, sample.vehicles, sample.sessions, progress, source="sample history")
    reachable = sample.reachable()
    return {
        "message": "this history is synthetic: it shows how zap works and says nothing about real drivers",
        "users": len(sample.users),
        "vehicles": len(sample.vehicles),
        "sessions": len(sample.sessions),
        "reachable_accuracy": round(reachable.accuracy, 4),
        "reachable_log_loss": round(reachable.log_loss, 4),
    }


def remove_sample_history(engine: "Engine", progress: Progress) -> dict[str, Any]:
    """Remove every sample from the database; return the numbers of removed rows.

    The report has a warning if the version that serves was trained on a sample.
    """
    from zap.db.history.sample_rows import remove_sample
    from zap.db.versions.model_registry import production_version, synthetic_sessions
    from zap.ml.verdict import sample_in_words

    removed = remove_sample(engine, progress)
    found = removed.users or removed.vehicles or removed.sessions
    report = {"message": "the sample was removed" if found else "there is no sample", **removed._asdict()}
    serving = production_version(engine)
    if serving and synthetic_sessions(engine, serving.model_version):
        report["warning"] = f"{sample_in_words(serving.model_version)} Until then, this version continues to serve."
    return report


def _ask(engine: "Engine", *, yes: bool) -> None:
    """Ask whether the sample may be added beside other sessions.

    Raises:
        NotConfirmed: the answer is no, or nobody is there to answer.
    """
    from zap.db.history.sample_rows import has_other_sessions

    if yes or not has_other_sessions(engine):
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise NotConfirmed(f"{_MIXED}; add --yes to add the sample anyway, or name another --database-url")
    if not confirmed(f"Warning: {_MIXED}.\nAdd the sample anyway?"):
        raise NotConfirmed("the answer was no; nothing was added")


def _is_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
