"""The outcomes of answers: which session followed which answer. The rules are in `matched`."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

LIVE, BACKTEST = "live", "backtest"
MATCHED, SUPERSEDED, WAITING, NO_DRIVER = "matched", "superseded", "waiting", "no_driver"
BY_REPORT, BY_TIME = "report", "time"
# A session that began this long before the moment asked about still counts: the driver asked while plugging in.
EARLY = timedelta(minutes=15)


class Answer(NamedTuple):
    """An answer to a request.

    Attributes:
        prediction_id: its number in the log.
        user_id: the driver; None if the request named none.
        asked_at: the moment that was asked about, as the drivers' wall time.
        kind: LIVE or BACKTEST.
    """

    prediction_id: int
    user_id: str | None
    asked_at: datetime
    kind: str


class Session(NamedTuple):
    """A session with a start and a charger type.

    Attributes:
        session_id: its number.
        user_id: the driver.
        start: the drivers' wall time.
        charger_type: the type that was used.
        prediction_id: the answer that the report of the session named; None if it named none.
    """

    session_id: int
    user_id: str | None
    start: datetime
    charger_type: str
    prediction_id: int | None


class Match(NamedTuple):
    """What happened after an answer. The fields are columns of `outcomes`."""

    status: str
    session_id: int | None = None
    actual_class: str | None = None
    lag_seconds: int | None = None
    matched_by: str | None = None
    superseded_by: int | None = None


_NONE_YET = Match(WAITING)


def kind_of(asked_at: datetime, requested_at: datetime, horizon: timedelta) -> str:
    """Return BACKTEST if the moment asked about lies before the request by more than the horizon, else LIVE."""
    return BACKTEST if requested_at - asked_at > horizon else LIVE


def matched(
    answers: Iterable[Answer], sessions: Iterable[Session], kinds: Mapping[int, str], horizon: timedelta
) -> dict[int, Match]:
    """Return what happened after each answer, by its number.

    - An answer that sessions name has the first of them, whatever their driver and time (BY_REPORT).
    - Every other answer with a driver has the driver's first session that starts from EARLY before to `horizon` after
      the moment asked about (BY_TIME).
    - Of several answers with one session, only the last counts, in the order of the moments asked about and then of the
      numbers. Each earlier one is superseded by the next one. If the session names an answer, this answer counts, and
      the last of the others is superseded by it.
    - Live answers and backtests do not see each other.

    Args:
        answers: the answers. If a session may belong to several answers, each of them needs the next one.
        sessions: the sessions that name these answers, and the sessions of their drivers in the windows above.
        kinds: the kind of each answer that a session names. Another name counts as no name.
        horizon: how long after the moment asked about a session may start.
    """
    ordered = sorted(sessions, key=lambda one: (one.start, one.session_id))
    named: dict[int, Session] = {}
    theirs: dict[str, list[Session]] = defaultdict(list)
    for session in ordered:
        if session.prediction_id is not None:
            named.setdefault(session.prediction_id, session)
        if session.user_id is not None:
            theirs[session.user_id].append(session)
    found: dict[int, Match] = {}
    alike: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    for answer in answers:
        if answer.prediction_id in named:
            found[answer.prediction_id] = _with(answer, named[answer.prediction_id], MATCHED, BY_REPORT)
        elif answer.user_id is None:
            found[answer.prediction_id] = Match(NO_DRIVER)
        else:
            alike[answer.user_id, answer.kind].append(answer)
    for (user_id, _), some in alike.items():
        some.sort(key=lambda one: (one.asked_at, one.prediction_id))
        found.update(_by_time(some, theirs[user_id], kinds, horizon))
    return found


def _by_time(
    answers: Sequence[Answer], sessions: Sequence[Session], kinds: Mapping[int, str], horizon: timedelta
) -> Iterator[tuple[int, Match]]:
    """Yield what happened after each answer of one driver and one kind; answers and sessions are in order."""
    starts = [session.start for session in sessions]
    later: Answer | None = None
    of_later: Session | None = None
    for answer in reversed(answers):
        place = bisect_left(starts, answer.asked_at - EARLY)
        first = sessions[place] if place < len(starts) and starts[place] <= answer.asked_at + horizon else None
        if first is None:
            yield answer.prediction_id, _NONE_YET
        elif later is not None and first is of_later:
            yield answer.prediction_id, _with(answer, first, SUPERSEDED, BY_TIME, later.prediction_id)
        elif first.prediction_id is not None and kinds.get(first.prediction_id) == answer.kind:
            yield answer.prediction_id, _with(answer, first, SUPERSEDED, BY_TIME, first.prediction_id)
        else:
            yield answer.prediction_id, _with(answer, first, MATCHED, BY_TIME)
        later, of_later = answer, first


def _with(answer: Answer, session: Session, status: str, matched_by: str, superseded_by: int | None = None) -> Match:
    """Return the match of an answer with a session."""
    lag = int((session.start - answer.asked_at).total_seconds())
    return Match(status, session.session_id, session.charger_type, lag, matched_by, superseded_by)
