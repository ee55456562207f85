"""What the machine can do at most: llama_decode in a bare loop, with no scheduler, no sampling and no HTTP.

    python -m bench.engine.bare WEIGHTS plain|reordered ROWS...

A process of its own, because how OpenMP's threads wait is settled when they start.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rlm_local.engine.llama.binding import Context, Model
from rlm_local.engine.llama.compute import Part

PREFIX, STEPS, WARM = 936, 12, 2
CHUNKS = (256, 512)  # prompt tokens of one computation


def main() -> None:
    rows = sorted({int(each) for each in sys.argv[3:]})
    threads = len(os.sched_getaffinity(0))
    model = Model(Path(sys.argv[1]), reordered=sys.argv[2] == "reordered")
    print(json.dumps(rates(model, rows, threads)))


def rates(model: Model, rows: Sequence[int], threads: int) -> dict[str, dict[str, float]]:
    """Return tokens/s: `read` by tokens of one computation, `written` by sequences of one."""
    prompt = [1000 + i for i in range(PREFIX)]
    read, written = {}, {}
    for chunk in CHUNKS:
        context = Context(model, cells=4096, sequences=max(rows) + 1, threads=threads, batch=chunk)
        context.compute([Part(0, 0, prompt[:64], 1)])
        context.remove(0, 0)
        began = time.perf_counter()
        for start in range(0, PREFIX, chunk):
            context.compute([Part(0, start, prompt[start : start + chunk], start + chunk >= PREFIX)])
        read[str(chunk)] = PREFIX / (time.perf_counter() - began)
        if chunk == CHUNKS[-1]:
            written = {str(count): _written(context, count) for count in rows}
        context.close()
    return {"read": read, "written": written}


def _written(context: Context, rows: int) -> float:
    for sequence in range(1, rows + 1):
        context.share(0, sequence, 0, PREFIX)
    began = 0.0
    for step in range(WARM + STEPS):
        if step == WARM:
            began = time.perf_counter()
        context.compute([Part(i + 1, PREFIX + step, [2000 + i], 1) for i in range(rows)])
    seconds = time.perf_counter() - began
    for sequence in range(1, rows + 1):
        context.remove(sequence, 0)
    return rows * STEPS / seconds


async def measured(
    weights: Path, rows: Sequence[int], waits: Mapping[str, str], *, reordered: bool
) -> dict[str, dict[str, float]]:
    """Return rates() of a process of its own; waits: what its environment says of how threads wait."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.engine.bare",
        str(weights),
        "reordered" if reordered else "plain",
        *map(str, rows),
        stdout=asyncio.subprocess.PIPE,
        env={**environ, **waits},
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the bare loop ended with status {process.returncode}")
    found: dict[str, dict[str, float]] = json.loads(out)
    return found


if __name__ == "__main__":
    main()
