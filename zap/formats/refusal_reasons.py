"""Why requests and reports are refused: each error as a field and a reason, without the values that were sent."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from zap.errors import BatchTooLarge, InvalidRequest, MalformedCsv, MalformedJson, SessionTaken, UnsupportedMediaType
from zap.formats.json_body import APPEARS_TWICE
from zap.monitoring.data_quality import OTHER, WHOLE, Found

# For WHOLE: the number of refused requests, rows or reports.
REFUSED = "refused"
TOO_LARGE = "too_large"
WRONG_VALUE = "wrong_value"
_NOT_JSON = "not_json"
# The reason of an error, by its words. The first pattern that is found decides. `Q` stands for a quoted value.
_REASONS = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"^is required", "required"),
        (r"^null is not accepted|^is Q, which counts as null", "null"),
        (rf"^{APPEARS_TWICE}|, as in element ", "repeated"),
        (r"^is not a field|^is a field of a request|^is not accepted: ", "unknown_field"),
        (r"^is Q, which is not in the history", "unknown"),
        (r", which is not a number in JSON", _NOT_JSON),
        (r"^is Q; must be an ISO", WRONG_VALUE),
        (r"^is \S+; must be |^must be [0-9]", "out_of_range"),
        (r"^must be |^is (a|an|null|true or false)\b.*; send ", "wrong_type"),
        (r"^has [0-9,]+ characters", "too_long"),
        (r"^has [0-9,]+ bytes|^there are [0-9,]+ columns|^holds [1-9][0-9,]* sessions", TOO_LARGE),
        (r"^holds 0 sessions", "required"),
        (r"^has [0-9,]+ cells|^is not readable as CSV", "not_csv"),
        (r", which is stored with ", "taken"),
    )
)
REASONS = frozenset(reason for _, reason in _REASONS) | {WRONG_VALUE, "wrong_media_type"}
# A quoted value at the beginning of an error. A client chooses this text, so it must not decide the reason.
_QUOTED = re.compile(r"""^is ('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""", re.DOTALL)
_IN_A_ROW = re.compile(r"#/inputs/[0-9]")


def reason_of(detail: str, otherwise: str = WRONG_VALUE) -> str:
    """Return the reason of an error, one of REASONS.

    Args:
        detail: the words of the error.
        otherwise: the reason of an error with other words.
    """
    plain = _QUOTED.sub("is Q", detail)
    return next((reason for pattern, reason in _REASONS if pattern.search(plain)), otherwise)


def error_counts(errors: Sequence[Mapping[str, str]], fields: Collection[str]) -> Counter[Found]:
    """Return the fields and reasons of the errors of one request, row or report.

    Args:
        errors: each with a JSON pointer and a detail.
        fields: the known fields. Every other name counts as OTHER.
    """
    found: Counter[Found] = Counter({(WHOLE, REFUSED): 1})
    for error in errors:
        name = error["pointer"].removeprefix("#").rpartition("/")[2]
        # Without a name it is an error of the whole body, such as one of the many messages of JSON readers.
        reason = reason_of(error["detail"], WRONG_VALUE if name else _NOT_JSON)
        # A number is the place of an element in a list.
        found[WHOLE if not name or name.isdecimal() else name if name in fields else OTHER, reason] += 1
    return found


def row_counts(refusals: Iterable[Sequence[Mapping[str, str]]], fields: Collection[str]) -> Counter[Found]:
    """Return the fields and reasons of all refused rows of a batch.

    Args:
        refusals: the errors of each refused row.
        fields: the known fields.
    """
    found: Counter[Found] = Counter()
    for errors in refusals:
        found.update(error_counts(errors, fields))
    return found


def refusal_counts(error: Exception, fields: Collection[str]) -> Counter[Found]:
    """Return the fields and reasons of a refused request or report; nothing if its content is not the reason.

    The errors in the rows of a batch are left out, because `row_counts` counts them. Only the errors that the reply
    lists are counted, which are at most 100.

    Args:
        error: the error that refuses the request.
        fields: the known fields.
    """
    match error:
        case InvalidRequest() | SessionTaken():
            errors = error.details["errors"]
            return Counter() if _IN_A_ROW.match(errors[0]["pointer"]) else error_counts(errors, fields)
        case MalformedJson():
            return _whole(_NOT_JSON)
        case MalformedCsv():
            return _whole("not_csv")
        case BatchTooLarge():
            return _whole(TOO_LARGE)
        case UnsupportedMediaType():
            return _whole("wrong_media_type")
    return Counter()


def too_large() -> Counter[Found]:
    """Return the counts of one request or report whose body has too many bytes."""
    return _whole(TOO_LARGE)


def _whole(reason: str) -> Counter[Found]:
    return Counter({(WHOLE, REFUSED): 1, (WHOLE, reason): 1})
