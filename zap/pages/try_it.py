"""/pages/predictions/new: a form that asks for a prediction, as POST /predict does."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from litestar import Request, Response, get, post
from litestar.datastructures import State

from zap.db.history.driver_sessions import newest_driver, sessions_of_driver
from zap.db.history.drivers import driver_facts, driver_named, drivers_like
from zap.errors import InvalidRequest, NoModel
from zap.flows.prediction import OnePrediction
from zap.formats.request import START, USER_ID, VEHICLE_ID
from zap.formats.values import CONTROL, LARGEST_ID, LONGEST_TEXT
from zap.ml.features import FACTS, FEATURES, Feature
from zap.pages.fields import read_number
from zap.pages.listed import MOST_SIMILAR
from zap.pages.page import answer, read_form, see_other
from zap.pages.query import Query, address
from zap.pages.reader import read_reader
from zap.pages.texts import texts_in
from zap.public import PAGE
from zap.scopes import PREDICT, READ, needs

_PATH = "/pages/predictions/new"
_TEMPLATE = "try_it.html"
# What the last sessions of a driver can stand for until a person knows better. Reports need not have these values.
_NEWEST = 20
_OF_LAST_SESSIONS = ("state_of_charge_start", "distance_driven_km", "temperature_c")


class Field(NamedTuple):
    """A field of the form.

    Attributes:
        feature: what it asks for.
        is_needed: whether it can be left empty only if the history knows it.
        is_fact: whether the history may know it. It knows nothing about a driver whom it does not have.
        options: the known values of a category.
        value: what the form has in it.
        errors: what is wrong with it.
    """

    feature: Feature
    is_needed: bool
    is_fact: bool
    options: list[str]
    value: str
    errors: list[str]


@get(_PATH, opt=PAGE | needs(READ))
async def try_it(request: Request[Any, Any, Any]) -> Response[Any]:
    """Show the form, filled with what the history knows about a driver if one is named."""
    user_id = Query(request).text(USER_ID)
    state = request.app.state
    language = read_reader(request).language
    return await answer(request, _TEMPLATE, lambda: _filled(state, user_id, language))


@post(_PATH, status_code=200, opt=PAGE | needs(READ, PREDICT))
async def ask(request: Request[Any, Any, Any]) -> Response[Any]:
    """Answer the form as POST /predict answers a request: it is logged first. Then show the answer.

    Errors are shown beside their fields. They are not counted as refused requests, because no client is wrong.
    """
    form = await read_form(request)
    state = request.app.state
    body = await state.page_threads.run(_body, state, form, read_reader(request).language)
    one: OnePrediction = state.prediction
    try:
        predicted = await one.predict(body)
    except InvalidRequest as error:
        errors = error.details["errors"]
        return await answer(request, _TEMPLATE, lambda: _again(state, form, errors), status=422)
    return see_other(request, f"/pages/predictions/{predicted.logged.prediction_id}")


def _contract(state: State) -> Mapping[str, Any] | None:
    """Return the contract of the version in production; None without one."""
    try:
        contract: Mapping[str, Any] = state.production.predictor.contract
    except NoModel:
        return None
    return contract


def _filled(state: State, user_id: str | None, language: str) -> Mapping[str, Any]:
    if user_id is None:
        # A person who looks around knows no driver.
        return {**_form(state, {}, [], None), "example": newest_driver(state.engine)}
    named = driver_named(state.engine, user_id)
    facts = driver_facts(state.engine, {USER_ID: named})
    newest = sessions_of_driver(state.engine, named, _NEWEST)
    values = {name: _text(value, language) for name, value in facts.items()}
    last = {
        name: next((_text(one, language) for session in newest if (one := getattr(session, name)) is not None), "")
        for name in _OF_LAST_SESSIONS
    }
    known = "facts" if any(values.values()) else "sessions" if newest or facts else "nobody"
    similar = drivers_like(state.engine, named, MOST_SIMILAR) if known == "nobody" else []
    return {
        **_form(state, {USER_ID: named, **values, **last}, [], known),
        "has_last": any(last.values()),
        "last_start": newest[0].start if newest else None,
        "similar": [(one, address(_PATH, {USER_ID: one})) for one in similar],
    }


def _again(state: State, form: Mapping[str, str], errors: list[dict[str, str]]) -> Mapping[str, Any]:
    return _form(state, form, errors, None)


def _form(
    state: State, values: Mapping[str, str], errors: list[dict[str, str]], known: str | None
) -> Mapping[str, Any]:
    """Return what the template shows.

    Args:
        state: the parts of the server.
        values: what is in the form, by field.
        errors: the errors of the request, each with a pointer and a detail.
        known: what the history knows about the driver; None if no driver was asked for.
    """
    contract = _contract(state)
    said: dict[str, list[str]] = {}
    for one in errors:
        said.setdefault(one["pointer"].removeprefix("#/"), []).append(one["detail"])
    fields = []
    for feature in FEATURES:
        need = "ignored" if contract is None else contract["fields"][feature.name]
        if feature.name == START or (need == "ignored" and not feature.context):
            continue
        is_fact = feature.name in FACTS and known != "nobody"
        options = list((contract or {}).get("categories", {}).get(feature.name, ()))
        value = values.get(feature.name, "")
        if feature.kind == "category" and value and value not in options and not feature.context:
            options.append(value)
        is_needed = need == "required" and not feature.context
        fields.append(Field(feature, is_needed, is_fact, options, value, said.pop(feature.name, [])))
    own = {name: (values.get(name, ""), said.pop(name, [])) for name in (USER_ID, VEHICLE_ID, START)}
    return {
        "has_model": contract is not None,
        "serving": state.production.predictor.model_version if contract is not None else None,
        "fields": fields,
        "own": own,
        "known": known,
        "has_last": False,
        "last_start": None,
        "similar": [],
        "example": None,
        "others": [(name, detail) for name, details in said.items() for detail in details],
        "wrong": len(errors),
    }


def _body(state: State, form: Mapping[str, str], language: str) -> bytes:
    """Return the JSON of a request from the fields of the form.

    An empty field is left out if the history may know it. Otherwise it is null, if the version accepts null.
    """
    contract = _contract(state)
    text = {name: form.get(name, "").strip() for name in (*(one.name for one in FEATURES), USER_ID, VEHICLE_ID)}
    body: dict[str, Any] = {name: text[name] for name in (USER_ID, START) if text[name]}
    if text[VEHICLE_ID]:
        body[VEHICLE_ID] = read_number(text[VEHICLE_ID], language)
    # The other ids are refused when the request is read, and the database cannot look for them.
    named = {name: body[name] for name in (USER_ID, VEHICLE_ID) if name in body and _can_be_id(name, body[name])}
    if USER_ID in named:
        named[USER_ID] = driver_named(state.engine, named[USER_ID])
    facts = driver_facts(state.engine, named) if named else {}
    for feature in FEATURES:
        name, value = feature.name, text[feature.name]
        if name == START:
            continue
        if value:
            body[name] = read_number(value, language) if feature.kind == "number" else value
        elif contract is not None and contract["fields"][name] == "nullable" and name not in facts:
            body[name] = None
    return msgspec.json.encode(body)


def _can_be_id(name: str, value: Any) -> bool:
    """Return whether the database can hold a value as the id of a driver (a text) or of a vehicle (a whole number)."""
    if name == VEHICLE_ID:
        return isinstance(value, int) and 0 <= value <= LARGEST_ID
    return len(value) <= LONGEST_TEXT and not CONTROL.search(value)


def _text(value: Any, language: str) -> str:
    if value is None:
        return ""
    return texts_in(language).plain(value) if isinstance(value, float) else str(value)
