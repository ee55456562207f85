"""What the owner of a server's folder may do besides a caller: see that it is his server, and stop it."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from rlm_local.server.desk import Desk
from rlm_local.server.presence import PROOF_PATH, proof_of
from rlm_local.server.problem import Problem
from rlm_local.server.wire import Json


class Owner:
    """Whoever can read the file in the server's folder, and so knows this secret."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def is_meant(self, secret: str) -> bool:
        return hmac.compare_digest(self.secret.encode(), secret.encode("utf-8", "replace"))


def owner_routes(desk: Desk, owner: Owner) -> APIRouter:
    """Not part of the API that is documented: its only client is the command line of the same build."""
    router = APIRouter(include_in_schema=False)

    @router.get(PROOF_PATH)
    async def prove(challenge: Annotated[str, Query(min_length=16, max_length=100)]) -> Response:
        return Json({"proof": proof_of(owner.secret, challenge)})

    @router.post("/v1/rlm/server/stop")
    async def stop(request: Request) -> Response:
        if not getattr(request.state, "is_owner", False):
            raise Problem(404, "there is no POST /v1/rlm/server/stop")
        desk.asked_to_stop.set()
        return Json({"status": "stopping"}, 202)

    return router
