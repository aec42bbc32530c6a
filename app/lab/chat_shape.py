"""A model's chat template, cut where a text and a question go."""

from __future__ import annotations

from app.engine.protocol import Turn
from app.engine.template import ChatTemplate, chatml
from quantize.lab.recall import ChatShape

INSTRUCTION = "Read this text and remember the facts in it."
ACKNOWLEDGEMENT = "I have read the text."

_TEXT, _QUESTION = "\ue010", "\ue011"
"""Characters of the private use area: they stand for the two and appear in no template."""

_NO_THOUGHT = "<think>\n\n</think>\n\n"


def chat_shape(template: str, bos: str, eos: str, *, thinks: bool) -> ChatShape:
    """The parts of the conversation of the recall test.

    Args:
        template: the file's chat template; without one that works, ChatML is used.
        thinks: whether the vocabulary has ``<think>``. Such a model is made to answer at once: the
            reply begins after an empty thought.
    """
    turns = (
        Turn("user", f"{INSTRUCTION}\n\n{_TEXT}"),
        Turn("assistant", ACKNOWLEDGEMENT),
        Turn("user", _QUESTION),
    )
    source = ChatTemplate(template or None, bos=bos, eos=eos)
    try:
        source.probe()
        text, _ = source.render(turns)
    finally:
        source.close()
    if text.count(_TEXT) != 1 or text.count(_QUESTION) != 1 or text.index(_TEXT) > text.index(_QUESTION):
        text = chatml(turns)
    before, rest = text.split(_TEXT)
    between, after = rest.split(_QUESTION)
    if thinks:
        begun = after.rstrip().endswith("<think>")
        after = f"{after.rstrip()}\n\n</think>\n\n" if begun else after + _NO_THOUGHT
    return ChatShape(before, between, after)
