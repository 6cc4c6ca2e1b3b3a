"""The slices of the scores: by the number of the driver's earlier sessions, and by the number of types used in them."""

import numpy as np

# For each group of slices, the fewest and the most that a slice has.
SLICES: dict[str, dict[str, tuple[float, float]]] = {
    "by_earlier_sessions": {"0": (0, 0), "1-4": (1, 4), "5-19": (5, 19), "20+": (20, np.inf)},
    "by_types_used": {"none": (0, 0), "one": (1, 1), "several": (2, np.inf)},
}


def slice_places(group: str, known: np.ndarray) -> np.ndarray:
    """Return for each session the place of its slice in the group.

    Args:
        group: a key of SLICES.
        known: the number of earlier sessions, or of types used in them.
    """
    fewest = [bounds[0] for bounds in SLICES[group].values()]
    places: np.ndarray = np.searchsorted(fewest, known, side="right") - 1
    return places
