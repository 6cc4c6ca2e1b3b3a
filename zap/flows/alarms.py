"""The looks for alarms: what can be seen in the database and on this machine, raised and resolved by state.

One process looks, the process that follows. Harm and drift are not looked for here: their monitors raise them.
"""

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import structlog
from sqlalchemy import Engine

from zap.db.engine import file_of, write_transaction
from zap.db.monitoring.alarm_facts import (
    commit_seconds,
    newest_training,
    outcome_days,
    outcome_gaps,
    refused_days,
    seconds_behind,
)
from zap.db.monitoring.alarms import AlarmChange, raise_alarm, resolve_alarm, standing_alarms
from zap.db.versions.model_registry import Version, load_version, production_version
from zap.errors import ZapError
from zap.ml.inference import Predictor
from zap.monitoring.usual_counts import missing, risen, still_missing, still_risen
from zap.sentences import phrase, say
from zap.settings import Settings

log = structlog.get_logger(__name__)

# The pause between two looks.
LOOK_SECONDS = 30.0
# A follower that is this far behind the newest answer is a fault. The alarm ends when the delay is less than half of
# this.
_BEHIND_SECONDS = 60.0
_SLOW_SECONDS = 1.0
# A backlog that is being worked off, or a disk that is slow for a moment, is no alarm: the fault must last this long.
_BEHIND_LASTS = timedelta(minutes=3)
_SLOW_LASTS = timedelta(minutes=1)
# A training that failed longer ago raises no alarm; an alarm that was raised in time stands until a training finishes.
_NEWS = timedelta(days=1)
# An alarm is raised if less room is left than this share of a disk, and less than these bytes. It ends when twice as
# much is left.
_LEAST_SHARE = 0.05
_LEAST_BYTES = 2**30


class Finding(NamedTuple):
    """What a look has found about one subject.

    Attributes:
        subject: what the alarm is about; `` if its kind has only one subject.
        message: the sentence that people read.
        evidence: the figures.
        raises: whether it is bad enough for an alarm; if not, a standing alarm does not end.
        lasts: how long it must be found in every look before the alarm is raised.
    """

    subject: str
    message: str
    evidence: dict[str, Any]
    raises: bool = True
    lasts: timedelta = timedelta(0)


@dataclass
class _Memory:
    """What the looks of one database remember.

    Attributes:
        since: since when each kind and subject has been found in every look.
        loaded: the version in production that could be loaded.
    """

    since: dict[tuple[str, str], datetime] = field(default_factory=dict)
    loaded: Version | None = None


_memories: WeakKeyDictionary[Engine, _Memory] = WeakKeyDictionary()


class _Look(NamedTuple):
    """What a look needs: the database, the settings, the moment, the standing alarms and what was remembered."""

    engine: Engine
    settings: Settings
    now: datetime
    standing: Mapping[tuple[str, str], Mapping[str, Any] | None]
    memory: _Memory


def look_for_alarms(
    engine: Engine, settings: Settings, now: datetime, kinds: Collection[str] | None = None
) -> list[AlarmChange]:
    """Look at everything once; raise and resolve alarms by what is found, and return the changes.

    Call this about every 30 seconds in the one process that follows. A look that is not possible changes nothing about
    the alarms of its kind.

    Args:
        engine: on the database.
        settings: the folders, the time zone, and whether alarms are posted.
        now: the present moment (UTC).
        kinds: look only at these kinds of LOOKS, and change nothing about the others; None for all.

    Raises:
        SQLAlchemyError, DatabaseReplaced: the database does not answer.
    """
    standing = standing_alarms(engine)
    look = _Look(engine, settings, now, standing, _memories.setdefault(engine, _Memory()))
    found: dict[tuple[str, str], Finding] = {}
    looked = set()
    for kind, find in LOOKS.items():
        if kinds is not None and kind not in kinds:
            continue
        try:
            found |= {(kind, one.subject): one for one in find(look)}
        except (OSError, ZapError) as error:
            log.warning("a look for alarms was not possible", kind=kind, error=str(error))
        else:
            looked.add(kind)
    _remember(look.memory, found, looked, now)
    raising = {
        key: one
        for key, one in found.items()
        if one.raises
        and standing.get(key, ...) != one.evidence
        and (key in standing or now - look.memory.since[key] >= one.lasts)
    }
    resolving = [key for key in standing if key[0] in looked and key not in found]
    return _change(look, raising, resolving)


def _remember(memory: _Memory, found: Mapping[tuple[str, str], Finding], looked: Iterable[str], now: datetime) -> None:
    """Remember since when each finding was found; a kind that was not looked at keeps what it has."""
    bad = {key for key, one in found.items() if one.raises}
    kept = {key: since for key, since in memory.since.items() if key in bad or key[0] not in looked}
    memory.since = {**dict.fromkeys(bad, now), **kept}


def _change(
    look: _Look, raising: Mapping[tuple[str, str], Finding], resolving: Iterable[tuple[str, str]]
) -> list[AlarmChange]:
    """Raise and resolve alarms in one transaction, and log the changes after it."""
    resolving = list(resolving)
    if not raising and not resolving:
        return []
    posts = look.settings.alarm_url is not None
    with write_transaction(look.engine) as connection:
        changes = [
            *(resolve_alarm(connection, *key, posts=posts, now=look.now) for key in resolving),
            *(
                raise_alarm(connection, *key, one.message, one.evidence, posts=posts, now=look.now)
                for key, one in raising.items()
            ),
        ]
    told = [change for change in changes if change is not None]
    for change in told:
        change.log()
    return told


def _follower_behind(look: _Look) -> list[Finding]:
    behind = seconds_behind(look.engine)
    if behind is None or behind <= _BEHIND_SECONDS / 2:
        return []
    message = say("An answer has been waiting for the follower for {time}.", time=_in_words(behind))
    evidence = {"seconds_behind": round(behind)}
    return [Finding("", message, evidence, raises=behind > _BEHIND_SECONDS, lasts=_BEHIND_LASTS)]


def _log_slow(look: _Look) -> list[Finding]:
    seconds = commit_seconds(look.engine)
    if seconds <= _SLOW_SECONDS / 2:
        return []
    message = say("A commit of the log took {seconds:.1f} seconds.", seconds=seconds)
    return [Finding("", message, {"seconds": round(seconds, 1)}, raises=seconds > _SLOW_SECONDS, lasts=_SLOW_LASTS)]


def _version_refused(look: _Look) -> list[Finding]:
    version = production_version(look.engine)
    if version is None or version == look.memory.loaded:
        return []
    try:
        Predictor(load_version(look.engine, version), version.model_version)
    except ZapError as error:
        message = say(
            "Version {version} is in production and cannot be loaded: {reason}.",
            version=version.model_version,
            reason=error.message,
        )
        return [Finding(f"version {version.model_version}", message, {"reason": error.message})]
    look.memory.loaded = version
    return []


def _training_failed(look: _Look) -> list[Finding]:
    run = newest_training(look.engine)
    if run is None or run.status == "finished":
        return []
    message = say("Training run {run_id} failed: {reason}.", run_id=run.run_id, reason=run.reason)
    is_news = run.ended_at is None or look.now - run.ended_at < _NEWS
    return [Finding("", message, {"run_id": run.run_id, "reason": run.reason}, raises=is_news)]


def _disk_nearly_full(look: _Look) -> list[Finding]:
    """Look at the disks of the database and of the model file. If they are one disk, it is named once."""
    folders = {phrase("the models"): look.settings.models_dir}
    if file_of(look.engine) is not None:
        folders = {phrase("the database"): Path(str(look.engine.url.database)).parent, **folders}
    disks: dict[int, tuple[str, Path]] = {}
    for name, folder in folders.items():
        if folder.exists():
            disks.setdefault(folder.stat().st_dev, (name, folder))
    findings = []
    for name, folder in disks.values():
        disk = shutil.disk_usage(folder)
        least = min(_LEAST_SHARE * disk.total, _LEAST_BYTES)
        if disk.free < 2 * least:
            message = say(
                "The disk of {name} has {mebibytes:,.0f} MiB left, {share:.1%} of it.",
                name=name,
                mebibytes=disk.free / 2**20,
                share=disk.free / disk.total,
            )
            evidence = {"free_bytes": disk.free, "total_bytes": disk.total}
            findings.append(Finding(f"disk of {name}", message, evidence, raises=disk.free < least))
    return findings


def _no_outcomes(look: _Look) -> list[Finding]:
    """Look for a time without sessions that is longer than usual, although answers wait for sessions.

    The alarm ends with the next arrival of an outcome.
    """
    matured_before = look.settings.wall_time(look.now) - look.settings.horizon
    days = outcome_days(look.engine, matured_before)
    before = look.standing.get(("no_outcomes", ""))
    unusual = missing(days)
    if unusual is None and not (before and still_missing(days)):
        return []
    last, usual = outcome_gaps(look.engine, look.now)
    last_arrival = None if last is None else last.isoformat()
    stands = before is not None and before.get("last_arrival", last_arrival) == last_arrival
    if before and stands and unusual is None:
        return [Finding("", "", dict(before), raises=False)]
    if unusual is None or not (stands or (last and usual and look.now - last > usual.limit)):
        return []
    message = say(
        "Since {since} none of {answers:,} answers with a driver has a session; usually {share:.0%} have one.",
        since=unusual.since.isoformat(),
        answers=unusual.chances,
        share=unusual.usual_share,
    )
    evidence = {
        "since": unusual.since.isoformat(),
        "answers": unusual.chances,
        "usual_share": round(unusual.usual_share, 4),
        "last_arrival": last_arrival,
    }
    if usual is not None:
        longest = usual.longest.total_seconds()
        said = say("The longest usual time between two arrivals of sessions is {time}.", time=_in_words(longest))
        message = f"{message} {said}"
        evidence["longest_usual_gap_hours"] = round(longest / 3600)
    return [Finding("", message, evidence)]


def _refused_requests(look: _Look) -> list[Finding]:
    days = refused_days(look.engine, look.now)
    if unusual := risen(days):
        message = say(
            "On {day} (UTC) {refused:,} of {requests:,} requests were refused; usually {share:.1%} are.",
            day=unusual.since.isoformat(),
            refused=unusual.times,
            requests=unusual.chances,
            share=unusual.usual_share,
        )
        evidence = {
            "day": unusual.since.isoformat(),
            "requests": unusual.chances,
            "refused": unusual.times,
            "usual_share": round(unusual.usual_share, 4),
        }
        return [Finding("", message, evidence)]
    before = look.standing.get(("refused_requests", ""))
    if before and still_risen(days, float(before["usual_share"])):
        return [Finding("", "", dict(before), raises=False)]
    return []


def _in_words(seconds: float) -> str:
    minutes = round(seconds / 60)
    units = ((phrase("days"), 1440), (phrase("hours"), 60), (phrase("minutes"), 1))
    unit, size = next(one for one in units if minutes >= 2 * one[1] or one[1] == 1)
    return f"{minutes / size:,.0f} {unit}"


LOOKS: dict[str, Callable[[_Look], list[Finding]]] = {
    "follower_behind": _follower_behind,
    "log_slow": _log_slow,
    "version_refused": _version_refused,
    "training_failed": _training_failed,
    "disk_nearly_full": _disk_nearly_full,
    "no_outcomes": _no_outcomes,
    "refused_requests": _refused_requests,
}
# While the follower has a backlog, the days are counted only in part, so looks at their counts would be wrong.
WHILE_BEHIND = LOOKS.keys() - {"no_outcomes", "refused_requests"}
