"""Who has seen an alarm, from a body or a command."""

from typing import Annotated, Any

from pydantic import Field

from zap.formats.body_model import BodyModel, explained
from zap.formats.json_body import wrong_text
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
            description="who has seen the alarm",
        ),
        explained(_wrong_name),
    ]
