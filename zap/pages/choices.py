"""POST /pages/choices: the language and the colours that a person has chosen."""

from typing import Any

from litestar import Request, Response, post

from zap.pages.page import read_form, see_other
from zap.pages.reader import read_reader
from zap.public import PAGE, PUBLIC


@post("/pages/choices", status_code=200, include_in_schema=False, opt={**PAGE, **PUBLIC})
async def choose(request: Request[Any, Any, Any]) -> Response[Any]:
    """Remember the choice in cookies, and show the page again from which the form was sent."""
    form = await read_form(request)
    chosen = read_reader(request).chosen(form.get("language", ""), form.get("scheme", ""))
    return see_other(request, form.get("next", "/"), chosen)
