"""The matches of stored answers with sessions: found again, and written where they have changed."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection

from zap.db.monitoring.given_rows import NUMBER, TEXT, TIME, among, fetched, given
from zap.db.monitoring.near_sessions import sessions_for
from zap.db.monitoring.outcome_rows import Outcome, outcomes_of, update_matches
from zap.monitoring.matching import BY_REPORT, EARLY, MATCHED, Answer, Match, matched

# The neighbour of an answer: the next one, or the one before it, to the same driver and of the same kind, without
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


def rematch(
    connection: Connection, outcomes: Sequence[Outcome], horizon: timedelta, new: Collection[int] = ()
) -> list[Rematched]:
    """Match answers again, and the answers that depend on them. Write the matches that have changed, and return them.

    Args:
        connection: a transaction that writes.
        outcomes: stored outcomes.
        horizon: as in `matched`.
        new: the numbers of those answers that have just been added. The answers before them may have lost a session.
    """
    changed: dict[int, Rematched] = {}
    while outcomes:
        found = _matches(connection, [one.answer for one in outcomes], horizon)
        moved = [
            Rematched(one, one._replace(match=match))
            for one in outcomes
            if (match := found[one.answer.prediction_id]) != one.match
        ]
        update_matches(connection, [one.after for one in moved])
        for one in moved:
            number = one.after.answer.prediction_id
            changed[number] = Rematched(changed[number].before if number in changed else one.before, one.after)
        again = _dependents(connection, moved, horizon, new)
        outcomes, new = outcomes_of(connection, sorted(again)), ()
    return [one for one in changed.values() if one.before != one.after]


def _matches(connection: Connection, answers: Sequence[Answer], horizon: timedelta) -> Mapping[int, Match]:
    """Return the match of each answer, and perhaps of further answers."""
    sessions = sessions_for(connection, answers, horizon)
    numbers = {one.prediction_id for one in answers}
    named = {one.prediction_id for one in sessions if one.prediction_id is not None}
    kinds = {one.prediction_id: one.kind for one in answers if one.prediction_id in named}
    kinds |= {one.answer.prediction_id: one.answer.kind for one in outcomes_of(connection, sorted(named - numbers))}
    found = matched(answers, sessions, kinds, horizon)
    starts = {one.session_id: one.start for one in sessions}
    by_time = [(one, found[one.prediction_id]) for one in answers if _is_by_time(found[one.prediction_id])]
    # Whether an answer is superseded depends on the next answer, which may be any stored one.
    bounds = [(one, starts[match.session_id] + EARLY) for one, match in by_time if match.session_id is not None]
    others = outcomes_of(connection, sorted(_neighbours(connection, bounds, _AFTER) - numbers))
    return matched([*answers, *(one.answer for one in others)], sessions, kinds, horizon) if others else found


def _dependents(
    connection: Connection, moved: Sequence[Rematched], horizon: timedelta, new: Collection[int]
) -> set[int]:
    """Return the answers whose match depends on one that has changed.

    They are the answers before an answer that a report names now or no longer names, before a new answer with a
    session, and the answers that count for a session which names a new answer.
    """
    reach = horizon + EARLY
    changed, added, named = [], [], []
    for before, after in moved:
        is_new, is_named = after.answer.prediction_id in new, after.match.matched_by == BY_REPORT
        if is_named != (before.match.matched_by == BY_REPORT):
            changed.append((after.answer, after.answer.asked_at - reach))
        elif is_new and after.match.session_id is not None:
            added.append((after.answer, after.answer.asked_at - reach))
        if is_new and is_named:
            named.append(after.answer.prediction_id)
    found = _neighbours(connection, changed, _BEFORE)
    # The new answers themselves have just been matched.
    found |= _neighbours(connection, added, _BEFORE) - set(new)
    return found | (_counting_for(connection, named) if named else set())


def _is_by_time(match: Match) -> bool:
    return match.session_id is not None and match.matched_by != BY_REPORT


def _neighbours(connection: Connection, bounds: Iterable[tuple[Answer, datetime]], side: Mapping[str, str]) -> set[int]:
    """Return the neighbours of answers, _AFTER or _BEFORE them, that are not beyond a moment."""
    rows = [(*one, bound) for one, bound in bounds if one.user_id is not None]
    if not rows:
        return set()
    table, parameters = given(connection, _KEY, rows)
    found = fetched(connection, _NEIGHBOUR.format(given=table, **side), parameters)
    return {neighbour for (neighbour,) in found}


def _counting_for(connection: Connection, named: Sequence[int]) -> set[int]:
    """Return the answers that count, by time, for the sessions whose reports named these answers."""
    which, parameters = among(connection, "n.prediction_id", named)
    asked = (
        "SELECT o.prediction_id FROM session_predictions AS n JOIN outcomes AS o ON o.session_id = n.session_id"  # noqa: S608
        f" WHERE {which} AND o.status = '{MATCHED}' AND o.matched_by <> '{BY_REPORT}'"
    )
    return {number for (number,) in fetched(connection, asked, parameters)}
