"""A process that speaks vLLM's API and computes nothing: for tests of how vLLM is started, probed, watched and ended.

    fake_vllm.py serve MODEL --uds SOCKET --max-model-len N --served-model-name NAME ...

A token is four characters, a block of the cache is four tokens. FAKE_VLLM in the environment names what it does wrong,
words apart by spaces: no-grammar, no-cache, no-salt, no-scores, no-start. Like vLLM it has a child, which
outlives it unless somebody ends it. Standard library only, because it runs as a file of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

CHARS_PER_TOKEN, BLOCK_TOKENS = 4, 4
END = 7  # the token that ends a reply
_FAULTS = set(os.environ.get("FAKE_VLLM", "").split())
_SEEN: list[tuple[str, str]] = []  # salt and prompt of every request
_LOCK = threading.Lock()


def tokens(text: str) -> list[int]:
    """Return a number for every four characters, the last ones filled up with spaces; none is END."""
    pieces = [text[at : at + CHARS_PER_TOKEN].ljust(CHARS_PER_TOKEN) for at in range(0, len(text), CHARS_PER_TOKEN)]
    return [8 + int.from_bytes(piece.encode()[:6], "big") for piece in pieces]


def cached(prompt: str, salt: str) -> int:
    """Return the tokens of whole blocks that an earlier request with this salt began with; remember this one."""
    with _LOCK:
        shared = 0
        for other, earlier in _SEEN:
            if "no-cache" not in _FAULTS and (other == salt or "no-salt" in _FAULTS):
                shared = max(shared, shared_length(earlier, prompt))
        _SEEN.append((salt, prompt))
    most = max(0, len(prompt) // CHARS_PER_TOKEN - 1)  # the last token is always computed
    return min(shared // CHARS_PER_TOKEN, most) // BLOCK_TOKENS * BLOCK_TOKENS


def shared_length(one: str, other: str) -> int:
    length = min(len(one), len(other))
    return next((at for at in range(length) if one[at] != other[at]), length)


def chat_text(messages: list[dict[str, str]]) -> str:
    """Return a chat as its template writes it, each turn in whole tokens."""
    return "".join(f"{turn['role'][:4]:4}{turn['content']}{' ' * (-len(turn['content']) % 4)}" for turn in messages)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    window, model = 0, ""

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the base class names it so
        pass

    def do_GET(self) -> None:
        listing = [{"id": self.model, "max_model_len": self.window}]
        self._answer(200, {"data": listing} if self.path == "/v1/models" else {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        serve = {"/tokenize": self._tokenize, "/v1/completions": self._score, "/v1/chat/completions": self._chat}
        self._answer(*serve[self.path](body))

    def _tokenize(self, body: dict[str, Any]) -> tuple[int, object]:
        if "prompt" in body:
            found = tokens(body["prompt"])
        else:
            goes_on = body.get("add_generation_prompt", True)
            found = tokens(chat_text(body["messages"]))
            found = [*found, *tokens("assi")] if goes_on else [*found, END]
        return 200, {"count": len(found), "tokens": found}

    def _score(self, body: dict[str, Any]) -> tuple[int, object]:
        """Tell -1 for the smallest of the named tokens, -2 for the next, and so on."""
        if "no-scores" in _FAULTS:
            return _refused("logprob_token_ids is not known")
        wanted = sorted(body["logprob_token_ids"])
        told = {f"token_id:{token}": -1.0 - at for at, token in enumerate(wanted)}
        usage = _usage(len(body["prompt"]), cached(" ".join(map(str, body["prompt"])), body["cache_salt"]), 1)
        return 200, {"choices": [{"text": "", "logprobs": {"top_logprobs": [told]}}], "usage": usage}

    def _chat(self, body: dict[str, Any]) -> tuple[int, object]:
        prompt = chat_text(body["messages"])
        if len(tokens(prompt)) + body["max_tokens"] > self.window:
            return _refused(f"This model's maximum context length is {self.window} tokens.")
        said = body["messages"][-1]["content"]
        text = f"you said {said[:40]}"
        held = body.get("structured_outputs", {})
        if "grammar" in held and "no-grammar" not in _FAULTS:
            text = "zq78qz"
        if "choice" in held:
            text = held["choice"][0]
        if said == "wait":  # until somebody ends it
            time.sleep(600)
        choice = {"message": {"content": text}, "finish_reason": "error" if said == "give up" else "stop"}
        usage = _usage(len(tokens(prompt)), cached(prompt, body.get("cache_salt", "")), len(tokens(text)))
        return 200, {"choices": [choice], "usage": usage, "seen": body, "key": self.headers.get("Authorization")}

    def _answer(self, status: int, answer: object) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def _refused(message: str) -> tuple[int, object]:
    return 400, {"error": {"message": message, "type": "BadRequestError", "code": 400}}


def _usage(prompt: int, found: int, reply: int) -> dict[str, Any]:
    usage = {"prompt_tokens": prompt, "completion_tokens": reply, "prompt_tokens_details": {"cached_tokens": found}}
    return {**usage, "total_tokens": prompt + reply}


def main(argv: list[str]) -> int:
    arguments = argv[argv.index("serve") + 1 :]
    options = {name: arguments[at + 1] for at, name in enumerate(arguments[:-1]) if name.startswith("--")}
    print("(APIServer pid=1) INFO 01-01 00:00:00 [api_utils.py:1] starting", flush=True)
    # As vLLM's EngineCore: it does not end because its parent did.
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    if "no-start" in _FAULTS:
        print("(EngineCore pid=2) ERROR 01-01 00:00:00 [core.py:1] ValueError: no room for the cache", flush=True)
        print("RuntimeError: Engine core initialization failed. See root cause above.", flush=True)
        return 1
    Handler.window, Handler.model = int(options["--max-model-len"]), options["--served-model-name"]
    with contextlib.suppress(KeyboardInterrupt), Server(options["--uds"], Handler) as server:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        server.serve_forever(poll_interval=0.02)
    child.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
