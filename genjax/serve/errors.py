"""Errors as OpenAI's clients expect them."""

from __future__ import annotations

from starlette.responses import JSONResponse

from genjax.errors import UserError

KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """A request that is refused.

    Attributes:
      status: of HTTP.
      message: what is wrong, and the cure.
      param: the field of the request that is wrong.
      code: a short name that programs read.
      retry_after: seconds after which another try may do better.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.param, self.code, self.retry_after = param, code, retry_after

    def to_json(self) -> dict[str, dict[str, str | None]]:
        """The body of the answer."""
        fallback = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = KINDS.get(self.status, fallback)
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    def to_response(self) -> JSONResponse:
        """The answer."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.to_json(), self.status, headers)


def refuse(error: UserError, param: str | None = None) -> ApiError:
    """A user's mistake as an error of the request."""
    return ApiError(400, str(error), param or error.field, "invalid_value")
