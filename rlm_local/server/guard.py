"""What stands before every route: who may speak to us at all, how much, and that nothing of ours leaks."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlm_local.server.keys import Key, Keys
from rlm_local.server.listen import is_loopback
from rlm_local.server.logs import log
from rlm_local.server.owner import Owner
from rlm_local.server.presence import PROOF_PATH, TENANT_HEADER
from rlm_local.server.problem import Problem, problem_body
from rlm_local.server.quotas import NOBODY, Caller
from rlm_local.server.settings import Settings
from rlm_local.server.start_page import PAGE_FILES
from rlm_local.server.wire import Json

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'"),
    (b"referrer-policy", b"no-referrer"),
]
_DRAINED_BYTES = 4 << 30
UPLOAD = "/v1/files"  # bounded by its own route, which counts while it writes


# For who watches over the process, with no key of his own, and for a page where one is entered.
OPEN = ("/health", "/ready", PROOF_PATH, *PAGE_FILES)
METRICS = "/metrics"  # sums over all tenants, so it is no tenant's
FAILED = "the server failed at this request; its log tells where"
LOCAL = "local"  # the tenant of everybody, where no key was made


def tenant_of(request: Request) -> str:
    """Return for whom a request speaks, as the guard has found out."""
    tenant: str = request.state.tenant
    return tenant


def caller_of(request: Request) -> Caller:
    """Return with which key a request came, and what that may take."""
    caller: Caller = getattr(request.state, "caller", NOBODY)
    return caller


class Guard:
    """ASGI middleware around the whole application.

    Once a key was made every caller needs one. Without, whoever reaches us is served as one tenant; a page in a
    browser reaches a server on loopback too, so we then answer only to loopback's own names and to no other origin.
    """

    def __init__(self, app: ASGIApp, settings: Settings, keys: Keys, owner: Owner | None = None) -> None:
        self._app = app
        self._settings = settings
        self._keys = keys
        self._owner = owner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        begun = False
        body = _Body(scope, receive, self._settings)

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                closing = [] if body.is_drained else [(b"connection", b"close")]
                own = {name for name, _ in message["headers"]}  # a page has a policy of its own
                ours = [header for header in _HEADERS if header[0] not in own]
                message = {**message, "headers": [*message["headers"], *ours, *closing]}
            await send(message)

        try:
            state = scope.setdefault("state", {})  # before _admit, which writes there too
            state["tenant"] = self._admit(scope)
            await self._app(scope, body.receive, sending)
        except Exception as error:  # the last who can word it; a traceback could hold a document
            told = error if isinstance(error, HTTPException) else HTTPException(500, FAILED)
            if told is not error:
                log("failure", path=scope["path"], error=type(error).__name__, at=_place(error))
            if not begun:  # else uvicorn hangs up, which tells that the answer is not whole
                await Json(problem_body(told), told.status_code, told.headers)(scope, receive, sending)

    def _admit(self, scope: Scope) -> str:
        """Return the caller's tenant. Raises Problem: 401, 403 for a page of another, or another kind of key."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        kind, _, secret = headers.get(b"authorization", "").partition(" ")
        if self._owner is not None and kind.lower() == "bearer" and self._owner.is_meant(secret.strip()):
            scope["state"]["is_owner"] = True
            return headers.get(TENANT_HEADER.encode()) or LOCAL
        if not self._keys.exist():
            _check_page(scope, headers.get(b"host", "").lower(), headers.get(b"origin"))
            return LOCAL
        key = self._keys.of(secret.strip()) if kind.lower() == "bearer" else None
        if key is None and scope["path"] not in OPEN:
            # One sentence for no key, a wrong one and one that was revoked.
            said = "this server wants a valid key: Authorization: Bearer KEY"
            raise Problem(401, said, code="invalid_api_key")
        if key is None:
            return LOCAL
        if scope["path"] not in OPEN:
            _check_kind(key, scope["path"])
        scope["state"]["caller"] = Caller(key.id, key.limits)
        return key.tenant


def _check_kind(key: Key, path: str) -> None:
    """Raise Problem: 403 where a tenant's key meets what all tenants are summed up in, or the other way round.

    404 for a path with a control character: a route also takes its path with a newline behind it, and no name here
    would be the same.
    """
    if any(character < " " or character == "\x7f" for character in path):
        raise Problem(404, f"there is no path {path[:200]!r}")
    if path == METRICS and not key.watches:
        raise Problem(403, f"{METRICS} is for a key that was made by `rlm-local keys add NAME --metrics`")
    if path != METRICS and key.watches:
        raise Problem(403, f"this key opens {METRICS} and nothing else")


def _check_page(scope: Scope, host: str, origin: str | None) -> None:
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    by_socket = not scope.get("client")  # over a unix socket there is no such name
    if not is_loopback(name.strip("[]")) and not by_socket:
        raise Problem(403, f"without keys this server is localhost or a loopback address only, not {name[:100]!r}")
    if origin is not None and origin.partition("://")[2].lower() != host:
        raise Problem(403, "without keys this server answers to no page of another origin")


class _Body:
    """A request's body, ended when it is too large or comes too slowly."""

    def __init__(self, scope: Scope, receive: Receive, settings: Settings) -> None:
        headers = dict(scope["headers"])
        self._receive = receive
        self._most = None if scope["path"].rstrip("/") == UPLOAD else settings.max_body_bytes
        self._piece_s = settings.body_piece_s
        self._size = 0
        self._has_ended = b"transfer-encoding" not in headers and headers.get(b"content-length", b"0") == b"0"
        # A caller who has said how much comes may send the rest of what is refused: it is thrown away, and he reads
        # why. From one who has not, or of very much, we hang up.
        declared = headers.get(b"content-length", b"")
        self._may_finish = declared.isdigit() and len(declared) < 12 and int(declared) <= _DRAINED_BYTES

    @property
    def is_drained(self) -> bool:
        """Tell whether the connection may serve another request after an answer that is given now."""
        return self._has_ended or self._may_finish

    async def receive(self) -> Message:
        if self._has_ended:
            return await self._receive()
        try:
            async with asyncio.timeout(self._piece_s):
                message = await self._receive()
        except TimeoutError:
            self._may_finish = False
            raise Problem(408, f"the next piece of the body did not come within {self._piece_s:g} s") from None
        self._size += len(message.get("body", b""))
        self._has_ended = not message.get("more_body", False)
        if self._most is not None and self._size > self._most:
            said = f"the body is over {self._most} bytes; longer documents go to /v1/files"
            raise Problem(413, said, code="too_large")
        return message


def _place(error: BaseException) -> str:
    """Return where an error was raised: file and line, nothing of what was worked on."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return "" if at is None else f"{at.tb_frame.f_code.co_filename.rpartition('/')[2]}:{at.tb_lineno}"
