"""A text that is no str is cut, searched and compared like one, wherever its memory is."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_local.texts import HeldText, SealedText, Shelf, is_blank, utf8_bytes

ALPHABETS = (
    "ab\n ",
    "aé\xff",
    "a€\ud83d\ude00\ud800",
    "a€😀\ud83d\ude00",
)  # by bytes of a character; pairs of lone surrogates
ANY = st.sampled_from(ALPHABETS).flatmap(lambda alphabet: st.text(alphabet, max_size=60))


def held(*pieces: str, shelf: Shelf | None = None) -> HeldText:
    shelf, text = shelf or Shelf(), HeldText()
    for piece in pieces:
        shelf.put(piece, text)
    return text


@given(st.lists(ANY, max_size=4), st.data())
def test_a_text_is_cut_and_searched_as_a_str_is(pieces: list[str], data: st.DataObject) -> None:
    whole = "".join(pieces)
    bounds = st.none() | st.integers(-5, len(whole) + 5)
    start, end = data.draw(bounds), data.draw(bounds)
    at = data.draw(st.integers(0, len(whole)))
    wanted = data.draw(st.sampled_from(["a", "€", "😀", "ab", "é\xff", whole[at : at + 3] or "b"]))
    on_shelf = held(*pieces)
    for text in (on_shelf, SealedText(*pieces), SealedText("before", held(*pieces)), on_shelf):
        skipped = 6 if text[:6] == "before" else 0
        cut = text[skipped:][start:end] if skipped else text[start:end]
        assert cut == whole[start:end]
        if not skipped:
            assert (str(text), len(text), text == whole, hash(text)) == (whole, len(whole), True, hash(whole))
            assert text.find(wanted, start, end) == whole.find(wanted, start, end)
            assert is_blank(text) == (not whole.strip())
            assert utf8_bytes(text) == len(whole.encode("utf-8", "surrogatepass"))


@given(st.lists(ANY, min_size=1, max_size=4))
def test_a_moved_text_is_the_same_text_and_its_slabs_are_gone(pieces: list[str]) -> None:
    text = held(*pieces)
    assert text.shelved_bytes >= len(text)
    sealed = SealedText("===\n", text, "\n")
    assert (str(text), text.shelved_bytes) == ("".join(pieces), 0)
    assert str(sealed) == f"===\n{text}\n"
    again = SealedText(text, text)  # which is in another sealed text already, and stays there
    assert str(again) == 2 * str(text)


def test_a_text_of_many_slabs_is_found_in_across_all_edges() -> None:
    line = "a line of this text, and another one\n"
    whole = line * 100_000 + "the needle" + line * 100_000
    text = held(*(whole[at : at + 250_001] for at in range(0, len(whole), 250_001)))
    for _ in range(2):
        assert text.find("the needle") == 100_000 * len(line)
        assert text.find("the needles") == -1
        assert text[100_000 * len(line) - 5 :][:20] == " one\nthe needlea lin"
        SealedText(text)


def test_a_sealed_text_cannot_be_changed_and_its_memory_is_given_back_with_it() -> None:
    sealed = SealedText("the truth\n" * 1_000)
    with pytest.raises(PermissionError):
        os.pwrite(sealed.fileno(), b"X", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(sealed.fileno(), 0)
    link = Path(f"/proc/self/fd/{sealed.fileno()}")
    assert "memfd:documents" in str(link.readlink())
    text = held("gone with it")
    SealedText(text)  # held by the text that was moved into it
    gc.collect()
    assert str(text) == "gone with it"
    del sealed
    gc.collect()
    assert not (link.is_symlink() and "memfd:documents" in str(link.readlink()))


def test_a_text_that_is_closed_says_so() -> None:
    sealed = SealedText("some")
    assert sealed[1:2] == "o"
    sealed.close()
    sealed.close()
    for use in (sealed.fileno, sealed.__str__, lambda: sealed.find("s"), lambda: sealed[1:2]):
        with pytest.raises(ValueError, match="the sealed text is closed"):
            use()


def test_texts_share_a_slab_and_the_last_one_to_move_gives_it_back() -> None:
    shelf = Shelf()
    texts = [held(f"number {number} ", shelf=shelf) for number in range(50_000)]
    slabs = {id(piece.slab) for text in texts for piece in text._pieces}  # type: ignore[union-attr]
    assert len(slabs) == 1
    sealed = SealedText(*texts)
    assert sum(text.shelved_bytes for text in texts) == 0
    assert str(sealed) == "".join(f"number {number} " for number in range(50_000))


def test_only_whole_steps_are_cut() -> None:
    with pytest.raises(ValueError, match="step 1, not 2"):
        held("text")[::2]


def test_a_text_is_shown_by_its_size() -> None:
    assert repr(held("some text")) == "<text of 9 characters>"
