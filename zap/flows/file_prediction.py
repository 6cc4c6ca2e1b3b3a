"""Predictions for a file: check its rows, predict, log the predictions, and write them to another file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from zap.db.history.driver_histories import DriverHistories
from zap.db.history.recent_sessions import RecentSessions
from zap.db.log.prediction_log import Logged, PredictionLog
from zap.db.tables import utc_now
from zap.errors import InvalidRequest, UnusableFile, ZapError
from zap.flows.explanations import Told, VersionExplainers
from zap.flows.prediction import BatchPrediction
from zap.formats.answer_files import answers_in, part_of, write_file
from zap.formats.request import EXPLAIN, NAMES
from zap.formats.request_columns import field_of, told_columns
from zap.formats.request_files import Record, file_format, read_file
from zap.formats.request_rows import GROUP_LINES, Refusal, WallTime, refusals
from zap.ml.inference import Answer, Predictor
from zap.progress import Progress, no_progress

REASONS = "reasons"


@dataclass
class FileReport:
    """The result of a file.

    Attributes:
        model_version: the version that predicted.
        columns: in sentences, which columns were left out of the requests, and which were read under another name.
        answered: how many rows have a prediction; all of these are logged.
        skipped: how many rows have errors.
        first: the ids of the first logged row; None if no row is logged.
        last: the ids of the last logged row.
    """

    model_version: int
    columns: list[str]
    answered: int = 0
    skipped: int = 0
    first: Logged | None = None
    last: Logged | None = None

    def add(self, rows: int, logged: Sequence[Logged]) -> None:
        """Count a group of `rows` rows, of which some are logged."""
        self.answered += len(logged)
        self.skipped += rows - len(logged)
        if logged:
            self.first, self.last = self.first or logged[0], logged[-1]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON has it."""
        ends = {name: end and end._asdict() for name, end in (("first", self.first), ("last", self.last))}
        return asdict(self) | ends


@dataclass(frozen=True)
class FileScan:
    """The result of the first scan of a file: its number of rows, its columns, and what is said of the columns."""

    rows: int
    columns: list[str]
    told: list[str]


class FilePrediction:
    """Predict for whole files, with one model version.

    Args:
        engine: on the database.
        predictor: the predictor of the model version.
        wall_time: converts a moment to the drivers' wall time.
    """

    def __init__(self, engine: Engine, predictor: Predictor, wall_time: WallTime) -> None:
        self._predictor = predictor
        recent = RecentSessions(engine, lambda: wall_time(utc_now()))
        self._batches = BatchPrediction(engine, DriverHistories(engine), recent, wall_time)
        self._log = PredictionLog(engine)
        self._explainers = VersionExplainers(engine)

    def predict(
        self, source: Path, out: Path, *, skip: bool, force: bool = False, progress: Progress = no_progress
    ) -> FileReport:
        """Predict for each row of a file, and write the rows with their predictions to another file.

        A thousand rows are committed together, and written after their commit. Until all rows are written, the name of
        the new file ends in `.part`.

        Args:
            source: the file of requests: .csv, .ndjson, .jsonl or .parquet; all but the last may be gzipped (.csv.gz).
                The columns of a history that are not known before a session are left out of the requests.
            out: the file to write, in one of these formats. An existing file is replaced.
            skip: whether to predict for the other rows if a row has errors, and write the errors to its row. If False,
                all rows are checked before the first prediction.
            force: whether to replace the `.part` file of an earlier run that holds answers.
            progress: called with "checking" (in bytes, or in rows of Parquet) and with "predicting" (in rows).

        Raises:
            InvalidRequest: rows have errors, or a column is not a field. Nothing was logged or written.
            UnusableFile, MalformedCsv: a file cannot be read or written, or a `.part` file holds answers.
            LogUnavailable: rows could not be logged. The rows before them are logged, and are in the `.part` file.
            KeyboardInterrupt: Ctrl-C. A note says which rows are logged, and which rows the `.part` file has.
        """
        kind, part = file_format(out), part_of(out)
        if not force:
            check_part(part, kind)
        scan = self._scan(source, check=not skip, progress=progress)
        report = FileReport(self._predictor.model_version, scan.told)
        added = self._added(kind, scan.columns, skip=skip)
        # How many answers the `.part` file has; None until it is opened.
        written: int | None = None
        # The number of rows that are answered now. It is not known yet whether they are logged.
        answering = 0
        try:
            with (
                read_file(source) as opened,
                write_file(part, kind, scan.columns, added, opened.schema) as output,
            ):
                written = 0
                progress("predicting", 0, scan.rows)
                for group in _groups(opened.records):
                    answering = len(group)
                    answers, logged = self._answer(group, kind)
                    report.add(len(group), logged)
                    answering = 0
                    output.write(group, answers)
                    written = report.answered
                    progress("predicting", report.answered + report.skipped, scan.rows)
            part.replace(out)
        except BaseException as error:
            if written == 0:
                part.unlink(missing_ok=True)
            kept = _kept(report.answered, written or 0, part)
            if isinstance(error, ZapError):
                error.message += "".join(f"; {said}" for said in kept)
            elif kept := kept + [f"the next {answering:,} rows may be logged too"] * bool(answering):
                error.add_note("; ".join(kept))
            raise
        return report

    def _scan(self, source: Path, *, check: bool, progress: Progress) -> FileScan:
        """Read the file once, to count its rows, and with `check` to find their errors."""
        rows = 0
        columns: dict[str, None] = {}
        errors: list[dict[str, Any]] = []
        with read_file(source) as opened:
            columns |= dict.fromkeys(header for header in opened.headers if header)
            has_headers = bool(columns)
            progress("checking", 0, opened.size)
            for group in _groups(opened.records):
                rows += len(group)
                if not has_headers:
                    for record in group:
                        columns |= dict.fromkeys(name for name in record.request() if name in NAMES)
                        columns |= dict.fromkeys(record.left_out)
                if check:
                    found = [*self._errors(group)]
                    # Errors beyond the ones that are shown only count, so the last one is repeated.
                    errors += found if len(errors) < InvalidRequest.SHOWN else errors[-1:] * len(found)
                progress("checking", opened.position(), opened.size)
        if errors:
            raise InvalidRequest(errors)
        return FileScan(rows, [*columns], told_columns(opened.headers))

    def _errors(self, group: Sequence[Record]) -> Iterator[dict[str, Any]]:
        rows = self._batches.complete([record.text for record in group], self._predictor, utc_now())
        for place, refusal in refusals(rows):
            yield from ({**error, "line": group[place].line} for error in refusal.errors)

    def _answer(self, group: Sequence[Record], kind: str) -> tuple[list[dict[str, Any]], list[Logged]]:
        """Predict for a group and log it. Return the cells to write for each row, and the ids of the logged rows."""
        answered = self._batches.predict([record.text for record in group], self._predictor, utc_now())
        logged = self._log.write_all(answered.to_log)
        places, explain = iter(enumerate(logged)), {*answered.explain}
        answers = []
        for record, row in zip(group, answered.rows, strict=True):
            if isinstance(row, Refusal):
                answers.append(_errors_of(record, row, kind))
                continue
            place, ids = next(places)
            explained = self._explained(row, kind) if place in explain else {}
            answers.append(_columns_of(row, ids, kind) | explained)
        return answers, logged

    def _explained(self, answer: Answer, kind: str) -> dict[str, Any]:
        """Return the explanation of an answer in NDJSON, and only its reasons as one text in other formats."""
        told: Told = self._explainers.of(self._predictor).explain(answer.features, answer.probabilities)
        return {"explanation": told} if kind == "ndjson" else {REASONS: "; ".join(one["text"] for one in told[REASONS])}

    def _added(self, kind: str, columns: Sequence[str], *, skip: bool) -> Mapping[str, type]:
        """Return the columns of the predictions, with the types of their values; NDJSON has no columns.

        If no row can ask for an explanation, there are no reasons.
        """
        if kind == "ndjson":
            return {}
        return {
            "predicted_class": str,
            "model_version": int,
            "input_id": int,
            "prediction_id": int,
            **{f"probability[{name}]": float for name in self._predictor.types},
            **({REASONS: str} if EXPLAIN in map(field_of, columns) else {}),
            **({"errors": str} if skip else {}),
        }


def check_part(part: Path, kind: str) -> None:
    """Raise UnusableFile if the `.part` file of an earlier run may hold answers.

    Args:
        part: the path of the file, which need not exist.
        kind: its format: csv, ndjson or parquet.
    """
    if not part.exists():
        return
    answers = answers_in(part, kind)
    if answers is None:
        held = "is there already, and zap cannot read how many logged answers of an earlier run it holds"
    elif answers:
        held = f"holds {answers:,} logged answer{'s' * (answers != 1)} of an earlier run that did not reach its end"
    else:
        return
    raise UnusableFile(f"{part.name} {held}; rename the file to keep it, or replace it with --force")


def _kept(logged: int, written: int, part: Path) -> list[str]:
    """Return in words how many rows are logged, and how many predictions the `.part` file has.

    The text is empty if no rows are logged.
    """
    if not logged:
        return []
    held = "their predictions" if written == logged else f"the predictions of {written:,} of them"
    where = f", with {held} in {part.name}" if written else ""
    return [f"{logged:,} rows are logged already{where}"]


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
