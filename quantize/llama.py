"""A thin layer on llama.cpp's C interface: a loaded ``Model`` and its ``Context``.

Only what the engine, the laboratory and the planner need, with the settings that save memory
(flash attention on, ``swa_full`` off, logits of one token). Import this only in a process that
may die: llama.cpp ends the process when one of its assertions fails.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import llama_cpp.llama_cpp as L
import numpy as np
from numpy.typing import NDArray

from quantize.amx import has_matrix_unit
from quantize.cache_types import CACHE_TYPES
from quantize.centred_context import CentredContext
from quantize.centring import Centring
from quantize.errors import EngineError, ModelFileError, StateError
from quantize.native import attention, require_types
from quantize.state import HEADER_SIZE, centring_of, read_state, write_header

LIB: Any = L._lib
"""The shared library that llama-cpp-python loaded. Never open another copy of it."""

LOST_CONSTANT = -100
"""What ``decode`` returns where rows of K lack a constant that could not be put back: what was computed is
worth nothing, and the cache has to be read again."""

_keep: dict[str, Any] = {}  # callbacks must outlive the calls that use them
_libc = ctypes.CDLL(None)


def send_log_to(sink: Callable[[int, str], None]) -> None:
    """Send llama.cpp's log lines to ``sink(level, text)`` instead of standard error."""

    def forward(level: int, text: bytes, _user: object) -> None:
        sink(level, text.decode("utf-8", "replace"))

    callback = L.llama_log_callback(forward)
    L.llama_log_set(callback, ctypes.c_void_p())
    _keep["log"] = callback


def trim_heap() -> None:
    """Give freed memory back to the system where the C library keeps it (glibc)."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)


class StopFlag:
    """A flag that llama.cpp looks at during a computation, without taking Python's lock.

    It asks its abort callback before every node of the graph, hundreds of times per token, from
    its own thread. A Python function there would fight for the interpreter's lock each time. The
    flag is a C string instead, empty or not, and the callback is the C library's ``strlen``:
    zero goes on, one stops.
    """

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(2)
        self.address = ctypes.cast(self._text, ctypes.c_void_p)

    def __bool__(self) -> bool:
        return self._text.raw[:1] != b"\0"

    def set(self) -> None:
        """Stop what runs. Any thread may call this."""
        self._text[0] = b"!"

    def clear(self) -> None:
        """Let computations run again."""
        self._text[0] = b"\0"


class Model:
    """Weights and vocabulary of one GGUF file."""

    def __init__(
        self,
        path: Path | str,
        *,
        repack: bool = True,
        n_gpu_layers: int = 0,
        no_alloc: bool = False,
        on_progress: Callable[[float], bool] | None = None,
    ) -> None:
        """Load ``path``.

        Args:
            repack: let llama.cpp keep a second copy of some weights in a faster layout (not where
                ``amx`` says that this would end the process).
            no_alloc: read only the header and simulate the allocations (a dry run).
            on_progress: called with 0..1; returning False cancels the load.

        Raises:
            ModelFileError: if llama.cpp does not load it; its log says why.
        """
        L.llama_backend_init()
        params = L.llama_model_default_params()
        params.use_extra_bufts = repack and not has_matrix_unit()
        params.n_gpu_layers = n_gpu_layers
        if no_alloc:
            params.no_alloc = True
            params.load_mode = L.LLAMA_LOAD_MODE_NONE
        progress = None
        if on_progress is not None:
            progress = L.llama_progress_callback(lambda fraction, _user: bool(on_progress(fraction)))
            params.progress_callback = progress
        self.path = Path(path)
        self.handle = L.llama_model_load_from_file(str(path).encode(), params)
        if not self.handle:
            raise ModelFileError(f"llama.cpp could not load {self.path.name}.", "The log says why.")
        self.centring: Centring | None = None
        """What contexts with a quantized K store it without; whoever opens the model finds it
        (``quantize.centrings``)."""
        self.vocab = L.llama_model_get_vocab(self.handle)
        self.n_vocab: int = L.llama_vocab_n_tokens(self.vocab)

    def close(self) -> None:
        """Free the weights. Close every context first."""
        if self.handle:
            L.llama_model_free(self.handle)
            self.handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def centring_for(self, type_k: int) -> Centring | None:
        """What a context with this ggml type of K stores it without; None where rows are whole."""
        if self.centring is None or not _quantized(type_k):
            return (
                None  # without asking for the kernel, which would switch it on (in a dry run it has no place)
            )
        return self.centring if attention.in_use() == "own" else None

    def metadata(self, key: str) -> str | None:
        """The value of one metadata key as text, or None."""
        size = 4096
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = L.llama_model_meta_val_str(self.handle, key.encode(), buffer, size)
            if length < 0:
                return None
            if length < size:
                return buffer.value.decode("utf-8", "replace")
            size = length + 1

    def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = True) -> list[int]:
        """Token ids of ``text``."""
        data = text.encode("utf-8", "replace")
        room = len(data) + 16
        ids = (L.llama_token * room)()
        n = L.llama_tokenize(self.vocab, data, len(data), ids, room, add_special, parse_special)
        if n < 0:
            ids = (L.llama_token * -n)()
            n = L.llama_tokenize(self.vocab, data, len(data), ids, -n, add_special, parse_special)
        if n < 0:
            raise EngineError("The text could not be turned into tokens.")
        return list(ids[:n])

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes that one token stands for; a character can span several tokens."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            n = L.llama_token_to_piece(self.vocab, token, buffer, size, 0, special)
            if n >= 0:
                return buffer.raw[:n]
            size = -n

    def is_end(self, token: int) -> bool:
        """Whether ``token`` ends a reply."""
        return bool(L.llama_vocab_is_eog(self.vocab, token))


class Context:
    """A KV cache and the buffers to compute with, for one or more sequences of a model."""

    def __init__(
        self,
        model: Model,
        *,
        n_ctx: int,
        type_k: int = 1,
        type_v: int = 1,
        n_threads: int = 2,
        n_batch: int = 512,
        n_ubatch: int = 512,
        n_seq_max: int = 1,
        n_outputs_max: int = 1,
        flash_attention: bool = True,
        offload_kv: bool = True,
    ) -> None:
        """Create a context.

        Args:
            n_ctx: cells of the cache; llama.cpp rounds up to a multiple of 256.
            type_k: ggml type id of K.
            type_v: ggml type id of V.
            n_outputs_max: most tokens of one batch whose logits are asked for; sizes a buffer of
                ``n_outputs_max * n_vocab * 4`` bytes, and asking for more aborts the process.

        Raises:
            EngineError: if llama.cpp refuses; its log says why.
            CacheTypeError: if Stretch's native types are asked for and cannot be registered.
        """
        params = L.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = n_batch
        params.n_ubatch = n_ubatch
        params.n_seq_max = n_seq_max
        params.n_outputs_max = n_outputs_max
        params.n_threads = n_threads
        params.n_threads_batch = n_threads
        self.n_threads = self.n_threads_reading = n_threads
        self.n_seq_max = n_seq_max
        require_types(type_k, type_v)
        params.type_k = type_k
        params.type_v = type_v
        params.flash_attn_type = (
            L.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash_attention else L.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        params.swa_full = False
        params.offload_kqv = offload_kv
        params.no_perf = True
        self.model = model
        self.type_k = type_k
        self.type_v = type_v
        self.tiled_attention = flash_attention and type_k == type_v and type_k in (0, 1)
        """Whether the CPU computes the attention of a long batch in tiles: f16 and f32 only."""
        self.handle, self._centred = self._create(params)
        self.centring = model.centring if self._centred is not None else None
        """What its rows of K lack."""
        self.memory = L.llama_get_memory(self.handle)
        self.n_ctx: int = L.llama_n_ctx(self.handle)
        self.n_batch: int = L.llama_n_batch(self.handle)
        self.n_ubatch: int = L.llama_n_ubatch(self.handle)
        self._batch = L.llama_batch_init(self.n_batch, 0, 1)
        shape = (self.n_batch,)
        self._tokens = np.ctypeslib.as_array(self._batch.token, shape)
        self._positions = np.ctypeslib.as_array(self._batch.pos, shape)
        self._wanted = np.ctypeslib.as_array(self._batch.logits, shape)
        np.ctypeslib.as_array(self._batch.n_seq_id, shape)[:] = 1
        self._seq = -1
        self._stop: Any = None

    def _create(self, params: Any) -> tuple[Any, CentredContext | None]:
        """llama.cpp's context, and its native side if K is centred.

        That is so where the type is quantized and the own kernel writes and reads every layer. It is asked
        after the context was made: another device may have taken a layer, or the kernel have refused it.
        """
        centring = self.model.centring_for(self.type_k)
        if centring is not None:
            with centring:
                handle = L.llama_init_from_model(self.model.handle, params)
            if handle:
                centred = CentredContext(centring)
                if centred.whole:
                    return handle, centred
                L.llama_free(handle)
        handle = L.llama_init_from_model(self.model.handle, params)
        if not handle:
            raise EngineError(
                "llama.cpp could not create a context with these settings.", "The log says why."
            )
        return handle, None

    def close(self) -> None:
        """Free the cache."""
        if self.handle:
            L.llama_batch_free(self._batch)
            L.llama_free(self.handle)
            self.handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def set_threads(self, n_threads: int, n_reading: int = 0) -> None:
        """Compute with ``n_threads`` threads (at least 1) from the next ``decode`` on.

        Batches of several tokens are computed with ``n_reading`` (0: as many).

        Sums over many cells are split among the threads, so the number can change the last bits of a result.
        """
        n_reading = n_reading or n_threads
        L.llama_set_n_threads(self.handle, n_threads, n_reading)
        self.n_threads, self.n_threads_reading = n_threads, n_reading

    def stop_with(self, flag: StopFlag) -> None:
        """Stop a computation when ``flag`` is set (``decode`` then returns 2)."""
        callback = ctypes.cast(_libc.strlen, L.ggml_abort_callback)
        L.llama_set_abort_callback(self.handle, callback, flag.address)
        self._stop = (flag, callback)

    def decode(
        self, tokens: Sequence[int], position: int, *, seq: int = 0, logits: Sequence[int] | str = "last"
    ) -> int:
        """Run ``tokens`` (at most ``n_batch``) from ``position`` on.

        Args:
            logits: ``"last"``, ``"none"``, ``"all"``, or the indices whose logits are wanted.

        Returns:
            llama.cpp's code: 0 done, 1 no room in the cache, 2 aborted (whole micro-batches that
            were finished stay in the cache), negative on an error; or ``LOST_CONSTANT``.
        """
        n = len(tokens)
        if not 0 < n <= self.n_batch:
            raise ValueError(f"a batch holds 1 to {self.n_batch} tokens, not {n}")
        if seq != self._seq:
            for i in range(self.n_batch):
                self._batch.seq_id[i][0] = seq
            self._seq = seq
        self._batch.n_tokens = n
        self._tokens[:n] = tokens
        self._positions[:n] = np.arange(position, position + n)
        self._wanted[:n] = logits == "all"
        if logits == "last":
            self._wanted[n - 1] = True
        elif not isinstance(logits, str):
            self._wanted[list(logits)] = True
        return self._computed(int(L.llama_decode(self.handle, self._batch)))

    def decode_one(self, token: int, position: int) -> int:
        """``decode`` of a single token of sequence 0 with logits, with less ceremony."""
        if self._seq != 0:
            return self.decode((token,), position)
        self._batch.n_tokens = 1
        self._tokens[0] = token
        self._positions[0] = position
        self._wanted[0] = True
        return self._computed(int(L.llama_decode(self.handle, self._batch)))

    def _computed(self, code: int) -> int:
        """``code``, or one of an error where the constant of K could not be put back."""
        lost = self._centred is not None and self._centred.lost()
        return LOST_CONSTANT if lost and code != 1 else code

    def logits(self, index: int = -1) -> NDArray[np.float32]:
        """Logits of batch position ``index`` (-1: the last asked for), shape (n_vocab,); a view."""
        pointer = L.llama_get_logits_ith(self.handle, index)
        if not pointer:
            raise EngineError(f"There are no logits at position {index} of the batch.")
        return np.ctypeslib.as_array(pointer, shape=(self.model.n_vocab,))

    def all_logits(self, n: int) -> NDArray[np.float32]:
        """Logits of the ``n`` tokens of the newest batch, read with ``logits="all"``; shape (n, n_vocab).

        A view that the next ``decode`` overwrites.
        """
        pointer = L.llama_get_logits(self.handle)
        if not pointer:
            raise EngineError("llama.cpp gave no logits.")
        return np.ctypeslib.as_array(pointer, shape=(n, self.model.n_vocab))

    # ------------------------------------------------------------------ the cache

    def last_position(self, seq: int = 0) -> int:
        """Position of the newest token of ``seq``, -1 if it is empty."""
        return int(L.llama_memory_seq_pos_max(self.memory, seq))

    def first_position(self, seq: int = 0) -> int:
        """Position of the oldest token that the cache still holds, -1 if it is empty."""
        return int(L.llama_memory_seq_pos_min(self.memory, seq))

    def remove(self, start: int, end: int = -1, seq: int = 0) -> bool:
        """Forget positions ``start`` to ``end`` (-1: all that follow). False if this model cannot."""
        return bool(L.llama_memory_seq_rm(self.memory, seq, start, end))

    def clear(self) -> None:
        """Forget everything."""
        L.llama_memory_clear(self.memory, True)

    def state_size(self, seq: int = 0, *, partial: bool = False) -> int:
        """Bytes of the saved state of ``seq``.

        Args:
            partial: only what cannot be cut back to fewer tokens: recurrent states, sliding windows.
        """
        return int(L.llama_state_seq_get_size_ext(self.handle, seq, int(partial)))

    def save_state(self, into: NDArray[np.uint8], seq: int = 0, *, partial: bool = False) -> int:
        """Write the state of ``seq`` into ``into`` (at least ``state_size()`` bytes); bytes written."""
        pointer = into.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        size = int(L.llama_state_seq_get_data_ext(self.handle, pointer, into.size, seq, int(partial)))
        if size and self.centring is not None:
            write_header(into, seq, self.centring.id)
        return size

    def load_state(self, data: NDArray[np.uint8], seq: int = 0, *, partial: bool = False) -> bool:
        """Replace the state of ``seq``. False if llama.cpp refuses it (types or sizes differ), or if its rows
        of K lack another constant than those of this context."""
        number = centring_of(data)
        if number != (self.centring.id if self.centring is not None else 0):
            return False
        if self._centred is None:
            return self._load(data, seq, partial)
        try:
            state = read_state(data)
        except StateError:
            return False
        data = data if data.flags.writeable else data.copy()
        header = data[:HEADER_SIZE].copy()
        write_header(data, state.seq_id)
        try:
            loaded = self._load(data, seq, partial)
        finally:
            data[:HEADER_SIZE] = header
        stream = seq if self.n_seq_max > 1 else 0  # llama.cpp gives each sequence one of its own
        return loaded and self._centred.loaded(state, stream)

    def _load(self, data: NDArray[np.uint8], seq: int, partial: bool) -> bool:
        pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        return int(L.llama_state_seq_set_data_ext(self.handle, pointer, data.size, seq, int(partial))) != 0


def _quantized(type_id: int) -> bool:
    return any(v.id == type_id for t in CACHE_TYPES.values() if t.quantized for v in t.variants)
