"""/v1/files: upload, list, look, read, delete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response, StreamingResponse

from rlm_local.server.files import Files
from rlm_local.server.guard import caller_of, tenant_of
from rlm_local.server.upload import Upload
from rlm_local.server.wire import Json

_PIECE_BYTES = 1 << 18
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "minLength": 1},
                        "purpose": {"type": "string", "minLength": 1},
                    },
                }
            }
        },
    }
}


class Page(BaseModel):
    model_config = ConfigDict(extra="forbid")  # and not strict: in a query everything is text

    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000
    after: str | None = None
    purpose: str | None = None
    order: Literal["asc", "desc"] = "desc"


def files_routes(files: Files) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/files", summary="Upload a document", openapi_extra=_FORM)
    async def upload(request: Request) -> Response:
        tenant = tenant_of(request)
        with closing(files.incoming(tenant, caller_of(request).limits)) as incoming:
            form = Upload(incoming)
            await form.read(request.headers.get("content-type", ""), request.stream())
            kept = await asyncio.to_thread(files.keep, tenant, incoming, form.filename, form.purpose)
        return Json(kept.as_object())

    @router.get("/v1/files", summary="Your files")
    async def listed(request: Request, page: Annotated[Page, Query()]) -> Response:
        tenant, most = tenant_of(request), page.limit + 1  # one more tells whether there are more
        found = files.page(tenant, most, after=page.after, purpose=page.purpose, newest_first=page.order == "desc")
        shown = found[: page.limit]
        told: dict[str, Any] = {"object": "list", "data": [file.as_object() for file in shown]}
        ends = {"first_id": shown[0].id if shown else None, "last_id": shown[-1].id if shown else None}
        return Json({**told, **ends, "has_more": len(found) > len(shown)})

    @router.get("/v1/files/{file_id}", summary="What is known of a file")
    async def look(request: Request, file_id: str) -> Response:
        return Json(files.find(tenant_of(request), file_id).as_object())

    @router.get("/v1/files/{file_id}/content", summary="Its bytes")
    async def content(request: Request, file_id: str) -> Response:
        path = files.path(tenant_of(request), file_id)

        async def pieces() -> AsyncIterator[bytes]:
            with path.open("rb") as file:
                while piece := file.read(_PIECE_BYTES):
                    yield piece

        # Never as what it claims to be: a document is not to be run or shown by a browser.
        headers = {"Content-Disposition": "attachment", "Cache-Control": "no-store"}
        return StreamingResponse(pieces(), media_type="application/octet-stream", headers=headers)

    @router.delete("/v1/files/{file_id}", summary="Delete a file")
    async def delete(request: Request, file_id: str) -> Response:
        await asyncio.to_thread(files.delete, tenant_of(request), file_id)
        return Json({"id": file_id, "object": "file", "deleted": True})

    return router
