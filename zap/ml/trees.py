"""Trees: the scorer that LightGBM fits. It scores one row in microseconds, and many rows with many threads.

It calls LightGBM's C API. LightGBM's `c_api.h` documents the calls and their arguments. The results are bit-identical
to Booster.predict.
"""

import ctypes
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Self

import lightgbm
import numpy as np
from lightgbm import basic

from zap.errors import DamagedModel
from zap.ml.fitted import booster_columns, column_places, sha256
from zap.sentences import say

# The C library that the package `lightgbm` has loaded. The package has no public name for this library.
_LIB: Any = basic._LIB  # type: ignore[attr-defined]  # noqa: SLF001
_FLOAT64 = 1
_NORMAL = 0
_ALL_ROUNDS = (0, -1)
_ROW_MAJOR = 1
# This call keeps the interpreter's lock, because scoring one row takes less time than releasing and taking the lock.
_ONE_ROW = ctypes.PyDLL(_LIB._name).LGBM_BoosterPredictForMatSingleRowFast  # noqa: SLF001 - ctypes documents it
_ONE_ROW.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p)


class _OneRow:
    """The state for scoring one row at a time: LightGBM's configuration, and the memory for the result."""

    def __init__(self, booster: lightgbm.Booster, columns: int, outputs: int) -> None:
        # The configuration points to the booster, so this reference keeps the booster alive.
        self._booster = booster
        self.config = ctypes.c_void_p()
        self.length = ctypes.c_int64()
        self.found = (ctypes.c_double * outputs)()
        _check(
            _LIB.LGBM_BoosterPredictForMatSingleRowFastInit(
                _handle(booster), _NORMAL, *_ALL_ROUNDS, _FLOAT64, columns, b"num_threads=1", ctypes.byref(self.config)
            )
        )
        self.arguments = (self.config, ctypes.addressof(self.length), ctypes.addressof(self.found))

    def __del__(self) -> None:
        if self.config:
            _LIB.LGBM_FastConfigFree(self.config)


class Trees:
    """A LightGBM booster as a scorer, which any thread may use.

    Args:
        text: LightGBM's text of the booster.
        columns: the number of columns of a row.
        classes: the number of classes, two or more.

    Raises:
        DamagedModel: LightGBM cannot read the text, or the booster has another number of columns or classes.
    """

    def __init__(self, text: str, columns: int, classes: int) -> None:
        try:
            self.booster = lightgbm.Booster(model_str=text)
        except basic.LightGBMError as error:
            raise DamagedModel(say("LightGBM cannot use the trees: {error}", error=error)) from error
        self._columns = columns
        # With two classes LightGBM returns only the probability of the second class.
        self._outputs = 1 if classes == 2 else classes
        found = {"columns": self.booster.num_feature(), "classes": self.booster.num_model_per_iteration()}
        for what, expected in (("columns", columns), ("classes", self._outputs)):
            if found[what] != expected:
                raise DamagedModel(f"the trees have {found[what]} {what} instead of {expected}; train again")
        # The free states: a call of `score_row` takes a state and puts it back. Making a state locks the booster. The
        # first state is made here, so that a single request does not wait for the lock while a batch is scored.
        self._free = deque([_OneRow(self.booster, columns, self._outputs)])

    @classmethod
    def from_data(cls, data: Mapping[str, Any], columns: Sequence[str], classes: Sequence[str]) -> Self:
        """Return the trees that were stored as data; `Scorer.from_data` defines the arguments and errors."""
        trees = cls(data["trees"], len(columns), len(classes))
        names, places = booster_columns(len(classes)), column_places(columns, classes)
        if trees.booster.feature_name() != (names if places is None else [names[place] for place in places]):
            raise DamagedModel(
                say("the trees of the artefact read other columns than it names; train again with this code")
            )
        return trees

    def data(self) -> dict[str, Any]:
        """Return LightGBM's text of the booster."""
        return {"trees": self.booster.model_to_string()}

    def digest(self) -> str:
        """Return the SHA-256 of the trees: of the tree section of the booster's text, without the parameters."""
        text = self.booster.model_to_string()
        return sha256(text[text.index("\nTree=") : text.index("end of trees")].encode())

    def score_row(self, row: bytes) -> list[float]:
        """Return the probabilities of the classes for one row.

        Args:
            row: one float64 number for each column, in the machine's byte order. The length is not checked.
        """
        try:
            one = self._free.pop()
        except IndexError:
            one = _OneRow(self.booster, self._columns, self._outputs)
        config, length, found = one.arguments
        _check(_ONE_ROW(config, row, length, found))
        probabilities = one.found[:]
        self._free.append(one)
        return [1.0 - probabilities[0], probabilities[0]] if self._outputs == 1 else probabilities

    def score(self, matrix: np.ndarray, threads: int) -> np.ndarray:
        """Return probabilities of shape (n, classes) for a float64 matrix of shape (n, columns).

        Raises:
            ValueError: the matrix has another number of columns.
        """
        matrix = np.ascontiguousarray(matrix, dtype=np.float64)
        n, columns = matrix.shape
        if columns != self._columns:
            raise ValueError(f"the matrix has {columns} columns, not {self._columns}")
        found = np.empty((n, self._outputs))
        if n:
            _check(
                _LIB.LGBM_BoosterPredictForMat(
                    _handle(self.booster),
                    ctypes.c_void_p(matrix.ctypes.data),
                    _FLOAT64,
                    ctypes.c_int32(n),
                    ctypes.c_int32(columns),
                    _ROW_MAJOR,
                    _NORMAL,
                    *_ALL_ROUNDS,
                    f"num_threads={threads}".encode(),
                    ctypes.byref(ctypes.c_int64()),
                    ctypes.c_void_p(found.ctypes.data),
                )
            )
        return of_all_classes(found)


def of_all_classes(found: np.ndarray) -> np.ndarray:
    """Return probabilities of shape (n, classes) from a result of LightGBM.

    For two classes, the result has only the probability of the second class.
    """
    found = found[:, None] if found.ndim == 1 else found
    return np.column_stack([1.0 - found, found]) if found.shape[1] == 1 else found


def _handle(booster: lightgbm.Booster) -> ctypes.c_void_p:
    # The package has no public name for the handle that its C API takes.
    return booster._handle  # noqa: SLF001


def _check(code: int) -> None:
    if code:
        raise DamagedModel(say("LightGBM cannot use the trees: {error}", error=_LIB.LGBM_GetLastError().decode()))
