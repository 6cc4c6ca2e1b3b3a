"""What a training may be asked for: read strictly from JSON, the same over HTTP and from the shell."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from zap.errors import InvalidRequest
from zap.ml.features import Feature
from zap.ml.json_body import (
    Expected,
    error_at,
    kind_of,
    load_json,
    number_schema,
    read_fields,
    read_time,
    unknown_field,
    wrong_number,
    wrong_text,
)

Promote = Literal["always", "if_better", "never"]
_POLICIES = get_args(Promote)
LONGEST_NOTE = 200

# What may be set of the booster (ChargerTypeModel's parameters), and in which range.
HYPER_PARAMETERS = (
    Feature("n_estimators", "number", "boosting rounds", 200, "rounds", 1, 10_000),
    Feature("num_leaves", "number", "leaves of a tree", 40, "leaves", 2, 4096),
    Feature("learning_rate", "number", "weight of each tree", 0.05, "", 0, 1, minimum_excluded=True),
    Feature("max_depth", "number", "depth of a tree, -1 without a bound", -1, "levels", -1, 64),
    Feature(
        "colsample_bytree", "number", "share of the columns that a tree sees", 0.8, "", 0, 1, minimum_excluded=True
    ),
    Feature("subsample", "number", "share of the rows that a tree sees", 1.0, "", 0.1, 1),
    Feature("min_child_samples", "number", "fewest rows of a leaf", 20, "rows", 1, 1_000_000),
    Feature("reg_alpha", "number", "L1 regularisation", 1.0, "", 0, 1_000_000),
    Feature("reg_lambda", "number", "L2 regularisation", 0.0, "", 0, 1_000_000),
    Feature("random_state", "number", "seed", 42, "", 0, 2**31 - 1),
)
_BY_NAME = {parameter.name: parameter for parameter in HYPER_PARAMETERS}
_TEST_SHARE = Feature("test_share", "number", "share of the sessions to test on, the last", 0.1, "", 0.01, 0.5)
_SWITCHES = {
    "tune": "search the hyper-parameters first; this training and later ones use what was found",
    "windows": "evaluate over rolling windows of the history too, five where that many fit",
}
_TIMES = {
    "history_from": "learn from no session that started before; it stays part of its driver's past",
    "history_to": "know nothing of sessions that started then or later",
}
_FIELDS = (*_TIMES, "test_share", "hyper_parameters", *_SWITCHES, "promote", "note")


@dataclass(frozen=True)
class TrainingOptions:
    """What a training is asked for; by default the plain job.

    Attributes:
        history_from, history_to: the window of history, wall times; the first is in it, the last is not.
        test_share: the share of the sessions to test on, the last.
        hyper_parameters: what is set against the tuning or the defaults.
        tune: search the hyper-parameters first.
        windows: evaluate over rolling windows too.
        promote: whether the new version is to serve.
        note: kept with the version.
    """

    history_from: datetime | None = None
    history_to: datetime | None = None
    test_share: float = _TEST_SHARE.example
    hyper_parameters: Mapping[str, int | float] = field(default_factory=dict)
    tune: bool = False
    windows: bool = False
    promote: Promote = "always"
    note: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON: only what was asked for."""
        plain = TrainingOptions()
        asked = {name: value for name in _FIELDS if (value := getattr(self, name)) != getattr(plain, name)}
        return {
            name: value.isoformat() if isinstance(value, datetime) else dict(value) if name in _NESTED else value
            for name, value in asked.items()
        }


def parse_options(body: bytes, wall_time: Callable[[datetime], datetime]) -> TrainingOptions:
    """Read a body, every bad field at once. An empty one is the plain job.

    Args:
        body: nothing, or one JSON object.
        wall_time: turns a time with an offset into the drivers' wall time.

    Raises:
        MalformedJson: the body is no JSON document.
        InvalidRequest: all its errors.
    """
    if not body.strip():
        return TrainingOptions()
    return read_options(load_json(body, _BODY.words), wall_time)


def read_options(fields: Any, wall_time: Callable[[datetime], datetime]) -> TrainingOptions:
    """The same for an object that is read already, as the shell and the stored run have it.

    Raises:
        InvalidRequest: all its errors.
    """
    errors: list[dict[str, str]] = []
    values = read_fields(fields, _BODY, errors)
    if isinstance(values.get("hyper_parameters"), dict):
        values["hyper_parameters"] = read_fields(values["hyper_parameters"], _NESTED_OBJECT, errors, _NESTED)
    for name in _TIMES:
        if name in values:
            values[name] = _moment(values[name], wall_time)
            if values[name] is None:
                errors.append(error_at((name,), f"is {fields[name]!r}; must be a date or a time such as 2026-03-02"))
    since, until = values.get("history_from"), values.get("history_to")
    if since and until and until <= since:
        errors.append(error_at(("history_to",), f"is {until}, not after history_from"))
    if errors:
        raise InvalidRequest(errors)
    return TrainingOptions(**values)


def options_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the body."""
    parameters = {
        parameter.name: {
            "type": "integer" if isinstance(parameter.example, int) else "number",
            "description": parameter.description,
            **number_schema(parameter),
        }
        for parameter in HYPER_PARAMETERS
    }
    properties: dict[str, Any] = {
        **{name: {"type": "string", "description": said, "examples": ["2026-01-01"]} for name, said in _TIMES.items()},
        "test_share": {
            "type": "number",
            "default": _TEST_SHARE.example,
            "description": _TEST_SHARE.description,
            **number_schema(_TEST_SHARE),
        },
        "hyper_parameters": {
            "type": "object",
            "properties": parameters,
            "additionalProperties": False,
            "description": "set these against what a tuning found, or the defaults",
        },
        **{
            name: {"type": "boolean", "default": False, "description": description}
            for name, description in _SWITCHES.items()
        },
        "promote": {
            "type": "string",
            "enum": list(_POLICIES),
            "default": _POLICIES[0],
            "description": "whether the new version is to serve: if_better compares both on sessions that neither"
            " learned from",
        },
        "note": {"type": "string", "maxLength": LONGEST_NOTE, "description": "kept with the version"},
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _moment(text: str, wall_time: Callable[[datetime], datetime]) -> datetime | None:
    day = f"{text}T00:00" if len(text) == len("2026-03-02") else text
    read = read_time(day, wall_time)
    return None if read is None else read[1]


def _wrong_value(name: str, value: Any) -> str | None:
    if name in _SWITCHES:
        return None if isinstance(value, bool) else f"must be true or false, not {kind_of(value)}"
    if name == "test_share":
        return wrong_number(_TEST_SHARE, value)
    if name == "hyper_parameters":
        return None if isinstance(value, dict) else f"must be an object, not {kind_of(value)}"
    if name == "promote":
        known = value in _POLICIES if isinstance(value, str) else False
        return None if known else f"must be one of {', '.join(_POLICIES)}"
    return wrong_text(value)


def _wrong_parameter(name: str, value: Any) -> str | None:
    parameter = _BY_NAME[name]
    if isinstance(parameter.example, int) and type(value) is float:
        return f"must be a whole number, {parameter.range}, not {value}"
    return wrong_number(parameter, value)


_NESTED = ("hyper_parameters",)
_BODY = Expected(
    "no body, or one JSON object",
    _FIELDS,
    wrong_value=_wrong_value,
    unknown=lambda name: unknown_field(name, _FIELDS),
)
_NESTED_OBJECT = Expected(
    "an object",
    _BY_NAME,
    wrong_value=_wrong_parameter,
    unknown=lambda name: unknown_field(name, _BY_NAME),
)
