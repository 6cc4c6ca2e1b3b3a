"""What /trials answers about trials."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

Verdict = Literal["better", "not_worse", "worse", "undecided"]
_SCORE = "the Brier score, halved, 0 to 1"
_UNREADABLE = "null if what the trial remembers cannot be read"


class TrialEvidence(Struct):
    """What is known after the newest look. Before the first look, there is only the message."""

    message: Annotated[str, Meta(description="what is known, in sentences, and what the comparison cannot see")]
    verdict: Verdict | None = None
    look: Annotated[int | None, Meta(description="the number of the look; there is one for each week")] = None
    until: Annotated[
        datetime | None, Meta(description="the look is about requests until this moment; their outcomes are known")
    ] = None
    sessions: Annotated[int | None, Meta(description="the sessions on which both versions are compared")] = None
    drivers: Annotated[int | None, Meta(description="their drivers; each driver counts once")] = None
    mean: Annotated[
        float | None,
        Meta(
            description=f"mean over drivers of the champion's score minus the challenger's ({_SCORE}): more is better"
        ),
    ] = None
    low: Annotated[float | None, Meta(description="the difference is not below this, however often anybody looks")] = (
        None
    )
    high: Annotated[float | None, Meta(description="the difference is not above this")] = None
    widest: Annotated[
        float | None, Meta(description="the largest difference that the answers allow for the mean of a driver")
    ] = None
    promoted: Annotated[bool | None, Meta(description="whether the trial has put its version into production")] = None


class TrialRecord(Struct, omit_defaults=True):
    """One trial."""

    trial_id: int
    model_version: Annotated[int, Meta(description="the challenger, which answers unseen")]
    champion_version: Annotated[int, Meta(description="the version that served when the trial began")]
    status: Annotated[
        Literal["running", "better", "not_worse", "worse", "undecided", "ended"],
        Meta(description="running, the verdict, or ended: somebody ended it, or another version serves now"),
    ]
    epsilon: Annotated[float, Meta(description=f"a score that is higher by less than this is not worse ({_SCORE})")]
    weeks: Annotated[int | None, Meta(description=f"the longest time of the trial; {_UNREADABLE}")]
    on_better: Literal["promote", "tell"]
    started_at: datetime
    longest_until: Annotated[datetime, Meta(description="requests after this moment are not part of the trial")]
    ended_at: datetime | None
    answered: Annotated[int | None, Meta(description=f"the requests that the challenger has answered; {_UNREADABLE}")]
    refused: Annotated[
        int | None,
        Meta(
            description="the requests that the challenger would have refused, although the champion answered them;"
            f" {_UNREADABLE}"
        ),
    ]
    evidence: TrialEvidence
    who: str | None
    why: str | None
    unreadable: Annotated[
        list[str],
        Meta(description="stored parts that are null or left out, because another program has changed them"),
    ] = []


class TrialRecords(Struct):
    trials: Annotated[list[TrialRecord], Meta(description="newest first")]
