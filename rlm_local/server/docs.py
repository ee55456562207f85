"""The API as one page: made of /openapi.json, without a script and without anything from elsewhere."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from fastapi import FastAPI
from starlette.responses import HTMLResponse, Response

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
code, pre { font: 14px/1.4 ui-monospace, monospace; } pre { background: #f4f4f4; padding: 1rem; overflow-x: auto; }
h2 { font-size: 1.1rem; margin: 2rem 0 0; } .method { display: inline-block; min-width: 4.5rem; color: #555; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } pre { background: #262626; } }
"""


def add_docs(app: FastAPI) -> None:
    """Serve /docs, and the style that its policy lets it load."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(page(app.openapi()))

    @app.get("/docs.css", include_in_schema=False)
    async def style() -> Response:
        return Response(STYLE, media_type="text/css")


def page(document: dict[str, Any]) -> str:
    """Return an OpenAPI document as HTML; nothing of it is taken as markup."""
    parts = ['<!doctype html><html lang="en"><meta charset="utf-8"><title>rlm-local: API</title>']
    parts.append('<link rel="stylesheet" href="/docs.css"><h1>rlm-local</h1>')
    parts.append("<p>Errors are <code>{&quot;error&quot;: {message, type, param, code}}</code>. ")
    parts.append('The same in full: <a href="/openapi.json">openapi.json</a>.</p>')
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            parts.append(f'<h2><span class="method">{escape(method.upper())}</span><code>{escape(path)}</code></h2>')
            parts.append(f"<p>{escape(told.get('summary', ''))}</p>")
            if body := told.get("requestBody"):
                parts.append(f"<pre>{escape(json.dumps(body['content'], indent=1))}</pre>")
    parts.append("<h1>Bodies</h1>")
    for name, schema in document.get("components", {}).get("schemas", {}).items():
        parts.append(f'<h2 id="{escape(name)}"><code>{escape(name)}</code></h2>')
        parts.append(f"<pre>{escape(json.dumps(schema, indent=1))}</pre>")
    return "".join(parts)
