"""/v1/files: upload, list, look, read, delete."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

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
        return _FileResponse(files.open(tenant_of(request), file_id))

    @router.delete("/v1/files/{file_id}", summary="Delete a file")
    async def delete(request: Request, file_id: str) -> Response:
        await asyncio.to_thread(files.delete, tenant_of(request), file_id)
        return Json({"id": file_id, "object": "file", "deleted": True})

    return router


class _FileResponse(StreamingResponse):
    """Sends a file that is open already, so that one deleted meanwhile is sent to its end; closes it in any case."""

    def __init__(self, file: BinaryIO) -> None:
        # Never as what it claims to be: a document is not to be run or shown by a browser.
        headers = {"Content-Disposition": "attachment", "Cache-Control": "no-store"}
        headers["Content-Length"] = str(os.fstat(file.fileno()).st_size)
        super().__init__(_pieces(file), media_type="application/octet-stream", headers=headers)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:  # a generator's own with-block is not entered where the reader leaves before the first piece
            await super().__call__(scope, receive, send)


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece
