"""Errors have the format that OpenAI's clients expect."""

from __future__ import annotations

from starlette.responses import JSONResponse

from genjax.errors import UserError

KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class ApiError(Exception):
    """A refused request.

    Attributes:
      status: HTTP status.
      message: error and its remedy.
      param: invalid field of the request.
      code: short, machine-readable name of the error.
      retry_after: seconds to wait before the next try.
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
        """Return the body of the answer."""
        fallback = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = KINDS.get(self.status, fallback)
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    def to_response(self) -> JSONResponse:
        """Return the answer."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.to_json(), self.status, headers)


def refuse(error: UserError, param: str | None = None) -> ApiError:
    """Convert a user's mistake into an error of the request."""
    return ApiError(400, str(error), param or error.field, "invalid_value")
