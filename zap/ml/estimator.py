"""The names of the estimators: what a training fits; and the check of the parameters that LightGBM does not check."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from zap.ml.column_groups import check_groups

# LightGBM's trees alone, or their weighted mean with a logistic regression on the drivers' shares.
Estimator = Literal["blend", "lightgbm"]
DEFAULT_ESTIMATOR: Estimator = "blend"
# The parameters of the versions of an older zap that do not name them.
OF_OLDER_VERSIONS: dict[str, Any] = {"estimator": "lightgbm", "asked_before": None}


def checked_parameters(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of ChargerTypeModel.

    Raises:
        ValueError: there is no estimator, or no group of columns, with a name in the parameters.
    """
    if params["estimator"] not in get_args(Estimator):
        raise ValueError(f"there is no estimator {params['estimator']!r}; choose {' or '.join(get_args(Estimator))}")
    check_groups(params["left_out"])
    return params


def stored_parameters(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of ChargerTypeModel from stored ones. Older versions lack parameters that came later."""
    params = {**OF_OLDER_VERSIONS, **stored}
    return {**params, "left_out": tuple(params.get("left_out", ()))}
