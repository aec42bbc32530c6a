"""From a conversation to the text that the model reads: the chat template of the file, or ChatML."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import IO, Any, cast

import app
from app.engine import words
from app.engine.protocol import Turn
from quantize.errors import EngineError

MAX_SOURCE = 1024 * 1024
"""Longest template in characters. The longest in use have about 20,000."""

RENDER_SECONDS = 4.0
START_SECONDS = 30.0
_MAX_ANSWER = 256 * 1024 * 1024

_ROOT = str(Path(app.__file__).resolve().parents[1])
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from app.engine.template_process import main; main()"
_SYSTEM_MERGED = "This model's chat template takes no system prompt; it was put before your first message."


class TemplateFailure(Exception):
    """The template cannot render this conversation; the text says why."""


class TemplateBroken(TemplateFailure):
    """It took too long or broke its process: not to be tried again."""


def chatml(turns: Sequence[Turn]) -> str:
    """The fallback format, which most models have seen."""
    text = "".join(f"<|im_start|>{turn.role}\n{turn.content}<|im_end|>\n" for turn in turns)
    return text + "<|im_start|>assistant\n"


class ChatTemplate:
    """The chat template of one model.

    ``name`` is ``model`` while the file's own template is used, else the name of the fallback;
    ``note`` says why in a sentence, empty if there is nothing to say.
    """

    def __init__(
        self, source: str | None, *, bos: str = "", eos: str = "", renderer: Renderer | None = None
    ) -> None:
        """
        Args:
            renderer: one that was started before, to save the time; it is closed with this.
        """
        self.source = source or ""
        self.name = "model"
        self.note = ""
        self._variables: dict[str, Any] = {"bos_token": bos, "eos_token": eos, "add_generation_prompt": True}
        self._process = renderer
        if not self.source.strip():
            self._give_up("This model file has no chat template; ChatML is used instead.")
        elif len(self.source) > MAX_SOURCE:
            self._give_up("This model's chat template is absurdly long; ChatML is used instead.")

    def close(self) -> None:
        """End the process that renders."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def probe(self) -> None:
        """Render a first conversation, so that a template that never works is found at the load."""
        if self.name == "model":
            try:
                self._render_own((Turn("user", "Hello"),), lambda: False)
            except TemplateFailure as failure:
                self._give_up(f"This model's chat template fails ({failure}); ChatML is used instead.")

    def render(
        self, turns: Sequence[Turn], stopped: Callable[[], bool] = lambda: False
    ) -> tuple[str, tuple[str, ...]]:
        """The prompt for ``turns`` up to where the reply begins, and sentences for the user.

        Args:
            stopped: asked while waiting; True ends the rendering.

        Raises:
            EngineError: if it was stopped.
        """
        if self.name != "model":
            return chatml(turns), ()
        try:
            return self._render_own(turns, stopped), ()
        except TemplateBroken as failure:
            self._give_up(f"This model's chat template fails ({failure}); ChatML is used from now on.")
            return chatml(turns), (self.note,)
        except TemplateFailure as failure:
            merged = _system_in_first_turn(turns)
            if merged != tuple(turns):
                with contextlib.suppress(TemplateFailure):
                    return self._render_own(merged, stopped), (_SYSTEM_MERGED,)
            note = f"The chat template refuses this conversation ({failure}); ChatML was used for this reply."
            return chatml(turns), (note,)

    def _render_own(self, turns: Sequence[Turn], stopped: Callable[[], bool]) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        if self._process is None:
            self._process = Renderer()
        return self._process.render(self.source, self._variables | {"messages": messages}, stopped)

    def _give_up(self, note: str) -> None:
        self.name = "chatml"
        self.note = note
        self.close()


def _system_in_first_turn(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    if len(turns) > 1 and turns[0].role == "system" and turns[1].role == "user":
        return (Turn("user", f"{turns[0].content}\n\n{turns[1].content}"), *turns[2:])
    return tuple(turns)


class Renderer:
    """Talks to ``template_process``; starts it again if it was ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting = b""
        self._ready = False
        self._start()

    def _start(self) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, _ROOT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONIOENCODING": "utf-8"},
            )
        except OSError as error:
            raise TemplateFailure(f"no process to render it: {error.strerror}") from error
        self._waiting = b""
        self._ready = False

    def close(self) -> None:
        """End the process by force."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            cast(IO[bytes], self._process.stdout).close()
            with contextlib.suppress(OSError):
                cast(IO[bytes], self._process.stdin).close()
            self._process = None

    def render(self, source: str, variables: dict[str, Any], stopped: Callable[[], bool]) -> str:
        try:
            return self._try(source, variables, stopped)
        except (OSError, ValueError):
            self.close()
        try:  # it may have been ended from outside: once more with a new process
            return self._try(source, variables, stopped)
        except (OSError, ValueError) as error:
            self.close()
            raise TemplateBroken("its process broke down") from error

    def _try(self, source: str, variables: dict[str, Any], stopped: Callable[[], bool]) -> str:
        """OSError or ValueError if the process is gone."""
        if self._process is None:
            self._start()
        request = json.dumps({"source": source, "variables": variables}).encode() + b"\n"
        try:
            if not self._ready:
                self._answer(START_SECONDS, stopped)
                self._ready = True
            stdin = cast(IO[bytes], cast("subprocess.Popen[bytes]", self._process).stdin)
            stdin.write(request)
            stdin.flush()
            answer = self._answer(RENDER_SECONDS, stopped)
        except (TemplateBroken, EngineError):
            self.close()
            raise
        if "error" in answer:
            raise TemplateFailure(words.without_controls(str(answer["error"]), 200) or "no reason given")
        return str(answer["text"])

    def _answer(self, seconds: float, stopped: Callable[[], bool]) -> dict[str, Any]:
        """The next line of the process. ValueError if it is gone, TemplateBroken if it is too slow."""
        descriptor = cast(IO[bytes], cast("subprocess.Popen[bytes]", self._process).stdout).fileno()
        until = monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while b"\n" not in self._waiting:
                if stopped():
                    raise EngineError("Stopped while the prompt was being prepared.")
                if monotonic() > until:
                    raise TemplateBroken(f"it took more than {seconds:.0f} seconds")
                if selector.select(0.02):
                    data = os.read(descriptor, 1 << 20)
                    self._waiting += data
                    if not data or len(self._waiting) > _MAX_ANSWER:
                        raise ValueError("the process is gone")
        line, self._waiting = self._waiting.split(b"\n", 1)
        answer = json.loads(line)
        if not isinstance(answer, dict):
            raise ValueError("not an answer")
        return answer
