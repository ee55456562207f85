"""What goes wrong between a caller and the server, in OpenAI's shape."""

from __future__ import annotations

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from rlm_local.errors import (
    ConfigError,
    DocumentError,
    EngineRefused,
    EngineUnavailable,
    JailUnavailable,
    RlmError,
    WindowExceeded,
)
from rlm_local.types import JsonObject

_KIND = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}
RESTART_S = 5  # until an engine that has ended is there again, about


class Problem(HTTPException):
    """Ends a request with this status and one sentence. It is an HTTPException so that FastAPI hands it through.

    code: a word for programs; param: the field that is wrong; retry_after_s: when to come again.
    """

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None, retry_after_s: int = 0
    ) -> None:
        super().__init__(status, message, {"Retry-After": str(retry_after_s)} if retry_after_s else None)
        self.code = code
        self.param = param


def problem_body(error: HTTPException) -> JsonObject:
    """Return {"error": {"message", "type", "param", "code"}}."""
    return {
        "error": {
            "message": str(error.detail),
            "type": _KIND.get(error.status_code, "server_error"),
            "param": getattr(error, "param", None),
            "code": getattr(error, "code", None),  # OpenAI's clients take a word or null
        }
    }


def problem_of(error: RlmError | Problem) -> Problem:
    """Return how a caller is told of an error of the runtime's; a problem is told as it is."""
    if isinstance(error, Problem):
        return error
    said = f"{error}; {error.hint}" if error.hint and isinstance(error, ConfigError | DocumentError) else str(error)
    match error:
        case WindowExceeded():
            return Problem(400, said, code="context_length_exceeded")
        case ConfigError() | DocumentError() | EngineRefused():
            return Problem(400, said)
        case EngineUnavailable() | JailUnavailable():
            return Problem(503, said, code="unavailable", retry_after_s=RESTART_S)
        case _:
            return Problem(500, said)


def problem_of_body(error: RequestValidationError) -> Problem:
    """Return in one sentence what is wrong with a request: fields that are not served before all else."""
    found = error.errors()
    unknown = sorted({_place(one["loc"]) for one in found if one["type"] == "extra_forbidden"})
    if unknown:
        return Problem(400, f"not served: {', '.join(unknown)}", code="unsupported_field", param=unknown[0])
    # Of a field that may be one of several things, what is told of the last comes nearest to what was meant.
    worst = max(found, key=lambda one: len(one["loc"]))
    if worst["type"] == "json_invalid":
        return Problem(400, "the body is not JSON")
    place = _place(worst["loc"])
    return Problem(400, f"{place or 'the body'}: {worst['msg'][:300]}", param=place or None)


def _place(loc: tuple[int | str, ...]) -> str:
    """Return messages[0].content for ("body", "messages", 0, "content"), without the names of our own classes."""
    text = ""
    for part in loc[1:]:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part and part[0].islower() and "[" not in part and part not in ("str", "function-plain", "text-part"):
            text += f".{part[:64]}" if text else part[:64]
    return text
