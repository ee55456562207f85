"""The model hub as a source: one GET a file, resumed by byte range.

The address of a file is huggingface_hub's affair. The transfer is ours: huggingface_hub 2.4 throws a broken
download away (file_download.py, _download_to_tmp_and_move) and retries an unreachable hub for 23 s.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import httpx

from rlm_local.config import is_server_url
from rlm_local.store.sink import Sink
from rlm_local.store.source import Origin, SourceFailed, Wanted

CONNECT_S = 5.0  # an unreachable hub must not keep the next source waiting
READ_S = 30.0  # silence in the middle of a transfer
ATTEMPTS = 5  # only while each of them brings new bytes

_TRUE = {"1", "true", "yes", "on"}  # what huggingface_hub itself takes for true
_BROKEN = (httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError)  # it had answered
_SHA256 = re.compile(r"[0-9a-f]{64}")


class HubSource:
    """Downloads the files that a card names, at its pinned revision.

    Honours HF_ENDPOINT, HF_HUB_OFFLINE (no network call at all) and HF_TOKEN (never a token from a file).
    """

    name = "model hub"
    key = "hub"

    def __init__(self, environ: Mapping[str, str] = os.environ, *, connect_s: float = CONNECT_S) -> None:
        self._environ = environ
        self._timeout = httpx.Timeout(READ_S, connect=connect_s)

    def refusal(self, wanted: Wanted) -> str:
        for switch in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            if self._environ.get(switch, "").lower() in _TRUE:
                return f"skipped, {switch} is set"
        endpoint = self._environ.get("HF_ENDPOINT")
        if endpoint and not is_server_url(endpoint):  # huggingface_hub could not even be imported with some of them
            return f"HF_ENDPOINT is {endpoint!r}, but must be like https://host"
        return ""

    def fetch(self, wanted: Wanted, sink: Sink) -> Origin:
        url = self._address(wanted)
        for _ in range(ATTEMPTS):
            held = sink.size
            try:
                return self._transfer(url, wanted, sink)
            except (httpx.RequestError, httpx.InvalidURL) as error:
                if sink.size == held:
                    what = "broke off" if isinstance(error, _BROKEN) else "cannot be reached"
                    raise SourceFailed(f"{what} ({str(error) or type(error).__name__})") from error
        raise SourceFailed(f"broke off {ATTEMPTS} times; {sink.size} bytes are kept for the next pull")

    def _address(self, wanted: Wanted) -> str:
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when huggingface_hub is imported
        from huggingface_hub import hf_hub_url

        endpoint = self._environ.get("HF_ENDPOINT") or None
        return hf_hub_url(wanted.repo, wanted.file.name, revision=wanted.revision or "main", endpoint=endpoint)

    def _transfer(self, url: str, wanted: Wanted, sink: Sink) -> Origin:
        headers = {"Accept-Encoding": "identity"}  # sizes and ranges are of the file, not of its gzip
        if token := self._environ.get("HF_TOKEN"):
            headers["Authorization"] = f"Bearer {token}"  # httpx drops it when redirected to another host
        if sink.size:
            headers["Range"] = f"bytes={sink.size}-"
        with (
            httpx.Client(timeout=self._timeout, follow_redirects=True) as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            origin, version = _origin(response, wanted)
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return self._past_the_end(url, wanted, sink, response)
            if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
                raise SourceFailed(f"answered {response.status_code} {response.reason_phrase} for {wanted.file.name}")
            resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
            if resumed and not (sink.mark == version and _range_start(response) == sink.size):
                # The bytes held are of another version of the file; two halves that do not belong together
                # would go unnoticed where no card knows the hash.
                sink.cut_back(0)
                return self._transfer(url, wanted, sink)
            if not resumed:
                sink.cut_back(0)
            sink.set_mark(version)
            sink.expect(whole := _whole_size(response, sink.size))
            if wanted.file.bytes is not None and whole not in (None, wanted.file.bytes):
                raise SourceFailed(f"offers {wanted.file.name} with {whole} bytes, the card says {wanted.file.bytes}")
            # As they come: a fixed chunk size would lose what was gathered for a chunk when the line breaks.
            for chunk in response.iter_bytes():
                sink.write(chunk)
            return origin

    def _past_the_end(self, url: str, wanted: Wanted, sink: Sink, response: httpx.Response) -> Origin:
        """All bytes are held already, or the held ones are of a longer file: then begin again."""
        origin, version = _origin(response, wanted)
        whole = response.headers.get("Content-Range", "").rpartition("/")[2]
        if whole == str(sink.size) and sink.mark == version:
            return origin
        sink.cut_back(0)
        return self._transfer(url, wanted, sink)


def _origin(response: httpx.Response, wanted: Wanted) -> tuple[Origin, str]:
    """Return where the bytes come from, and a text that changes when the file at this address changes."""
    # The hub's own headers stand on the first answer, before the redirect to where large files lie.
    chain = [*response.history, response]
    commit = _first(chain, "X-Repo-Commit") or wanted.revision
    etag = (_first(chain, "X-Linked-Etag") or _first(chain, "ETag") or "").removeprefix("W/").strip('"')
    declared = etag if _SHA256.fullmatch(etag) else None
    return Origin(source=wanted.repo, revision=commit, declared_sha256=declared), etag or commit or ""


def _first(chain: list[httpx.Response], header: str) -> str | None:
    return next((answer.headers[header] for answer in chain if header in answer.headers), None)


def _range_start(response: httpx.Response) -> int | None:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _whole_size(response: httpx.Response, held: int) -> int | None:
    length = response.headers.get("Content-Length")
    return held + int(length) if length is not None else None
