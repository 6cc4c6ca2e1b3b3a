"""The names of the estimators: what a training fits, and the parameters of older versions."""

from typing import Literal, get_args

# LightGBM's trees alone, or their weighted mean with a logistic regression on the drivers' shares.
Estimator = Literal["blend", "lightgbm"]
DEFAULT_ESTIMATOR: Estimator = "blend"
# The parameters of the versions of an older zap that do not name them.
OF_OLDER_VERSIONS = {"estimator": "lightgbm", "asked_before": None}


def check_estimator(name: str) -> None:
    """Raise ValueError if there is no estimator with this name."""
    if name not in get_args(Estimator):
        raise ValueError(f"there is no estimator {name!r}; choose {' or '.join(get_args(Estimator))}")
