"""The hub source against a small server of our own: pinned address, resume by range, quick and honest failure."""

import hashlib
import http.server
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from rlm_local.cards import WeightFile
from rlm_local.errors import StoreError
from rlm_local.store.hub import HubSource

COMMIT = "d" * 40


@dataclass
class Hub:
    """What the server holds and how it behaves; `requests` are (path, Range, Authorization)."""

    content: bytes
    etag: str
    ignores_ranges: bool = False
    breaks_at: int | None = None  # bytes of the body after which the next answer breaks off, once
    breaks_always: bool = False
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    blob: str = "/blobs/1"  # where it redirects to
    url: str = ""

    @property
    def environ(self) -> dict[str, str]:
        return {"HF_ENDPOINT": self.url}

    def ranges(self) -> list[str | None]:
        return [asked for path, asked, _ in self.requests if path.startswith("/blobs/")]


class Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        hub = self.hub
        hub.requests.append((self.path, self.headers["Range"], self.headers["Authorization"]))
        if "/resolve/" in self.path:
            self.send_response(302)
            self.send_header("Location", hub.blob)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Etag", f'"{hub.etag}"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path != "/blobs/1":
            self.send_error(404)
            return
        start = 0
        if (asked := re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")) and not hub.ignores_ranges:
            start = int(asked[1])
        if start >= len(hub.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(hub.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = hub.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(hub.content) - 1}/{len(hub.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        end = hub.breaks_at
        if not hub.breaks_always:
            hub.breaks_at = None
        self.wfile.write(body[:end])  # a short body: the connection closes before Content-Length is reached


@pytest.fixture
def hub(weights_bytes: bytes) -> Iterator[Hub]:
    hub = Hub(weights_bytes, hashlib.sha256(weights_bytes).hexdigest())
    handler = type("HubHandler", (Handler,), {"hub": hub})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield hub
        server.shutdown()
        thread.join()


def test_a_file_comes_whole_and_the_hubs_commit_is_recorded(store, hub, card_of, weights_bytes) -> None:
    card = card_of(WeightFile("sub/toy.gguf"))
    (record,) = store.pull(card, sources=[HubSource(hub.environ)]).manifest.files
    assert store.path(card).read_bytes() == weights_bytes
    assert (record.source, record.revision, record.known) == ("someone/toy", COMMIT, False)
    assert hub.requests == [("/someone/toy/resolve/main/sub/toy.gguf", None, None), ("/blobs/1", None, None)]


def test_a_transfer_that_breaks_goes_on_by_range_within_the_same_pull(
    store, hub, card_of, known, weights_bytes
) -> None:
    hub.breaks_at = 6000
    card = card_of(known())
    store.pull(card, sources=[HubSource(hub.environ)])
    assert store.path(card).read_bytes() == weights_bytes
    assert hub.ranges() == [None, "bytes=6000-"]


def test_a_hub_that_breaks_off_again_and_again_leaves_its_bytes_for_the_next_pull(store, hub, card_of, known) -> None:
    hub.breaks_at, hub.breaks_always = 1000, True
    card = card_of(known())
    with pytest.raises(StoreError, match="model hub: broke off 5 times; 5000 bytes are kept"):
        store.pull(card, sources=[HubSource(hub.environ)])
    hub.breaks_always, hub.breaks_at = False, None
    hub.requests.clear()
    store.pull(card, sources=[HubSource(hub.environ)])
    assert hub.ranges() == ["bytes=5000-"]


def test_bytes_of_another_version_are_not_continued(store, hub, card_of) -> None:
    card = card_of(WeightFile("toy.gguf"))
    hub.breaks_at, hub.breaks_always = 1000, True
    with pytest.raises(StoreError):
        store.pull(card, sources=[HubSource(hub.environ)])
    hub.breaks_at, hub.breaks_always = None, False
    hub.content = b"new" * 4000
    hub.etag = hashlib.sha256(hub.content).hexdigest()
    store.pull(card, sources=[HubSource(hub.environ)])
    assert store.path(card).read_bytes() == hub.content


def test_a_server_that_ignores_ranges_is_read_from_the_start(store, hub, card_of, known, weights_bytes) -> None:
    hub.ignores_ranges, hub.breaks_at = True, 6000
    card = card_of(known())
    store.pull(card, sources=[HubSource(hub.environ)])
    assert store.path(card).read_bytes() == weights_bytes


def test_a_file_that_was_complete_before_the_pull_ended_is_not_fetched_again(
    store, home, hub, card_of, weights_bytes
) -> None:
    partial = home.weights / "partial" / "toy" / "llama" / "toy.gguf.hub"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(weights_bytes)
    partial.with_name("toy.gguf.hub.mark").write_text(hub.etag)
    card = card_of(WeightFile("toy.gguf"))
    store.pull(card, sources=[HubSource(hub.environ)])
    assert store.path(card).read_bytes() == weights_bytes
    assert hub.ranges() == [f"bytes={len(weights_bytes)}-"]


def test_bytes_that_do_not_hash_to_what_the_hub_itself_declares_are_deleted(store, hub, card_of) -> None:
    hub.etag = "ab" * 32
    with pytest.raises(StoreError, match=f"expected {'ab' * 32} .*: deleted"):
        store.pull(card_of(WeightFile("toy.gguf")), sources=[HubSource(hub.environ)])


def test_a_size_that_is_not_the_cards_ends_the_transfer_before_it_begins(store, hub, card_of, listener) -> None:
    with pytest.raises(StoreError, match=r"offers toy\.gguf with 10240 bytes, the card says 7"):
        store.pull(card_of(WeightFile("toy.gguf", 7)), progress=listener, sources=[HubSource(hub.environ)])
    assert listener.steps == []


def test_offline_means_no_request_at_all(store, hub, card_of, known) -> None:
    with pytest.raises(StoreError, match="model hub: skipped, HF_HUB_OFFLINE is set"):
        store.pull(card_of(known()), sources=[HubSource({**hub.environ, "HF_HUB_OFFLINE": "1"})])
    assert hub.requests == []


def test_a_token_is_sent_only_when_the_environment_names_one(store, hub, card_of, known) -> None:
    store.pull(card_of(known()), sources=[HubSource({**hub.environ, "HF_TOKEN": "secret"})])
    assert hub.requests[0][2] == "Bearer secret"


def test_an_unreachable_hub_is_given_up_at_once_and_the_next_source_is_tried(
    store, card_of, known, scripted, weights_bytes, listener
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, and nobody listens
        hub = HubSource({"HF_ENDPOINT": f"http://127.0.0.1:{closed.getsockname()[1]}"})
        began = time.monotonic()
        store.pull(card_of(known()), progress=listener, sources=[hub, scripted({"toy.gguf": weights_bytes})])
    assert time.monotonic() - began < 5
    (note,) = listener.notes
    assert re.fullmatch(r"model hub: cannot be reached \(.+\); going on to scripted source", note)


@pytest.mark.parametrize("endpoint", ["nonsense", "http://[::bad", "http://[::1", "http://127.0.0.1:99999", "ftp://a"])
def test_an_endpoint_that_is_no_address_is_a_clause_not_a_traceback(store, card_of, known, endpoint) -> None:
    with pytest.raises(StoreError, match=re.escape(f"model hub: HF_ENDPOINT is '{endpoint}', but must be")):
        store.pull(card_of(known()), sources=[HubSource({"HF_ENDPOINT": endpoint})])


def test_a_file_that_the_hub_does_not_have_is_named_with_its_answer(store, hub, card_of, known) -> None:
    hub.blob = "/elsewhere"
    with pytest.raises(StoreError, match=r"model hub: answered 404 Not Found for toy\.gguf"):
        store.pull(card_of(known()), sources=[HubSource(hub.environ)])
