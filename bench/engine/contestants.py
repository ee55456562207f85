"""Who is timed: our engine, each peer under each setting that is worth a try, and the bare loop."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from bench.engine.measurement import Bench
from bench.engine.rows import Row
from bench.engine.servers import Server, Settings, our_engine, started

OURS = "ours"
BARE = {"bare loop": "default", "bare loop, OMP_WAIT_POLICY=passive": "passive"}
WINDOW = 4096
_PASSIVE = {"OMP_WAIT_POLICY": "passive"}


def peer_settings(threads: int) -> dict[str, list[Settings]]:
    """Return what is tried for each peer.

    llama-server: prompts are shared within a slot only, so few slots compute a shared prefix seldom and many write
    together. A slot's prompt that gives way goes to a cache in memory (--cache-ram, on by default) and comes back
    from there. llama_cpp.server: one slot; --cache keeps the states of earlier prompts.
    """
    common = f"--threads {threads} --threads-batch {threads} --flash-attn on --no-ui --log-verbosity 1"
    slots = {1: 8192, 2: 8192, 4: 16384, 8: 16384, 16: 32768, 32: 49152}
    server = [Settings(f"--parallel {n} --ctx-size {size} --kv-unified {common}") for n, size in slots.items()]
    server += [
        Settings(f"--parallel 1 --ctx-size 8192 --kv-unified {common}", _PASSIVE),
        Settings(f"--parallel 8 --ctx-size 16384 --kv-unified {common}", _PASSIVE),
        Settings(f"--parallel 8 --ctx-size 16384 --kv-unified --cache-reuse 64 {common}"),
        Settings(f"--parallel 8 --ctx-size 16384 --kv-unified --ubatch-size 256 {common}"),
    ]
    single = f"--n_ctx {WINDOW} --n_threads {threads} --n_threads_batch {threads} --interrupt_requests False"
    python = [
        Settings(single),
        Settings(single, _PASSIVE),
        Settings(f"{single} --flash_attn True"),
        Settings(f"{single} --cache True --cache_size 4294967296"),
    ]
    return {"llama-server": server, "llama_cpp.server": python}


def named_settings(bench: Bench) -> dict[str, tuple[str, Settings]]:
    """Return the contestants that are peers: name, to peer and settings."""
    tried = peer_settings(len(os.sched_getaffinity(0)))
    return {f"{peer} {settings}": (peer, settings) for peer in bench.peers for settings in tried[peer]}


def timed_contestants(bench: Bench, round_: int, rows: Sequence[Row]) -> list[str]:
    """Everybody in the first round; after it ours, the bare loop and each peer's best."""
    if round_ == 1:
        return [*BARE, OURS, *named_settings(bench)]
    return [*BARE, OURS, *best_settings(rows)]


def best_settings(rows: Sequence[Row]) -> list[str]:
    """Return the contestant of each peer that was fastest in the first round."""
    best: dict[str, Row] = {}
    for row in rows:
        peer = row.contestant.partition(" ")[0]
        if row.round > 1 or "wall_s" not in row.figures or row.contestant == OURS:
            continue
        if peer not in best or row.figures["wall_s"] < best[peer].figures["wall_s"]:
            best[peer] = row
    return [row.contestant for row in best.values()]


def contestant(bench: Bench, name: str) -> AbstractAsyncContextManager[Server]:
    """Return the server of that name, to be started."""
    if name == OURS:
        return our_engine(bench.weights, bench.model, window=WINDOW)
    peer, settings = named_settings(bench)[name]
    return started(bench.peers[peer], bench.weights, settings, ends=bench.tokenizer.ends)
