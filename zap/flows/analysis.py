"""The Python functions for data scientists: read the history, load a model version, evaluate it again."""

import json
import warnings
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Engine

from zap.db.runs.training_runs import read_run
from zap.db.versions.model_registry import Version, load_version, production_version, read_version
from zap.db.versions.model_registry import version as find_version
from zap.errors import NoModel, NotFound
from zap.flows.changed_scores import reason_of_change
from zap.flows.opened_database import opened_database, usable_history
from zap.flows.trained_sessions import tested_again
from zap.ml.model import ChargerTypeModel
from zap.ml.training import score


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
    with opened_database(database_url) as engine:
        history = usable_history(engine)
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
    with opened_database(database_url) as engine:
        return ChargerTypeModel.from_fitted(load_version(engine, _version(engine, version)))


def evaluate(database_url: str | None = None, *, version: int | None = None) -> dict[str, Any]:
    """Return the evaluation of a version, computed again on its test sessions.

    If the history is unchanged, the result equals `evaluation` of GET /models/{version}, without `windows`,
    `at_plug_in` and `pooled_exponents`: it covers only the last part, its verdict ignores the windows, and no other
    model is fitted. If the scores differ, a warning says why.

    Args:
        database_url: as in `read_history`.
        version: its number. Default: the version in production.

    Raises:
        NoModel, DamagedModel: as in `load_model`.
        NotFound: there is no such version, or it is too old to be evaluated again: it has no fingerprints.
        UnusableHistory: the history has none of the sessions that the version was tested on.
    """
    with opened_database(database_url) as engine:
        chosen = _version(engine, version)
        stored = read_version(engine, chosen.model_version)
        if stored["trees_sha256"] is None or stored["evaluation"] is None:
            raise NotFound(
                f"version {chosen.model_version} cannot be evaluated again: an older zap trained it, and stored no"
                " fingerprints; train a new version"
            )
        options = read_run(engine, stored["run_id"])["options"] or {}
        model = ChargerTypeModel.from_fitted(load_version(engine, chosen))
        frame = usable_history(engine).frame
    split = tested_again(frame, stored, options, model)
    # The scores pass through JSON, as the stored evaluation did, so that both can be compared.
    found: dict[str, Any] = json.loads(json.dumps(score(split, model, stored["tuned_until"])))
    for name in ("windows", "pooled_exponents"):
        found.pop(name, None)
    if changed := reason_of_change(split, stored, found):
        warnings.warn(f"these are not the scores of version {chosen.model_version}'s training: {changed}", stacklevel=2)
    return found


def _version(engine: Engine, number: int | None) -> Version:
    if number is not None:
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise TypeError(f"version is {number!r}; give the number of a version, such as version=3")
        return find_version(engine, int(number))
    serving = production_version(engine)
    if serving is None:
        raise NoModel("nothing was trained yet; train a model with POST /train-model or `zap train`")
    return serving
