"""The trials: begin one, read them, and store what a trial remembers and what it has found."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

from sqlalchemy import Connection, Engine, RowMapping, func, insert, select, text, update
from sqlmodel import col

from zap.db.audit import note
from zap.db.monitoring_tables import Trial
from zap.db.stored_json import readable, reading
from zap.db.tables import ModelVersion, Prediction, utc_now
from zap.db.versions.promotions import serving_version
from zap.errors import DamagedRow, NotFound, TrialRefused
from zap.formats.promotion_reason import Reason
from zap.formats.trial_options import TrialOptions
from zap.monitoring.trials import CAVEAT
from zap.monitoring.trials import Trial as Comparison
from zap.sentences import say

# The most trials that run at once. Each gets an equal share of the rate of false promotions from its start, even if no
# other trial runs: so a trial that begins later takes nothing from the trials that run already.
MOST_RUNNING = 4
# The status is in the text, because PostgreSQL's generic plans would not use the partial index for a bound value.
_RUNNING = text("trials.status = 'running'")
_TABLE = Trial.__table__  # type: ignore[attr-defined]


class Progress(NamedTuple):
    """What a running trial remembers.

    Attributes:
        comparison: the looks so far.
        prediction_id: the challenger has answered the requests up to this answer of the champion.
        answered: the requests that it has answered.
        refused: the requests that it would have refused, although the champion answered them.
    """

    comparison: Comparison
    prediction_id: int
    answered: int = 0
    refused: int = 0

    def to_plain(self) -> dict[str, Any]:
        """Return the progress as JSON."""
        return self._asdict() | {"comparison": self.comparison.to_plain()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Return the progress that `to_plain` described."""
        return cls(**{**plain, "comparison": Comparison.from_plain(plain["comparison"])})


class RunningTrial(NamedTuple):
    """A trial that runs."""

    trial_id: int
    model_version: int
    champion_version: int
    on_better: str
    started_at: datetime
    longest_until: datetime
    progress: Progress


def begin_trial(connection: Connection, number: int, options: TrialOptions) -> int:
    """Begin a trial of a version beside the version in production. Return the number of the trial.

    Args:
        connection: a transaction that writes.
        number: the version: the challenger.
        options: the options of the trial.

    Raises:
        NotFound: there is no such version.
        TrialRefused: the version cannot be on trial now.
    """
    # This waits for other changes of the version in production, and for other trials that begin.
    champion = serving_version(connection)
    this = col(ModelVersion.model_version) == number
    stored = connection.execute(select(col(ModelVersion.artefact).is_not(None)).where(this)).one_or_none()
    if stored is None:
        raise NotFound(say("there is no model version {number}", number=number))
    if champion is None:
        raise TrialRefused(
            say("no version serves, so version {number} cannot be compared; promote it instead", number=number)
        )
    if champion == number:
        raise TrialRefused(
            say("version {number} serves already; a trial compares another version with it", number=number),
            model_versions=[number],
        )
    if not stored[0]:
        raise TrialRefused(
            say("the artefact of version {number} was pruned, so it cannot answer; train again", number=number),
            model_versions=[number],
        )
    on_trial = connection.execute(_running(_TABLE.c.model_version, _TABLE.c.trial_id))
    running = {row.model_version: row.trial_id for row in on_trial}
    if number in running:
        raise TrialRefused(
            say("version {number} is on trial already, in trial {trial}", number=number, trial=running[number]),
            model_versions=[number],
        )
    if len(running) >= MOST_RUNNING:
        versions = ", ".join(map(str, sorted(running)))
        raise TrialRefused(
            say(
                "{n} trials run already, of versions {versions}; more cannot share the rate of false"
                " promotions. End one of them first: zap models end-trial VERSION",
                n=len(running),
                versions=versions,
            ),
            model_versions=sorted(running),
        )
    return _insert(connection, number, champion, options)


def _insert(connection: Connection, number: int, champion: int, options: TrialOptions) -> int:
    last = connection.scalar(select(func.max(col(Prediction.prediction_id)))) or 0
    now = utc_now()
    comparison = Comparison(epsilon=options.epsilon, looks=options.weeks, challengers=MOST_RUNNING)
    message = say(
        "Version {number} answers the requests to version {champion} too, and nobody sees its answers. The first"
        " look is about the first week, as soon as the outcomes of the week are known. {caveat}",
        number=number,
        champion=champion,
        caveat=CAVEAT,
    )
    row = {
        "model_version": number,
        "champion_version": champion,
        "status": "running",
        "epsilon": options.epsilon,
        "on_better": options.on_better,
        "started_at": now,
        "longest_until": now + timedelta(weeks=options.weeks),
        "after_prediction_id": last,
        "state": Progress(comparison, last).to_plain(),
        "evidence": {"message": message},
        "who": options.who,
        "why": options.why,
    }
    trial_id: int = connection.execute(insert(Trial).returning(col(Trial.trial_id)), row).scalar_one()
    after = {"model_version": number, "champion_version": champion, **options.model_dump()}
    note(connection, "trial.begin", f"trial {trial_id}", after=after)
    return trial_id


def running_trials(engine: Engine) -> list[RunningTrial]:
    """Return the trials that run, oldest first. This is one query on an index that has only such trials.

    A trial that remembers nothing readable cannot go on, so it is left out; `trials_now` has it.
    """
    names = [name for name in RunningTrial._fields if name != "progress"]
    with engine.connect() as connection:
        rows = connection.execute(_running(*(_TABLE.c[name] for name in names), _TABLE.c.state)).mappings().all()
    progress = [(row, _progress(row)) for row in rows]
    return sorted(
        RunningTrial(**{name: row[name] for name in names}, progress=known)
        for row, known in progress
        if known is not None
    )


def trials_now(engine: Engine) -> list[dict[str, Any]]:
    """Return the trials that run, oldest first, each as `read_trial` does."""
    with engine.connect() as connection:
        rows = connection.execute(_running(*_TABLE.columns).order_by(_TABLE.c.trial_id)).mappings()
        return [_described(row) for row in rows]


def list_trials(engine: Engine, limit: int, before: int | None = None) -> list[dict[str, Any]]:
    """Return the newest trials, newest first, each as `read_trial` does.

    Args:
        engine: on the database.
        limit: the most trials to return.
        before: return trials with a smaller number.
    """
    trials = select(_TABLE).order_by(col(Trial.trial_id).desc()).limit(limit)
    if before is not None:
        trials = trials.where(col(Trial.trial_id) < before)
    with engine.connect() as connection:
        return [_described(row) for row in connection.execute(trials).mappings()]


def newest_trial(engine: Engine, number: int) -> dict[str, Any] | None:
    """Return the newest trial of a version, as `read_trial` does; None if it was never on trial."""
    of_version = select(_TABLE).where(col(Trial.model_version) == number)
    with engine.connect() as connection:
        row = connection.execute(of_version.order_by(col(Trial.trial_id).desc()).limit(1)).mappings().one_or_none()
    return None if row is None else _described(row)


def read_trial(engine: Engine, trial_id: int) -> dict[str, Any]:
    """Return a trial: its columns, without its state; its longest time in `weeks`, and how many requests it answered.

    What cannot be read is None, and `unreadable` has its names; the evidence then says in words that it cannot be read.

    Raises:
        NotFound: there is no such trial.
    """
    with engine.connect() as connection:
        row = connection.execute(select(_TABLE).where(col(Trial.trial_id) == trial_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(say("there is no trial {trial_id}", trial_id=trial_id))
    return _described(row)


def end_trial(connection: Connection, number: int, reason: Reason) -> int:
    """End the running trial of a version, because a person asks for it. Return the number of the trial.

    Args:
        connection: a transaction that writes.
        number: the version that is on trial.
        reason: who ends the trial, and why.

    Raises:
        NotFound: the version is not on trial.
    """
    of_version = _running(_TABLE.c.trial_id, _TABLE.c.evidence).where(col(Trial.model_version) == number)
    row = connection.execute(of_version).one_or_none()
    if row is None or not conclude(connection, row.trial_id, "ended", row.evidence, _ended_in_words(reason)):
        raise NotFound(say("version {number} is not on trial", number=number))
    trial_id: int = row.trial_id
    return trial_id


def _ended_in_words(reason: Reason) -> str:
    who, why = reason.who, reason.why
    if who and why:
        return say("The trial was ended by {who:s}: {why:s}.", who=who, why=why)
    if who:
        return say("The trial was ended by {who:s}.", who=who)
    return say("The trial was ended: {why:s}.", why=why) if why else say("The trial was ended.")


def conclude(connection: Connection, trial_id: int, status: str, evidence: Mapping[str, Any], message: str) -> bool:
    """End a running trial. Return False if it has ended already, and then change nothing.

    Args:
        connection: a transaction that writes.
        trial_id: the trial.
        status: a verdict, or `ended`.
        evidence: the figures of the newest look.
        message: why the trial ended; it is put before what the newest look has found.
    """
    # Before the first look, the message says what will happen, which it does not any more.
    found = evidence["message"] if "verdict" in evidence else CAVEAT
    whole = {**evidence, "message": f"{message} {found}".strip()}
    if not _store(connection, trial_id, status=status, ended_at=utc_now(), evidence=whole):
        return False
    after = {"status": status, "message": whole["message"]}
    note(connection, "trial.end", f"trial {trial_id}", before={"status": "running"}, after=after)
    return True


def store_progress(connection: Connection, trial_id: int, progress: Progress, **more: Any) -> bool:
    """Store what a running trial remembers. Return False if it has ended, and then change nothing.

    Args:
        connection: a transaction that writes.
        trial_id: the trial.
        progress: what it remembers.
        more: other columns to store.
    """
    return _store(connection, trial_id, state=progress.to_plain(), **more)


def read_evidence(connection: Connection, trial_id: int) -> dict[str, Any]:
    """Return the figures of the newest look of a trial, with their message."""
    of_trial = select(_TABLE.c.evidence).where(col(Trial.trial_id) == trial_id)
    evidence: dict[str, Any] = connection.execute(of_trial).scalar_one()
    return evidence


def _store(connection: Connection, trial_id: int, **values: Any) -> bool:
    this = update(Trial).where(col(Trial.trial_id) == trial_id, _RUNNING).values(**values)
    return connection.execute(this).rowcount == 1


def _running(*columns: Any) -> Any:
    return select(*columns).where(_RUNNING)


def _described(row: RowMapping) -> dict[str, Any]:
    hidden = {"state", "after_prediction_id"}
    progress = _progress(row)
    found = readable({name: value for name, value in row.items() if name not in hidden})
    if found["evidence"] is None:
        found["evidence"] = {"message": "What the looks have found cannot be read."}
    if progress is None:
        found["unreadable"].append("state")
        return found | dict.fromkeys(("weeks", "answered", "refused"))
    return found | {
        "weeks": progress.comparison.looks,
        "answered": progress.answered,
        "refused": progress.refused,
    }


def _progress(row: RowMapping) -> Progress | None:
    """Return what a trial remembers; None if it cannot be read."""
    try:
        with reading(say("what trial {trial} remembers", trial=row["trial_id"])):
            return Progress.from_plain(row["state"])
    except DamagedRow:
        return None
