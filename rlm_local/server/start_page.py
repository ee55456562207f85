"""The start page: what runs and how far it is, for people. Files without a build step, and nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import Response

_FOLDER = Path(__file__).parent / "page"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
# By where they are served. They hold nothing of anybody's, so whoever has no key yet gets them too, to enter his.
PAGE_FILES = {"/": "index.html"} | {
    f"/page/{name}": name for name in ("page.css", "page.js", "api.js", "dom.js", "run.js", "answer.js")
}
# No script but these files, none made of a text, and nobody to talk to but this server.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'none'; "
    "frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


def add_page(app: FastAPI) -> None:
    """Serve the page's files, read once."""
    for path, name in PAGE_FILES.items():
        _add_file(app, path, _FOLDER / name)


def _add_file(app: FastAPI, path: str, file: Path) -> None:
    content = file.read_bytes()
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}

    @app.get(path, include_in_schema=False)
    async def serve() -> Response:
        return Response(content, media_type=_KINDS[file.suffix], headers=headers)
