"""A prediction, from the bytes of a request to the logged answer, for one request and for many."""

import time
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from sqlalchemy import Engine

from zap.db.history.driver_histories import DriverHistories
from zap.db.history.drivers import driver_facts, driver_named, facts_of_many, has_gaps, named_drivers
from zap.db.history.recent_sessions import RecentSessions
from zap.db.log.prediction_log import Entry, Logged, PredictionLog
from zap.db.tables import utc_now
from zap.db.versions.production import Production
from zap.errors import VersionReplaced
from zap.flows.explanations import Explanations, Told
from zap.formats.request import START, USER_ID, Request, complete_request, parse_request
from zap.formats.request_rows import Refusal, Row, WallTime, completed, of_driver, read_rows
from zap.ml.cells import plain_id, to_seconds
from zap.ml.inference import Answer, Predictor
from zap.ml.user_history import UserHistory, no_past
from zap.threads import PATIENCE_SECONDS, Pool

# Threads that score a batch: as many as a training uses by default.
_THREADS = 2
# How long a look at the version in production may take, if the explanation has used up the time of the request.
_LAST_LOOK_SECONDS = 1.0


class Predicted(NamedTuple):
    """An answer that is committed.

    Attributes:
        answer: the answer.
        logged: the ids of its rows in the log.
        explained: the explanation, or why there is none; None if the client does not want one.
    """

    answer: Answer
    logged: Logged
    explained: Told | str | None


class OnePrediction:
    """Answer one request at a time, with one deadline for all of its database work.

    Args:
        engine: on the database.
        production: the version that serves.
        histories: the histories of drivers.
        recent: the sessions of all drivers in the last weeks.
        log: commits requests and predictions.
        wall_time: converts a moment to the drivers' wall time.
        explanations: explain answers.
    """

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        engine: Engine,
        production: Production,
        histories: DriverHistories,
        recent: RecentSessions,
        log: PredictionLog,
        wall_time: WallTime,
        explanations: Explanations,
    ) -> None:
        self._engine = engine
        self._production = production
        self._histories = histories
        self._recent = recent
        self._log = log
        self._wall_time = wall_time
        self._explanations = explanations

    async def predict(self, body: bytes) -> Predicted:
        """Return the answer to a request, which is committed. Explain it afterwards if the client wants that.

        Raises:
            ZapError: the request cannot be answered, or it is not known whether it was logged.
        """
        received_at, until = utc_now(), time.monotonic() + PATIENCE_SECONDS
        predictor = self._production.predictor
        request = parse_request(body, self._wall_time)
        try:
            return await self._predicted(request, predictor, received_at, until)
        except VersionReplaced:
            # The request waited for the database while the version was rolled back: the new version answers it.
            predictor = await serving_now(self._production, predictor, self._histories.threads, until)
            return await self._predicted(request, predictor, received_at, until)

    async def _predicted(
        self, request: Request, predictor: Predictor, received_at: datetime, until: float
    ) -> Predicted:
        histories = self._histories
        user_id = request.values.get(USER_ID)
        if user_id is not None and plain_id(user_id) != user_id:
            driver = await histories.threads.run(driver_named, self._engine, user_id, until=until)
            request.values[USER_ID] = driver
        # A request without gaps stays on this thread, because a thread switch costs more than the rest of its work.
        facts = (
            await histories.threads.run(driver_facts, self._engine, request.values, until=until)
            if has_gaps(request.values)
            else {}
        )
        now = self._wall_time(received_at)
        values = complete_request(request, facts, predictor.contract, now=now)
        start = to_seconds(values[START])
        asked = (request.values.get(USER_ID), predictor.known_before(start), predictor.types)
        past = histories.known(*asked)
        if past is None:
            past = await histories.past(*asked, until)
        moment = predictor.asked_at(start, to_seconds(now))
        present = self._recent.known(start, moment, predictor)
        if present is None:
            present = await self._recent.present(start, moment, predictor, until)
        answer = partial(predictor.answer, values, past, present)
        answered, logged = await self._log.record(request.text, received_at, answer, until=until)
        if not request.explain:
            return Predicted(answered, logged, None)
        explained = await self._explanations.of_answer(predictor, answered, until)
        # The explanation may have taken long, also all the time of the request.
        last = max(until, time.monotonic() + _LAST_LOOK_SECONDS)
        await histories.threads.run(self._production.check_serves, predictor.model_version, until=last)
        return Predicted(answered, logged, explained)


async def serving_now(production: Production, before: Predictor, threads: Pool, until: float) -> Predictor:
    """Return the predictor of the version in production, after a look if it is still the earlier one.

    Args:
        production: the version that serves in this process.
        before: the predictor whose answer could not be sent.
        threads: for the look, which may load the version.
        until: when to stop waiting, on the monotonic clock.
    """
    if production.predictor is before:
        await threads.run(production.refresh, until=until)
    return production.predictor


class Answered(NamedTuple):
    """The answers to the rows of a batch, before they are logged.

    Attributes:
        rows: an answer or a refusal for each row, in order.
        to_log: the entries for PredictionLog, one for each row with an answer.
        explain: the places in `to_log` of the answers whose client wants an explanation.
    """

    rows: list[Answer | Refusal]
    to_log: list[Entry]
    explain: list[int]


class BatchPrediction:
    """Answer the rows of a batch by the rules of a single request, with few queries and one call of the booster.

    Its methods block, so the event loop must not call them.

    Args:
        engine: on the database.
        histories: the histories of drivers.
        recent: the sessions of all drivers in the last weeks.
        wall_time: converts a moment to the drivers' wall time.
    """

    def __init__(self, engine: Engine, histories: DriverHistories, recent: RecentSessions, wall_time: WallTime) -> None:
        self._engine = engine
        self._histories = histories
        self._recent = recent
        self._wall_time = wall_time

    def complete(self, texts: Sequence[bytes | Refusal], predictor: Predictor, received_at: datetime) -> list[Row]:
        """Return each row with a value for each feature, or with its refusal.

        Args:
            texts: the JSON of each row, or why it cannot be read.
            predictor: the predictor of the version that will answer.
            received_at: when the rows were received, which is the start of a session without one.
        """
        return self._complete(texts, predictor, [self._wall_time(received_at)] * len(texts))

    def _complete(self, texts: Sequence[bytes | Refusal], predictor: Predictor, nows: Sequence[datetime]) -> list[Row]:
        """Return the rows as `complete` does; `nows` has for each row the wall time when it was received."""
        read: list[Row] = []
        for now, alike in groupby(zip(texts, nows, strict=True), itemgetter(1)):
            read += read_rows([text for text, _ in alike], predictor.contract, self._wall_time, now)
        rows = self._with_drivers(read)
        waiting = [row.request.values if row.request else {} for row in rows]
        asking = [place for place, values in enumerate(waiting) if has_gaps(values)]
        found = facts_of_many(self._engine, [waiting[place] for place in asking]) if asking else []
        facts = dict(zip(asking, found, strict=True))
        return [
            completed(row, facts.get(place, {}), predictor.contract, now)
            for place, (row, now) in enumerate(zip(rows, nows, strict=True))
        ]

    def answer(self, rows: Sequence[Row], predictor: Predictor, received_at: datetime) -> Answered:
        """Return an answer for each row that `complete` could complete, and the refusals of the other rows."""
        outcomes = self._answers(rows, predictor, [self._wall_time(received_at)] * len(rows))
        to_log = [
            Entry(row.text, received_at, outcome)
            for row, outcome in zip(rows, outcomes, strict=True)
            if isinstance(outcome, Answer)
        ]
        answered = [row for row in rows if row.values is not None]
        return Answered(outcomes, to_log, [place for place, row in enumerate(answered) if row.explain])

    def predict(self, texts: Sequence[bytes | Refusal], predictor: Predictor, received_at: datetime) -> Answered:
        """Return the answers to rows: `complete`, then `answer`."""
        return self.answer(self.complete(texts, predictor, received_at), predictor, received_at)

    def answers_to_each(
        self, texts: Sequence[bytes], predictor: Predictor, received_at: Sequence[datetime]
    ) -> list[Answer | Refusal]:
        """Return the answers to requests, as if each had been sent alone at its moment.

        Args:
            texts: the JSON of each request.
            predictor: the predictor of the version that answers.
            received_at: when each request was received.
        """
        nows = list(map(self._wall_time, received_at))
        return self._answers(self._complete(texts, predictor, nows), predictor, nows)

    def _answers(self, rows: Sequence[Row], predictor: Predictor, nows: Sequence[datetime]) -> list[Answer | Refusal]:
        good = [row for row in rows if row.values is not None]
        values = [row.values for row in good if row.values]
        asked = [now for row, now in zip(rows, nows, strict=True) if row.values is not None]
        starts = [to_seconds(one[START]) for one in values]
        moments = [predictor.asked_at(start, to_seconds(now)) for start, now in zip(starts, asked, strict=True)]
        presents = self._recent.presents(starts, moments, predictor)
        answers = iter(predictor.answers(values, self._pasts(good, predictor), presents, _THREADS))
        return [row.refusal or next(answers) for row in rows]

    def _with_drivers(self, rows: list[Row]) -> list[Row]:
        """Return the rows with the ids of the drivers that their texts mean."""
        odd = {row.user_id for row in rows if row.user_id is not None and plain_id(row.user_id) != row.user_id}
        if not odd:
            return rows
        with self._engine.connect() as connection:
            names = named_drivers(connection, odd)
        return [row if row.user_id not in odd else of_driver(row, names[row.user_id]) for row in rows]

    def _pasts(self, rows: Sequence[Row], predictor: Predictor) -> list[UserHistory]:
        pasts = [no_past(len(predictor.types))] * len(rows)
        asking = [place for place, row in enumerate(rows) if row.user_id is not None]
        starts = [predictor.known_before(to_seconds((rows[place].values or {})[START])) for place in asking]
        asked = [(rows[place].user_id, start) for place, start in zip(asking, starts, strict=True)]
        for place, past in zip(asking, self._histories.read_many(asked, predictor.types) if asked else (), strict=True):
            pasts[place] = past
        return pasts
