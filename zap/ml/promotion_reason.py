"""Who changes what serves, and why: read strictly, from a body or a command."""

from typing import Any, NamedTuple

from zap.errors import InvalidRequest
from zap.ml.json_body import LONGEST_TEXT, Expected, load_json, read_fields, unknown_field, wrong_text


class Reason(NamedTuple):
    """Who changes what serves, and why, as far as they say."""

    who: str | None = None
    why: str | None = None


_FIELDS = {"who": "who does this; kept with the change", "why": "why; kept with the change"}
_BODY = Expected(
    "no body, or one JSON object",
    _FIELDS,
    wrong_value=lambda _, value: wrong_text(value),
    unknown=lambda name: unknown_field(name, _FIELDS),
)


def read_reason(fields: Any) -> Reason:
    """What a body or a command says of a change.

    Raises:
        InvalidRequest: all its errors.
    """
    errors: list[dict[str, str]] = []
    values = read_fields(fields, _BODY, errors)
    if errors:
        raise InvalidRequest(errors)
    return Reason(**values)


def parse_reason(body: bytes) -> Reason:
    """The same for the bytes of a body; nothing is said by an empty one.

    Raises:
        MalformedJson: the body is no JSON document.
        InvalidRequest: all its errors.
    """
    if not body.strip():
        return Reason()
    return read_reason(load_json(body, _BODY.words))


def reason_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the body."""
    properties = {
        name: {"type": "string", "maxLength": LONGEST_TEXT, "description": said} for name, said in _FIELDS.items()
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}
