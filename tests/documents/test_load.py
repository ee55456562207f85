import io
import os
from pathlib import Path

import pytest

from rlm_local.documents.load import Loaded, load
from rlm_local.errors import DocumentError


def read(*paths: str | Path, strict: bool = False, stdin: bytes = b"") -> Loaded:
    return load([str(path) for path in paths], strict=strict, stdin=io.BytesIO(stdin))


def names(loaded: Loaded) -> list[str]:
    return [document.name for document in loaded.documents]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """contracts/{a.txt, b/c.txt, .hidden.txt, .git/config}"""
    contracts = tmp_path / "contracts"
    (contracts / "b").mkdir(parents=True)
    (contracts / ".git").mkdir()
    (contracts / "b" / "c.txt").write_text("gamma")
    (contracts / "a.txt").write_text("alpha")
    (contracts / ".hidden.txt").write_text("hidden")
    (contracts / ".git" / "config").write_text("hidden")
    return contracts


def test_a_file_is_named_as_it_was_given_and_standard_input_is_stdin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lease.txt").write_text("The rent is due.")
    monkeypatch.chdir(tmp_path)
    loaded = read("./lease.txt", "-", stdin=b"piped")
    assert [(document.name, document.text) for document in loaded.documents] == [
        ("./lease.txt", "The rent is due."),
        ("stdin", "piped"),
    ]
    assert loaded.warnings == ()


def test_a_folder_is_read_to_any_depth_sorted_without_hidden_entries(folder: Path) -> None:
    assert names(read(folder)) == ["contracts/a.txt", "contracts/b/c.txt"]


def test_a_folder_given_as_a_dot_is_named_by_its_own_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "b")
    assert names(read(".")) == ["b/c.txt"]
    assert names(read("..")) == ["contracts/a.txt", "contracts/b/c.txt"]


def test_folders_of_the_same_name_give_numbered_documents(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "contracts"
    other.mkdir(parents=True)
    (other / "a.txt").write_text("another alpha")
    assert names(read(folder, other)) == ["contracts/a.txt", "contracts/b/c.txt", "contracts/a.txt (2)"]


def test_a_link_to_a_file_that_stands_there_itself_is_read_once_under_its_own_name(folder: Path) -> None:
    (folder / "0-latest.txt").symlink_to(folder / "a.txt")
    assert names(read(folder)) == ["contracts/a.txt", "contracts/b/c.txt"]


def test_links_out_of_a_folder_are_followed_once_and_loops_end(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("outside")
    (folder / "one.txt").symlink_to(tmp_path / "outside.txt")
    (folder / "two.txt").symlink_to(tmp_path / "outside.txt")
    (folder / "b" / "up").symlink_to(folder)
    (folder / "self").symlink_to("self")
    loaded = read(folder)
    assert names(loaded) == ["contracts/a.txt", "contracts/one.txt", "contracts/b/c.txt"]
    assert [warning.partition(": ")[2] for warning in loaded.warnings] == [
        "skipped 1 file without text: contracts/self (cannot be read: Too many levels of symbolic links)"
    ]


def test_a_file_given_twice_is_read_once_and_told(folder: Path) -> None:
    loaded = read(folder / "a.txt", folder / "b" / ".." / "a.txt")
    assert len(loaded.documents) == 1
    assert loaded.warnings == (f"{folder}/b/../a.txt was given twice; it is read once",)


def test_a_folder_after_its_own_file_adds_only_the_rest(folder: Path) -> None:
    assert names(read(folder / "b" / "c.txt", folder)) == [f"{folder}/b/c.txt", "contracts/a.txt"]
    assert names(read(folder / "b" / "c.txt", folder / "b")) == [f"{folder}/b/c.txt"]


def test_what_is_not_text_in_a_folder_is_skipped_named_and_counted(folder: Path) -> None:
    (folder / "0.pdf").write_bytes(b"%PDF-1.7")
    (folder / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "2.txt").write_bytes(b"")
    (folder / "3.bin").write_bytes(b"\x00")
    loaded = read(folder)
    assert names(loaded) == ["contracts/a.txt", "contracts/b/c.txt"]
    assert loaded.warnings == (
        f"{folder}: skipped 4 files without text: contracts/0.pdf (a PDF), contracts/1.png (an image (PNG)), "
        "contracts/2.txt (empty) and 1 more",
    )


def test_a_pipe_in_a_folder_is_skipped_without_waiting_for_it(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert "contracts/pipe (not a regular file)" in read(folder).warnings[0]


def test_invalid_utf8_is_replaced_and_counted_or_refused_when_strict(tmp_path: Path) -> None:
    path = tmp_path / "old.txt"
    path.write_bytes(b"Stra\xdfe und Geb\xfchr")
    loaded = read(path)
    assert loaded.documents[0].text == "Stra�e und Geb�hr"
    assert loaded.warnings == (f"{path}: 2 invalid bytes replaced by U+FFFD, the first at byte 4",)
    with pytest.raises(DocumentError, match=r"old\.txt is not valid UTF-8: byte 4 is 0xdf$") as caught:
        read(path, strict=True)
    assert "iconv" in caught.value.hint


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "bad.txt is empty"),
        (b" \r\n\t\n", "bad.txt holds nothing but white space"),
        (b"\xef\xbb\xbf", "bad.txt holds nothing but white space"),
        (b"%PDF-1.7", "bad.txt is a PDF; convert it to text first, e.g. with pdftotext"),
        (b"a\x00b", "bad.txt is a binary file; give text files"),
    ],
)
def test_a_file_that_cannot_be_a_document_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.txt").write_bytes(data)
    with pytest.raises(DocumentError) as caught:
        read("bad.txt")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.txt", "missing.txt does not exist"),
        ("lease.txt/part", "lease.txt/part cannot be read: Not a directory"),
        ("loop", "loop cannot be read: Too many levels of symbolic links"),
        ("/dev/zero", "/dev/zero is neither a file nor a folder"),
        ("x" * 300, "x" * 300 + " cannot be read: File name too long"),
        ("with\nnewline", "with\\x0anewline does not exist"),
    ],
)
def test_a_path_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lease.txt").write_text("The rent is due.")
    Path("loop").symlink_to("loop")
    with pytest.raises(DocumentError) as caught:
        read(path)
    assert str(caught.value) == message
    assert caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused_and_in_a_folder_skipped_unless_strict(folder: Path) -> None:
    (folder / "a.txt").chmod(0)
    with pytest.raises(DocumentError, match=r"a\.txt cannot be read: Permission denied$"):
        read(folder / "a.txt")
    assert names(read(folder)) == ["contracts/b/c.txt"]
    with pytest.raises(DocumentError, match="cannot be read"):
        read(folder, strict=True)


def test_a_folder_without_text_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "scan.pdf").write_bytes(b"%PDF-1.7")
    with pytest.raises(DocumentError, match=r"holds no text file; skipped: .*scan\.pdf \(a PDF\)$"):
        read(tmp_path)


def test_standard_input_may_be_named_once(folder: Path) -> None:
    with pytest.raises(DocumentError, match="standard input was given twice"):
        read("-", "-", stdin=b"text")
    with pytest.raises(DocumentError, match="stdin is empty"):
        read(folder, "-", stdin=b"")


def test_no_path_at_all_is_refused() -> None:
    with pytest.raises(DocumentError, match="no document was given"):
        read()


def test_a_name_that_is_no_text_becomes_one_line_of_text(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/forged =====\n\xff\xe2\x80\xae.txt"
    with open(odd, "wb") as file:  # noqa: PTH123 - pathlib takes no bytes
        file.write(b"text")
    assert names(read(tmp_path)) == [f"{tmp_path.name}/forged =====\\x0a\ufffd\\u202e.txt"]
