"""A multipart body read piece by piece: its file goes to the disk as it comes, and nothing is held."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from rlm_local.server.files import Incoming
from rlm_local.server.problem import Problem

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_FIELD_BYTES = 1_000
_HEADER_BYTES = 4_000
_FIELDS = ("file", "purpose")


@dataclass
class Upload:
    """The parts of a form with one file: feed() it with the body, then look."""

    incoming: Incoming
    filename: str = ""
    purpose: str = ""
    has_file: bool = False
    has_ended: bool = False
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _name: bytes = b""
    _value: bytes = b""
    _part: str = ""
    _text: bytes = b""

    async def read(self, content_type: str, pieces: AsyncIterator[bytes]) -> None:
        """Read the whole body. Raises Problem for what is no such form, and what Incoming.write raises."""
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise Problem(415, "a file is sent as multipart/form-data, with purpose and file")
        try:
            parser = MultipartParser(boundary, self._callbacks())
            async for piece in pieces:
                parser.write(piece)
            parser.finalize()
        except FormParserError as error:
            raise Problem(400, f"the form cannot be read: {error}") from error
        if not self.has_ended:
            raise Problem(400, "the form has no end; the upload was cut")
        if not self.has_file:
            raise Problem(400, "the form has no file", param="file")
        if not self.purpose:
            raise Problem(400, "the form has no purpose; `user_data` will do", param="purpose")

    def _callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._part_begins,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_ends,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._part_ends,
            "on_end": self._ends,
        }

    def _part_begins(self) -> None:
        self._headers, self._part, self._text = {}, "", b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        self._check_header()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self._name) + len(self._value) > _HEADER_BYTES:
            raise Problem(400, f"a part's header is over {_HEADER_BYTES} bytes")

    def _header_ends(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        if self._part not in _FIELDS:
            raise Problem(400, f"not served: {self._part[:64] or 'a part without a name'}", code="unsupported_field")
        if self._part == "file":
            if self.has_file:
                raise Problem(400, "the form has two files; send one at a time", param="file")
            self.has_file = True
            self.filename = options.get(b"filename", b"").decode("utf-8", "replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part == "file":
            self.incoming.write(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > _FIELD_BYTES:
            raise Problem(400, f"{self._part} is over {_FIELD_BYTES} bytes", param=self._part)

    def _part_ends(self) -> None:
        if self._part == "purpose":
            self.purpose = self._text.decode("utf-8", "replace").strip()[:64]

    def _ends(self) -> None:
        self.has_ended = True
