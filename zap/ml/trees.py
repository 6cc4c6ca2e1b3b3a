"""The trees of a model version through LightGBM's C API: one row in microseconds, many rows with many threads.

The calls and their arguments are those of LightGBM's `c_api.h`. Booster.predict gives the same numbers to the bit.
"""

import ctypes
from collections import deque
from typing import Any

import numpy as np
from lightgbm import basic

from zap.errors import DamagedModel

# The library that the package has loaded; it has no public name.
_LIB: Any = basic._LIB  # type: ignore[attr-defined]  # noqa: SLF001
_FLOAT64 = 1
_NORMAL = 0
_ALL_ROUNDS = (0, -1)
_ROW_MAJOR = 1
# One row takes less time than giving up the interpreter's lock and getting it back: this one is kept.
_ONE_ROW = ctypes.PyDLL(_LIB._name).LGBM_BoosterPredictForMatSingleRowFast  # noqa: SLF001 - ctypes documents it
_ONE_ROW.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p)


class _Booster:
    """LightGBM's booster, freed with the last that uses it."""

    def __init__(self, text: str) -> None:
        self.handle = ctypes.c_void_p()
        self.rounds = ctypes.c_int()
        _check(
            _LIB.LGBM_BoosterLoadModelFromString(text.encode(), ctypes.byref(self.rounds), ctypes.byref(self.handle))
        )

    def __del__(self) -> None:
        if self.handle:
            _LIB.LGBM_BoosterFree(self.handle)


class _OneRow:
    """What scores one row at a time: LightGBM's settings for it, and where the result goes."""

    def __init__(self, booster: _Booster, columns: int, outputs: int) -> None:
        # Kept, so that the booster outlives what points to it.
        self._booster = booster
        self.config = ctypes.c_void_p()
        self.length = ctypes.c_int64()
        self.found = (ctypes.c_double * outputs)()
        _check(
            _LIB.LGBM_BoosterPredictForMatSingleRowFastInit(
                booster.handle, _NORMAL, *_ALL_ROUNDS, _FLOAT64, columns, b"num_threads=1", ctypes.byref(self.config)
            )
        )
        self.arguments = (self.config, ctypes.addressof(self.length), ctypes.addressof(self.found))

    def __del__(self) -> None:
        if self.config:
            _LIB.LGBM_FastConfigFree(self.config)


class Trees:
    """A booster that any thread may ask.

    Args:
        text: LightGBM's own text of it.
        columns: how many columns a row has.
        classes: how many classes there are, two or more.

    Raises:
        DamagedModel: LightGBM cannot read the text, or it is a booster of other columns or classes.
    """

    def __init__(self, text: str, columns: int, classes: int) -> None:
        self._booster = _Booster(text)
        self._columns = columns
        # Of two classes LightGBM gives the probability of the second.
        self._outputs = 1 if classes == 2 else classes
        for what, count, expected in (("columns", "NumFeature", columns), ("classes", "NumClasses", self._outputs)):
            found = ctypes.c_int()
            _check(getattr(_LIB, f"LGBM_BoosterGet{count}")(self._booster.handle, ctypes.byref(found)))
            if found.value != expected:
                raise DamagedModel(f"the trees are of {found.value} {what}, not {expected}; train again")
        # Whoever scores a row takes one and gives it back. The first is made here: to make one takes the booster for
        # itself, and would wait for a batch that is being scored.
        self._free = deque([_OneRow(self._booster, columns, self._outputs)])

    def score_row(self, row: bytes) -> list[float]:
        """Probabilities of the classes for one row.

        Args:
            row: float64 numbers in the machine's order, as many as there are columns. Nothing checks that.
        """
        try:
            one = self._free.pop()
        except IndexError:
            one = _OneRow(self._booster, self._columns, self._outputs)
        config, length, found = one.arguments
        _check(_ONE_ROW(config, row, length, found))
        probabilities = one.found[:]
        self._free.append(one)
        return [1.0 - probabilities[0], probabilities[0]] if self._outputs == 1 else probabilities

    def score(self, matrix: np.ndarray, threads: int) -> np.ndarray:
        """Probabilities of shape (n, classes) for a float64 matrix of shape (n, columns)."""
        matrix = np.ascontiguousarray(matrix, dtype=np.float64)
        n, columns = matrix.shape
        if columns != self._columns:
            raise ValueError(f"the matrix has {columns} columns, not {self._columns}")
        found = np.empty((n, self._outputs))
        if n:
            _check(
                _LIB.LGBM_BoosterPredictForMat(
                    self._booster.handle,
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
    """Probabilities of shape (n, classes) from what LightGBM gives, which of two classes is only the second's."""
    found = found[:, None] if found.ndim == 1 else found
    return np.column_stack([1.0 - found, found]) if found.shape[1] == 1 else found


def _check(code: int) -> None:
    if code:
        raise DamagedModel(f"LightGBM cannot use the trees: {_LIB.LGBM_GetLastError().decode()}")
