"""Lines of fields as rows: what table() makes of a text in the jail, and what a model is told of it before it looks.

What separates the fields, what they are called and which of them are days is read off the lines themselves: code that
guesses it from one line fails at the first that is different.

Read on both sides of the jail's border (rlm_local.jail.bundle), so it imports the standard library only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from rlm_local.days import day_reader

TYPE_CHECKING = False  # `typing` is a fifth of what a starting worker would import
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Line: TypeAlias = tuple[str, int, str]  # its document's name, its number there from 1, its text

_SEPARATORS = (" || ", "\t", " | ", "|", ";", ",")  # the rarer in running text, the earlier
LOOSE = frozenset({";", ","})  # in running text too: taken only where nearly every line has as many of them
_SHARE = {True: 0.9, False: 0.4}  # of the lines that must have as many fields, for a loose separator and another
_SAMPLE = 2_000  # lines that separator, names and kinds are read off
_MOST_FIELDS = 64
_NAMED = re.compile(r"\s*([^\W\d_][\w ./-]{0,30}?)\s*[:=](?:\s+|$)")
_RULE = re.compile(r"[\s|+:=-]+")  # the line under the heads of a Markdown table
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")
_BROKEN = re.compile(r"-?(0|[1-9]\d*)\.\d+")


class Number(int):
    """A whole number of a row. It equals its text too: row["User"] == "49822" is true where int would say no.

    Code that compares with the text finds nothing otherwise, and nothing is an answer that reads like a true one. Its
    hash is the number's, so a set of texts does not hold it.
    """

    __slots__ = ()
    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        return other.strip() == int.__repr__(self) if isinstance(other, str) else int(self) == other

    def __ne__(self, other: object) -> bool:
        return not self == other


class Row(dict[object, object]):
    """One row: row["Name"], in whatever case, or row[0].

    document: name of its document; line: its number there, from 1; text: the line, word for word.
    """

    __slots__ = ("document", "line", "text")

    def __init__(self, fields: Iterable[tuple[object, object]], document: str, line: int, text: str) -> None:
        super().__init__(fields)
        self.document = document
        self.line = line
        self.text = text

    def __missing__(self, key: object) -> object:
        if isinstance(key, int) and -len(self) <= key < len(self):
            return list(self.values())[key]
        wanted = str(key).strip().casefold()
        for name, value in self.items():
            if str(name).casefold() == wanted:
                return value
        raise KeyError(f"no field {key!r}; fields: {', '.join(map(str, self))}")

    def get(self, key: object, default: object = None) -> object:
        """Return the field, as row[key] does. Raises KeyError for one that the rows do not have, whatever the default.

        All rows have the same fields: a default for a wrong name would be what every row says.
        """
        return self[key]


def separator(lines: Sequence[str]) -> str:
    """Return what stands between the fields of most lines; empty when nothing does."""
    for sep in _SEPARATORS:
        cut = [_cells(line, sep) for line in lines if sep in line and not _RULE.fullmatch(line)]
        width = _width(cut)
        is_loose = sep in LOOSE
        alike = sum(len(cells) == width if is_loose else len(cells) >= width for cells in cut)
        # Two rows at least, or one line of prose with a comma would be a table.
        if width > 1 and alike > 1 and alike >= _SHARE[is_loose] * (len(lines) if is_loose else len(cut)):
            return sep
    return ""


def rows_of(lines: Sequence[Line], sep: str = "") -> tuple[list[Row], str]:
    """Return the rows of lines, and a sentence on how many there are and what their fields are.

    sep: what stands between fields; by default separator(). Lines that have not enough fields are no rows.
    """
    sep = sep or separator([line for _, _, line in lines[:_SAMPLE]])
    if not sep:
        return [], f"the {len(lines)} lines have no fields in common; cut them with code, or name sep="
    cut = [(line, _cells(line[2], sep)) for line in lines]
    width = _width([cells for _, cells in cut[:_SAMPLE]])
    if width < 2:
        return [], f"none of {len(lines)} lines is cut in two by {sep!r}"
    kept = [(line, _fit(cells, width, sep)) for line, cells in cut if len(cells) >= width]
    names, kept = _names(kept, width)
    readers = [_reader([cells[at] for _, cells in kept]) for at in range(width)]
    rows = [_row(line, names, cells, readers) for line, cells in kept]
    rest = len(lines) - len(rows)
    told = f"{len(rows)} rows of {', '.join(map(str, names))}"
    return rows, told + (f"; {rest} other {'line' if rest == 1 else 'lines'}" if rest else "")


def _cells(line: str, sep: str) -> list[str]:
    if sep in LOOSE and '"' in line:
        import csv

        return next(csv.reader([line], delimiter=sep), [])
    line = line.strip(" ")
    if sep.strip() == "|" and line.startswith("|") and line.endswith("|") and len(line) > 1:
        line = line[1:-1]
    return line.split(sep)


def _width(cut: Sequence[Sequence[str]]) -> int:
    """Return how many fields most lines have that have more than one; 0 when none has."""
    counts = Counter(len(cells) for cells in cut if 1 < len(cells) <= _MOST_FIELDS)
    return max(counts, key=lambda width: (counts[width], -width)) if counts else 0


def _fit(cells: list[str], width: int, sep: str) -> list[str]:
    return [cell.strip() for cell in (*cells[: width - 1], sep.join(cells[width - 1 :]))]


def _names(kept: list[tuple[Line, list[str]]], width: int) -> tuple[list[Any], list[tuple[Line, list[str]]]]:
    """Return the fields' names, and the rows without what names them.

    A name stands in front of every value, or in the first line over the values; a field without one is a number.
    """
    names: list[Any] = list(range(width))
    kept = [(line, cells) for line, cells in kept if not all(_RULE.fullmatch(cell) for cell in cells if cell)]
    for at in range(width):
        found = [_NAMED.match(cells[at]) for _, cells in kept]
        said = {match[1] for match in found if match}
        if len(said) == 1 and not said & set(names) and all(found) and len(found) > 1:
            names[at] = said.pop()
            kept = [
                (line, [*cells[:at], cells[at][match.end() :] if match else cells[at], *cells[at + 1 :]])
                for (line, cells), match in zip(kept, found, strict=True)
            ]
    if names == list(range(width)) and len(kept) > 1 and _is_head(kept):
        return kept[0][1], kept[1:]
    return names, kept


def _is_head(kept: list[tuple[Line, list[str]]]) -> bool:
    """Say whether the first row names the others' fields: it is all different words where they have numbers or days."""
    head, rest = kept[0][1], [cells for _, cells in kept[1:]]
    if len(set(head)) < len(head) or not all(cell and not cell[0].isdigit() for cell in head):
        return False
    return any(
        _reader([cells[at] for cells in rest]) is not str and _reader([head[at]]) is str for at in range(len(head))
    )


def _reader(cells: Sequence[str]) -> Callable[[str], Any]:
    """Return what makes a value of a field's texts, the same for every row."""
    some = [cell for cell in cells if cell]
    if not some:
        return str
    if all(_WHOLE.fullmatch(cell) for cell in some):
        return lambda cell: Number(cell) if cell else None
    if all(_WHOLE.fullmatch(cell) or _BROKEN.fullmatch(cell) for cell in some):
        return lambda cell: float(cell) if cell else None
    return day_reader(some) or str


def _row(line: Line, names: Sequence[Any], cells: Sequence[str], readers: Sequence[Callable[[str], Any]]) -> Row:
    document, number, text = line
    values = (read(cell) for read, cell in zip(readers, cells, strict=True))
    return Row(zip(names, values, strict=True), document, number, text)
