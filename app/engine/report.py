"""How the outcome of an unattended turn is printed: as JSON, or for people."""

from __future__ import annotations

import json
import sys
from typing import Any, Protocol

from app.engine import words
from app.engine.protocol import CacheChanged, Event, PrefillProgress, Status, TextChunk
from app.engine.unattended import Reply
from app.plain_text import one_line, plain
from quantize.errors import StretchError


class Report(Protocol):
    """Where the outcome of each turn goes."""

    def event(self, event: Event) -> None:
        """Something arrived from the engine, while a turn is under way."""

    def line(self, text: str) -> None:
        """A line of the script begins."""

    def reply(self, reply: Reply) -> None: ...

    def changed(self, changed: CacheChanged) -> None: ...

    def stats(self, status: Status) -> None: ...

    def note(self, sentence: str) -> None: ...

    def warning(self, sentence: str) -> None:
        """Something that must not be overlooked: it is on standard error in every form."""

    def error(self, error: StretchError) -> None: ...


class JsonReport:
    """One JSON object per line on the standard output."""

    def _print(self, event: str, **fields: Any) -> None:
        print(json.dumps({"event": event, **fields}), flush=True)

    def event(self, event: Event) -> None:
        pass

    def line(self, text: str) -> None:
        pass

    def reply(self, reply: Reply) -> None:
        last = reply.finished
        self._print(
            "reply",
            text=reply.text,
            n_prompt=last.n_prompt,
            n_cached=last.n_cached,
            n_generated=reply.n_generated,
            prefill_s=round(reply.prefill_s, 6),
            generate_s=round(reply.generate_s, 6),
            first_token_s=round(last.first_token_s, 6),
            reason=last.reason,
            seed=last.seed,
            notes=list(last.notes),
        )

    def changed(self, changed: CacheChanged) -> None:
        self._print(
            "kv",
            type_k=changed.type_k,
            type_v=changed.type_v,
            tail=changed.tail,
            n_ctx=changed.n_ctx,
            bytes_before=changed.bytes_before,
            bytes_after=changed.bytes_after,
            reach_before=changed.reach_before,
            reach_after=changed.reach_after,
            seconds=round(changed.seconds, 6),
            reprefilled=changed.reprefilled,
            can_undo=changed.can_undo,
            message=changed.sentence,
        )

    def stats(self, status: Status) -> None:
        memory = status.memory
        self._print(
            "stats",
            n_used=status.n_used,
            n_ctx=status.n_ctx,
            type_k=status.type_k,
            type_v=status.type_v,
            tail=status.tail,
            kv_bytes=memory.kv_measured,
            kv_predicted_bytes=memory.kv_predicted,
            weights_bytes=memory.weights_mapped,
            repacked_bytes=memory.weights_repacked,
            compute_bytes=memory.compute,
            rss_bytes=memory.rss,
            predicted_bytes=memory.predicted_total,
            available_bytes=memory.available,
            prefill_tps=round(status.prefill_tps, 3),
            generate_tps=round(status.generate_tps, 3),
            n_threads=status.n_threads,
            most_threads=status.most_threads,
            reading_threads=status.reading_threads,
            threads_why=status.threads_why,
            can_undo=status.can_undo,
            rows=[
                {
                    "type_k": row.type_k,
                    "type_v": row.type_v,
                    "bytes_per_token": row.bytes_per_token,
                    "kv_bytes": row.kv_bytes,
                    "max_ctx": row.max_ctx,
                    "limit": row.limit,
                    "loss": row.loss.data(),
                }
                for row in status.rows
            ],
        )

    def note(self, sentence: str) -> None:
        self._print("note", message=sentence)

    def warning(self, sentence: str) -> None:
        self.note(sentence)
        print(one_line(sentence), file=sys.stderr)

    def error(self, error: StretchError) -> None:
        self._print("error", message=error.message, hint=error.hint, kind=type(error).__name__)


class PlainReport:
    """For people: replies on the standard output as they are written, the rest on standard error.

    Args:
        echo: show the lines of the script between the replies.
    """

    def __init__(self, *, echo: bool) -> None:
        self._echo = echo
        self._to_terminal = sys.stdout.isatty()
        self._progress = sys.stderr.isatty()
        self._progress_shown = False
        self._at_line_start = True

    def event(self, event: Event) -> None:
        if isinstance(event, TextChunk):
            self._clear_progress()
            text = self._safe(event.text)
            sys.stdout.write(text)
            sys.stdout.flush()
            self._at_line_start = text.endswith("\n")
        elif isinstance(event, PrefillProgress) and self._progress and event.n_done < event.n_total:
            sys.stderr.write(
                f"\rReading {event.n_done:,} of {event.n_total:,} tokens, {event.eta_s:.0f} s left "
            )
            sys.stderr.flush()
            self._progress_shown = True

    def _safe(self, text: str) -> str:
        """Without control characters; tabs stay in files."""
        return plain(text) if self._to_terminal else "\t".join(map(plain, text.split("\t")))

    def _clear_progress(self) -> None:
        if self._progress_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._progress_shown = False

    def _say(self, text: str) -> None:
        self._clear_progress()
        if not self._at_line_start:
            sys.stdout.write("\n")
            sys.stdout.flush()
            self._at_line_start = True
        print(one_line(text), file=sys.stderr)

    def line(self, text: str) -> None:
        if self._echo:
            self._say(f"> {text}")

    def reply(self, reply: Reply) -> None:
        self._clear_progress()
        if not self._at_line_start:
            sys.stdout.write("\n")
            self._at_line_start = True
        sys.stdout.flush()
        for note in reply.finished.notes:
            self._say(note)
        if reply.finished.reason == "context":
            self._say("The reply ends here because the context is full.")

    def changed(self, changed: CacheChanged) -> None:
        self._say(f"{changed.sentence} ({changed.seconds:.2f} s)")

    def stats(self, status: Status) -> None:
        memory = status.memory
        self._say(
            f"{status.n_used:,} of {status.n_ctx:,} tokens, cache "
            f"{words.label(status.type_k, status.type_v, status.tail)} {words.size(memory.kv_measured)}, "
            f"process {words.size(memory.rss)} (predicted {words.size(memory.predicted_total)})."
        )
        for row in status.rows:
            reach = row.refused or f"up to {row.max_ctx:,} tokens (limit: {row.limit})"
            loss = f"; {row.loss.sentence}" if row.loss.known and not row.refused else ""
            self._say(f"  {words.label(row.type_k, row.type_v, row.tail)}: {reach}{loss}")

    def note(self, sentence: str) -> None:
        self._say(sentence)

    def warning(self, sentence: str) -> None:
        self._say(sentence)

    def error(self, error: StretchError) -> None:
        self._say(f"stretch: {error}")
