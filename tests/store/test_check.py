"""What is not all there is told file by file, with the command that mends it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rlm_local.cards import EngineKind, WeightFile
from rlm_local.errors import StoreError
from rlm_local.store.manifest import Manifest, read_manifest, write_manifest


def test_verify_names_the_files_of_the_card_that_never_came(store, card_of, known, scripted, weights_bytes) -> None:
    folder = store.pull(card_of(known()), sources=[scripted({"toy.gguf": weights_bytes})]).folder
    here, missing = store.verify(card_of(known(), known(name="more.gguf")))
    assert (here.problem, missing.problem) == ("", f"{folder / 'more.gguf'} was never pulled")
    assert (missing.expected_sha256, missing.found_sha256) == (known().sha256, None)


def test_verify_tells_of_a_pull_that_broke_off(store, card_of, known, scripted, failing, weights_bytes) -> None:
    card = card_of(known(), WeightFile("more.gguf"))
    with pytest.raises(StoreError, match=r"no source gave more\.gguf"):
        store.pull(card, sources=[scripted({"toy.gguf": weights_bytes})])
    assert [check.problem.partition(" ")[2] for check in store.verify(card)] == ["", "was never pulled"]


def test_verify_tells_of_a_pull_without_its_end(store, card_of, known, scripted, weights_bytes) -> None:
    card = card_of(known())
    folder = store.pull(card, sources=[scripted({"toy.gguf": weights_bytes})]).folder
    manifest = read_manifest(folder)
    assert manifest is not None
    write_manifest(folder, Manifest(manifest.files, complete=False))
    assert [check.problem for check in store.verify(card)] == ["", f"{folder} was not pulled to the end"]


def test_every_repair_names_the_engine_whose_weights_it_brings(store, card_of, known, scripted, weights_bytes) -> None:
    file = known(name="model.safetensors")
    card, source = card_of(file, engine=EngineKind.VLLM), scripted({file.name: weights_bytes})
    missing = [
        lambda: store.verify(card),
        lambda: store.pull(card, "vllm", sources=[]),
        lambda: store.path(card, "vllm"),
    ]
    assert all("`rlm-local pull toy --engine vllm`" in hint_of(act) for act in missing)
    store.pull(card, "vllm", sources=[source])
    other = card_of(known(b"other", file.name), engine=EngineKind.VLLM)
    assert hint_of(lambda: store.path(other, "vllm")) == "run `rlm-local pull toy --engine vllm`"
    (store.path(card, "vllm") / file.name).write_bytes(b"short")
    assert hint_of(lambda: store.path(card, "vllm")) == "run `rlm-local pull toy --engine vllm`"


def hint_of(act: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as raised:
        act()
    return raised.value.hint
