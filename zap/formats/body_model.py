"""Strict pydantic models of bodies: their errors in zap's words, and their JSON Schema.

The body of a prediction has faster code, in `request.py`.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError, WrapValidator
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import CoreSchema, core_schema

from zap.errors import InvalidRequest, MalformedJson
from zap.formats.json_body import (
    APPEARS_TWICE,
    BROKEN_NAME,
    REPEATED,
    TEXT_PATTERN,
    error_at,
    in_range,
    kind_of,
    load_json,
    suggested,
    unknown_field,
    wrong_number,
    wrong_text,
)
from zap.formats.values import LONGEST_TEXT
from zap.ml.features import Feature
from zap.sentences import phrase, say


class BodyModel(BaseModel):
    """A body. pydantic decides which values are accepted; the functions `wrong_...` say why a value is refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
    WANTED: ClassVar[str] = phrase("no body, or one JSON object")

    @classmethod
    def parse(cls, body: bytes, context: Any = None) -> Self:
        """Read the bytes of a body. An empty body is an object without fields, which gives the defaults.

        Args:
            body: an empty body, or one JSON object.
            context: an argument for the validators of the fields.

        Raises:
            MalformedJson: the body is not JSON.
            InvalidRequest: the body has errors; the exception lists all of them.
        """
        return cls.read(load_json(body, cls.WANTED) if body.strip() else {}, context)

    @classmethod
    def read(cls, fields: Any, context: Any = None) -> Self:
        """Read an object, which comes from a body, the command line or the database.

        Args:
            fields: the object.
            context: an argument for the validators of the fields.

        Raises:
            InvalidRequest: the object has errors; the exception lists all of them.
        """
        errors: list[dict[str, str]] = []
        try:
            return cls.model_validate(fields, context=context)
        except ValidationError as refused:
            cls.add_errors(refused, errors)
        raise InvalidRequest(errors)

    @classmethod
    def add_errors(
        cls, refused: ValidationError, errors: list[dict[str, str]], place: tuple[str | int, ...] = ()
    ) -> set[str | int]:
        """Add the errors of an object to the errors found so far in the body. Return the names of the bad fields.

        Args:
            refused: the errors that pydantic found in the object.
            errors: the errors found so far; the list is changed.
            place: the place of the object in the body, for JSON pointers.

        Raises:
            MalformedJson: a name holds half of a surrogate pair.
            InvalidRequest: the value is not an object.
        """
        bad: set[str | int] = set()
        for error in refused.errors(include_url=False):
            names, kind = error["loc"], error["type"]
            if kind == "string_unicode":
                raise MalformedJson(BROKEN_NAME)
            if not names:
                words = say("is {kind}; send {wanted}", kind=kind_of(error["input"]), wanted=cls.WANTED)
                raise InvalidRequest([*errors, error_at(place, words)])
            bad.add(names[0])
            if kind == "extra_forbidden" and len(errors) >= InvalidRequest.SHOWN:
                # A reply shows only the first errors; this error is only counted.
                errors.append(errors[-1])
            else:
                errors.append(error_at((*place, *names), cls._words(error, len(errors))))
        return bad

    @classmethod
    def unknown(cls, *names: str) -> str:
        """Return the error for a name that is not a field, with a suggestion if there is one.

        Args:
            names: the place of the unknown name in the object.
        """
        return unknown_field(names[-1], cls.model_fields)

    @classmethod
    def _words(cls, error: Any, before: int) -> str:
        names = error["loc"]
        if error["input"] is REPEATED:
            return APPEARS_TWICE
        if error["type"] == "missing":
            return say("is required: {description}", description=cls.model_fields[names[0]].description)
        if error["type"] == "extra_forbidden":
            return suggested(names[-1], before, lambda _: cls.unknown(*names))
        if error["type"] == "dict_type":
            return say("must be an object, not {kind}", kind=kind_of(error["input"]))
        return str(error["ctx"]["error"])


class NotNull:
    """Mark a field that a body may leave out but must not set to null. If it is left out, the attribute is None."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        nullable: Any = handler(source)
        inner: CoreSchema = nullable["schema"]
        return inner


def explained(wrong: Callable[[Any], str | None]) -> WrapValidator:
    """Return a validator. If pydantic refuses a value, the validator raises an error with the text of `wrong`."""

    def validate(value: Any, accept: core_schema.ValidatorFunctionWrapHandler) -> Any:
        try:
            return accept(value)
        except ValidationError:
            raise ValueError(wrong(value)) from None

    return WrapValidator(validate)


def limits(feature: Feature, wrong: Callable[[Feature, Any], str | None] = wrong_number) -> tuple[Any, ...]:
    """Return the range of a number and its description, for `Annotated`."""
    lowest: Any = {"gt" if feature.minimum_excluded else "ge": feature.minimum}
    said = f"{feature.description}{in_range(feature)}"
    field = Field(**lowest, le=feature.maximum, description=said, examples=[feature.example])
    return field, explained(partial(wrong, feature))


# A name in the history.
Name = Annotated[str, Field(max_length=LONGEST_TEXT, pattern=TEXT_PATTERN), explained(wrong_text)]
# A text that a person writes, such as a note. A database may hold such texts with other control characters.
Text = Annotated[str, Field(max_length=LONGEST_TEXT, pattern=r"^[^\x00-\x1f\x7f]*$"), explained(wrong_text)]


class _Schema(GenerateJsonSchema):
    """Write a nullable type as one schema. Leave out titles, and defaults that are null."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        return {**inner, "type": [inner["type"], "null"]}

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        return {name: value for name, value in found.items() if (name, value) != ("default", None)}


def body_schemas(*models: type[BodyModel]) -> dict[str, Any]:
    """Return the JSON Schemas (2020-12) of models and of the objects in them, by name, for an OpenAPI document."""
    wanted: Any = [(model, "validation") for model in models]
    _, found = models_json_schema(wanted, schema_generator=_Schema, ref_template="#/components/schemas/{model}")
    schemas: dict[str, Any] = found["$defs"]
    return schemas
