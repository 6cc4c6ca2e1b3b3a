"""The options of a new key and of a rotation, from a body or a command."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from zap.formats.body_model import BodyModel, NotNull, explained, limits
from zap.formats.json_body import kind_of, wrong_text, wrong_whole
from zap.formats.time_spans import SPAN_PATTERN, read_span
from zap.formats.values import CONTROL_CHARACTERS, INVISIBLE_CHARACTERS
from zap.ml.features import Feature
from zap.scopes import SCOPES
from zap.sentences import phrase, say

_LONGEST_NAME = 100
# Who makes a change has one of these names where no stored key is used.
RESERVED_NAMES = frozenset({"anybody", "zap", "zap_api_key"})
# With an invisible character, a name would look like another one in the audit and in lists.
_HIDDEN = CONTROL_CHARACTERS + INVISIBLE_CHARACTERS
_NAME_PATTERN = rf"^[^\s{_HIDDEN}]([^{_HIDDEN}]*[^\s{_HIDDEN}])?$"
_REQUESTS = Feature(
    "requests_per_second",
    "number",
    "how many requests a second each server process answers with the key",
    50.0,
    phrase("requests"),
    0.01,
    100_000,
)
_ROWS = Feature(
    "batch_rows_per_day",
    "number",
    "how many rows of batches all servers together answer with the key in a day (UTC)",
    1_000_000,
    phrase("rows"),
    1,
    10**12,
)


def _wrong_name(value: Any) -> str:
    return wrong_text(value) or say(
        "must be a name of at most {most} characters, without invisible ones, and without spaces around it",
        most=_LONGEST_NAME,
    )


def _not_reserved(value: str) -> str:
    if value.lower() in RESERVED_NAMES:
        raise ValueError(say("is {value!r}, which zap itself uses in its records; choose another name", value=value))
    return value


def _wrong_scopes(_value: Any) -> str:
    return say("must be a list of scopes, of {choices:s}", choices=", ".join(SCOPES))


def _read_span(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    span = read_span(value) if isinstance(value, str) else None
    if span is None:
        shown = repr(value[:50]) if isinstance(value, str) else kind_of(value)
        raise ValueError(say("is {shown}; write 1 to 999 days, hours or minutes, such as 90d, 12h or 30m", shown=shown))
    return span


_Span = BeforeValidator(_read_span, json_schema_input_type=Annotated[str, Field(pattern=SPAN_PATTERN)])


class KeyOptions(BodyModel):
    """A new key: who uses it, what it may do, and how long and how much."""

    WANTED = "one JSON object"

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=_LONGEST_NAME,
            pattern=_NAME_PATTERN,
            description="who or what uses the key; it stands in records of changes",
            examples=["backend"],
        ),
        explained(_wrong_name),
        AfterValidator(_not_reserved),
    ]
    scopes: Annotated[
        list[Literal[tuple(SCOPES)]],  # type: ignore[valid-type]
        Field(
            min_length=1, max_length=len(SCOPES), description="what the key may do", examples=[["predict", "report"]]
        ),
        explained(_wrong_scopes),
    ]
    expires: Annotated[
        timedelta | None,
        NotNull,
        _Span,
        Field(description="after how long the key ends, such as 90d or 12h; by default never", examples=["90d"]),
    ] = None
    requests_per_second: Annotated[float | None, NotNull, *limits(_REQUESTS)] = None
    batch_rows_per_day: Annotated[int | None, NotNull, *limits(_ROWS, wrong_whole)] = None


class Rotation(BodyModel):
    """How long the old key lives on beside the new one."""

    keep: Annotated[
        timedelta,
        _Span,
        Field(
            description="how long the old key lives on, such as 24h or 7d",
            examples=["24h"],
            json_schema_extra={"default": "24h"},
        ),
    ] = timedelta(hours=24)
