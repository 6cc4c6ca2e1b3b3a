"""The columns of a history file: which header means which column of zap. The user's mapping has priority."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from zap.errors import BadHistoryFile
from zap.formats.json_body import shown_name
from zap.ml.features import FEATURES, MEASURED, STATION

_COLUMNS = (*FEATURES, *MEASURED, *STATION)
# The headers of the public "Electric Vehicle Charging Patterns" file.
PUBLIC_HEADERS = {
    "User ID": "user_id",
    "Time of Day": "time_of_day",
    "Day of Week": "day_of_week",
    **{column.header: column.name for column in _COLUMNS if column.header},
}
IDS = ("session_id",)
TIMES = (*(column.name for column in _COLUMNS if column.kind == "time"), "timestamp")
NUMBERS = tuple(column.name for column in _COLUMNS if column.kind == "number")
TEXTS = (
    *("user_id", "time_of_day", "day_of_week"),
    *(column.name for column in _COLUMNS if column.kind == "category"),
)
NEEDED = ("charger_type", "charging_start_time")
# All columns of zap that an import reads. The last three are no inputs of a prediction.
NAMES = ("session_id", "user_id", *(column.name for column in _COLUMNS), "time_of_day", "day_of_week", "timestamp")
_USED = NAMES[:-3]
# Other names that files of charging sessions use, in lower case. Names whose unit is not certain are left out.
_OTHER_NAMES = {
    "session_id": ("session", "charging session id", "charge session id"),
    "user_id": ("user", "userid", "driver", "driver id", "customer", "customer id", "id tag", "idtag", "rfid"),
    "user_type": ("driver type", "customer type"),
    "vehicle_model": ("vehicle", "car", "car model", "model", "ev model"),
    "battery_capacity_kwh": ("battery kwh", "battery size kwh"),
    "vehicle_age_years": ("car age years",),
    "charger_type": ("connector", "connector type", "type of charger", "plug type", "evse type", "port type"),
    "charging_start_time": (
        *("start", "started", "start time", "start date", "start datetime", "start date time", "start timestamp"),
        *("session start", "session start time", "charge start", "charge start time", "plug in time"),
    ),
    "charging_end_time": (
        *("end", "ended", "end time", "end date", "end datetime", "end date time", "end timestamp", "stop time"),
        *("session end", "session end time", "charge end", "charge end time", "plug out time"),
    ),
    "energy_consumed_kwh": ("kwh", "total kwh", "energy kwh", "energy delivered kwh", "consumption kwh"),
    "charging_duration_hours": ("duration hours", "duration h", "charge duration hours", "session duration hours"),
    "charging_rate_kw": ("power kw", "average power kw"),
    "charging_cost_usd": ("cost usd", "price usd", "total cost usd"),
    "state_of_charge_start": ("soc start", "start soc", "state of charge start", "battery start"),
    "state_of_charge_end": ("soc end", "end soc", "state of charge end", "battery end"),
    "distance_driven_km": ("distance km", "distance driven"),
    "temperature_c": ("temp c", "ambient temperature c", "outside temperature c"),
    "charging_station_id": ("station", "station id", "charge point", "charge point id", "charger id", "evse id"),
    "charging_station_location": ("location", "site", "city", "station location"),
}  # fmt: skip
# Pairs of columns, a date and a time of day, that together give one moment.
_DATE_AND_TIME = {
    name: tuple((f"{event} date", f"{event} time") for event in events)
    for name, events in {
        "charging_start_time": ("start", "session start", "charge start", "plug in"),
        "charging_end_time": ("end", "stop", "session end", "charge end", "plug out"),
    }.items()
}
_UNITS = frozenset({"kwh", "kw", "km", "c", "years", "hours", "usd"})
_WORDS = re.compile(r"[^\W_]+|%")
# The ways to match headers with a column, the surest way first. If several headers match, the surest match counts.
_EXACT, _SPELT_OTHERWISE, _OTHER_NAME = range(3)
# No known name is longer than this, so a longer header is not split into words.
_LONGEST_NAME = 80
# A missing column is compared with at most this many headers, to suggest a header.
_MOST_COMPARED = 1_000


@dataclass(frozen=True)
class Headers:
    """The columns of a file.

    Attributes:
        places: for each column of zap its place in the rows; two places if two columns hold its date and time of day.
        shown: for each column its header in the file, or its two headers as one text.
        taken: the part of `shown` with headers that are not names of zap.
        ignored: the headers that zap does not use.
    """

    places: Mapping[str, tuple[int, ...]]
    shown: Mapping[str, str]
    taken: Mapping[str, str]
    ignored: Sequence[str]

    @property
    def not_found(self) -> list[str]:
        """Return the columns that zap uses and that the file does not have."""
        return [name for name in _USED if name not in self.places]


def match_headers(header: Sequence[str], mapping: Mapping[str, str] | None = None) -> Headers:
    """Return which header means which column of zap.

    Args:
        header: the names in the file, in order.
        mapping: for a header, or for two headers joined by `+`, the column that it means; an empty text ignores it.

    Raises:
        BadHistoryFile: a needed column is missing, two headers mean one column, or the mapping is wrong.
    """
    places, used = _mapped(header, mapping or {})
    # For these columns the user has given the header.
    said = set(places)
    for name, pair in _pairs(header, used):
        if name not in places:
            places[name] = pair
            used.update(pair)
    for way in (_EXACT, _SPELT_OTHERWISE, _OTHER_NAME):
        found: dict[str, list[int]] = {}
        for place, text in enumerate(header):
            known = _MEANINGS[way].get(_form(text, way))
            if place not in used and known is not None and known not in places:
                found.setdefault(known, []).append(place)
        for name, several in found.items():
            _check_one(header, name, several)
            places[name] = (several[0],)
            used.update(several)
    repeated = [
        (place, known)
        for place, text in enumerate(header)
        if place not in used and (known := _MEANINGS[_EXACT].get(_form(text, _EXACT))) is not None and known not in said
    ]
    for place, name in repeated:
        _check_one(header, name, [*places[name], place])
    _check_needed(header, places)
    places = {name: places[name] for name in sorted(places, key=lambda name: places[name])}
    read = {place for several in places.values() for place in several}
    shown = {name: " + ".join(_shown(header, place) for place in several) for name, several in places.items()}
    return Headers(
        places=places,
        shown=shown,
        taken={
            name: text
            for name, text in shown.items()
            if len(places[name]) > 1 or _MEANINGS[_EXACT].get(_form(header[places[name][0]], _EXACT)) != name
        },
        ignored=[_shown(header, place) for place in range(len(header)) if place not in read],
    )


def known_names(texts: Sequence[str], mapping: Mapping[str, str] | None = None) -> set[str]:
    """Return the columns of zap that these texts mean as headers. A text that means no column is ignored.

    Args:
        texts: the cells of a line.
        mapping: as in `match_headers`. A header that it ignores stands for itself.
    """
    ways = (_EXACT, _SPELT_OTHERWISE, _OTHER_NAME)
    found = (_MEANINGS[way].get(_form(text, way)) for text in texts if len(text) <= _LONGEST_NAME for way in ways)
    names = {name for name in found if name is not None}
    if mapping:
        forms = {_form(text, _EXACT) for text in texts}
        for theirs, ours in mapping.items():
            parts = {_form(theirs, _EXACT)} & forms or {_form(part, _EXACT) for part in theirs.split("+")}
            names |= {ours or theirs} if parts <= forms else set()
    return names


def meaning(header: str) -> str | None:
    """Return the column of zap that a header means by itself, in the surest way; None if it means no column."""
    found = (_MEANINGS[way].get(_form(header, way)) for way in (_EXACT, _SPELT_OTHERWISE, _OTHER_NAME))
    return next((name for name in found if name is not None), None)


def _mapped(header: Sequence[str], mapping: Mapping[str, str]) -> tuple[dict[str, tuple[int, ...]], set[int]]:
    places: dict[str, tuple[int, ...]] = {}
    used: set[int] = set()
    by_name = {_form(text, _EXACT): place for place, text in enumerate(header)}
    for theirs, ours in mapping.items():
        parts = [theirs] if _form(theirs, _EXACT) in by_name else theirs.split("+")
        missing = [part for part in parts if _form(part, _EXACT) not in by_name]
        if missing:
            raise BadHistoryFile(f"--map names {missing[0]!r}, which is not in the file; {_there(header)}")
        if ours and ours not in NAMES:
            near = _nearest(ours)
            hint = f"; did you mean {near}?" if near else ";"
            raise BadHistoryFile(
                f"--map names the column {shown_name(ours)!r}, which zap does not have{hint} zap has {', '.join(NAMES)}"
            )
        if len(parts) > 2 or (len(parts) == 2 and ours not in TIMES):
            raise BadHistoryFile(f"--map joins {theirs!r}; only a date and a time of day can be joined")
        if ours in places:
            raise BadHistoryFile(f"--map gives {ours} twice; leave one out")
        several = tuple(by_name[_form(part, _EXACT)] for part in parts)
        used.update(several)
        if ours:
            places[ours] = several
    return places, used


def _nearest(text: str) -> str | None:
    """Return the column of zap that a text probably means; None if no name is similar."""
    form = _form(text, _OTHER_NAME)
    if len(form) > _LONGEST_NAME:
        return None
    if known := meaning(text) or next(iter(get_close_matches(text, NAMES, 1)), None):
        return known
    names = {other: name for way in reversed(_MEANINGS) for other, name in way.items()}
    return next((names[other] for other in get_close_matches(form, names, 1)), None)


def _pairs(header: Sequence[str], used: set[int]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield each time whose date and time of day are in two columns, with the places of both columns."""
    forms = [_form(text, _OTHER_NAME) for text in header]
    for name, pairs in _DATE_AND_TIME.items():
        for pair in pairs:
            places = [forms.index(form) for form in pair if form in forms]
            if len(places) == 2 and not used.intersection(places):
                yield name, (places[0], places[1])
                break


def _form(header: str, way: int) -> str:
    """Return the form of a header that is compared: for the way _EXACT the whole header, otherwise only its words."""
    text = " ".join(header.split()).casefold()
    if way == _EXACT or len(text) > _LONGEST_NAME:
        return text
    return " ".join(_WORDS.findall(text.replace("°", "")))


def _without_unit(form: str) -> str:
    words = form.split()
    return " ".join(words[:-1]) if len(words) > 1 and words[-1] in _UNITS else form


def _names() -> list[dict[str, str]]:
    exact = {_form(header, _EXACT): column for header, column in PUBLIC_HEADERS.items()}
    exact |= {name: name for name in NAMES}
    forms = {_form(text, _SPELT_OTHERWISE): name for text, name in exact.items()}
    forms |= {_without_unit(form): name for form, name in forms.items()}
    others = {other: name for name, several in _OTHER_NAMES.items() for other in several}
    return [exact, forms, others]


_MEANINGS = _names()


def _check_one(header: Sequence[str], name: str, places: Sequence[int]) -> None:
    if len(places) > 1:
        both = " and ".join(repr(_shown(header, place)) for place in places[:2])
        raise BadHistoryFile(f"two columns mean {name}: {both}; leave one out, or say which one with --map")


def _check_needed(header: Sequence[str], places: Mapping[str, object]) -> None:
    missing = [name for name in NEEDED if name not in places]
    if not missing:
        return
    public = {column: text for text, column in PUBLIC_HEADERS.items()}
    names = " and ".join(f"{name} (or {public[name]!r})" for name in missing)
    forms = {
        form: text.strip() for text in header[:_MOST_COMPARED] if len(form := _form(text, _EXACT)) <= _LONGEST_NAME
    }
    near = []
    for name in missing:
        close = get_close_matches(_form(public[name], _EXACT), forms, 1) or get_close_matches(name, forms, 1)
        near += [f'--map "{shown_name(forms[close[0]])}={name}"'] if close else []
    hint = f"perhaps {' '.join(near)}" if near else f'name it with --map "THEIRS={missing[0]}"'
    raise BadHistoryFile(f"no column {names}; {_there(header)}; {hint}", missing=missing)


def _there(header: Sequence[str]) -> str:
    names = ", ".join(repr(_shown(header, place)) for place in range(min(len(header), 30)))
    more = f" and {len(header) - 30:,} more" if len(header) > 30 else ""
    return f"the file has {len(header):,} column{'s' * (len(header) != 1)}: {names}{more}"


def _shown(header: Sequence[str], place: int) -> str:
    return shown_name(header[place].strip()) or f"column {place + 1}, which has no name"
