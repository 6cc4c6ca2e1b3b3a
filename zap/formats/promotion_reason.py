"""The reason for a change of the version in production, from a body or a command."""

from typing import Annotated, Self

from pydantic import Field

from zap.formats.body_model import BodyModel, NotNull, Text


class Reason(BodyModel):
    """Who changes the version in production, and why."""

    who: Annotated[
        Text | None,
        NotNull,
        Field(description="who makes this change; stored with it. By default the name of the key"),
    ] = None
    why: Annotated[Text | None, NotNull, Field(description="why the change is made; stored with it")] = None

    def said_by(self, name: str | None) -> Self:
        """Return the reason with a name, if it says nothing about who makes the change.

        Args:
            name: the name of the key that makes the change; None if it has no name.
        """
        return self if self.who is not None or name is None else self.model_copy(update={"who": name})
