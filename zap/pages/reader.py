"""What a page knows about the person who reads it: language, colours, path prefix, login, and the token of forms."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import quote

import msgspec
from litestar import Request
from litestar.datastructures import Cookie

from zap.public import public_path
from zap.server.access import key_of, login_key_of, name_of
from zap.server.logins import COOKIE as LOGIN

Scheme = Literal["auto", "light", "dark"]
LANGUAGES = {"en": "English", "uk": "Українська"}
SCHEMES: Sequence[Scheme] = ("auto", "light", "dark")
LANGUAGE_COOKIE, SCHEME_COOKIE, VISIT_COOKIE = "zap_language", "zap_scheme", "zap_visit"
# Methods that change nothing.
SAFE = frozenset({"GET", "HEAD"})
_YEAR = 365 * 24 * 3600
_LONGEST_VISIT = 100
_MOST_LANGUAGES = 20


class Reader(msgspec.Struct, frozen=True):
    """The person who reads a page, as far as a request tells.

    Attributes:
        language: a key of LANGUAGES.
        scheme: the chosen colours; `auto` follows the system.
        prefix: the path prefix of the proxy.
        address: the path and the query of the page, without the prefix.
        token: the token that each form sends back.
        visit: the cookie of the visit, to which the token is bound without a login.
        is_new: whether the visit begins with this reply.
        is_asking: whether the request changes nothing, so that its reply may begin a visit.
        key_name: the name of the key that the person has logged in with; None without a login.
        who: the name that somebody gave to the key; it says who makes a change. None if the key has no such name.
        scopes: what the key may do; None if every route is open.
        is_stranger: whether the person has to log in before any page is shown.
        is_secure: whether the browser speaks https.
    """

    language: str
    scheme: Scheme
    prefix: str
    address: str
    token: str
    visit: str
    is_new: bool
    is_asking: bool
    key_name: str | None
    who: str | None
    scopes: frozenset[str] | None
    is_stranger: bool
    is_secure: bool

    @property
    def has_login(self) -> bool:
        """Return whether the person has logged in."""
        return self.key_name is not None

    def may(self, *scopes: str) -> bool:
        """Return whether the person may do what needs these scopes. Pages show no button that would be refused."""
        return self.scopes is None or self.scopes.issuperset(scopes)

    def path(self, path: str) -> str:
        """Return a path of zap as the browser has to write it."""
        return self.prefix + path

    def cookie(
        self, name: str, value: str, seconds: int | None = None, samesite: Literal["strict", "lax"] = "strict"
    ) -> Cookie:
        """Return a cookie for this browser, which no script can read and no form of another site can use.

        Args:
            name: its name.
            value: its value.
            seconds: how long the browser keeps it; None until the browser is closed.
            samesite: `lax` for a cookie that the browser also sends when it follows a link on another site.
        """
        return Cookie(
            key=name,
            value=value,
            path=self.prefix or "/",
            max_age=seconds,
            httponly=True,
            samesite=samesite,
            secure=self.is_secure,
        )

    def cookies(self) -> list[Cookie]:
        """Return the cookies that a page sets: the cookie of a new visit.

        The cookie is `lax`. Without it, a link on another site would begin another visit, and the forms in all other
        tabs would be refused. A form of another site is sent without it, so the reply to a form begins no visit.
        """
        return [self.cookie(VISIT_COOKIE, self.visit, samesite="lax")] if self.is_new and self.is_asking else []

    def chosen(self, language: str, scheme: str) -> list[Cookie]:
        """Return the cookies of a choice; what cannot be chosen is left out."""
        cookies = []
        if language in LANGUAGES:
            cookies.append(self.cookie(LANGUAGE_COOKIE, language, _YEAR, "lax"))
        if scheme in SCHEMES:
            cookies.append(self.cookie(SCHEME_COOKIE, scheme, _YEAR, "lax"))
        return cookies


def read_reader(request: Request[Any, Any, Any]) -> Reader:
    """Return what a request tells about the person who sent it."""
    cookies, scope = request.cookies, request.scope
    login, key = cookies.get(LOGIN), login_key_of(scope)
    known = cookies.get(VISIT_COOKIE, "")
    is_new = not (16 <= len(known) <= _LONGEST_VISIT and known.isascii())
    visit = secrets.token_urlsafe(24) if is_new else known
    query = scope["query_string"].decode("latin-1")
    scheme = cookies.get(SCHEME_COOKIE)
    return Reader(
        language=_language(cookies.get(LANGUAGE_COOKIE), request.headers.get("Accept-Language", "")),
        scheme=next((one for one in SCHEMES if one == scheme), "auto"),
        prefix=public_path(scope, ""),
        address=quote(scope["path"]) + (f"?{query}" if query else ""),
        token=_token(login if key is not None and login else visit),
        visit=visit,
        is_new=is_new,
        is_asking=request.method in SAFE,
        key_name=None if key is None else key.name,
        who=name_of(scope),
        scopes=None if (carried := key_of(scope)) is None else carried.scopes,
        is_stranger=key is None and request.app.state.api_keys.is_closed,
        is_secure=scope["scheme"] == "https",
    )


def _token(secret: str) -> str:
    """Return the token of forms for a login or a visit. A program that cannot read the cookie cannot know the token."""
    return hmac.new(secret.encode(), b"zap: token of forms, version 1", hashlib.sha256).hexdigest()


def _language(chosen: str | None, accepted: str) -> str:
    """Return the chosen language, or the language of zap that the browser wants most."""
    if chosen in LANGUAGES:
        return chosen
    wanted = []
    for place, entry in enumerate(accepted.split(",")[:_MOST_LANGUAGES]):
        name, _, weight = entry.partition(";")
        language = name.strip().lower().partition("-")[0]
        if language in LANGUAGES:
            wanted.append((-_weight(weight), place, language))
    return min(wanted)[2] if wanted else "en"


def _weight(parameter: str) -> float:
    name, _, value = parameter.partition("=")
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0
