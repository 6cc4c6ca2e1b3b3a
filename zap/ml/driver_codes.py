"""The codes of drivers: sessions with equal codes belong to one driver."""

import numpy as np
import pandas as pd


def driver_codes(frame: pd.DataFrame) -> np.ndarray:
    """Return for each session the code of its user. A session without a user has a negative code of its own.

    The codes of the first rows do not depend on later rows, so a driver has one code in all windows.
    """
    codes, _ = pd.factorize(frame["user_id"])
    alone = codes < 0
    codes[alone] = -1 - np.arange(alone.sum())
    return codes


def witness_codes(frame: pd.DataFrame) -> np.ndarray:
    """Return for each session the code of its driver for the intervals: of the user, or else of the vehicle.

    Sessions that name neither a user nor a vehicle may all belong to one driver, so they share one code. The codes of
    the first rows do not depend on later rows.
    """
    users = frame["user_id"]
    vehicles = frame["vehicle_id"] if "vehicle_id" in frame else pd.Series(None, index=frame.index, dtype="str")
    whose = ("user " + users.astype("str")).where(users.notna(), "vehicle " + vehicles.astype("str"))
    codes, _ = pd.factorize(whose.where(users.notna() | vehicles.notna(), "unknown"))
    return codes
