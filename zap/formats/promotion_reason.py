"""The reason for a change of the version in production, from a body or a command."""

from typing import Annotated

from pydantic import Field

from zap.formats.body_model import BodyModel, NotNull, Text


class Reason(BodyModel):
    """Who changes the version in production, and why."""

    who: Annotated[Text | None, NotNull, Field(description="who makes this change; stored with it")] = None
    why: Annotated[Text | None, NotNull, Field(description="why the change is made; stored with it")] = None
