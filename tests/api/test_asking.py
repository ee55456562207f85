"""What a caller may give, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_local.api.asking import checking, read_documents
from rlm_local.errors import ConfigError
from rlm_local.types import Document


def test_paths_texts_and_documents_become_documents(tmp_path: Path) -> None:
    lease = tmp_path / "lease.txt"
    lease.write_text("ninety days")
    note = Document("note", "sixty days")
    assert read_documents({"note": "sixty days"}, strict=False) == (note,)
    assert read_documents(note, strict=False) == (note,)
    read = read_documents([lease, note], strict=False)
    assert [(one.text, one.path) for one in read] == [("ninety days", str(lease)), ("sixty days", "")]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("lease.txt", "documents must be Paths and Documents, or a dict"),
        (["lease.txt"], "documents must be Paths and Documents, or a dict"),
        (None, "documents must be Paths and Documents, or a dict"),
        ({"note": b"x"}, "documents must be Paths and Documents, or a dict"),
        ({1: "x"}, "documents must be Paths and Documents, or a dict"),
        ([], "no documents given"),
        ({"note": " \n"}, "the document 'note' has no text"),
        ([Document("a", "x"), Document("a", "y")], "two documents have the name 'a'"),
        ([Document(name, "x") for name in "cabbac"], "two documents have the name 'c'; name each differently"),
    ],
)
def test_what_cannot_be_a_document_is_refused_with_what_to_write(given: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_documents(given, strict=False)  # type: ignore[arg-type]


def test_each_name_is_looked_at_as_often_for_many_documents_as_for_few() -> None:
    class Name(str):
        compared = 0

        def __eq__(self, other: object) -> bool:
            Name.compared += 1
            return super().__eq__(other)

        __hash__ = str.__hash__

    count = 1_000
    assert len(read_documents([Document(Name(number), "text") for number in range(count)], strict=False)) == count
    assert Name.compared < 10 * count  # a search for each among all takes half a million


def test_what_a_file_lost_on_its_way_is_warned_of(tmp_path: Path) -> None:
    torn = tmp_path / "torn.txt"
    torn.write_bytes(b"ninety \xff days")
    with pytest.warns(UserWarning, match="torn.txt"):
        read_documents(torn, strict=False)


async def test_a_check_says_what_is_wrong_in_the_words_of_its_value_error() -> None:
    def whole(value: object) -> int:
        return int(str(value))

    check = checking(whole)
    assert check is not None
    assert await check(3) == ""
    assert "invalid literal" in await check("three")


async def test_a_check_that_fails_otherwise_is_its_callers_own_mistake() -> None:
    def broken(value: object) -> None:
        raise KeyError(value)

    check = checking(broken)
    assert check is not None
    with pytest.raises(KeyError):
        await check(3)
