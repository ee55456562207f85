"""llama.cpp's own grammar, fed with characters instead of tokens.

Its sampler looks at each token of the vocabulary on each of its stacks before it takes one, which costs nine tenths of
the time. libllama exports to its own tests what takes a single character; these are C++ functions without a promise, so
a build that lacks one is named, and their only use is here, to judge whole texts.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import llama_cpp

from rlm_local.errors import ConfigError

_FUNCTIONS = {
    "init": "_Z23llama_grammar_init_implPK11llama_vocabPKcS3_bPS3_mPKim",
    "clone": "_Z24llama_grammar_clone_implRK13llama_grammar",
    "accept": "_Z20llama_grammar_acceptP13llama_grammarj",
    "stacks": "_Z24llama_grammar_get_stacksP13llama_grammar",
    "free": "_Z23llama_grammar_free_implP13llama_grammar",
}
_POINTER = ctypes.c_void_p


class _Vector(ctypes.Structure):
    """A std::vector of vectors or of pointers: where it begins and ends, and where its memory does."""

    _fields_ = (("begin", _POINTER), ("end", _POINTER), ("capacity", _POINTER))

    @property
    def is_empty(self) -> bool:
        return (self.begin or 0) == (self.end or 0)


class Gbnf:
    """A grammar in GBNF. Raises ConfigError where llama.cpp does not read it, or is built without what this needs."""

    def __init__(self, grammar: str) -> None:
        files = sorted(Path(llama_cpp.__file__).parent.glob("lib/libllama.so*"))
        self._call: dict[str, Any] = {}
        for name, symbol in _FUNCTIONS.items():
            try:
                self._call[name] = ctypes.CDLL(str(files[0]))[symbol]
            except (IndexError, AttributeError) as error:
                raise ConfigError(f"llama-cpp-python {llama_cpp.__version__} exports no {symbol}") from error
        self._call["init"].argtypes = [
            *(_POINTER, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_bool),
            *(_POINTER, ctypes.c_size_t, _POINTER, ctypes.c_size_t),
        ]
        self._call["accept"].argtypes = [_POINTER, ctypes.c_uint32]
        for name in ("clone", "stacks", "free"):
            self._call[name].argtypes = [_POINTER]
        for name in ("init", "clone", "stacks"):
            self._call[name].restype = _POINTER
        for name in ("accept", "free"):
            self._call[name].restype = None
        self._start = self._call["init"](None, grammar.encode(), b"root", False, None, 0, None, 0)
        if not self._start:
            raise ConfigError(f"llama.cpp does not read this grammar: {grammar[:80]!r}")

    def accepts(self, text: str) -> bool:
        """Say whether the text is a whole sentence."""
        grammar = self._call["clone"](self._start)
        try:
            for char in text:
                self._call["accept"](grammar, ord(char))
                if self._stacks(grammar).is_empty:
                    return False
            stacks = self._stacks(grammar)
            count = (stacks.end - stacks.begin) // ctypes.sizeof(_Vector)
            return any(stack.is_empty for stack in (_Vector * count).from_address(stacks.begin))
        finally:
            self._call["free"](grammar)

    def close(self) -> None:
        self._call["free"](self._start)

    def _stacks(self, grammar: Any) -> _Vector:
        return _Vector.from_address(self._call["stacks"](grammar))
