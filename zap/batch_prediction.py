"""Many requests answered at once, for the server and the command line: the page that joins ml/ and db/."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Engine

from zap.db.driver_histories import DriverHistories
from zap.db.drivers import facts_of_many, has_gaps
from zap.db.prediction_log import Entry
from zap.ml.batch import Refusal, Row, WallTime, completed, read_rows
from zap.ml.cells import to_seconds
from zap.ml.inference import Answer, Predictor
from zap.ml.request import START
from zap.ml.user_history import UserHistory, nobody

# Through the trees: as many as a training takes by default.
_THREADS = 2


class Answered(NamedTuple):
    """The rows of a batch, before they are logged.

    Attributes:
        rows: an answer or a refusal for each row, in order.
        to_log: what PredictionLog takes, of the rows with an answer.
    """

    rows: list[Answer | Refusal]
    to_log: list[Entry]


class BatchPrediction:
    """Answers rows as `/predict` answers requests, with few questions to the database and one call of the booster.

    Takes as long as that takes: not for an event loop.
    """

    def __init__(self, engine: Engine, histories: DriverHistories, wall_time: WallTime) -> None:
        self._engine = engine
        self._histories = histories
        self._wall_time = wall_time

    def complete(self, texts: Sequence[bytes | Refusal], predictor: Predictor, received_at: datetime) -> list[Row]:
        """Each row with a value for each feature, or with why it has none.

        Args:
            texts: the JSON of each row, or why it cannot be read.
            predictor: of the version that is to answer.
            received_at: when the rows came: a session without a start begins then.
        """
        now = self._wall_time(received_at)
        rows = read_rows(texts, predictor.contract, self._wall_time, now)
        waiting = [row.request.values if row.request else {} for row in rows]
        asking = [place for place, values in enumerate(waiting) if has_gaps(values)]
        found = facts_of_many(self._engine, [waiting[place] for place in asking]) if asking else []
        facts = dict(zip(asking, found, strict=True))
        return [completed(row, facts.get(place, {}), predictor.contract, now) for place, row in enumerate(rows)]

    def answer(self, rows: Sequence[Row], predictor: Predictor, received_at: datetime) -> Answered:
        """An answer for each row that `complete` has completed."""
        good = [row for row in rows if row.values is not None]
        values = [row.values for row in good if row.values]
        answers = iter(predictor.answers(values, self._pasts(good, predictor), _THREADS))
        outcomes: list[Answer | Refusal] = [row.refusal or next(answers) for row in rows]
        to_log = [
            Entry(row.text, received_at, outcome)
            for row, outcome in zip(rows, outcomes, strict=True)
            if isinstance(outcome, Answer)
        ]
        return Answered(outcomes, to_log)

    def predict(self, texts: Sequence[bytes | Refusal], predictor: Predictor, received_at: datetime) -> Answered:
        """`complete` and `answer` in one."""
        return self.answer(self.complete(texts, predictor, received_at), predictor, received_at)

    def _pasts(self, rows: Sequence[Row], predictor: Predictor) -> list[UserHistory]:
        pasts = [nobody(len(predictor.types))] * len(rows)
        asking = [place for place, row in enumerate(rows) if row.user_id is not None]
        asked = [(rows[place].user_id, to_seconds((rows[place].values or {})[START])) for place in asking]
        for place, past in zip(asking, self._histories.read_many(asked, predictor.types) if asked else (), strict=True):
            pasts[place] = past
        return pasts
