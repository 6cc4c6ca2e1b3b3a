"""The Python functions for data scientists: read the history, load a model version, evaluate it again."""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from zap.db.engine import create_engine
from zap.db.history import history_store
from zap.db.runs.training_runs import read_run
from zap.db.schema import check_at_head
from zap.db.versions.model_registry import Version, load_version, production_version, read_version
from zap.db.versions.model_registry import version as find_version
from zap.errors import DatabaseUnavailable, NoModel, NotFound, UnusableHistory
from zap.flows.reproduction import changed_months, learned_again, trained_rows
from zap.ml.fingerprint import rows_fingerprint
from zap.ml.history import History, clean_history
from zap.ml.model import ChargerTypeModel
from zap.ml.training import Split, score
from zap.settings import read_settings


def read_history(database_url: str | None = None) -> pd.DataFrame:
    """Return the cleaned charging sessions of a database. The database is only read.

    Args:
        database_url: such as `sqlite:///FILE`. Default: the setting ZAP_DATABASE_URL.

    Returns:
        One row a session, ordered by start and then session_id: `session_id`, `user_id`, `vehicle_id`, `charger_type`,
        the columns of FEATURES in natural units, and values that are known only after the session:
        `charging_end_time`, `energy_consumed_kwh`, `charging_duration_hours`. Values that cannot be used are missing.
        `frame.attrs["dropped"]` counts dropped sessions and values, and `frame.attrs["synthetic_sessions"]` counts the
        sessions that `zap sample-history` made.

    Raises:
        DatabaseUnavailable: there is no such database, or it cannot be opened.
        DatabaseBehind: the database has to be upgraded first, with `zap db upgrade`.
        UnusableHistory: the history has no usable session.
    """
    with _database(database_url) as engine:
        history = _history(engine)
    frame = history.frame
    frame.attrs |= {"dropped": history.dropped.as_dict(), "synthetic_sessions": history.synthetic_sessions}
    return frame


def load_model(database_url: str | None = None, *, version: int | None = None) -> ChargerTypeModel:
    """Return the model of a version, after the checks before serving: its digest, columns and golden requests.

    Args:
        database_url: as in `read_history`.
        version: its number. Default: the version in production.

    Raises:
        NoModel: nothing was trained yet.
        NotFound: there is no version with this number.
        DamagedModel: the stored bytes cannot be used. The message says what differs.
    """
    with _database(database_url) as engine:
        return ChargerTypeModel.from_fitted(load_version(engine, _version(engine, version)))


def evaluate(database_url: str | None = None, *, version: int | None = None) -> dict[str, Any]:
    """Return the evaluation of a version, computed again on its test sessions.

    If the history is unchanged, the result equals `evaluation` of GET /models/{version}, without `windows`: it covers
    only the last part, and its verdict ignores the windows. If the scores differ, a warning says why.

    Args:
        database_url: as in `read_history`.
        version: its number. Default: the version in production.

    Raises:
        NoModel, DamagedModel: as in `load_model`.
        NotFound: there is no such version, or it is too old to be evaluated again: it has no fingerprints.
        UnusableHistory: the history has none of the sessions that the version was tested on.
    """
    with _database(database_url) as engine:
        chosen = _version(engine, version)
        stored = read_version(engine, chosen.model_version)
        if stored["trees_sha256"] is None or stored["evaluation"] is None:
            raise NotFound(
                f"version {chosen.model_version} cannot be evaluated again: an older zap trained it, and stored no"
                " fingerprints; train a new version"
            )
        options = read_run(engine, stored["run_id"])["options"] or {}
        model = ChargerTypeModel.from_fitted(load_version(engine, chosen))
        frame = _history(engine).frame
    split = _tested_again(frame, stored, options, model)
    # The scores pass through JSON, as the stored evaluation did, so that both can be compared.
    found: dict[str, Any] = json.loads(json.dumps(score(split, model, stored["tuned_until"])))
    found.pop("windows", None)
    if changed := _changed(split, stored, found):
        warnings.warn(f"these are not the scores of version {chosen.model_version}'s training: {changed}", stacklevel=2)
    return found


@contextmanager
def _database(database_url: str | None) -> Iterator[Engine]:
    """Yield an engine on a database at head, and raise zap's errors if the database cannot be used."""
    given: object = database_url
    if given is not None and not isinstance(given, str):
        hint = f'"sqlite:///{given}"' if isinstance(given, Path) else '"sqlite:///FILE"'
        raise TypeError(
            f"the first argument must be the URL of the database, a text such as {hint}; it is {given!r}."
            " Pass a version by name: version=3"
        )
    settings = read_settings(database_url=database_url)
    url = settings.url
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        raise DatabaseUnavailable(
            f"there is no file {url.database} (from {Path.cwd()}); give the URL of the database,"
            ' such as zap.read_history("sqlite:///FILE"), or set ZAP_DATABASE_URL'
        )
    engine = create_engine(settings.database_url, sqlite_synchronous=settings.sqlite_synchronous)
    try:
        check_at_head(engine)
        yield engine
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise DatabaseUnavailable(f"{settings.shown_url}: {reason}") from error
    finally:
        engine.dispose()


def _history(engine: Engine) -> History:
    history = clean_history(history_store.read_history(engine))
    if history.frame.empty:
        dropped = history.dropped.as_dict()
        why = f"none of its sessions is usable: {dropped['rows']}" if dropped["rows"] else "there is no session"
        raise UnusableHistory(
            f"the database has no history, {why}; add sessions with zap import-history or zap sample-history",
            dropped=dropped,
        )
    return history


def _version(engine: Engine, number: int | None) -> Version:
    if number is not None:
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise TypeError(f"version is {number!r}; give the number of a version, such as version=3")
        return find_version(engine, int(number))
    serving = production_version(engine)
    if serving is None:
        raise NoModel("nothing was trained yet; train a model with POST /train-model or `zap train`")
    return serving


def _tested_again(
    frame: pd.DataFrame, stored: Mapping[str, Any], options: Mapping[str, Any], model: ChargerTypeModel
) -> Split:
    """Return the split of a version's training, with the sessions of the present history."""
    if until := options.get("history_to"):
        starts = frame["charging_start_time"].to_numpy(dtype="datetime64[s]")
        frame = frame.iloc[: int(np.searchsorted(starts, np.datetime64(datetime.fromisoformat(until), "s")))]
    first, end = trained_rows(frame, stored, options)
    types, judged = model.classes_.tolist(), stored["evaluation"]["classes"]
    split = learned_again(frame, types, judged, first, end, stored["test_samples"], model.population_)
    if split.n_test <= 0 or split.n_train <= 0:
        which = "trained" if split.n_train <= 0 else "tested"
        raise UnusableHistory(
            f"the history has none of the sessions that version {stored['model_version']} was {which} on"
        )
    return split


def _changed(split: Split, stored: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """Return why the scores differ from the scores of the training; None if they are equal."""
    causes = []
    now = rows_fingerprint(split.frame.iloc[: split.trained_end], stored["contract"]["fields"])
    if now.sha256 != stored["rows_sha256"]:
        months = changed_months(stored["rows_by_month"], now)
        told = [f"{month} ({_difference(**one)})" for month, one in months.items()]
        causes.append(f"the training sessions, or sessions before them, have changed in {', '.join(told)}")
    if split.n_test < stored["test_samples"]:
        causes.append(f"only {split.n_test} of the {stored['test_samples']} test sessions still exist")
    if causes:
        return "; and ".join(causes)
    then = stored["evaluation"]
    # Scores that follow from windows, such as the verdict, are not compared, because windows are not computed again.
    same = [name for name in found if name in then and name not in (then["windows"] or {})]
    if others := [name for name in same if found[name] != then[name]]:
        return f"the test sessions have changed, or the code that computes scores has ({', '.join(others)} differ)"
    return None


def _difference(then: int, now: int) -> str:
    """Return in words how the sessions of a month have changed."""
    return f"values changed in its {now} sessions" if then == now else f"{then} sessions then, {now} now"
