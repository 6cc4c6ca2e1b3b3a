"""The variables ZAP_* that are not settings. For example, a setting with a typing error in its name has no effect."""

import os
import re
from difflib import get_close_matches
from itertools import takewhile
from typing import NamedTuple

from pydantic_settings import DotEnvSettingsSource

from zap.errors import InvalidSettings
from zap.settings import SERVICE_LINK, Settings

_KEY = "ZAP_API_KEY"
_SETTINGS = [f"ZAP_{name.upper()}" for name in Settings.model_fields]
# The variables that Kubernetes sets for a Service with the name zap, or with a name such as zap-web.
_OF_KUBERNETES = re.compile(
    r"ZAP_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)", re.ASCII
)
_PORT_OF_KUBERNETES = re.compile(r"ZAP_(\w+_)?PORT", re.ASCII)
# The variables of zap's own tests begin with this text.
_OF_TESTS = "ZAP_TEST_"
# How similar two names must be to suggest one for the other: 0 for no common letter, 1 for equal names.
_SIMILAR = 0.6


class UnknownVariable(NamedTuple):
    """A variable ZAP_* that zap does not know. It has no value, because the value may be a secret."""

    name: str
    message: str
    hint: str

    @property
    def sentence(self) -> str:
        """Return what is wrong and what to do."""
        return f"{self.message}: {self.hint}"


def unknown_variables() -> list[UnknownVariable]:
    """Return each variable ZAP_* in the environment or in `.env` that zap does not know, except those of Kubernetes."""
    found = []
    for name, (value, place) in _variables().items():
        if name.startswith("ZAP_") and name not in _SETTINGS and not _is_of_others(name, value):
            nearest = _nearest(name)
            hint = f"write {nearest}" if nearest else "the manual lists all settings (Reference, Configuration)"
            message = f"zap does not know the variable {name}{place} and ignores it"
            found.append(UnknownVariable(name, message, hint))
    return found


def refuse_missed_key(settings: Settings) -> None:
    """Refuse to serve without a key if the variable of the key has a typing error in its name.

    Args:
        settings: of the server.

    Raises:
        InvalidSettings: there is no key, and the name of a variable begins with ZAP and differs from ZAP_API_KEY only
            in underscores, in one letter, or in the order of two letters.
    """
    if settings.api_key is not None:
        return
    for name, (_, place) in _variables().items():
        # A name such as MAP_API_KEY is the variable of another program.
        if name != _KEY and name.startswith("ZAP") and _is_one_error_apart(_letters(name), _letters(_KEY)):
            raise InvalidSettings(
                f"zap does not know the variable {name}{place}, and {_KEY} is not set, so the server would answer"
                f" without a key: write {_KEY}, or remove {name} to serve without a key"
            )


def _variables() -> dict[str, tuple[str, str]]:
    """Return each variable with its value, and with the words " in .env" if it is in this file.

    The names are in upper case, because settings ignore upper and lower case.
    """
    in_file = DotEnvSettingsSource(Settings).env_vars
    found = {name.upper(): (value or "", " in .env") for name, value in in_file.items()}
    return found | {name.upper(): (value, "") for name, value in os.environ.items()}


def _is_of_others(name: str, value: str) -> bool:
    if name.startswith(_OF_TESTS) or _OF_KUBERNETES.fullmatch(name):
        return True
    return bool(_PORT_OF_KUBERNETES.fullmatch(name) and SERVICE_LINK.fullmatch(value))


def _nearest(name: str) -> str | None:
    # The names are compared without ZAP, which all names have.
    names = {_letters(one)[3:]: one for one in _SETTINGS}
    found = get_close_matches(_letters(name)[3:], names, n=1, cutoff=_SIMILAR)
    return names[found[0]] if found else None


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.upper())


def _is_one_error_apart(one: str, other: str) -> bool:
    """Return whether two texts are equal, except for one missing or wrong letter, or two swapped letters."""
    shorter, longer = sorted((one, other), key=len)
    equal = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(shorter, longer, strict=False)))
    left, right = shorter[equal:], longer[equal:]
    return left == right[1:] or left[1:] == right[1:] or (left[1::-1] == right[:2] and left[2:] == right[2:])
