"""`python -m bench fuzz-api`: schemathesis draws requests from a real server's OpenAPI document, and holds it to that.

The server is `rlm-local serve` with its engine and its jails: what a request says about grammars, schemas and limits is
judged behind HTTP, and a 500 is likelier to come from there than from a body that FastAPI has refused.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.request import Request, urlopen

from bench.load import address_of, running_server
from bench.processes import die_with_parent
from bench.provenance import ROOT
from rlm_local.server.database import Database
from rlm_local.server.keys import Keys

# Not what it offers besides: that all that fits the document is served. A model that is none, an answer's schema that
# the grammar has no words for and limits that contradict fit the document, and are refused.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
    "use_after_free",
)
_REQUEST_S = 300


@dataclass(frozen=True, slots=True)
class FuzzResult:
    schemathesis: str
    seconds: float
    seed: int
    code: int  # of schemathesis
    requests: dict[str, int]  # that were answered, by status
    faults: list[str]
    said: list[str]  # the end of what schemathesis told

    def as_object(self) -> dict[str, object]:
        return asdict(self)


def fuzz_api(
    schemathesis: Path, model: str, seconds: float, seed: int, folder: Path, say: Callable[[str], None]
) -> FuzzResult:
    """Return what a server gave to requests drawn for so long. schemathesis: its program; `make fuzz-api` makes one."""
    state, log = folder / "state", folder / "log"
    with closing(Database(state)) as database:
        key = Keys(database).add("fuzz", None)[1]
    with running_server(model, state, log) as server:
        url = f"http://{address_of(server, log)}"
        say(f"schemathesis asks {url} for {seconds:g} s")
        report = folder / "report.ndjson"
        done = subprocess.run(
            [
                *(str(schemathesis), "run", f"{url}/openapi.json"),
                *("--header", f"Authorization: Bearer {key}", "--max-time", str(int(seconds)), "--seed", str(seed)),
                *("--checks", ",".join(CHECKS), "--workers", "4", "--continue-on-failure", "--no-shrink"),
                *("--request-timeout", str(_REQUEST_S), "--report", "ndjson", "--report-ndjson-path", str(report)),
                *("--suppress-health-check", "all", "--generation-database", "none"),
            ],
            cwd=folder,  # where it leaves its own things
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "SCHEMATHESIS_HOOKS": "bench.fuzz_api_hooks",
                "RLM_FUZZ_MODEL": model,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            preexec_fn=die_with_parent,
        )
        faults = [f"schemathesis ended with {done.returncode}"] if done.returncode else []
        faults += _after(url, key, model)
        if server.poll() is not None:
            faults.append(f"the server ended with {server.returncode}")
    said = log.read_text(encoding="utf-8")
    faults += [f"the server's log: {line[:300]}" for line in said.splitlines() if '"event":"failure"' in line]
    return FuzzResult(
        schemathesis=_version(schemathesis),
        seconds=seconds,
        seed=seed,
        code=done.returncode,
        requests=_statuses(report),
        faults=faults,
        said=done.stdout.splitlines()[-400:],
    )


def _after(url: str, key: str, model: str) -> list[str]:
    """Return what is wrong with the server when it has answered everything."""
    body = {"model": f"{model}:direct", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    asked = Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urlopen(asked, timeout=_REQUEST_S) as answer:
            return [] if json.load(answer)["usage"]["completion_tokens"] else ["it answers with nothing"]
    except (OSError, ValueError, KeyError) as error:
        return [f"it does not answer any more: {error}"]


def _statuses(report: Path) -> dict[str, int]:
    """Count answers by status, in the lines that schemathesis has written of each case."""
    found: dict[str, int] = {}
    for line in report.read_text(encoding="utf-8").splitlines():
        for status in re.findall(r'"status_code": ?(\d{3})', line):
            found[status] = found.get(status, 0) + 1
    return dict(sorted(found.items()))


def _version(schemathesis: Path) -> str:
    told = subprocess.run([str(schemathesis), "--version"], capture_output=True, text=True, check=True)
    return told.stdout.strip().rpartition(" ")[2]
