"""Predictions for a file: check its rows, predict, log the predictions, and write them to another file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from zap.db.history.driver_histories import DriverHistories
from zap.db.log.prediction_log import Logged, PredictionLog
from zap.db.tables import utc_now
from zap.errors import InvalidRequest, ZapError
from zap.flows.prediction import BatchPrediction
from zap.formats.request import FIELDS
from zap.formats.request_files import Record, file_format, read_file, write_file
from zap.formats.request_rows import GROUP_LINES, Refusal, WallTime, refusals
from zap.ml.inference import Answer, Predictor
from zap.progress import Progress, no_progress


@dataclass(frozen=True)
class FileReport:
    """The result of a file.

    Attributes:
        answered: how many rows have a prediction; all of these are logged.
        skipped: how many rows have errors.
    """

    answered: int
    skipped: int


@dataclass(frozen=True)
class FileScan:
    """The result of the first scan of a file: its number of rows, and its fields."""

    rows: int
    columns: list[str]


class FilePrediction:
    """Predict for whole files, with one model version.

    Args:
        engine: on the database.
        predictor: the predictor of the model version.
        wall_time: converts a moment to the drivers' wall time.
    """

    def __init__(self, engine: Engine, predictor: Predictor, wall_time: WallTime) -> None:
        self._predictor = predictor
        self._batches = BatchPrediction(engine, DriverHistories(engine), wall_time)
        self._log = PredictionLog(engine)

    def predict(self, source: Path, out: Path, *, skip: bool, progress: Progress = no_progress) -> FileReport:
        """Predict for each row of a file, and write the rows with their predictions to another file.

        A thousand rows are committed together, and written after their commit. Until all rows are written, the name of
        the new file ends in `.part`.

        Args:
            source: the file of requests: .csv, .ndjson, .jsonl or .parquet.
            out: the file to write, in one of these formats. An existing file is replaced.
            skip: whether to predict for the other rows if a row has errors, and write the errors to its row. If False,
                all rows are checked before the first prediction.
            progress: called with "checking" (in bytes, or in rows of Parquet) and with "predicting" (in rows).

        Raises:
            InvalidRequest: rows have errors, or a column is not a field. Nothing was logged or written.
            UnusableFile, MalformedCsv: a file cannot be read or written.
            LogUnavailable: rows could not be logged. The rows before them are logged, and are in the `.part` file.
        """
        kind = file_format(out)
        scan = self._scan(source, check=not skip, progress=progress)
        part = out.with_name(f"{out.name}.part")
        answered = done = 0
        try:
            with (
                read_file(source) as opened,
                write_file(part, kind, scan.columns, self._added(kind, skip=skip), opened.schema) as output,
            ):
                progress("predicting", 0, scan.rows)
                for group in _groups(opened.records):
                    answers, logged = self._answer(group, kind)
                    output.write(group, answers)
                    answered += logged
                    done += len(group)
                    progress("predicting", done, scan.rows)
            part.replace(out)
        except BaseException as error:
            if not answered:
                part.unlink(missing_ok=True)
            elif isinstance(error, ZapError):
                error.message += f"; {answered:,} rows are logged already, with their predictions in {part.name}"
            raise
        return FileReport(answered, done - answered)

    def _scan(self, source: Path, *, check: bool, progress: Progress) -> FileScan:
        """Read the file once, to count its rows, and with `check` to find their errors."""
        rows = 0
        columns: dict[str, None] = {}
        errors: list[dict[str, Any]] = []
        with read_file(source) as opened:
            columns |= dict.fromkeys(opened.columns or ())
            progress("checking", 0, opened.size)
            for group in _groups(opened.records):
                rows += len(group)
                if opened.columns is None:
                    for record in group:
                        columns |= dict.fromkeys(name for name in record.request() if name in FIELDS)
                if check:
                    found = [*self._errors(group)]
                    # Errors beyond the ones that are shown only count, so the last one is repeated.
                    errors += found if len(errors) < InvalidRequest.SHOWN else errors[-1:] * len(found)
                progress("checking", opened.position(), opened.size)
        if errors:
            raise InvalidRequest(errors)
        return FileScan(rows, [*columns])

    def _errors(self, group: Sequence[Record]) -> Iterator[dict[str, Any]]:
        rows = self._batches.complete([record.text for record in group], self._predictor, utc_now())
        for place, refusal in refusals(rows):
            yield from ({**error, "line": group[place].line} for error in refusal.errors)

    def _answer(self, group: Sequence[Record], kind: str) -> tuple[list[dict[str, Any]], int]:
        """Predict for a group and log it. Return the cells to write for each row, and how many rows are logged."""
        answered = self._batches.predict([record.text for record in group], self._predictor, utc_now())
        logged = self._log.write_all(answered.to_log)
        places = iter(logged)
        answers = [
            _errors_of(record, row, kind) if isinstance(row, Refusal) else _columns_of(row, next(places), kind)
            for record, row in zip(group, answered.rows, strict=True)
        ]
        return answers, len(logged)

    def _added(self, kind: str, *, skip: bool) -> Mapping[str, type]:
        """Return the columns of the predictions, with the types of their values; NDJSON has no columns."""
        if kind == "ndjson":
            return {}
        return {
            "predicted_class": str,
            "model_version": int,
            "input_id": int,
            "prediction_id": int,
            **{f"probability[{name}]": float for name in self._predictor.types},
            **({"errors": str} if skip else {}),
        }


def _groups(records: Iterator[Record]) -> Iterator[list[Record]]:
    while group := [*islice(records, GROUP_LINES)]:
        yield group


def _columns_of(answer: Answer, logged: Logged, kind: str) -> dict[str, Any]:
    chances = answer.probabilities
    return {
        "predicted_class": answer.predicted_class,
        **(
            {"probabilities": chances}
            if kind == "ndjson"
            else {f"probability[{name}]": chances[name] for name in chances}
        ),
        "model_version": answer.model_version,
        **logged._asdict(),
    }


def _errors_of(record: Record, refusal: Refusal, kind: str) -> dict[str, Any]:
    if kind == "ndjson":
        return {"line": record.line, "errors": refusal.errors}
    return {"errors": "; ".join(f"{error['pointer']} {error['detail']}" for error in refusal.errors)}
