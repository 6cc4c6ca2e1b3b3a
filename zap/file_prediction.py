"""Predictions for a file: its rows checked, answered, logged and written, from its bytes to the counts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from zap.batch_file import Record, file_format, read_file, write_file
from zap.batch_prediction import BatchPrediction
from zap.db.driver_histories import DriverHistories
from zap.db.prediction_log import Logged, PredictionLog
from zap.db.tables import utc_now
from zap.errors import InvalidRequest, ZapError
from zap.ml.batch import GROUP_LINES, Refusal, WallTime, refusals
from zap.ml.inference import Answer, Predictor
from zap.ml.request import FIELDS
from zap.progress import Progress, no_progress


@dataclass(frozen=True)
class FileReport:
    """How many rows of a file were answered and are logged, and how many were skipped."""

    answered: int
    skipped: int


@dataclass(frozen=True)
class _Looked:
    """What the first look at a file has found: how many rows, and the fields that they have."""

    rows: int
    columns: list[str]


class FilePrediction:
    """Predictions by one model version for whole files."""

    def __init__(self, engine: Engine, predictor: Predictor, wall_time: WallTime) -> None:
        self._predictor = predictor
        self._batches = BatchPrediction(engine, DriverHistories(engine), wall_time)
        self._log = PredictionLog(engine)

    def predict(self, source: Path, out: Path, *, skip: bool, progress: Progress = no_progress) -> FileReport:
        """Answer each row of a file and write them with their answers to another.

        A thousand rows are committed together, and written once they are. Until all are, the file has `.part` behind
        its name.

        Args:
            source: .csv, .ndjson, .jsonl or .parquet.
            out: one of these too; what is there is replaced.
            skip: answer the others where a row has an error, which is written in its place. Without it all rows are
                checked before the first is answered.
            progress: called with what is done ("checking", in bytes, or in rows of Parquet; "predicting", in rows).

        Raises:
            InvalidRequest: rows have errors: nothing is logged or written then. A column is no field.
            UnusableFile, MalformedCsv: a file cannot be read or written.
            LogUnavailable: rows could not be logged; those before them are, and stand in the `.part`.
        """
        kind = file_format(out)
        looked = self._look(source, check=not skip, progress=progress)
        part = out.with_name(f"{out.name}.part")
        answered = done = 0
        try:
            with (
                read_file(source) as opened,
                write_file(part, kind, looked.columns, self._added(kind, skip=skip), opened.schema) as output,
            ):
                progress("predicting", 0, looked.rows)
                for group in _groups(opened.records):
                    answers, logged = self._answer(group, kind)
                    output.write(group, answers)
                    answered += logged
                    done += len(group)
                    progress("predicting", done, looked.rows)
            part.replace(out)
        except BaseException as error:
            if not answered:
                part.unlink(missing_ok=True)
            elif isinstance(error, ZapError):
                error.message += f"; {answered:,} rows are logged already, with their answers in {part.name}"
            raise
        return FileReport(answered, done - answered)

    def _look(self, source: Path, *, check: bool, progress: Progress) -> _Looked:
        """Read the file once: count its rows, and check them where that is asked for."""
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
                    # Nobody reads more than are shown: the rest are counted.
                    errors += found if len(errors) < InvalidRequest.SHOWN else errors[-1:] * len(found)
                progress("checking", opened.position(), opened.size)
        if errors:
            raise InvalidRequest(errors)
        return _Looked(rows, [*columns])

    def _errors(self, group: Sequence[Record]) -> Iterator[dict[str, Any]]:
        rows = self._batches.complete([record.text for record in group], self._predictor, utc_now())
        for place, refusal in refusals(rows):
            yield from ({**error, "line": group[place].line} for error in refusal.errors)

    def _answer(self, group: Sequence[Record], kind: str) -> tuple[list[dict[str, Any]], int]:
        """What is written behind each row of a group, once it is logged, and how many are."""
        answered = self._batches.predict([record.text for record in group], self._predictor, utc_now())
        logged = self._log.write_all(answered.to_log)
        places = iter(logged)
        answers = [
            _errors_of(record, row, kind) if isinstance(row, Refusal) else _columns_of(row, next(places), kind)
            for record, row in zip(group, answered.rows, strict=True)
        ]
        return answers, len(logged)

    def _added(self, kind: str, *, skip: bool) -> Mapping[str, type]:
        """The columns of the answers, with the types of their values; NDJSON has none."""
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
