"""One sequence in one cache: reading a prompt, writing a reply, stopping at any moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from app.engine.cache import Cache
from app.engine.checkpoints import Checkpoints
from app.engine.inbox import Inbox
from app.engine.pace import Pace
from app.engine.prompt import Prompt, PromptMaker
from app.engine.protocol import Event, Finished, PrefillProgress, Sampling, TextChunk
from app.engine.pruned import Pruned
from app.engine.sampling import Sampler
from app.engine.stream import TextStream
from app.engine.threads import Threads
from app.engine.vocabulary import Vocabulary
from app.engine.window import WindowMarks
from quantize.errors import EngineError
from quantize.llama import LOST_CONSTANT, Context

PROGRESS_SECONDS = 0.12

DONE, NO_ROOM, ABORTED = 0, 1, 2

READ_AGAIN = "The cache could not be read any more: the conversation was read again from its text."


@dataclass
class Speeds:
    """The newest figures for the panel."""

    prefill_tps: float = 0.0
    generate_tps: float = 0.0
    first_token_s: float = 0.0


class Conversation:
    """The tokens that were read and what can be done with them.

    ``tokens`` always equals what the cache was read from, one per position: every path that decodes or
    removes keeps them together, an interrupted one too. After a prune the cache has fewer cells than that
    (``pruned``), and positions go on as if it had not.
    """

    def __init__(
        self,
        cache: Cache,
        marks: WindowMarks,
        vocabulary: Vocabulary,
        prompts: PromptMaker,
        inbox: Inbox,
        emit: Callable[[Event], None],
        poll: Callable[[], None],
        *,
        threads: Threads,
        pace: Pace,
        n_swa: int,
    ) -> None:
        """
        Args:
            poll: called between two batches or tokens; may replace the context by another one
                that holds the same tokens.
        """
        self.tokens: list[int] = []
        self.pruned: Pruned | None = None
        self.speeds = Speeds()
        self._vocabulary = vocabulary
        self._prompts = prompts
        self._inbox = inbox
        self._emit = emit
        self._poll = poll
        self._threads = threads
        self.pace = pace
        self._n_swa = n_swa
        self._goal = 0
        self._lost = False
        self._checkpoints = Checkpoints(cache.context.model)
        self._marks = marks
        self._use(cache.context)

    # ------------------------------------------------------------------ the cache

    @property
    def n_used(self) -> int:
        """Cells that are taken."""
        return len(self.tokens) - self.n_gone

    @property
    def n_gone(self) -> int:
        """Cells that pruning has freed."""
        return self.pruned.n_gone if self.pruned is not None else 0

    @property
    def n_needed(self) -> int:
        """Tokens that a new context must have room for: those in the cache, and those that are
        being read into it."""
        return max(self.n_used, self._goal - self.n_gone)

    @property
    def n_ctx(self) -> int:
        """Tokens that fit."""
        return self.context.n_ctx

    def _use(self, context: Context) -> None:
        self.context = context
        context.stop_with(self._inbox.stop_flag)

    def move_to(self, cache: Cache) -> None:
        """Go on in ``cache``, which holds the same tokens."""
        self._checkpoints.cut(0)  # they are of the old types
        self._marks.follow(cache)
        self._use(cache.context)

    def rewritten(self, pruned: Pruned | None) -> None:
        """The cells of the present cache were replaced by others."""
        self.pruned = pruned
        self._checkpoints.cut(0)
        self._marks.clear()

    def hold(self, tokens: list[int], pruned: Pruned | None = None) -> None:
        """The context was given the state of these tokens."""
        self.tokens[:] = tokens
        self.rewritten(pruned)

    def forget(self) -> None:
        """Empty the cache."""
        self.context.clear()
        self.tokens.clear()
        self.pruned = None
        self._checkpoints.cut(0)
        self._marks.clear()

    def keep(self, n_keep: int) -> tuple[int, str]:
        """Cut the cache back to its first ``n_keep`` tokens.

        Returns:
            the tokens that could be kept, and a sentence if these are fewer because of the model.
        """
        if n_keep >= len(self.tokens):
            return len(self.tokens), ""
        if n_keep == 0:
            self.forget()
            return 0, ""
        if self.pruned is not None and n_keep < self.pruned.whole_from:
            self.forget()
            return 0, "The change lies before the end of what was pruned: everything was read again, in full."
        # A sliding window needs the cells before the cut, which newer ones may have displaced.
        first_needed = max(0, n_keep - self._n_swa) if self._n_swa else 0
        if (
            self.context.first_position() <= first_needed
            and self.context.remove(n_keep)
            and self.context.last_position() == n_keep - 1
        ):
            del self.tokens[n_keep:]
            self._checkpoints.cut(n_keep)
            self._marks.restore(n_keep)
            return n_keep, ""
        if n_kept := self._checkpoints.restore(self.context, n_keep):
            del self.tokens[n_kept:]
            self._marks.restore(n_kept)
            return n_kept, ""
        self.forget()
        why = (
            "its sliding window no longer holds the tokens before the change"
            if self._n_swa
            else "its state cannot be cut back"
        )
        return 0, f"This model had to read the whole conversation again: {why}."

    def _synchronize(self, ahead: list[int]) -> None:
        """After an interrupted batch: count what the cache took of ``ahead``."""
        taken = self.context.last_position() + 1 - len(self.tokens)
        if taken > 0:
            self.tokens += ahead[:taken]
        elif taken < 0:
            del self.tokens[self.context.last_position() + 1 :]

    def _lose(self, n_needed: int) -> None:
        """The constant of some row could not be put back (``LOST_CONSTANT``): what the cache holds is worth
        nothing. Empty it, so that ``n_needed`` tokens are read again.

        Raises:
            EngineError: if they do not fit without what was pruned, or if it is the second time in a reply.
        """
        self.forget()
        if self._lost:
            raise EngineError("The cache could not be read any more.", "Choose another cache type.")
        self._lost = True
        if n_needed > self.n_ctx:
            raise EngineError(
                "The cache could not be read any more, and the whole conversation does not fit into it.",
                "Choose a longer context, or a cache type with fewer bits.",
            )

    # ------------------------------------------------------------------ reading

    def read(self, id: int, wanted: list[int], n_cached: int, *, logits: bool = True) -> bool:
        """Read ``wanted[len(self.tokens):]`` with progress. False if it was stopped on the way.

        Args:
            n_cached: tokens that were there before, for the figures.
            logits: whether the last token's logits are wanted.

        Raises:
            EngineError: if llama.cpp fails; the cache holds what was read until then.
        """
        outer, self._goal = self._goal, len(wanted)  # a change of the cache can read, too
        try:
            return self._read(id, wanted, n_cached, logits)
        finally:
            self._goal = outer

    def _read(self, id: int, wanted: list[int], n_cached: int, logits: bool) -> bool:
        began = last_report = perf_counter()
        first = len(self.tokens)
        total = len(wanted) - first
        while (done := len(self.tokens)) < len(wanted):
            self._poll()
            if self._inbox.stopped:
                return False
            context = self.context
            size = self.pace.size(done, context.n_batch, tiled=context.tiled_attention)
            if self._checkpoints.needed and logits:
                # The reply may be written again: keep the state before the last token.
                size = min(size, max(1, len(wanted) - 1 - done))
                if done == len(wanted) - 1:
                    self._checkpoints.save(context, done)
            batch = wanted[done : done + size]
            is_last = done + len(batch) == len(wanted)
            self._threads.watch(context)
            code = context.decode(batch, done, logits="last" if is_last and logits else "none")
            now = perf_counter()
            if code == DONE:
                self.tokens += batch
            elif code == LOST_CONSTANT:
                self._lose(len(wanted))
                first, total, n_cached = 0, len(wanted), 0
                continue
            else:
                self._synchronize(batch)
                if code == ABORTED:
                    return False
                raise EngineError(
                    "llama.cpp found no room for the prompt in its cache."
                    if code == NO_ROOM
                    else f"llama.cpp could not read the prompt (code {code})."
                )
            n_read = len(self.tokens) - first
            self.speeds.prefill_tps = n_read / (now - began)
            if now - last_report >= PROGRESS_SECONDS or len(self.tokens) == len(wanted):
                last_report = now
                rate = self.speeds.prefill_tps
                self._emit(PrefillProgress(id, n_read, total, n_cached, rate, (total - n_read) / rate))
        return True

    # ------------------------------------------------------------------ writing

    def reply(self, id: int, prompt: Prompt, sampling: Sampling, stop_strings: tuple[str, ...]) -> Finished:
        """Read ``prompt`` as far as needed, then write until something ends it.

        The prompt must fit. Stopping while reading gives a ``Finished`` without text.
        """
        began = perf_counter()
        self._lost = False
        wanted, n_same = self._prompts.reuse(self.tokens, prompt.tokens)
        if n_same == len(self.tokens) < len(wanted):  # what follows may be said differently
            self._checkpoints.save(self.context, n_same)
            self._marks.save(n_same)
        n_cached, note = self.keep(min(n_same, len(wanted) - 1))  # the last token gives the logits
        notes = (*prompt.notes, note) if note else prompt.notes
        complete = self.read(id, wanted, n_cached)
        if complete:
            self._marks.save(len(wanted))  # the reply may be written again
        read_at = perf_counter()
        with Sampler(sampling, self.context.model.n_vocab) as sampler:
            sampler.accept(wanted)
            writer = _Writer(self, id, sampler, sampling.max_tokens, stop_strings)
            text, reason = writer.write(prompt.opening) if complete else ("", "stopped")
            if self._lost:
                n_cached, notes = 0, (*notes, READ_AGAIN)
            self.speeds.first_token_s = writer.first_token_at - began if writer.first_token_at else 0.0
            return Finished(
                id,
                reason,
                text,
                n_prompt=len(wanted),
                n_cached=n_cached,
                n_generated=writer.n_generated,
                prefill_s=read_at - began,
                generate_s=perf_counter() - read_at,
                first_token_s=self.speeds.first_token_s,
                seed=sampler.seed,
                notes=notes,
            )


class _Writer:
    """The loop that writes one reply. Lean: at 700 tokens per second each round has 1.4 ms."""

    def __init__(
        self,
        conversation: Conversation,
        id: int,
        sampler: Sampler,
        max_tokens: int,
        stop_strings: tuple[str, ...],
    ) -> None:
        self._conversation = conversation
        self._id = id
        self._sampler = sampler
        self._max_tokens = max_tokens
        self._stream = TextStream(self._send, stop_strings)
        self._began = 0.0
        self.n_generated = 0
        self.first_token_at = 0.0

    def _send(self, chunk: str) -> None:
        speeds = self._conversation.speeds
        elapsed = perf_counter() - self._began
        if self.n_generated > 1 and elapsed > 0:
            speeds.generate_tps = self.n_generated / elapsed
        self._conversation._emit(TextChunk(self._id, chunk, self.n_generated, speeds.generate_tps))

    def write(self, opening: str) -> tuple[str, str]:
        """Write until the end. Returns the text and the reason."""
        self._began = perf_counter()
        if opening:
            self._stream.add(opening.encode())
        reason = self._loop()
        text = self._stream.end()
        return text, reason

    def _loop(self) -> str:
        conversation, stream, sampler = self._conversation, self._stream, self._sampler
        inbox, tokens, vocabulary = conversation._inbox, conversation.tokens, conversation._vocabulary
        threads = conversation._threads
        if self._max_tokens == 0:
            return "length"
        while True:
            token = sampler.sample(conversation.context)
            if vocabulary.ends(token):
                return "end"
            self.n_generated += 1
            if self.n_generated == 1:
                self.first_token_at = perf_counter()
            stream.add(vocabulary.shown(token))
            if stream.hit_stop_string:
                return "end"
            if self.n_generated == self._max_tokens:
                return "length"
            if inbox.has_urgent:
                conversation._poll()
            if inbox.stopped:
                return "stopped"
            if len(tokens) - conversation.n_gone >= conversation.n_ctx:
                return "context"
            threads.watch(conversation.context)
            code = conversation.context.decode_one(token, len(tokens))
            if code == LOST_CONSTANT:
                wanted = [*tokens, token]
                conversation._lose(len(wanted))
                if not conversation.read(self._id, wanted, 0):
                    return "stopped"
                continue
            if code != DONE:
                conversation._synchronize([])
                if code == ABORTED:
                    return "stopped"
                raise EngineError(
                    "llama.cpp found no room for another token in its cache."
                    if code == NO_ROOM
                    else f"llama.cpp could not go on with the reply (code {code})."
                )
            tokens.append(token)
