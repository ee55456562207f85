"""llama.cpp's C API, and the only file that calls it: models, contexts, tokens, logits.

Everything above this file speaks Python types. Facts about the API are from llama.h as vendored by
llama-cpp-python 0.3.36.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as api
import numpy as np

from rlm_local.engine.llama.compute import Part, Saved
from rlm_local.engine.llama.interrupt import Aborted, Cancel, NoRoom
from rlm_local.engine.llama.kernels import reorders_weights
from rlm_local.engine.llama.pages import pages
from rlm_local.engine.llama.sampler import Logits
from rlm_local.engine.memory import STATES
from rlm_local.errors import EngineError, EngineRefused

MAX_SEQUENCES = 256  # LLAMA_MAX_SEQ
_WARN, _CONTINUED = 3, 5  # ggml_log_level
# Sets of tokens that llguidance judges together where a grammar allows all of a set: text of the turn grammars'
# strings and comments, which end at quotes, braces and backticks. A quarter faster there than llguidance's own sets.
_SLICES = [
    r"[^\"'\\`{}\x00-\x1F\x7F]{1,10}",
    r"[^\"'\\`{}\x00-\x1F\x7F]{1,30}",
    r"[^\"'\\`{}\x00-\x1F\x7F]+",
    r"[^`\x00-\x1F\x7F]+",
]
_BYTES = ctypes.POINTER(ctypes.c_uint8)
_complaints: deque[str] = deque(maxlen=20)
# Windows in a cache of their own kind, whose full size does not keep every cell (llama_model::create_memory).
_OWN_WINDOWS = frozenset({"deepseek4", "dflash", "dots3note", "minimax-m3"})


class WeightsError(EngineError):
    """The file is not a model that this llama.cpp can run."""


@api.llama_log_callback  # type: ignore[untyped-decorator]
def _log(level: int, text: bytes, _: object) -> None:
    line = text.decode("utf-8", "replace")
    if _WARN <= level < _CONTINUED:
        _complaints.append(line.strip())
    if os.environ.get("RLM_LOCAL_LOG") == "debug":
        sys.stderr.write(line)


api.llama_log_set(_log, ctypes.c_void_p(0))
api.llama_backend_init()


# See interrupt.Cancel for why it is strlen.
_is_cancelled = ctypes.cast(ctypes.CDLL(None).strlen, api.ggml_abort_callback)


class Model:
    """Weights in memory, and their vocabulary. The vocabulary may be used from any thread.

    Raises WeightsError, with one sentence, for a file that is missing, truncated or not a model.
    """

    def __init__(self, weights: Path, *, vocab_only: bool = False, reordered: bool | None = None) -> None:
        """reordered: keep a second copy of the weights for llama.cpp's older kernels; None: where that is quicker."""
        params = api.llama_model_default_params()
        params.vocab_only = vocab_only  # enough for tokens and grammars, and done in a second
        if reordered is None:
            reordered = reorders_weights(weights, api.llama_print_system_info().decode())
        params.use_extra_bufts = reordered
        _complaints.clear()
        self.handle = api.llama_model_load_from_file(str(weights).encode(), params)
        if not self.handle:
            raise WeightsError(_why_not_loaded(weights))
        self._vocab: Any = api.llama_model_get_vocab(self.handle)
        self.vocab_size: int = api.llama_vocab_n_tokens(self._vocab)
        self.context_tokens: int = api.llama_model_n_ctx_train(self.handle)
        self.ends = self._end_tokens()
        self.bos: int | None = api.llama_vocab_bos(self._vocab) if api.llama_vocab_get_add_bos(self._vocab) else None

    @property
    def chat_template(self) -> str | None:
        """The Jinja source that the file carries."""
        template = api.llama_model_chat_template(self.handle, None)
        return template.decode("utf-8", "replace") if template else None

    @property
    def unshareable(self) -> str:
        """Why the memory of this model cannot be cut at any token and shared, or an empty string.

        Recurrent state cannot be rewound. A sliding window forgets what a prefix needs; see Context for how
        most such models are kept from it.
        """
        if api.llama_model_is_recurrent(self.handle):
            return "its state is recurrent"
        if api.llama_model_is_hybrid(self.handle):
            return "it is a hybrid of attention and recurrent state"
        if self.window and self._architecture() in _OWN_WINDOWS:
            return f"its attention slides over {self.window} tokens in a cache of its own kind"
        return ""

    @property
    def window(self) -> int:
        """Tokens over which some layers' attention slides; 0 for a model that sees all in every layer."""
        return int(api.llama_model_n_swa(self.handle))

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Return the tokens of `text`, without a token of our own at either end.

        special: read "<|im_end|>" and its like as the one control token. False for every text that we did
        not write ourselves.
        Raises EngineRefused for half a surrogate pair, which JSON can carry and UTF-8 cannot.
        """
        try:
            raw = text.encode()
        except UnicodeEncodeError as error:
            raise EngineRefused(f"the text is not Unicode: {error.object[error.start]!r} stands alone") from error
        room = len(raw) + 8  # a token spans at least a byte; SentencePiece may add a leading space
        tokens = (ctypes.c_int32 * room)()
        count = api.llama_tokenize(self._vocab, raw, len(raw), tokens, room, False, special)
        if count < 0:
            raise EngineError(f"llama_tokenize wants {-count} tokens for {len(raw)} bytes")
        return tokens[:count]

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Return the bytes of one token; a control token is empty unless `special`."""
        # llama.cpp turns some plain words ("</s>" in Qwen's vocabulary) into control tokens and keeps both
        # bits; as text they are what they look like.
        attributes = api.llama_vocab_get_attr(self._vocab, token)
        special = special or bool(attributes & api.LLAMA_TOKEN_ATTR_NORMAL)
        buffer = ctypes.create_string_buffer(256)
        size = api.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = api.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        return buffer.raw[:size]

    def special_text(self, name: str) -> str:
        """Return the text of the "bos" or "eos" token as chat templates name it; empty if there is none."""
        token = getattr(api, f"llama_vocab_{name}")(self._vocab)
        return self.piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""

    def grammar_tokenizer(self) -> Any:
        """Return llguidance's view of this vocabulary. Takes about a second for 150,000 tokens."""
        from llguidance.llamacpp import lltokenizer_from_vocab

        main = api.llama_vocab_eos(self._vocab)
        others = sorted(self.ends - {main})  # the first of the list is llguidance's own end token
        return lltokenizer_from_vocab(self._vocab, eos_token=[main, *others], slices=_SLICES)

    def close(self) -> None:
        api.llama_model_free(self.handle)

    def _architecture(self) -> str:
        name = ctypes.create_string_buffer(64)
        api.llama_model_meta_val_str(self.handle, b"general.architecture", name, len(name))
        return name.value.decode("utf-8", "replace")

    def _end_tokens(self) -> frozenset[int]:
        named = {api.llama_vocab_eos(self._vocab), api.llama_vocab_eot(self._vocab)}
        others = {token for token in range(self.vocab_size) if api.llama_vocab_is_eog(self._vocab, token)}
        # See piece(): a plain word that llama.cpp takes for an end token ends nothing here.
        plain = {t for t in others if api.llama_vocab_get_attr(self._vocab, t) & api.LLAMA_TOKEN_ATTR_NORMAL}
        return frozenset(token for token in named | (others - plain) if token >= 0)


class Context:
    """The cells (one token each) of a model's memory, shared by all sequences, and the computation on them.

    cells: tokens that all sequences together may hold; a token shared by several counts once.
    sequences: at most so many; the attribute says how many may be used.
    batch: most tokens of one compute() call; outputs: most of them whose logits are wanted (as many as sequences).
    One thread at a time.
    """

    def __init__(self, model: Model, *, cells: int, sequences: int, threads: int, batch: int = 256) -> None:
        params = api.llama_context_default_params()
        params.n_ctx = cells
        params.n_batch = params.n_ubatch = batch
        # Scores as a product of matrices would be the quicker way for many replies at a time (32 behind 1,024 tokens:
        # 546 ms a step against 636; 1.5B, 2 cores), but every row then pays for every cell in use, its own or not. A
        # tree keeps them all in use: a run of 6 turns with 16 calls each took 300 s that way, and 208 s this way.
        params.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_AUTO
        # Where attention slides, a full-size cache keeps every cell, but gives one that lies behind the window of
        # the only sequence that holds it to whoever looks for room (llama_kv_cache::find_slot); a prefix cut there
        # would then have holes. So every sequence has a twin that holds the same cells.
        params.swa_full = True
        if model.unshareable:
            sequences = min(sequences, STATES)
        self._twins = model.window > 0 and not model.unshareable
        # Twins and states are no plain list of cells, which is what save() copies.
        self.can_save = not self._twins and not model.unshareable
        self.sequences = sequences // 2 if self._twins else sequences - self.can_save
        self._desk = self.sequences  # a sequence for passing use
        params.n_seq_max = sequences
        # A row of logits each, which the default would reserve for every token of a batch. Fewer than the
        # sequences abort the process (GGML_ASSERT in graph_reserve).
        params.n_outputs_max = sequences
        # One stream for all sequences: seq_cp then shares cells and copies nothing. Without it a partial
        # copy aborts the process (GGML_ASSERT in llama_kv_cache::seq_cp).
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = threads
        params.no_perf = True
        _complaints.clear()
        self._handle = api.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise EngineError(f"llama.cpp made no context of {cells} cells: {_last_complaint()}")
        self._memory: Any = api.llama_get_memory(self._handle)
        self._vocab_size = model.vocab_size
        self._batch = api.llama_batch_init(batch, 0, 2)
        self.batch = batch
        self.outputs = self.sequences
        self.cells: int = api.llama_n_ctx(self._handle)

    def obey(self, cancel: Cancel) -> None:
        """Let `cancel` end the compute() calls from here on."""
        self._cancel = cancel  # keeps the flag's memory alive while C looks at it
        flag = ctypes.cast(cancel.flag, ctypes.c_void_p)
        api.llama_set_abort_callback(self._handle, _is_cancelled, flag)

    def compute(self, parts: Sequence[Part]) -> list[Logits]:
        """Append each part to its sequence; return the wanted logits, part by part, token by token.

        The arrays, (vocab,), are llama.cpp's own memory and are overwritten by the next call.
        Raises NoRoom with the sequences unchanged, or Aborted with any of the tokens appended.
        """
        batch, rows, wanted = self._batch, 0, []
        for part in parts:
            first_wanted = len(part.tokens) - part.wanted
            for i, token in enumerate(part.tokens):
                batch.token[rows] = token
                batch.pos[rows] = part.start + i
                batch.n_seq_id[rows] = 1 + self._twins
                batch.seq_id[rows][0] = part.sequence
                batch.seq_id[rows][1] = part.sequence + self.sequences  # not looked at unless there are twins
                batch.logits[rows] = i >= first_wanted
                if i >= first_wanted:
                    wanted.append(rows)
                rows += 1
        batch.n_tokens = rows
        _complaints.clear()
        status = api.llama_decode(self._handle, batch)
        if status == 1:
            raise NoRoom(f"no {rows} free cells among {self.cells}")
        if status == 2:
            raise Aborted(f"aborted while {rows} tokens were computed")
        if status:
            raise EngineError(f"llama_decode returned {status}: {_last_complaint()}")
        shape = (self._vocab_size,)
        return [np.ctypeslib.as_array(api.llama_get_logits_ith(self._handle, row), shape=shape) for row in wanted]

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """Let sequence `target` hold the tokens start..end of `source` too. Takes no cells."""
        api.llama_memory_seq_cp(self._memory, source, target, start, end)
        if self._twins:
            api.llama_memory_seq_cp(self._memory, source, target + self.sequences, start, end)

    def remove(self, sequence: int, start: int, end: int = -1) -> None:
        """Drop the tokens start..end (-1: all from start) of a sequence; cells that no other holds are free."""
        for number in (sequence, sequence + self.sequences) if self._twins else (sequence,):
            if not api.llama_memory_seq_rm(self._memory, number, start, end):
                raise EngineError(f"llama.cpp cannot cut sequence {number} at token {start}")

    def save(self, sequence: int, start: int, end: int) -> Saved:
        """Return a copy of what the memory holds of the tokens start..end of a sequence. Only where `can_save`."""
        self.share(sequence, self._desk, start, end)
        try:
            saved = pages(api.llama_state_seq_get_size(self._handle, self._desk))
            data = saved.ctypes.data_as(_BYTES)
            if api.llama_state_seq_get_data(self._handle, data, saved.nbytes, self._desk) != saved.nbytes:
                raise EngineError(f"llama.cpp did not copy the tokens {start}..{end} of sequence {sequence}")
        finally:
            self.remove(self._desk, 0)
        return saved

    def restore(self, sequence: int, start: int, end: int, saved: Saved) -> bool:
        """Put what save() returned at the end of a sequence that holds the tokens before; False without free cells."""
        data = saved.ctypes.data_as(_BYTES)
        if api.llama_state_seq_set_data(self._handle, data, saved.nbytes, self._desk) != saved.nbytes:
            self.remove(self._desk, 0)
            return False
        self.share(self._desk, sequence, start, end)
        self.remove(self._desk, 0)
        return True

    def close(self) -> None:
        api.llama_batch_free(self._batch)
        api.llama_free(self._handle)


def _last_complaint() -> str:
    return _complaints[-1] if _complaints else "no reason given"


def _why_not_loaded(weights: Path) -> str:
    if not weights.is_file():
        return f"no weights at {weights}"
    said = " ".join(_complaints)
    if "invalid magic" in said:
        return f"{weights.name} is not a GGUF file"
    if "within the file bounds" in said or "remaining file size" in said or "read error" in said:
        return f"{weights.name} is truncated or damaged ({weights.stat().st_size} bytes); verify it and pull it again"
    detail = next((line for line in _complaints if "error loading model" in line), _last_complaint())
    return f"llama.cpp cannot load {weights.name}: {detail.split('error loading model: ')[-1]}"
