"""The commands `predict` and `explain-prediction`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zap.cli.bars import shown_progress
from zap.cli.command import DATABASE, JSON, Command, WholeNumber, engine_at_head, fail, print_json, read_settings
from zap.errors import InvalidRequest, NotReproduced
from zap.standard_error import tell

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from zap.db.versions.production import Production
    from zap.settings import Settings


@click.command(cls=Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path), default="-")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Predict for each row of FILE, and write the rows with their predictions to this file. Default: FILE has one"
    " request, and the prediction is printed.",
)
@click.option(
    "--on-error",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="With --out: fail predicts nothing if any row has an error; skip predicts for the good rows.",
)
@click.option(
    "--force", is_flag=True, help="With --out: replace an existing file, or the .part file of an earlier run."
)
@DATABASE
@JSON
def predict(  # noqa: PLR0913, PLR0917 - one for each option
    file: Path, out: Path | None, on_error: str, force: bool, database_url: str | None, as_json: bool
) -> None:
    """Predict for one JSON object, or for rows of a file.

    Without --out, FILE (default: standard input) has one JSON object. zap logs it like a request over HTTP, and prints
    the prediction as JSON.

    With --out, FILE is a table of requests (.csv, .ndjson, .jsonl or .parquet; also .csv.gz, .ndjson.gz and .jsonl.gz).
    zap writes each row with its prediction to the output file, which may have another of these formats. It commits the
    rows in groups of 1,000.

    The first line of a CSV names its columns: the fields of a request. FILE may also have the columns of a history
    file. zap leaves out the columns that are not known before a session, such as charger_type, and names these columns.
    Unlike import-history, zap predict accepts no title lines above the names and no other headers: remove the title
    lines, and rename the columns.
    """
    settings = read_settings(database_url=database_url)
    if out is not None:
        _check_files(file, out, force=force)
        _predict_file(settings, file, out, skip=on_error == "skip", force=force, as_json=as_json)
        return
    if force or on_error != "fail":
        raise click.UsageError("--on-error and --force need --out")
    _predict_one(settings, file)


def _production(engine: "Engine", settings: "Settings") -> "Production":
    """Return the version in production, and say what is wrong with it."""
    from zap.db.versions.production import Production

    production = Production(engine, settings.model_file, serves=False)
    production.refresh()
    if production.warning:
        tell(f"warning: {production.warning}", "warning")
    return production


def _check_files(file: Path, out: Path, *, force: bool) -> None:
    from zap.formats.request_files import file_format

    if str(file) == "-":
        raise click.UsageError("--out needs a FILE whose name ends in .csv, .ndjson, .jsonl or .parquet")
    file_format(file)
    file_format(out)
    if out.exists() and not force:
        raise click.UsageError(f"{out} exists already; --force replaces it")


def _predict_file(  # noqa: PLR0913
    settings: "Settings", file: Path, out: Path, *, skip: bool, force: bool, as_json: bool
) -> None:
    with engine_at_head(settings, upgraded=False) as engine:
        from zap.flows.file_prediction import FilePrediction

        production = _production(engine, settings)
        files = FilePrediction(engine, production.predictor, settings.wall_time)
        with _columns_explained(), shown_progress() as progress:
            report = files.predict(file, out, skip=skip, force=force, progress=progress)
    for line in report.columns:
        tell(f"{file}: {line}")
    if as_json:
        print_json({"out": str(out), **report.as_dict()})
        return
    click.echo(
        f"{out}: {report.answered:,} answered, {report.skipped:,} skipped, by model version {report.model_version}"
    )
    if report.first and report.last:
        ends = zip(report.first._fields, report.first, report.last, strict=True)
        ids = (f"{name} {first}{f' to {last}' * (last != first)}" for name, first, last in ends)
        click.echo(f"logged as {', '.join(ids)}")


@contextmanager
def _columns_explained() -> Iterator[None]:
    """Add two facts to an error about the columns of a file: which columns zap reads, and what to do."""
    try:
        yield
    except InvalidRequest as error:
        if not any("line" in one for one in error.details["errors"]):
            error.message += (
                ". The first line of FILE must name its columns, with the names of the fields of a request or the"
                " headers of the public history file. Unlike zap import-history, zap predict accepts no title lines and"
                " no other headers: remove the lines above the names, and rename the columns"
            )
        raise


def _predict_one(settings: "Settings", file: Path) -> None:
    from zap.formats.request_columns import split_row, told_columns

    row = split_row(_one_request(file))
    with engine_at_head(settings, upgraded=False) as engine:
        import asyncio
        from contextlib import ExitStack, closing

        import msgspec

        from zap.controllers.prediction_reply import PredictReply
        from zap.db.history.driver_histories import DriverHistories
        from zap.db.history.recent_sessions import RecentSessions
        from zap.db.log.prediction_log import PredictionLog
        from zap.flows.explanations import Explanations
        from zap.flows.prediction import OnePrediction

        production = _production(engine, settings)
        with ExitStack() as opened:
            log = opened.enter_context(closing(PredictionLog(engine)))
            histories = opened.enter_context(closing(DriverHistories(engine)))
            recent = opened.enter_context(closing(RecentSessions(engine, settings.wall_now)))
            explanations = opened.enter_context(closing(Explanations(engine, production)))
            one = OnePrediction(engine, production, histories, recent, log, settings.wall_time, explanations)
            predicted = asyncio.run(one.predict(row.request))
    for line in told_columns(row.headers):
        tell(f"{_shown_name(file)}: {line}")
    print_json(msgspec.to_builtins(PredictReply.of(*predicted)))


def _one_request(file: Path) -> bytes:
    """Return the bytes of one request, unzipped.

    Raises:
        UsageError: the file is a table, which needs --out.
        UnusableFile: the file cannot be unzipped, or is larger than a request can be.
    """
    import io

    from zap.errors import UnusableFile
    from zap.formats.request_files import reading, unzipped
    from zap.formats.request_rows import LARGEST_ROW

    shown = _shown_name(file)
    with reading(shown), io.BytesIO(sys.stdin.buffer.read()) if str(file) == "-" else file.open("rb") as opened:
        body = unzipped(opened).read(LARGEST_ROW + 1)
    name = file.name.lower().removesuffix(".gz")
    lines = sum(bool(line.strip()) for line in body.splitlines())
    if name.endswith((".csv", ".parquet")) or (name.endswith((".ndjson", ".jsonl")) and lines > 1):
        raise click.UsageError(f"{file} is a table: name a file for the predictions, such as --out answers.csv")
    if len(body) > LARGEST_ROW:
        raise UnusableFile(f"{shown} is larger than a request can be ({LARGEST_ROW:,} bytes)")
    return body


def _shown_name(file: Path) -> str:
    return "standard input" if str(file) == "-" else str(file)


@click.command("explain-prediction", cls=Command)
@click.argument("prediction_id", type=WholeNumber(0, 2**63 - 1))
@DATABASE
@JSON
def explain_prediction(prediction_id: int, database_url: str | None, as_json: bool) -> None:
    """Show why the model chose a type, and predict again.

    zap shows the request and the features of a logged prediction, at most four reasons, and what each group of features
    adds. It explains and computes the prediction with the model version that made it.
    """
    with engine_at_head(read_settings(database_url=database_url), upgraded=False) as engine:
        from zap.db.log.stored_predictions import logged_json, read_prediction
        from zap.flows.explanations import VersionExplainers

        scored, explainer = VersionExplainers(engine).stored(prediction_id)
        stored = read_prediction(engine, prediction_id)
        explained = {
            "prediction_id": prediction_id,
            "predicted_class": stored["predicted_class"],
            "model_version": scored.model_version,
            "input_id": stored["input_id"],
            "request_timestamp": stored["request_timestamp"],
            "request": logged_json(stored["input_data_json"]),
            **explainer.predictor.explain(scored.features, scored.probabilities),
            "explanation": explainer.explain(scored.features, scored.probabilities),
        }
    if as_json:
        print_json(explained)
    else:
        from zap.cli.shown import print_explained

        print_explained(explained)
    if not explained["equal"]:
        fail(NotReproduced("a library or the kind of machine may have changed since"), as_json=False)
