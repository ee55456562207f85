"""What the CPU engine needs for a model that is here, told before anything is loaded: for `show` and `doctor`."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from rlm_local.cards import Card, EngineKind
from rlm_local.cli.transfer import size_text
from rlm_local.config import kv_tokens
from rlm_local.engine.llama.gguf import TemplateSource, model_header
from rlm_local.engine.memory import Footprint, available_bytes, cells_for, footprint, shelf_for
from rlm_local.errors import ConfigError, EngineRefused
from rlm_local.plan import default_window_tokens
from rlm_local.store import Store


@dataclass(frozen=True, slots=True)
class Needs:
    """The engine's memory with the default window, and whether turns of a chat can share what was computed."""

    footprint: Footprint
    window_tokens: int
    available_bytes: int
    refused: str  # why it cannot be started here as it stands; empty when it can
    hint: str
    breaks_growth: str | None  # see ChatTemplate.breaks_growth; None: not checked, there is no Jinja here

    def memory_line(self) -> str:
        need = self.footprint
        buffers = need.buffers_bytes + need.states_bytes
        return (
            f"{size_text(need.total_bytes)} of {size_text(self.available_bytes)} available: "
            f"{size_text(need.weights_bytes)} of weights, {size_text(need.cells_bytes)} for {need.cells:,} cells "
            f"of {need.cell_bytes:,} bytes, up to {size_text(need.shelf_bytes)} for prefixes that wait beside them, "
            f"up to {size_text(buffers)} of buffers"
        )

    def lines(self) -> list[str]:
        """Return what a person reads."""
        told = [
            f"window: {self.window_tokens:,} tokens of one request by default",
            f"memory: {self.memory_line()}",
        ]
        if self.refused:
            told += [f"does not fit: {self.refused}", f"  {self.hint}"]
        if self.breaks_growth is None:
            told.append("turns: not checked, because jinja2 is not installed")
        elif self.breaks_growth:
            told.append(f"turns: later ones share less, because of the chat template: {self.breaks_growth}")
        else:
            told.append("turns: each begins with the whole of the one before it, by the chat template")
        return told

    def as_object(self) -> dict[str, object]:
        """Return what `--json` prints."""
        need = self.footprint
        return {
            "window_tokens": self.window_tokens,
            "cells": need.cells,
            "cell_bytes": need.cell_bytes,
            "cells_bytes": need.cells_bytes,
            "shelf_bytes": need.shelf_bytes,
            "weights_bytes": need.weights_bytes,
            "states_bytes": need.states_bytes,
            "buffers_bytes": need.buffers_bytes,
            "total_bytes": need.total_bytes,
            "available_bytes": self.available_bytes,
            "fits": not self.refused,
            "template_breaks_growth": self.breaks_growth,
        }


def needs_of(card: Card, store: Store) -> Needs:
    """Read the header of the card's weights. Raises StoreError when they are not here, EngineError for no model."""
    header, room, window = (
        model_header(store.path(card, EngineKind.LLAMA)),
        available_bytes(),
        default_window_tokens(card),
    )
    window = min(window, header.shape.context_tokens)
    asked, refused, hint = kv_tokens(), "", ""
    try:
        cells = cells_for(header.shape, card.name, window_tokens=window, kv_tokens=asked, available_bytes=room)
    except ConfigError as error:
        cells, refused, hint = asked or window, str(error), error.hint
    growth = _growth(header.template)
    needed = footprint(header.shape, cells, shelf=shelf_for(header.shape, cells, room))
    return Needs(needed, window, room, refused, hint, growth)


def _growth(source: TemplateSource | None) -> str | None:
    if source is None:
        return "there is none, so only plain completions are served"
    if importlib.util.find_spec("jinja2") is None:
        return None
    from rlm_local.engine.llama.template import ChatTemplate  # jinja2 comes with the extra `llama`

    try:
        return ChatTemplate(source.jinja, bos=source.bos, eos=source.eos).breaks_growth()
    except EngineRefused as error:
        return str(error)
