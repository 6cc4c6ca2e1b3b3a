"""The matches of stored answers with sessions: found again, and written where they have changed."""

from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection

from zap.db.monitoring.given_rows import NUMBER, TEXT, TIME, among, fetched, given
from zap.db.monitoring.near_sessions import sessions_for
from zap.db.monitoring.outcome_rows import Outcome, outcomes_of, update_matches
from zap.monitoring.matching import BY_REPORT, EARLY, MATCHED, Answer, Match, matched

# The neighbour of an answer: the next answer, or the answer before it, to the same driver and of the same kind, without
# answers that a report named. Answers about one moment are in the order of their numbers; each of the two queries uses
# the index, however many answers there are about one moment.
_NEIGHBOUR = """
SELECT * FROM (SELECT coalesce(
    (SELECT o.prediction_id FROM outcomes AS o WHERE o.user_id = given.user_id AND o.asked_at = given.asked_at
     AND o.prediction_id {beyond} given.prediction_id AND {alike} ORDER BY o.prediction_id {order} LIMIT 1),
    (SELECT o.prediction_id FROM outcomes AS o WHERE o.user_id = given.user_id AND o.asked_at {beyond} given.asked_at
     AND o.asked_at {within} given.bound AND {alike}
     ORDER BY o.asked_at {order}, o.prediction_id {order} LIMIT 1)
) AS neighbour FROM {given}) AS found WHERE neighbour IS NOT NULL
"""
_ALIKE = f"o.kind = given.kind AND (o.matched_by IS NULL OR o.matched_by <> '{BY_REPORT}')"
_AFTER = {"beyond": ">", "within": "<=", "order": "ASC", "alike": _ALIKE}
_BEFORE = {"beyond": "<", "within": ">=", "order": "DESC", "alike": _ALIKE}
# The fields of Answer, and the bound.
_KEY = {"prediction_id": NUMBER, "user_id": TEXT, "asked_at": TIME, "kind": TEXT, "bound": TIME}


class Rematched(NamedTuple):
    """The outcome of an answer before and after it was matched again."""

    before: Outcome
    after: Outcome


class NewOutcomes(NamedTuple):
    """The outcomes of answers that are followed for the first time.

    Attributes:
        outcomes: the outcomes, in the order of the answers.
        shared: the sessions among them that stored outcomes have too.
    """

    outcomes: list[Outcome]
    shared: Container[int | None]


def match_new(connection: Connection, outcomes: Sequence[Outcome], horizon: timedelta) -> NewOutcomes:
    """Match answers that have no outcome yet. Nothing is written.

    Args:
        connection: on a database at head.
        outcomes: outcomes without a match. A session that changes meanwhile is a change for the next look.
        horizon: as in `matched`.
    """
    found, shared = _matches(connection, [one.answer for one in outcomes], horizon, are_new=True)
    return NewOutcomes(
        [Outcome(one.answer, one.model_version, found[one.answer.prediction_id]) for one in outcomes], shared
    )


def rematch_around(connection: Connection, new: NewOutcomes, horizon: timedelta) -> list[Rematched]:
    """Match the answers that depend on new answers. Write the matches that have changed, and return them.

    Args:
        connection: a transaction that writes, and that has added the new outcomes.
        new: the new outcomes. The answers before them may have lost a session.
        horizon: as in `matched`.
    """
    matched_now = [one for one in new.outcomes if one.match.session_id is not None]
    named = [one for one in matched_now if one.match.matched_by == BY_REPORT]
    numbers = {one.answer.prediction_id for one in new.outcomes}
    again = _before(connection, [one.answer for one in matched_now if one.match.session_id in new.shared], horizon)
    again = again - numbers | _before(connection, [one.answer for one in named], horizon)
    again |= _counting_for(connection, named)
    return rematch(connection, outcomes_of(connection, sorted(again)), horizon)


def rematch(connection: Connection, outcomes: Sequence[Outcome], horizon: timedelta) -> list[Rematched]:
    """Match answers again, and the answers that depend on them. Write the matches that have changed, and return them.

    Args:
        connection: a transaction that writes.
        outcomes: stored outcomes.
        horizon: as in `matched`.
    """
    changed: dict[int, Rematched] = {}
    while outcomes:
        found, _ = _matches(connection, [one.answer for one in outcomes], horizon, are_new=False)
        moved = [
            Rematched(one, Outcome(one.answer, one.model_version, match))
            for one in outcomes
            if (match := found[one.answer.prediction_id]) != one.match
        ]
        update_matches(connection, [one.after for one in moved])
        for one in moved:
            number = one.after.answer.prediction_id
            changed[number] = Rematched(changed[number].before if number in changed else one.before, one.after)
        outcomes = outcomes_of(connection, sorted(_renamed(connection, moved, horizon)))
    return [one for one in changed.values() if one.before != one.after]


def _matches(
    connection: Connection, answers: Sequence[Answer], horizon: timedelta, *, are_new: bool
) -> tuple[Mapping[int, Match], Container[int | None]]:
    """Return the match of each answer, and perhaps of more answers; and the sessions that other answers may have.

    Args:
        connection: on a database at head.
        answers: the answers.
        horizon: as in `matched`.
        are_new: whether none of them has an outcome yet, so that all stored sessions are of other answers.
    """
    sessions = sessions_for(connection, answers, horizon)
    numbers = {one.prediction_id for one in answers}
    named = {one.prediction_id for one in sessions if one.prediction_id is not None}
    kinds = {one.prediction_id: one.kind for one in answers if one.prediction_id in named}
    kinds |= {one.answer.prediction_id: one.answer.kind for one in outcomes_of(connection, sorted(named - numbers))}
    found = matched(answers, sessions, kinds, horizon)
    starts = {one.session_id: one.start for one in sessions}
    shared = _taken(connection, found.values()) if are_new else starts.keys()
    # Whether an answer is superseded depends on the next answer, which may be any stored one.
    bounds = [
        (one, starts[session_id] + EARLY)
        for one in answers
        if (session_id := found[one.prediction_id].session_id) is not None
        and session_id in shared
        and found[one.prediction_id].matched_by != BY_REPORT
    ]
    others = outcomes_of(connection, sorted(_neighbours(connection, bounds, _AFTER) - numbers))
    if others:
        found = matched([*answers, *(one.answer for one in others)], sessions, kinds, horizon)
    return found, shared


def _renamed(connection: Connection, moved: Sequence[Rematched], horizon: timedelta) -> set[int]:
    """Return the answers before answers that a report names now, or no longer names."""
    changed = [
        one.after.answer
        for one in moved
        if (one.before.match.matched_by == BY_REPORT) != (one.after.match.matched_by == BY_REPORT)
    ]
    return _before(connection, changed, horizon)


def _before(connection: Connection, answers: Iterable[Answer], horizon: timedelta) -> set[int]:
    """Return the answers before answers: they may have the same session."""
    return _neighbours(connection, [(one, one.asked_at - horizon - EARLY) for one in answers], _BEFORE)


def _taken(connection: Connection, matches: Iterable[Match]) -> set[int | None]:
    """Return the sessions of these matches that stored outcomes have."""
    ids = sorted({one.session_id for one in matches if one.session_id is not None})
    if not ids:
        return set()
    table, parameters = given(connection, {"session_id": NUMBER}, [(one,) for one in ids])
    have = "SELECT 1 FROM outcomes AS o WHERE o.session_id = given.session_id"
    found = fetched(connection, f"SELECT session_id FROM {table} WHERE EXISTS ({have})", parameters)  # noqa: S608
    return {number for (number,) in found}


def _neighbours(connection: Connection, bounds: Iterable[tuple[Answer, datetime]], side: Mapping[str, str]) -> set[int]:
    """Return the neighbours of answers, _AFTER or _BEFORE them, that are not beyond a moment."""
    rows = [(*one, bound) for one, bound in bounds if one.user_id is not None]
    if not rows:
        return set()
    table, parameters = given(connection, _KEY, rows)
    found = fetched(connection, _NEIGHBOUR.format(given=table, **side), parameters)
    return {neighbour for (neighbour,) in found}


def _counting_for(connection: Connection, named: Sequence[Outcome]) -> set[int]:
    """Return the answers that count, by time, for the sessions whose reports named these answers."""
    if not named:
        return set()
    which, parameters = among(connection, "n.prediction_id", [one.answer.prediction_id for one in named])
    asked = (
        "SELECT o.prediction_id FROM session_predictions AS n JOIN outcomes AS o ON o.session_id = n.session_id"  # noqa: S608
        f" WHERE {which} AND o.status = '{MATCHED}' AND o.matched_by <> '{BY_REPORT}'"
    )
    return {number for (number,) in fetched(connection, asked, parameters)}
