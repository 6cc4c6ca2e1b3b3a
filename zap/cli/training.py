"""The commands `train` and `tune`: train a model, and search hyper-parameters for later trainings."""

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from zap.cli.bars import shown_progress
from zap.cli.command import (
    DATABASE,
    JSON,
    Command,
    Number,
    WholeNumber,
    engine_at_head,
    option_of,
    options_named,
    print_json,
    quiet_settings,
    read_settings,
)
from zap.cli.ending import Ending, ending_when_told
from zap.cli.limits import limited
from zap.server.interpreter import taking_turns

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from zap.db.runs.training_lease import Lease
    from zap.formats.training_options import TrainingOptions
    from zap.ml.features import Feature
    from zap.settings import Settings

# How long a training waits for other writers on SQLite: a long import must not make it lose its result.
_PATIENCE_SECONDS = 900
# Predictions get the processor before trainings.
_NICENESS = 10
# The hyper-parameters for which `zap.ml.search_space` draws values. That module is slow to import.
_SEARCHED = ("num_leaves", "learning_rate", "colsample_bytree", "min_child_samples", "reg_alpha", "reg_lambda")
# The value of --set that shows the hyper-parameters.
_HELP = "help"


class _Training(Command):
    """A command with the option --set, whose help lists the hyper-parameters."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, and then the hyper-parameters with their ranges."""
        from zap.formats.training_options import HYPER_PARAMETERS, LEFT_OUT, LEFT_OUT_IN_WORDS

        super().format_options(ctx, formatter)
        with formatter.section("Hyper-parameters of --set"):
            formatter.write_dl(
                [
                    *((one.name, f"{one.description}: {one.range}.{self._unset(one)}") for one in HYPER_PARAMETERS),
                    (LEFT_OUT, f"{LEFT_OUT_IN_WORDS}; with commas between them."),
                ]
            )

    @staticmethod
    def _unset(parameter: "Feature") -> str:
        """Return in words which value of a hyper-parameter is used without --set."""
        return f" Default: {parameter.example}."


class _Search(_Training):
    """A command that searches for the values of hyper-parameters that --set does not give."""

    @staticmethod
    def _unset(parameter: "Feature") -> str:
        if parameter.name == "n_estimators":
            return " Default: the best number, which is measured for each set."
        if parameter.name in _SEARCHED:
            return " Default: the search tries several values."
        return f" Default: {parameter.example}."


def _complete_parameters(_ctx: click.Context, _option: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the hyper-parameters whose names begin with the typed text, for the completion of a shell."""
    from zap.formats.training_options import HYPER_PARAMETERS

    names = [f"{one.name}={one.example}" for one in HYPER_PARAMETERS]
    return [CompletionItem(name) for name in names if name.startswith(begun)]


def _set(
    what: str, default: str = "the values of the newest tuning, else the defaults below"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option --set of a command."""
    return click.option(
        "--set",
        "settings_",
        metavar="NAME=VALUE",
        multiple=True,
        is_flag=False,
        flag_value=_HELP,
        shell_complete=_complete_parameters,
        help=f"{what}; may be repeated. Without a value, --set only shows the hyper-parameters. Default: {default}.",
    )


@click.command(cls=_Training)
@click.option("--tune", is_flag=True, help="Search for hyper-parameters first, like `zap tune`.")
@click.option("--tune-seed", type=int, metavar="N", help="With --tune: the seed of the search. Default: a random seed.")
@click.option("--windows", is_flag=True, help="Also test on rolling windows of the history.")
@click.option("--nested", is_flag=True, help="With --tune and --windows: search again in each window.")
@click.option(
    "--from",
    "history_from",
    metavar="TIME",
    help="Leave out sessions that start before TIME, such as 2026-01-31. Default: none.",
)
@click.option(
    "--to", "history_to", metavar="TIME", help="Leave out sessions that start at or after TIME. Default: none."
)
@click.option(
    "--test-share",
    type=float,
    help="Test on the latest sessions, this share of all sessions: 0.01 to 0.5. Default: 0.1.",
)
@click.option(
    "--estimator",
    type=click.Choice(["blend", "lightgbm"]),
    help="Answer with LightGBM's trees alone, or with a blend of trees and a logistic regression. Default: blend.",
)
@_set("Set a hyper-parameter")
@click.option(
    "--promote",
    type=click.Choice(["always", "if_better", "trial", "never"]),
    help="When to put the new version into production. Default: always.",
)
@click.option("--note", help="A text that is stored with the version. Default: none.")
@click.option("--no-upgrade", is_flag=True, hidden=True, help="The caller has already upgraded the database.")
@click.option("--run-id", type=int, hidden=True, help="The run that a server has claimed, with its options.")
@DATABASE
@JSON
def train(
    no_upgrade: bool,
    run_id: int | None,
    database_url: str | None,
    as_json: bool,
    settings_: tuple[str, ...],
    **asked: Any,
) -> None:
    """Train on the history, and serve the new version.

    With --promote if_better or --promote never, the new version may stay a candidate. With --promote trial, it answers
    the same requests as the version in production, unseen, and serves later if it is better.
    """
    if _HELP in settings_:
        _show_parameters(as_json=as_json)
        return
    _spin_briefly()
    of_server = run_id is not None
    with ending_when_told() as ending:
        # The server has warned already about variables that zap does not know.
        read = quiet_settings if no_upgrade or of_server else read_settings
        settings = read(database_url=database_url)
        with (
            # The heartbeat's transaction must not wait long for the interpreter: requests wait for its lock.
            taking_turns(),
            engine_at_head(settings, upgraded=not (no_upgrade or of_server), patience=_PATIENCE_SECONDS) as engine,
            _claimed(engine, settings, ending, run_id, _fields(asked, settings_), as_json=as_json) as (lease, options),
            # Only a training of a server is limited. A person who types the command can watch it and end it.
            limited(settings, ending) if no_upgrade or of_server else nullcontext(),
            shown_progress(run_id) as progress,
        ):
            from zap.flows.training import run_training

            report = run_training(engine, settings, progress, options, lease=lease)
    if as_json:
        print_json(report)
    elif run_id is None:
        from zap.cli.shown import print_report

        print_report(report)


@click.command(cls=_Search)
@click.option(
    "--trials",
    type=WholeNumber(1),
    metavar="N",
    help="Try N sets of hyper-parameters, including the defaults. Default: 24.",
)
@click.option(
    "--minutes",
    type=Number(0),
    metavar="N",
    help="Stop the search after N minutes. The defaults are always tried. Default: 15.",
)
@_set("Use this value in every set that the search tries", "the search chooses the value, as listed below")
@click.option(
    "--seed", type=WholeNumber(0, 2**31 - 1), metavar="N", help="The seed of the search. Default: a random seed."
)
@click.option("--forget", is_flag=True, help="Search nothing, and let later trainings use the defaults again.")
@DATABASE
@JSON
def tune(  # noqa: PLR0913, PLR0917 - one for each option
    trials: int | None,
    minutes: float | None,
    settings_: tuple[str, ...],
    seed: int | None,
    forget: bool,
    database_url: str | None,
    as_json: bool,
) -> None:
    """Search for better hyper-parameters.

    The search learns from the first 90 % of the history. Later trainings use the best set found.
    """
    if _HELP in settings_:
        _show_parameters(as_json=as_json)
        return
    _spin_briefly()
    if minutes is not None and not math.isfinite(minutes):
        raise click.BadParameter(f"{minutes} is not a finite number of minutes", param_hint="--minutes")
    if forget and (settings_ or seed is not None or trials is not None or minutes is not None):
        raise click.UsageError("--forget searches nothing; leave out --trials, --minutes, --set and --seed")
    fields = _fields({"tune": True, "tune_seed": seed}, settings_)
    with ending_when_told() as ending:
        settings = read_settings(database_url=database_url)
        with taking_turns(), engine_at_head(settings, upgraded=True, patience=_PATIENCE_SECONDS) as engine:
            if forget:
                found = _forget(engine)
            else:
                from zap.flows.tuning import run_tuning, tuning_asked
                from zap.ml.tuning import Budget

                options = _options(fields, settings, as_json=as_json)
                bounds = {
                    name: value for name, value in (("trials", trials), ("minutes", minutes)) if value is not None
                }
                budget = Budget(**bounds)  # type: ignore[arg-type]
                asked = tuning_asked(budget, options)
                with _own_run(engine, ending, "tune", asked) as lease, shown_progress() as progress:
                    found = run_tuning(engine, settings, progress, budget, options, lease=lease)
    if as_json:
        print_json(found)
    else:
        from zap.cli.shown_search import print_tuning

        print_tuning(found)


def _forget(engine: "Engine") -> dict[str, Any]:
    """Store that later trainings use the default hyper-parameters. Return the new tuning."""
    from zap.db.engine import write_transaction
    from zap.db.versions.tunings import add_tuning

    with write_transaction(engine) as connection:
        return {"tuning": add_tuning(connection, None, None), "hyper_parameters": {}}


@contextmanager
def _claimed(  # noqa: PLR0913
    engine: "Engine",
    settings: "Settings",
    ending: Ending,
    run_id: int | None,
    fields: dict[str, Any],
    *,
    as_json: bool,
) -> Iterator[tuple["Lease", "TrainingOptions"]]:
    """Yield the lease of this training and its options.

    Args:
        engine: on the database.
        settings: of this process.
        ending: ends this process when its run is ended by another process.
        run_id: the run that a server has claimed, whose options are stored; None for a training of the command.
        fields: the options of the command.
        as_json: whether errors name the fields of the body instead of the options.
    """
    from zap.actor import ACTOR
    from zap.db.runs.training_lease import run_lease
    from zap.db.runs.training_runs import fail_run, read_run, starter_of

    if run_id is not None:
        ending.note = partial(fail_run, engine, run_id)
        # What this process changes, such as the version in production, is done for the one who started the run.
        ACTOR.set(starter_of(engine, run_id))
        # The first heartbeat is sent before the heavy imports.
        with run_lease(engine, run_id, ending.end_soon) as lease:
            if hasattr(os, "nice"):
                os.nice(_NICENESS)
            from zap.formats.training_options import TrainingOptions

            yield lease, TrainingOptions.read(read_run(engine, run_id)["options"] or {}, settings.wall_time)
        return
    options = _options(fields, settings, as_json=as_json)
    with _own_run(engine, ending, "train", options.as_dict()) as lease:
        yield lease, options


@contextmanager
def _own_run(engine: "Engine", ending: Ending, kind: str, options: dict[str, Any]) -> Iterator["Lease"]:
    """Claim a run for this command, and hold its lease."""
    from zap.db.runs.training_lease import run_lease
    from zap.db.runs.training_runs import claim_run, fail_run

    with ExitStack() as held:
        # SIGTERM between these steps would end the process, and leave a run whose status stays running.
        with ending.later():
            run_id = claim_run(engine, kind, options)
            ending.note = partial(fail_run, engine, run_id)
            lease = held.enter_context(run_lease(engine, run_id, ending.end_soon))
        yield lease


def _fields(asked: dict[str, Any], settings: tuple[str, ...]) -> dict[str, Any]:
    """Return the options of the command as the fields of a body of /train-model."""
    fields = {name: value for name, value in asked.items() if value is not None and value is not False}
    if settings:
        parameters = [_setting(text) for text in settings]
        fields["hyper_parameters"] = dict(parameters)
        if len(fields["hyper_parameters"]) < len(parameters):
            raise click.BadParameter("a hyper-parameter appears more than once", param_hint="--set")
    return fields


def _options(fields: dict[str, Any], settings: "Settings", *, as_json: bool) -> "TrainingOptions":
    """Return the options of a training or a search.

    Raises:
        InvalidRequest: options are wrong. It names the command's options; with --json the fields of the body instead.
    """
    from zap.formats.training_options import TrainingOptions

    with options_named(as_json=as_json, option=_option):
        return TrainingOptions.read(fields, settings.wall_time)


def _option(field: str) -> str:
    """Return the option that sets a field of the body."""
    name, _, parameter = field.partition("/")
    return f"--set {parameter}".rstrip() if name == "hyper_parameters" else option_of(name.removeprefix("history_"))


def _show_parameters(*, as_json: bool) -> None:
    """Print the hyper-parameters that --set takes."""
    from zap.formats.training_options import HYPER_PARAMETERS, LEFT_OUT_IN_WORDS

    if as_json:
        shown = ("name", "description", "unit", "minimum", "maximum", "minimum_excluded")
        rows = [{name: getattr(one, name) for name in shown} | {"default": one.example} for one in HYPER_PARAMETERS]
        print_json({"hyper_parameters": rows})
    else:
        from zap.cli.shown_search import print_parameters

        print_parameters(HYPER_PARAMETERS, LEFT_OUT_IN_WORDS)


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(
            f"{text!r} is not NAME=VALUE; --set without a value shows the hyper-parameters", param_hint="--set"
        )
    try:
        return name, json.loads(value)
    except ValueError:
        # If a number is needed, the check of the options refuses the text, and names the range.
        return name, value.split(",") if name == "left_out" else value


def _spin_briefly() -> None:
    """Let LightGBM's threads spin only briefly while they wait for each other. OpenMP reads this when it is loaded.

    If threads sleep at once, a training takes more than three times as long on idle cores. If threads spin as long as
    GNU's OpenMP does by default, it takes many times as long beside busy processes.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
