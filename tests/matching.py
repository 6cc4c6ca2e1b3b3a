"""The definition of what happened after an answer, word for word and slow."""

from datetime import timedelta

from zap.monitoring.matching import Match

EARLY = timedelta(minutes=15)


def first_session(answer, sessions, horizon):
    """Return the driver's first session from 15 minutes before to `horizon` after the moment asked about, or None."""
    theirs = [
        one
        for one in sessions
        if answer.user_id is not None
        and one.user_id == answer.user_id
        and answer.asked_at - EARLY <= one.start <= answer.asked_at + horizon
    ]
    return min(theirs, key=lambda one: (one.start, one.session_id), default=None)


def what_happened(answer, answers, sessions, horizon):
    """Return the match of one of all answers with all sessions."""
    named = {one.prediction_id for one in sessions}
    naming = [one for one in sessions if one.prediction_id == answer.prediction_id]
    if naming:
        return _with(answer, min(naming, key=lambda one: (one.start, one.session_id)), "matched", "report", None)
    if answer.user_id is None:
        return Match("no_driver")
    session = first_session(answer, sessions, horizon)
    if session is None:
        return Match("waiting")
    later = [
        one
        for one in answers
        if (one.asked_at, one.prediction_id) > (answer.asked_at, answer.prediction_id)
        and (one.user_id, one.kind) == (answer.user_id, answer.kind)
        and one.prediction_id not in named
        and first_session(one, sessions, horizon) == session
    ]
    if later:
        following = min(later, key=lambda one: (one.asked_at, one.prediction_id))
        return _with(answer, session, "superseded", "time", following.prediction_id)
    if any((one.prediction_id, one.kind) == (session.prediction_id, answer.kind) for one in answers):
        return _with(answer, session, "superseded", "time", session.prediction_id)
    return _with(answer, session, "matched", "time", None)


def _with(answer, session, status, matched_by, superseded_by):
    lag = int((session.start - answer.asked_at).total_seconds())
    return Match(status, session.session_id, session.charger_type, lag, matched_by, superseded_by)
