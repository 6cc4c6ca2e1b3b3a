"""Let Litestar read the functions behind the routes once in a process, and not again for each app.

The tests make thousands of apps of the same functions, and what is read here is more than half of the work of making
one. All of it depends on nothing but the functions and their types.
"""

from copy import copy
from functools import partial

from litestar import controller, router
from litestar._kwargs import KwargsModel
from litestar._signature import SignatureModel
from litestar.utils.signature import ParsedSignature


def read_once():
    """Let the apps that are made from now on share what Litestar reads of their handlers."""
    _set(_KEPT)


def read_anew():
    """Let Litestar read the handlers of each app that is made from now on, as it does outside of the tests."""
    _set(_ORIGINAL)


def _set(functions):
    for (of, name), function in functions.items():
        setattr(of, name, function)


def _signatures():
    original, known = ParsedSignature.from_fn.__func__, {}

    def from_fn(cls, fn, signature_namespace):
        key = fn if isinstance(fn, type) else (_written(getattr(fn, "__func__", fn)), hasattr(fn, "__func__"))
        key = key, tuple(signature_namespace.items())
        if key not in known:
            known[key] = original(cls, fn, signature_namespace)
        return known[key]

    return classmethod(from_fn)


def _written(function):
    """Return what is the same for all functions that one `def` with the same types has made."""
    if "<locals>" not in getattr(function, "__qualname__", ""):
        return function
    return function.__code__, function.__defaults__, tuple(function.__annotations__.items())


def _models():
    original, known = SignatureModel.create.__func__, {}

    def create(cls, *, parsed_signature, **options):
        key = (
            *(id(parsed_signature), getattr(options["fn"], "__name__", ""), frozenset(options["dependency_name_set"])),
            *(tuple(map(_decoder, options["type_decoders"])), options.get("data_dto")),
        )
        if key not in known:
            # The signature is kept here, so that no other takes its place in the memory.
            known[key] = parsed_signature, original(cls, parsed_signature=parsed_signature, **options)
        return known[key][1]

    return classmethod(create)


def _decoder(decoder):
    """Return a decoder as what is the same for all apps: each has a `partial` of its own of the same function."""
    applies, decodes = decoder
    if isinstance(decodes, partial):
        decodes = decodes.func, decodes.args, tuple(decodes.keywords.items())
    return applies, decodes


def _arguments():
    original, known = KwargsModel.create_for_signature_model.__func__, {}

    def create(cls, *, signature_model, path_parameters, dependencies, layered_parameters, **options):
        def new():
            return original(
                cls,
                signature_model=signature_model,
                path_parameters=path_parameters,
                dependencies=dependencies,
                layered_parameters=layered_parameters,
                **options,
            )

        if dependencies or layered_parameters:
            return new()
        key = signature_model, frozenset(path_parameters)
        if key not in known:
            known[key] = new()
        return known[key]

    return classmethod(create)


def _handler(original):
    """Return a copy of a handler that shares with it what no app changes: texts, examples and types."""
    new = copy(original)
    for name, value in vars(original).items():
        if isinstance(value, list | dict | set):
            setattr(new, name, copy(value))
    return new


_KEPT = {
    (ParsedSignature, "from_fn"): _signatures(),
    (SignatureModel, "create"): _models(),
    (KwargsModel, "create_for_signature_model"): _arguments(),
    (controller, "deepcopy"): _handler,
    # Each app makes its own routers of pages and of files, so there is no need for a copy.
    (router, "deepcopy"): lambda own: own,
}
_ORIGINAL = {(of, name): vars(of)[name] for of, name in _KEPT}
