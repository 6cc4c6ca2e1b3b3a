"""Who has seen an alarm, from a body or a command."""

from typing import Annotated, Any, Self

from pydantic import Field

from zap.formats.body_model import BodyModel, explained
from zap.formats.json_body import load_json, wrong_text
from zap.formats.values import CONTROL_CHARACTERS, LONGEST_TEXT

# A text without control characters that does not only have spaces.
_NAME_PATTERN = rf"^[^{CONTROL_CHARACTERS}]*[^\s{CONTROL_CHARACTERS}][^{CONTROL_CHARACTERS}]*$"


def _wrong_name(value: Any) -> str:
    return wrong_text(value) or "is empty; write a name"


class Acknowledgement(BodyModel):
    """Who has seen an alarm and takes care of it."""

    WANTED = "one JSON object"

    who: Annotated[
        str,
        Field(
            min_length=1,
            max_length=LONGEST_TEXT,
            pattern=_NAME_PATTERN,
            description="who has seen the alarm; with a key that has a name, by default this name",
        ),
        explained(_wrong_name),
    ]

    @classmethod
    def parse_said_by(cls, body: bytes, name: str | None) -> Self:
        """Read the bytes of a body, which need not name anybody if the key has a name.

        Args:
            body: the body.
            name: the name of the key; None if it has none.

        Raises:
            MalformedJson, InvalidRequest: as of `parse`.
        """
        fields = load_json(body, cls.WANTED) if body.strip() else {}
        if name is not None and isinstance(fields, dict):
            fields = {"who": name, **fields}
        return cls.read(fields)
