"""The export of an artefact: the bytes of a file that `joblib.load` turns into an estimator."""

import io
from collections.abc import Callable
from typing import Any

import joblib

from zap.ml.model import ChargerTypeModel, restored

# This is not pickle's newest protocol, so that machines with other versions of Python write the file with equal bytes.
_PROTOCOL = 4


def exported(artefact: bytes) -> bytes:
    """Return the model file of an artefact. It contains the unchanged artefact: equal artefacts give equal files."""
    buffer = io.BytesIO()
    joblib.dump(_Estimator(artefact), buffer, protocol=_PROTOCOL)
    return buffer.getvalue()


class _Estimator:
    """An object whose pickle is loaded as a ChargerTypeModel."""

    def __init__(self, artefact: bytes) -> None:
        self._artefact = artefact

    def __reduce__(self) -> tuple[Callable[[bytes], ChargerTypeModel], tuple[Any, ...]]:
        return restored, (self._artefact,)
