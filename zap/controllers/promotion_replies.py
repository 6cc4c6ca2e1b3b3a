"""What /models answers about promotions and rollbacks."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct


class Changed(Struct):
    """The result of a promotion or a rollback."""

    status: Literal["success"]
    from_version: Annotated[int | None, Meta(description="the version that served before; null if there was none")]
    to_version: Annotated[int, Meta(description="the version that serves now")]
    changed: Annotated[bool, Meta(description="false if the version already served; then no promotion is recorded")]


class PromotionRecord(Struct):
    """One change of the version in production."""

    promotion_id: int
    promoted_at: datetime
    action: Literal["promote", "rollback"]
    from_version: int | None
    to_version: int
    who: str | None
    why: str | None


class Promotions(Struct):
    promotions: Annotated[list[PromotionRecord], Meta(description="newest first")]
