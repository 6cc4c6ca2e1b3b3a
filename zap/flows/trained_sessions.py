"""The sessions that a version was trained and tested on, found again in the present history."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from zap.errors import UnusableHistory
from zap.ml.charger_types import places_of_types
from zap.ml.history_matrix import mix_of, past_matrix
from zap.ml.model import ChargerTypeModel
from zap.ml.population_history import PopulationHistory
from zap.ml.training import Split
from zap.sentences import phrase, say


def trained_rows(frame: pd.DataFrame, stored: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[int, int]:
    """Return where the training sessions of a version begin and end in the present history.

    Sessions in this range whose types the version did not learn count in the drivers' histories only.

    Args:
        frame: the cleaned history.
        stored: the version, as `read_version` returns it.
        options: the options of its training.

    Returns:
        The place of the first session, and the place after the last one.
    """
    starts = frame["charging_start_time"].to_numpy(dtype="datetime64[s]")
    since = options.get("history_from")
    first = int(np.searchsorted(starts, np.datetime64(datetime.fromisoformat(since), "s"))) if since else 0
    learned = first + np.flatnonzero(frame["charger_type"].iloc[first:].isin(stored["classes"]).to_numpy())
    n = stored["trained_samples"]
    end = int(learned[n - 1]) + 1 if n <= len(learned) else len(frame)
    last = np.datetime64(stored["trained_until"], "s")
    # Several sessions may have started in one second with the last training session, and some of them may have been
    # test sessions. A session that was added later must not push the last training session out of the range, because
    # the training session would then be reported as missing.
    below, upto = (int(np.searchsorted(starts, last, side)) for side in ("left", "right"))
    return first, min(max(end, below + 1), upto)


def learned_again(  # noqa: PLR0913, PLR0917
    frame: pd.DataFrame,
    types: Sequence[str],
    judged: Sequence[str],
    first: int,
    end: int,
    n_test: int = 0,
    population: PopulationHistory | None = None,
    asked_before: int | None = None,
    delay: int = 0,
) -> Split:
    """Return the split of a version's training, with the types that were learned and tested then.

    Args:
        frame: the cleaned history.
        types: the charger types of the version.
        judged: the types of the version, and the types that occur in its test sessions only.
        first: the place of the first session to train on.
        end: the place after the last session to train on.
        n_test: the most sessions after `end` to test on.
        population: the mix of types of the version. Default: the mix of the sessions to train on.
        asked_before: how many minutes before the start of a session its driver asks; None if the version knows no
            present.
        delay: how many minutes after their start sessions are stored.
    """
    places = places_of_types(frame, first, judged)
    rows = np.arange(len(frame)) if places is None else places
    begun, trained = (int(np.searchsorted(rows, place)) for place in (first, end))
    n_test = min(n_test, len(rows) - trained)
    if places is not None:
        places = places[: trained + n_test]
    some = frame.iloc[: int(rows[trained + n_test - 1]) + 1] if trained + n_test else frame.iloc[:0]
    population = population or mix_of(frame.iloc[rows[begun:trained]], types)
    matrix = past_matrix(some, types, population, places=places, asked_before=asked_before, delay=delay)
    n_train = trained - begun
    asking = Split(some, matrix, tuple(types), begun, n_train, n_test, places=places)
    return replace(asking, asked_before=asked_before, delay=delay)


def tested_again(
    frame: pd.DataFrame, stored: Mapping[str, Any], options: Mapping[str, Any], model: ChargerTypeModel
) -> Split:
    """Return the split of a version's training, with the sessions of the present history.

    Args:
        frame: the cleaned history.
        stored: the version, as `read_version` returns it.
        options: the options of its training.
        model: its model.

    Raises:
        UnusableHistory: the history has none of the sessions that the version was trained or tested on.
    """
    if until := options.get("history_to"):
        starts = frame["charging_start_time"].to_numpy(dtype="datetime64[s]")
        frame = frame.iloc[: int(np.searchsorted(starts, np.datetime64(datetime.fromisoformat(until), "s")))]
    first, end = trained_rows(frame, stored, options)
    types, judged = model.classes_.tolist(), stored["evaluation"]["classes"]
    n_test, population = stored["test_samples"], model.population_
    split = learned_again(frame, types, judged, first, end, n_test, population, model.asked_before, model.delay)
    if split.n_test <= 0 or split.n_train <= 0:
        trained = phrase("the history has none of the sessions that version {number} was trained on")
        tested = phrase("the history has none of the sessions that version {number} was tested on")
        raise UnusableHistory(say(trained if split.n_train <= 0 else tested, number=stored["model_version"]))
    return split
