"""What to do about a model that is made for GPUs on a machine that has none."""

from __future__ import annotations

from collections.abc import Iterable

from rlm_local.cards import Card
from rlm_local.engine.memory import BUFFERS_BYTES, gib


def cpu_ways(card: Card, cards: Iterable[Card], *, available_bytes: int) -> str:
    """Return the ways without a GPU, in one line: the model's GGUF if memory allows, else a smaller card."""
    size = card.llama.bytes if card.llama is not None else None
    if size is not None and size + BUFFERS_BYTES <= available_bytes:
        return (
            f"without a GPU its GGUF runs on the CPU, {gib(size)} of {gib(available_bytes)} available: "
            f"`rlm-local pull {card.name}`"
        )
    fitting = [
        (other.llama.bytes, other.name)
        for other in cards
        if other.llama is not None and other.llama.bytes and other.llama.bytes + BUFFERS_BYTES <= available_bytes
    ]
    what = f"its GGUF of {gib(size)}" if size is not None else "it"
    smaller = f"; `--model {max(fitting)[1]}` does" if fitting else ""
    return f"there is no GPU, and {what} does not fit the {gib(available_bytes)} of memory available{smaller}"
