"""QualitySums: the sums from which the quality of one version is computed, for one day and one kind of outcomes.

All sums are whole numbers of 64 bits. So adding an outcome and taking it away again is exact, the order does not
matter, and sums that were changed a thousand times equal sums that were computed from nothing. A log loss or a
probability is counted in units of 2^-36, so the mean over any number of sessions is exact to 2^-37 (7e-12). The largest
log loss of a session, -ln(1e-15), is 2.4e12 units: 3.8 million such sessions of one day would fit into 64 bits.

The drivers of a day are put into GROUPS groups by a hash of their ids, because the sums of each driver would take too
much room. Groups of drivers are as independent as drivers are, so intervals over groups are intervals over drivers.
"""

import json
import struct
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from math import prod
from typing import NamedTuple

import numpy as np

from zap.errors import DamagedModel
from zap.ml.calibration import BINS
from zap.ml.slices import SLICES
from zap.sentences import say

UNIT = 2.0**-36
GROUPS = 1024
# All sessions, and then each slice.
PARTS = ("all", *(f"{group} {name}" for group, names in SLICES.items() for name in names))
# The place in PARTS of the first slice of each group of slices.
FIRST_PLACES = dict(zip(SLICES, (1, 1 + len(SLICES["by_earlier_sessions"])), strict=True))
# The columns of the bins of confidence: of all answers, and of the answers with an outcome that is scored.
BIN_COLUMNS = ("answers", "confidence", "sessions", "confidence_of_sessions", "right")
_FORMAT = 1
_HEAD = struct.Struct("<BI")
# A higher level makes the bytes 4 % smaller, and takes three times as long.
_LEVEL = 1


class Layout(NamedTuple):
    """What the sums of a version are about.

    Attributes:
        classes: the k types of the version.
        predictors: `model`, and then the names of the baselines that can be computed.
    """

    classes: tuple[str, ...]
    predictors: tuple[str, ...]

    def places(self) -> dict[str, tuple[slice, tuple[int, ...]]]:
        """Return where the arrays of QualitySums stand in `fixed`, and their shapes."""
        return _places(self)

    @property
    def group_columns(self) -> int:
        """Return the number of columns of a group: sessions, log losses, and support, hits and predictions by type."""
        return 1 + len(self.predictors) + 3 * len(self.classes)


@lru_cache(maxsize=32)
def _places(layout: Layout) -> dict[str, tuple[slice, tuple[int, ...]]]:
    k, p, parts = len(layout.classes), len(layout.predictors), len(PARTS)
    shapes: dict[str, tuple[int, ...]] = {
        # Each with a row for each of PARTS.
        "support": (parts, k),
        "hits": (parts, p, k),
        "predictions": (parts, p, k),
        "log_loss": (parts, p),
        # Of all sessions, for the model only.
        "confusion": (k, k),
        "bins": (BINS, len(BIN_COLUMNS)),
    }
    ends = list(accumulate(map(prod, shapes.values())))
    return {
        name: (slice(end - prod(shape), end), shape) for (name, shape), end in zip(shapes.items(), ends, strict=True)
    }


@dataclass
class QualitySums:
    """The sums of one version, or of one version and day.

    Attributes:
        layout: what the sums are about.
        fixed: the arrays of `Layout.places`, one after the other.
        groups: of shape (GROUPS, layout.group_columns): the sums of each group of drivers.
        unseen: for each type that the version does not know, the sessions in each of PARTS, and then how often the
            version predicted each of its own types for these sessions. They have no log loss here, because it depends
            on how many such types there are (`zap.ml.unseen`).
    """

    layout: Layout
    fixed: np.ndarray
    groups: np.ndarray
    unseen: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def empty(cls, layout: Layout) -> "QualitySums":
        """Return sums of nothing."""
        size = max(place.stop for place, _ in layout.places().values())
        return cls(layout, np.zeros(size, np.int64), np.zeros((GROUPS, layout.group_columns), np.int64))

    def array(self, name: str) -> np.ndarray:
        """Return an array of `Layout.places`, which is a view of `fixed`."""
        place, shape = self.layout.places()[name]
        return self.fixed[place].reshape(shape)

    @property
    def sessions(self) -> int:
        """Return the number of scored sessions."""
        return int(self.groups[:, 0].sum())

    def unseen_of(self, name: str) -> np.ndarray:
        """Return the sums of a type that the version does not know, to be changed in place."""
        return self.unseen.setdefault(name, np.zeros(len(PARTS) + len(self.layout.classes), np.int64))

    def is_nothing(self) -> bool:
        """Return whether all sums are 0."""
        return not self.fixed.any() and not self.groups.any() and not any(one.any() for one in self.unseen.values())

    def to_bytes(self) -> bytes:
        """Return the sums as bytes. Equal sums have equal bytes."""
        unseen = {name: self.unseen[name].tolist() for name in sorted(self.unseen) if self.unseen[name].any()}
        used = np.flatnonzero(self.groups.any(axis=1))
        head = json.dumps([*self.layout, unseen, len(used)], separators=(",", ":")).encode()
        # By column, and of each number first all lowest bytes: so the zeros of small numbers stand together.
        numbers = np.concatenate([self.fixed, self.groups[used].T.ravel()]).astype("<i8")
        planes = numbers.view(np.uint8).reshape(-1, 8).T.tobytes()
        body = zlib.compress(used.astype("<u2").tobytes() + planes, _LEVEL)
        return _HEAD.pack(_FORMAT, len(head)) + head + body

    @classmethod
    def from_bytes(cls, data: bytes) -> "QualitySums":
        """Return the sums that `to_bytes` has written.

        Raises:
            DamagedModel: the bytes have another form.
        """
        try:
            return cls._from_bytes(data)
        except (ValueError, TypeError, LookupError, struct.error, zlib.error) as error:
            raise DamagedModel(say("the sums of live quality are damaged; run zap follow --from-start")) from error

    @classmethod
    def _from_bytes(cls, data: bytes) -> "QualitySums":
        number, length = _HEAD.unpack_from(data)
        if number != _FORMAT:
            raise DamagedModel(
                say(
                    "the sums of live quality have the form {number}, and this code reads form {format}; run zap"
                    " follow --from-start",
                    number=number,
                    format=_FORMAT,
                )
            )
        head, body = data[_HEAD.size : _HEAD.size + length], zlib.decompress(data[_HEAD.size + length :])
        classes, predictors, unseen, count = json.loads(head)
        sums = cls.empty(Layout(tuple(classes), tuple(predictors)))
        sums.unseen = {name: np.array(values, np.int64) for name, values in unseen.items()}
        used = np.frombuffer(body, "<u2", count)
        planes = np.frombuffer(body, np.uint8, offset=2 * count).reshape(8, -1)
        numbers = np.ascontiguousarray(planes.T).view("<i8").ravel()
        sums.fixed[:] = numbers[: len(sums.fixed)]
        sums.groups[used] = numbers[len(sums.fixed) :].reshape(sums.layout.group_columns, count).T
        return sums


class Totals:
    """The sums of many days, as float64, because the sums of a year could overflow 64 bits.

    Attributes:
        layout: what the sums are about.
        fixed, groups, unseen: as in QualitySums.
    """

    def __init__(self, layout: Layout) -> None:
        nothing = QualitySums.empty(layout)
        self.layout = layout
        self.fixed, self.groups = nothing.fixed.astype(np.float64), nothing.groups.astype(np.float64)
        self.unseen: dict[str, np.ndarray] = {}

    def add(self, sums: "QualitySums | Totals") -> None:
        """Add the sums of a day, or of other days.

        Raises:
            DamagedModel: the sums are about other types or baselines.
        """
        if sums.layout != self.layout:
            raise DamagedModel(say("the sums of live quality differ in their form; run zap follow --from-start"))
        self.fixed += sums.fixed
        self.groups += sums.groups
        for name, one in sums.unseen.items():
            self.unseen[name] = self.unseen.get(name, 0.0) + one

    def array(self, name: str) -> np.ndarray:
        """Return an array of `Layout.places`."""
        place, shape = self.layout.places()[name]
        return self.fixed[place].reshape(shape)
