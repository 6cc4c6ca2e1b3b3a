"""The version of the code that trains, and the versions of the libraries."""

import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from zap import __version__
from zap.ml import code_version as code_version_module
from zap.ml.code_version import NOT_DECIDING, code_version, libraries
from zap.ml.history import RawHistory, clean_history
from zap.ml.sample import sample_history
from zap.ml.training import fit_and_predict, split_by_time


def test_the_libraries_are_those_that_run():
    found = libraries()

    assert found["lightgbm"] == version("lightgbm")
    assert found["numpy"] == np.__version__
    assert found["pandas"] == pd.__version__
    assert {"python", "scikit-learn", "scipy", "joblib", "machine"} < found.keys()
    assert all(isinstance(value, str) and value for value in found.values())


@pytest.fixture
def ml(tmp_path, monkeypatch):
    """Return a copy of the folder `ml`, whose code `version_of_the_code` reads."""
    ml = shutil.copytree(Path(code_version_module.__file__).parent, tmp_path / "ml")
    monkeypatch.setattr(code_version_module, "__file__", str(ml / "code_version.py"))
    return ml


version_of_the_code = code_version.__wrapped__


def test_the_code_version_has_the_version_and_a_hash_of_the_code(ml):
    """The hash does not depend on the place of the installation, and changes with every line of code."""
    here = version_of_the_code()

    assert here == code_version()
    assert here.startswith(f"{__version__}+")
    with (ml / "user_history.py").open("a") as code:
        code.write("PRIOR_WEIGHT = 2.0\n")
    assert version_of_the_code() != here
    assert version_of_the_code().startswith(f"{__version__}+")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Boosting: fit', '"""Boosting: quickly fit'),
        ('"""Fit a booster to a matrix', '"""Fit some trees to a matrix'),
        ("# The shortest time", "# The least time"),
        ("_TOLD_SHARE = 100\n", "_TOLD_SHARE = (\n    100\n)  # per mille\n"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(ml, old, new):
    here = version_of_the_code()
    code = (ml / "boosting.py").read_text()
    assert old in code
    (ml / "boosting.py").write_text(code.replace(old, new))

    assert version_of_the_code() == here


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("_ROWS_PER_THREAD = 20_000", "_ROWS_PER_THREAD = 20_001"),
        ("_TOLD_SECONDS = 0.2", "_TOLD_SECONDS = None"),
        ("return trees, found\n", "return trees, found[0]\n"),
    ],
)
def test_every_constant_of_a_deciding_module_counts(ml, old, new):
    here = version_of_the_code()
    code = (ml / "boosting.py").read_text()
    assert old in code
    (ml / "boosting.py").write_text(code.replace(old, new))

    assert version_of_the_code() != here


def test_only_modules_that_decide_count(ml):
    here = version_of_the_code()
    for name in NOT_DECIDING:
        (ml / f"{name}.py").write_text("ANOTHER = 1\n")
    assert version_of_the_code() == here

    (ml / "later.py").write_text("ANOTHER = 1\n")
    assert version_of_the_code() != here


def test_every_module_that_a_fit_runs_counts():
    """Only modules that exist are named as not deciding, and a fit runs none of them but the one that frees memory."""
    ml, run = Path(code_version_module.__file__).parent, set()

    def note(running, event, _):
        if event == "call" and running.f_code.co_name != "<module>":
            run.add(Path(running.f_code.co_filename))

    sample = sample_history(seed=7, drivers=20, months=3)
    raw = RawHistory(
        sample.users,
        sample.vehicles.assign(vehicle_id=range(len(sample.vehicles))),
        sample.sessions.assign(session_id=range(len(sample.sessions)), vehicle_id=None),
    )
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        fit_and_predict(split_by_time(clean_history(raw)), {"n_estimators": 3}, n_jobs=1)
    finally:
        sys.setprofile(before)

    names = {path.stem for path in run if path.parent == ml}
    assert {"history", "features", "user_history", "boosting", "missing", "cold", "charger_types", "model"} <= names
    assert names & NOT_DECIDING.keys() == {"memory"}
    assert {f"{name}.py" for name in NOT_DECIDING} <= {path.name for path in ml.iterdir()}
    assert all(NOT_DECIDING.values())


def test_the_version_of_the_code_is_read_once():
    assert code_version() is code_version()
