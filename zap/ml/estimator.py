"""The names of the estimators, and the check of the parameters that LightGBM does not check."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from zap.ml.column_groups import check_groups

# LightGBM's trees alone, or their weighted mean with a logistic regression on the drivers' shares.
Estimator = Literal["blend", "lightgbm"]
DEFAULT_ESTIMATOR: Estimator = "blend"
# The values of parameters that the versions of an older zap do not name.
OF_OLDER_VERSIONS: dict[str, Any] = {"estimator": "lightgbm", "asked_before": None}


def checked_parameters(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of ChargerTypeModel unchanged, after a check.

    Raises:
        ValueError: the parameters name an estimator or a group of columns that does not exist.
    """
    if params["estimator"] not in get_args(Estimator):
        raise ValueError(f"there is no estimator {params['estimator']!r}; choose {' or '.join(get_args(Estimator))}")
    check_groups(params["left_out"])
    return params


def stored_parameters(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of ChargerTypeModel from stored parameters. Versions of an older zap lack some of them."""
    params = {**OF_OLDER_VERSIONS, **stored}
    return {**params, "left_out": tuple(params.get("left_out", ()))}
