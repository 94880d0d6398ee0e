"""A visit holds a request to a page and its visitor; errors become pages of one sentence."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from genjax.errors import UserError
from genjax.serve.pages import access
from genjax.serve.pages.access import Session
from genjax.serve.pages.context import Pages
from genjax.serve.pages.rendering import render
from genjax.store.access.principal import Principal
from genjax.store.access.roles import Role
from genjax.store.access.tokens import open_for
from genjax.store.store import Store

COOKIE = "genjax_session"
FORM = "application/x-www-form-urlencoded"
LARGEST = 12_000_000  # maximum bytes of a form
FIELDS = 20_000  # maximum number of fields in a form
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
NOBODY = Principal("", Role("nobody", ()))
log = logging.getLogger(__name__)


class Fields:
    """The fields of a query or a form."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._pairs = pairs

    def one(self, name: str, default: str = "") -> str:
        """Return the last value of a name."""
        return next((value for key, value in reversed(self._pairs) if key == name), default)

    def all(self, name: str) -> tuple[str, ...]:
        """Return all distinct values of a name."""
        return tuple(dict.fromkeys(value for key, value in self._pairs if key == name))

    def text(self, name: str) -> str:
        """Return a text as typed, with Python's line ends."""
        return self.one(name).replace("\r\n", "\n")

    def choice(self, name: str, known: Sequence[str], default: str) -> str:
        """Return one of several words.

        Raises:
          UserError: the value is not one of the words.
        """
        value = self.one(name) or default
        if value not in known:
            raise UserError(f"{name} must be one of {', '.join(known)}, got {value!r:.60}", name)
        return value

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """Return a whole number.

        Raises:
          UserError: the value is not a whole number, or is out of range.
        """
        value = self.one(name) or str(default)
        number = int(value) if re.fullmatch(r"-?[0-9]{1,18}", value) else None
        if number is None or not least <= number <= most:
            rule = f"a whole number from {least:,} to {most:,}"
            raise UserError(f"{name} must be {rule}, got {value!r:.60}", name)
        return number

    def number(self, name: str) -> float | None:
        """Return a number; None if the field is empty.

        Raises:
          UserError: the value is not a number.
        """
        value = self.one(name).strip()
        if not value:
            return None
        if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", value, re.ASCII):
            raise UserError(f"{name} must be a number, got {value!r:.60}", name)
        if abs(number := float(value)) > 1e300:
            raise UserError(f"{name} must be a number below 1e300, got {value!r:.60}", name)
        return number


@dataclass(frozen=True)
class Visit:
    """A request to a page, and its visitor.

    Attributes:
      context: context of the pages.
      request: request as received.
      session: session of the visitor.
      principal: who logged in; None before the login.
      query: fields of the address.
      form: fields of the form.
    """

    context: Pages
    request: Request
    session: Session
    principal: Principal | None
    query: Fields
    form: Fields

    @property
    def name(self) -> str:
        """Return the name of the visitor."""
        return "" if self.principal is None else self.principal.name

    def may(self, *actions: str) -> bool:
        """Return whether the visitor may do one of the actions, on some records."""
        return self.principal is not None and self.principal.may(*actions)

    @cached_property
    def store(self) -> Store:
        """Return the store as the visitor sees it; its history names the visitor."""
        return open_for(self.context.store, self.principal or NOBODY)

    @property
    def is_partial(self) -> bool:
        """Return whether htmx asks for a part of a page."""
        return self.request.headers.get("HX-Request") == "true"

    def to(self, path: str, **query: str | int | None) -> str:
        """Return the address of a page, below the path where the pages are mounted."""
        return link(self.request, path, query)

    def show(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Render a page as a response."""
        return HTMLResponse(self.render(template, **values), status)

    def render(self, template: str, **values: Any) -> str:
        """Render a page to HTML."""
        return render(template, {"visit": self, "to": self.to, **values})

    def go(self, path: str, **query: str | int | None) -> RedirectResponse:
        """Redirect the visitor to another page by GET."""
        return RedirectResponse(self.to(path, **query), 303)


Handler = Callable[[Visit], Response]


class Declared(NamedTuple):
    """A page: the actions of which its visitor needs one, and the function that makes it."""

    actions: tuple[str, ...]
    handler: Handler


def link(request: Request, path: str, query: Mapping[str, str | int | None]) -> str:
    """Return the address of a page with a query; None and empty values are left out."""
    base = str(request.scope.get("root_path", "")).rstrip("/")
    pairs = [(name, value) for name, value in query.items() if value not in (None, "")]
    return f"{base}{path}" + (f"?{urlencode(pairs)}" if pairs else "")


class Page:
    """A page that checks the visitor, runs a handler in a thread, and explains errors.

    Args:
      context: context of the pages.
      declared: function that makes the answer, and the actions that it needs.
      is_open: whether the page is shown before the login, too.
    """

    def __init__(self, context: Pages, declared: Declared, is_open: bool = False) -> None:
        self._context, self._open = context, is_open
        self.actions, self._handler = declared

    async def answer(self, request: Request) -> Response:
        visit = await self._begin(request)
        try:
            if refused := self._refuse_stranger(visit):
                return self._finish(visit, refused)
            if request.method == "POST":
                form = await _read_form(request)
                visit = dataclasses.replace(visit, form=form)
                _check_form(visit)
            self._check_rights(visit)
            answer = await run_in_threadpool(self._handler, visit)
        except HTTPException as error:
            answer = _explain(visit, error.status_code, error.detail)
        except UserError as error:
            answer = _explain(visit, find_status(error), str(error))
        except Exception:
            log.exception("a page failed: %s", request.url.path)
            answer = _explain(visit, 500, "This page failed; the log of the server says why.")
        return self._finish(visit, answer)

    async def _begin(self, request: Request) -> Visit:
        context = self._context
        session = access.unseal(context.secret, request.cookies.get(COOKIE, ""))
        principal = None
        if session is not None and session.key is not None:
            principal = await run_in_threadpool(context.recall, session.key)
        if session is None or (principal is None and session.key is not None):
            session = access.new_session()
        query = Fields(QueryParams(request.scope["query_string"]).multi_items())
        return Visit(context, request, session, principal, query, Fields(()))

    def _refuse_stranger(self, visit: Visit) -> Response | None:
        if (who := visit.principal) is not None:
            wait = visit.context.rates.take(who.token, who.rate)
            if wait is not None:
                answer = _explain(visit, 429, f"Too many requests: wait {wait} seconds.")
                answer.headers["Retry-After"] = str(wait)
                return answer
        if self._open or who is not None:
            return None
        request = visit.request
        if request.method == "POST" or visit.is_partial:
            return _explain(visit, 401, "You are not logged in, or your session has ended.")
        base = str(request.scope.get("root_path", ""))
        here = request.url.path.removeprefix(base)
        wanted = f"{here}?{request.url.query}" if request.url.query else here
        return visit.go("/login", next=wanted if wanted != "/" else None)

    def _check_rights(self, visit: Visit) -> None:
        if not self._open and not visit.may(*self.actions):
            role = visit.principal.role.name if visit.principal else ""
            wanted = " or ".join(self.actions)
            raise HTTPException(403, f"Your role {role} may not {wanted} here.")

    def _finish(self, visit: Visit, answer: Response) -> Response:
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
        secret, cookie = visit.context.secret, visit.request.cookies.get(COOKIE, "")
        if "set-cookie" not in answer.headers and access.unseal(secret, cookie) != visit.session:
            set_session(visit.request, answer, access.seal(secret, visit.session))
        return answer


def _check_form(visit: Visit) -> None:
    if not access.is_same(visit.form.one("csrf"), visit.session.csrf):
        raise HTTPException(403, "This form is too old: open its page again.")


def set_session(request: Request, answer: Response, sealed: str) -> None:
    """Keep a sealed session in a cookie that is hidden from scripts and other sites."""
    answer.set_cookie(
        COOKIE,
        sealed,
        max_age=access.AGE,
        path=request.scope.get("root_path") or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )


def find_status(error: UserError) -> int:
    """Return the status of an error: 404 if a record does not exist, 403 if a role is too low."""
    if error.field == "role":
        return 403
    said = str(error)
    gone = error.field == "id" and ("does not exist" in said or "was deleted" in said)
    return 404 if gone else 400


def _explain(visit: Visit, status: int, why: str) -> HTMLResponse:
    return visit.show("error.html", status, code=status, why=why)


async def _read_form(request: Request) -> Fields:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM:
        raise HTTPException(415, f"A form must come as {FORM}.")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > LARGEST:
            raise HTTPException(413, f"A form must have at most {LARGEST:,} bytes.")
    try:
        pairs = parse_qsl(
            content.decode("ascii", "replace"), keep_blank_values=True, max_num_fields=FIELDS
        )
    except ValueError:
        raise HTTPException(413, f"A form must have at most {FIELDS:,} fields.") from None
    return Fields(pairs)
