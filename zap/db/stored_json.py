"""JSON columns as they are read: a value that another program has damaged makes no row and no list unreadable."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import structlog
from sqlalchemy import JSON, Boolean, Dialect, type_coerce
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from zap.errors import DamagedRow
from zap.sentences import say

log = structlog.get_logger(__name__)

# What reading a value of another shape than expected may raise.
_OF_ANOTHER_SHAPE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)


class Damaged(dict[str, Any]):
    """The readable part of a damaged value: nothing, or an object without its damaged parts.

    Attributes:
        parts: the names of the damaged parts; empty if nothing can be read.
    """

    def __init__(self, readable: Mapping[str, Any] | None = None, parts: Sequence[str] = ()) -> None:
        super().__init__(readable or {})
        self.parts = tuple(parts)


class Shape:
    """The shape of a stored value, as far as zap reads it.

    Args:
        whole: the type of the value, as `msgspec.convert` takes it.
        parts: for an object, the types of parts that it may lack. A part of another type is left out.
        check: called with a value of this type; yields the names of parts that do not fit the other parts.
        nullable: whether zap may store no value.
    """

    def __init__(
        self,
        whole: Any = dict[str, Any],
        parts: Mapping[str, Any] | None = None,
        check: Callable[[Any], Iterable[str]] | None = None,
        *,
        nullable: bool = True,
    ) -> None:
        self._whole, self._parts, self._check, self._nullable = whole, parts or {}, check, nullable

    def read(self, value: Any) -> Any:
        """Return a value, or what can be read of it as `Damaged`."""
        if value is None:
            return None if self._nullable else Damaged()
        try:
            msgspec.convert(value, self._whole)
        except _OF_ANOTHER_SHAPE:
            return Damaged()
        damaged = [name for name, kind in self._parts.items() if name in value and not _is(value[name], kind)]
        if self._check is not None:
            damaged += self._check({name: one for name, one in value.items() if name not in damaged})
        if not damaged:
            return value
        return Damaged({name: one for name, one in value.items() if name not in damaged}, damaged)


def _is(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except _OF_ANOTHER_SHAPE:
        return False
    return True


ANY = Shape(Any)


class StoredJson(TypeDecorator[Any]):
    """Store JSON. What cannot be read as JSON of this shape is read as `Damaged`.

    Args:
        shape: the shape.
    """

    impl = JSON
    cache_ok = True

    def __init__(self, shape: Shape = ANY) -> None:
        super().__init__(none_as_null=True)
        self.shape = shape

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        """Return the type of what a value of this column is compared with or indexed by."""
        return self.impl_instance.coerce_compared_value(op, value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """Return the function that reads a value of the database."""
        read = super().result_processor(dialect, coltype)

        def process(value: Any) -> Any:
            try:
                found = value if read is None else read(value)
            except _OF_ANOTHER_SHAPE:
                return Damaged()
            return self.shape.read(found)

        return process


class _ValidJson(FunctionElement[Any]):
    """A JSON column; on SQLite NULL instead of text that is no JSON, because SQLite's JSON functions refuse it."""

    inherit_cache = True
    type = JSON()


@compiles(_ValidJson)
def _compile_column(element: Any, compiler: Any, **options: Any) -> str:
    text: str = compiler.process(element.clauses, **options)
    return text


@compiles(_ValidJson, "sqlite")
def _compile_checked(element: Any, compiler: Any, **options: Any) -> str:
    text = compiler.process(element.clauses, **options)
    return f"CASE WHEN json_valid({text}) THEN {text} END"


class _IsObject(FunctionElement[Any]):
    """Whether a JSON column has an object; NULL if it has no value."""

    inherit_cache = True
    type = Boolean()


@compiles(_IsObject)
def _compile_type(element: Any, compiler: Any, **options: Any) -> str:
    return f"(json_typeof({compiler.process(element.clauses, **options)}) = 'object')"


@compiles(_IsObject, "sqlite")
def _compile_checked_type(element: Any, compiler: Any, **options: Any) -> str:
    text = compiler.process(element.clauses, **options)
    return f"(CASE WHEN json_valid({text}) THEN json_type({text}) = 'object' ELSE {text} IS NULL AND NULL END)"


def is_object(column: Any) -> ColumnElement[bool | None]:
    """Return whether a JSON column has an object, as a column; NULL if it has no value."""
    return _IsObject(column)


def part(column: Any, name: str, shape: Shape) -> ColumnElement[Any]:
    """Return a part of a JSON column as a column; NULL if the value has no such part, or is damaged.

    Args:
        column: the JSON column.
        name: the name of the part.
        shape: the shape of the part.
    """
    return type_coerce(_ValidJson(column)[name], StoredJson(shape)).label(name)


def readable(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row with None instead of values that cannot be read, and their names as `unreadable`.

    The name of a damaged part has the name of its column before it, such as `report.phases`.
    """
    names: list[str] = []
    read: dict[str, Any] = {}
    for name, value in row.items():
        read[name] = value
        if isinstance(value, Damaged):
            read[name] = dict(value) if value.parts else None
            names += [f"{name}.{one}" for one in value.parts] or [name]
    return {**read, "unreadable": names}


def whole(value: Any, what: str) -> Any:
    """Return a value that zap cannot work with in part.

    Args:
        value: the value of a JSON column.
        what: what it is, as the beginning of a sentence.

    Raises:
        DamagedRow: it is damaged.
    """
    if isinstance(value, Damaged):
        raise DamagedRow(say("{what} cannot be read: another program may have changed it", what=what))
    return value


def as_bytes(value: Any) -> bytes:
    """Return the bytes of a BLOB; no bytes if another program has stored another value, as SQLite lets it."""
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn the errors of a value with another shape than expected into one error that says what cannot be read.

    Args:
        what: what is read, as the beginning of a sentence.

    Raises:
        DamagedRow: it cannot be read.
    """
    try:
        yield
    except _OF_ANOTHER_SHAPE as error:
        log.warning("a stored row cannot be read", what=what, exc_info=error)
        raise DamagedRow(say("{what} cannot be read: another program may have changed it", what=what)) from error
