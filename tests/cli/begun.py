"""A run that was interrupted as early as can be."""

from __future__ import annotations

from pathlib import Path

from rlm_local import __version__
from rlm_local.cards import find_card, load_cards
from rlm_local.events import DocumentInfo, Routed, RunStarted
from rlm_local.limits import Limits
from rlm_local.plan import profile_of
from rlm_local.texts import text_sha256
from rlm_local.trace import TraceWriter
from rlm_local.types import EngineInfo, GrammarMode, Route

LEASE = "The notice period is ninety days.\n"
WINDOW = 32_000  # more than the card of toy allows: an engine that runs already has the one that it was started with


def begun(folder: Path, *, window: int = WINDOW, path: str | None = None, is_direct: bool = True) -> Path:
    """Return the trace of a run on toy that was ended before its first request. path: of its document, as it tells."""
    lease = folder / "lease.txt"
    lease.write_text(LEASE)
    name = "lease.txt" if path is None else "lease"
    card = find_card("toy", load_cards())
    profile = profile_of(card)
    with TraceWriter(folder / "run.jsonl") as writer:
        writer.write(
            RunStarted(
                question="How long is the notice period?",
                model="toy",
                weights_sha256="",
                profile=profile.name,
                prompts_sha256=profile.sha256,
                sampling=card.sampling,
                documents=(DocumentInfo(name, len(LEASE), text_sha256(LEASE), str(lease) if path is None else path),),
                limits=Limits(),
                grammar=GrammarMode.PYTHON,
                answer_schema=None,
                require_coverage=0.0,
                engine=EngineInfo("toy", window, "lark"),
                version=__version__,
            )
        )
        if is_direct:
            writer.write(Routed(Route.DIRECT, "as asked"))
    return writer.path
