"""Who is timed: our engine, each peer under each setting that is worth a try, and the bare loop."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from bench.engine.measurement import Bench
from bench.engine.rows import Row
from bench.engine.servers import Server, Settings, our_engine, started
from rlm_local.engine.launch import SPIN_BRIEFLY

OURS = "ours"
# How the bare loop's threads wait for each other, and whether it keeps the weights re-ordered too.
BARE: dict[str, tuple[Mapping[str, str], bool]] = {
    "bare loop": ({}, False),
    "bare loop, weights re-ordered": ({}, True),
    "bare loop, spinning briefly": (SPIN_BRIEFLY, False),
}
WINDOW = 4096
_PASSIVE = {"OMP_WAIT_POLICY": "passive"}


def peer_settings(threads: int) -> dict[str, list[Settings]]:
    """Return what is tried for each peer.

    llama-server shares prompts within a slot only: few slots compute a shared prefix seldom, many write together. A
    slot that takes another prompt leaves the old one in memory outside (--cache-ram, on by default), from where it
    comes back; with --kv-unified idle slots are cleared into it too. Not tried is --cache-reuse, which finds again what
    moved within a prompt: nothing here moves. llama_cpp.server has one slot; --cache keeps states of earlier prompts.
    """
    common = f"--threads {threads} --threads-batch {threads} --flash-attn on --no-ui --log-verbosity 1"
    slots = {n: f"--parallel {n} --ctx-size {n * WINDOW} --no-kv-unified {common}" for n in (1, 2, 4, 8)}
    unified = f"--parallel 8 --ctx-size {8 * WINDOW} --kv-unified {common}"
    server = [Settings(f"slots: {n}", arguments) for n, arguments in slots.items()]
    server += [Settings("slots: 8, unified", unified), Settings("slots: 1, passive", slots[1], _PASSIVE)]
    server += [Settings(f"slots: {n}, no repack", f"{slots[n]} --no-repack") for n in (1, 4)]
    single = f"--n_ctx {WINDOW} --n_threads {threads} --n_threads_batch {threads} --interrupt_requests False"
    single += " --flash_attn True"
    python = [
        Settings("one slot", single),
        Settings("one slot, passive", single, _PASSIVE),
        Settings("one slot, states kept", f"{single} --cache True --cache_size 4294967296"),
    ]
    return {"llama-server": server, "llama_cpp.server": python}


def named_settings(bench: Bench) -> dict[str, tuple[str, Settings]]:
    """Return the contestants that are peers: name, to peer and settings."""
    tried = peer_settings(len(os.sched_getaffinity(0)))
    return {f"{peer}, {settings.name}": (peer, settings) for peer in bench.peers for settings in tried[peer]}


def timed_contestants(bench: Bench, round_: int, rows: Sequence[Row]) -> list[str]:
    """Everybody in the first round; after it ours, the bare loop and each peer's best."""
    if round_ == 1:
        return [*BARE, OURS, *named_settings(bench)]
    return [*BARE, OURS, *best_settings(rows)]


def best_settings(rows: Sequence[Row]) -> list[str]:
    """Return the contestant of each peer that was fastest in the first round."""
    best: dict[str, Row] = {}
    for row in rows:
        peer = row.contestant.partition(",")[0]
        if row.round > 1 or "wall_s" not in row.figures or row.contestant == OURS:
            continue
        if peer not in best or row.figures["wall_s"] < best[peer].figures["wall_s"]:
            best[peer] = row
    return [row.contestant for row in best.values()]


def described(bench: Bench, name: str) -> dict[str, str]:
    """Return what stands behind a contestant: its version and its settings."""
    if name == OURS:
        return {"server": "rlm-local", "settings": "as the product starts it"}
    peer, settings = bench.peers[named_settings(bench)[name][0]], named_settings(bench)[name][1]
    return {"server": f"{peer.name} {peer.version} (ggml {peer.ggml})", "settings": str(settings)}


def contestant(bench: Bench, name: str) -> AbstractAsyncContextManager[Server]:
    """Return the server of that name, to be started."""
    if name == OURS:
        return our_engine(bench.weights, bench.model, window=WINDOW)
    peer, settings = named_settings(bench)[name]
    return started(bench.peers[peer], bench.weights, settings, ends=bench.tokenizer.ends)
