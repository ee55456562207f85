import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_local.documents.decode import Decoder, binary_kind, decode


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain", "plain"),
        (b"\xef\xbb\xbfmarked", "marked"),
        ("Gebühr".encode("utf-16"), "Gebühr"),
        (b"\xfe\xff" + "Gebühr".encode("utf-16-be"), "Gebühr"),
        ("Gebühr".encode("utf-32"), "Gebühr"),
        (b"a\r\nb\rc\nd", "a\nb\nc\nd"),
        (b"", ""),
    ],
)
def test_text_is_read_without_its_mark_and_with_newlines_of_one_kind(data: bytes, text: str) -> None:
    decoded = decode(data)
    assert decoded.text == text
    assert decoded.replaced_bytes == 0
    assert decoded.first_replaced == -1


@pytest.mark.parametrize(
    ("data", "text", "replaced", "first"),
    [
        (b"caf\xe9 \xfc", "caf� �", 2, 3),
        (b"\xe2\x82", "��", 2, 0),  # a cut euro sign: one mark for each byte
        (b"\xef\xbb\xbfa\xff", "a�", 1, 4),  # counted from the file's beginning, mark included
        (b"\xff\xfeA\x00\x00\xd8", "A�", 2, 4),  # half of a surrogate pair in UTF-16
    ],
)
def test_every_invalid_byte_becomes_one_replacement_and_is_counted(
    data: bytes, text: str, replaced: int, first: int
) -> None:
    decoded = decode(data)
    assert (decoded.text, decoded.replaced_bytes, decoded.first_replaced) == (text, replaced, first)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"%PDF-1.7\n", "a PDF"),
        (b"\n\n%PDF-1.4\n", "a PDF"),
        (b"PK\x03\x04....word/document.xml", "a Word document (docx)"),
        (b"PK\x03\x04....mimetypeapplication/vnd.oasis.opendocument.text", "an OpenDocument file"),
        (b"PK\x03\x04....notes.txt", "a zip archive"),
        (b"\x89PNG\r\n\x1a\n", "an image (PNG)"),
        (b"\xff\xd8\xff\xe0", "an image (JPEG)"),
        (b"\x7fELF\x02", "a program (ELF)"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
        (b"text " * 4000 + b"\x00", "a binary file"),  # a NUL far behind the first 8 KiB
    ],
)
def test_what_is_not_text_is_named_with_a_repair(data: bytes, name: str) -> None:
    kind = binary_kind(data)
    assert kind is not None
    assert kind.name == name
    assert kind.repair


@pytest.mark.parametrize("text", ["plain", "a PDF begins with %PDF", "Gebühr"])
def test_text_in_any_marked_encoding_is_no_binary(text: str) -> None:
    assert [binary_kind(text.encode(encoding)) for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32")] == [None] * 4


@given(st.binary())
def test_any_bytes_decode_to_text_that_is_valid_unicode(data: bytes) -> None:
    decoded = decode(data)
    decoded.text.encode("utf-8")
    assert "\r" not in decoded.text
    assert (decoded.replaced_bytes > 0) == (decoded.first_replaced >= 0)


def decoded_at_once(data: bytes) -> tuple[str, int]:
    """What is said of UTF-8, in the simplest words: the text, and how many bytes were replaced."""
    escaped = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    text = "".join("\ufffd" if "\udc80" <= letter <= "\udcff" else letter for letter in escaped)
    return text.replace("\r\n", "\n").replace("\r", "\n"), text.count("\ufffd") - data.count(b"\xef\xbf\xbd")


PIECES = [
    b"\xef\xbb\xbf",
    b"\xef",
    b"\xbb",
    b"a",
    b"\r",
    b"\n",
    b"\xe2\x82\xac",
    b"\xe2\x82",
    b"\xf0\x9f\x98\x80",
    b"\xff",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join), st.lists(st.integers(0, 30), max_size=5))
def test_bytes_that_come_in_pieces_give_the_text_of_the_whole(data: bytes, cuts: list[int]) -> None:
    decoder, text = Decoder(), ""
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in itertools.pairwise(edges):
        text += decoder.feed(data[start:end])
    text += decoder.feed(b"", is_last=True)
    whole = decode(data)
    assert (text, decoder.replaced_bytes) == (whole.text, whole.replaced_bytes) == decoded_at_once(data)
    assert decoder.first_replaced == whole.first_replaced
    if decoder.replaced_bytes:
        assert decoder.first_byte == data[decoder.first_replaced]
        data[: decoder.first_replaced].decode("utf-8")  # all before it is valid
