"""The commands `models`: versions, promotions, rollbacks and trials."""

from typing import TYPE_CHECKING, Any

import click

from zap.cli.bars import shown_progress
from zap.cli.command import (
    DATABASE,
    JSON,
    Group,
    Number,
    WholeNumber,
    engine_at_head,
    fail,
    options_named,
    print_json,
    read_settings,
)
from zap.errors import NotReproduced

if TYPE_CHECKING:
    from zap.formats.promotion_reason import Reason

_WHO = click.option("--who", help="Who makes the change. The text is stored with the change. Default: none.")
_WHY = click.option("--why", help="The reason for the change. It is stored with the change. Default: none.")
_LIMIT = click.option(
    "--limit", type=WholeNumber(1, 1000), default=20, show_default=True, help="Show at most this many rows."
)


@click.group(cls=Group)
def models() -> None:
    """Show, try, promote and roll back model versions."""


@models.command("list")
@_LIMIT
@DATABASE
@JSON
def list_command(limit: int, database_url: str | None, as_json: bool) -> None:
    """List the model versions, newest first."""
    with engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine:
        from zap.cli.shown import print_versions
        from zap.db.versions.model_registry import list_versions

        versions = list_versions(engine, limit)
        if as_json:
            print_json({"models": versions})
        else:
            print_versions(versions)


@models.command()
@click.argument("version", type=WholeNumber(0, 2**63 - 1))
@DATABASE
@JSON
def show(version: int, database_url: str | None, as_json: bool) -> None:
    """Show everything that is stored about a version."""
    with engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine:
        from zap.cli.shown import print_version
        from zap.db.versions.model_registry import read_version

        known = read_version(engine, version)
        if as_json:
            print_json(known)
        else:
            print_version(known)


@models.command()
@click.argument("one", metavar="A", type=WholeNumber(0, 2**63 - 1))
@click.argument("other", metavar="B", type=WholeNumber(0, 2**63 - 1))
@DATABASE
@JSON
def compare(one: int, other: int, database_url: str | None, as_json: bool) -> None:
    """Show two versions side by side, from what is stored.

    zap shows the scores, the sessions that they were measured on, the hyper-parameters, the features, and the
    importances. If the versions were tested on different sessions, zap says that the scores are not comparable.
    """
    with engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine:
        from zap.cli.shown_comparison import print_compared
        from zap.db.versions.version_comparison import compared

        found = compared(engine, one, other)
        if as_json:
            print_json(found)
        else:
            print_compared(found)


@models.command()
@click.argument("version", type=WholeNumber(0, 2**63 - 1))
@_WHO
@_WHY
@DATABASE
@JSON
def promote(version: int, who: str | None, why: str | None, database_url: str | None, as_json: bool) -> None:
    """Put a version into production. Every server serves it within two seconds."""
    _change(database_url, who, why, version, as_json=as_json)


@models.command()
@_WHO
@_WHY
@DATABASE
@JSON
def rollback(who: str | None, why: str | None, database_url: str | None, as_json: bool) -> None:
    """Put the previous version back into production."""
    _change(database_url, who, why, None, as_json=as_json)


@models.command()
@_LIMIT
@DATABASE
@JSON
def history(limit: int, database_url: str | None, as_json: bool) -> None:
    """Show which version served when, newest first.

    Each change is shown with who made it and why.
    """
    with engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine:
        from zap.cli.shown import print_promotions
        from zap.db.versions.promotions import list_promotions

        promotions = list_promotions(engine, limit)
        if as_json:
            print_json({"promotions": promotions})
        else:
            print_promotions(promotions)


@models.command("try", short_help="Let a version answer unseen beside the version in production.")
@click.argument("version", type=WholeNumber(0, 2**63 - 1))
@click.option(
    "--epsilon",
    type=Number(0, 0.5),
    default=0.005,
    show_default=True,
    help="A Brier score (halved, 0 to 1) that is higher by less than this is not worse.",
)
@click.option(
    "--weeks", type=WholeNumber(1, 52), default=8, show_default=True, help="The longest time of the trial, in weeks."
)
@click.option(
    "--on-better",
    type=click.Choice(["promote", "tell"]),
    default="tell",
    show_default=True,
    help="Promote the version if it is better, or only report the verdict.",
)
@_WHO
@_WHY
@DATABASE
@JSON
def try_command(version: int, database_url: str | None, as_json: bool, **asked: Any) -> None:
    """Let a version answer unseen beside the version in production.

    A server or `zap follow` answers each request again with this version. Each week both versions are compared with the
    charger types that the drivers then used. The trial ends when one of them is better, or after its longest time.
    """
    with engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine:
        from zap.cli.shown_trials import print_trial
        from zap.flows.trials import try_version
        from zap.formats.trial_options import TrialOptions

        with options_named(as_json=as_json):
            options = TrialOptions.read({name: value for name, value in asked.items() if value is not None})
        trial = try_version(engine, version, options)
    if as_json:
        print_json(trial)
    else:
        print_trial(trial)


@models.command()
@_LIMIT
@DATABASE
@JSON
def trials(limit: int, database_url: str | None, as_json: bool) -> None:
    """Show the trials of versions, newest first."""
    with engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine:
        from zap.cli.shown_trials import print_trials
        from zap.db.monitoring.trials import list_trials

        found = list_trials(engine, limit)
    if as_json:
        print_json({"trials": found})
    else:
        print_trials(found)


@models.command("end-trial")
@click.argument("version", type=WholeNumber(0, 2**63 - 1))
@_WHO
@_WHY
@DATABASE
@JSON
def end_trial(version: int, who: str | None, why: str | None, database_url: str | None, as_json: bool) -> None:
    """End the running trial of a version, without a verdict."""
    with engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine:
        from zap.cli.shown_trials import print_trial
        from zap.flows.trials import stop_trial

        trial = stop_trial(engine, version, _reason(who, why, as_json=as_json))
    if as_json:
        print_json(trial)
    else:
        print_trial(trial)


@models.command(short_help="Train a version again, and compare the result.")
@click.argument("version", type=WholeNumber(0, 2**63 - 1))
@DATABASE
@JSON
def reproduce(version: int, database_url: str | None, as_json: bool) -> None:
    """Train a version again on its training sessions, and compare what is learned. Nothing is stored."""
    with (
        engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine,
        shown_progress() as progress,
    ):
        from zap.flows import reproduction

        found = reproduction.reproduce(engine, version, progress)
    if as_json:
        print_json(found)
    else:
        from zap.cli.shown import print_reproduction

        print_reproduction(found)
    if not found["reproduced"]:
        fail(NotReproduced(_why_not(found)), as_json=False)


def _change(database_url: str | None, who: str | None, why: str | None, version: int | None, *, as_json: bool) -> None:
    """Promote a version, or roll back if `version` is None."""
    settings = read_settings(database_url=database_url)
    with engine_at_head(settings, upgraded=False) as engine:
        from zap.db.versions.model_file import export_in_time
        from zap.db.versions.model_registry import production_version
        from zap.db.versions.promotions import promote_version, roll_back

        reason = _reason(who, why, as_json=as_json)
        change = roll_back(engine, reason) if version is None else promote_version(engine, version, reason)
        serving = production_version(engine)
        if serving is not None:
            export_in_time(engine, serving, settings.model_file)
    if as_json:
        print_json({"status": "success", **change._asdict()})
    elif change.changed:
        click.echo(f"version {change.to_version} serves now, instead of {change.from_version or 'none'}")
    else:
        click.echo(f"version {change.to_version} serves already")


def _reason(who: str | None, why: str | None, *, as_json: bool) -> "Reason":
    """Return the reason for a change.

    Raises:
        InvalidRequest: a text cannot be stored.
    """
    from zap.formats.promotion_reason import Reason

    said = {"who": who, "why": why}
    with options_named(as_json=as_json):
        return Reason.read({name: text for name, text in said.items() if text is not None})


def _why_not(found: dict[str, Any]) -> str:
    differing = [*found["code_version"], *found["libraries"]]
    others = f"changed since: {', '.join(differing)}" if differing else "the code and the libraries are unchanged"
    if found["changed_months"]:
        return f"{others}; the history as this code reads it has changed in {', '.join(found['changed_months'])}"
    return others if differing else "the code, the libraries and the rows are unchanged"
