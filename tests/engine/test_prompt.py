"""What of the cache a prompt can use, and what in a message is text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.prompt import PromptMaker, common_prefix
from app.engine.protocol import Turn
from app.engine.template import ChatTemplate
from app.engine.vocabulary import Vocabulary
from quantize.llama import Model, send_log_to

lists = st.lists(st.integers(0, 3), max_size=40)


@given(lists, lists, lists)
def test_the_common_prefix_is_where_they_part(same: list[int], a: list[int], b: list[int]) -> None:
    n = common_prefix(same + a, same + b)
    assert n >= len(same) and (same + a)[:n] == (same + b)[:n]
    assert n in (len(same + a), len(same + b)) or (same + a)[n] != (same + b)[n]


def test_the_common_prefix_of_long_lists() -> None:
    a = list(range(100_000))
    for cut in (0, 1, 4095, 4096, 4097, 99_999, 100_000):
        assert common_prefix(a, [*a[:cut], -1, *a[cut:]]) == cut


@pytest.fixture(scope="module")
def maker(builtin: Path) -> Iterator[PromptMaker]:
    send_log_to(lambda _level, _text: None)
    with Model(builtin) as model:
        vocabulary = Vocabulary(model)
        template = ChatTemplate(model.metadata("tokenizer.chat_template"), eos=vocabulary.eos_text)
        yield PromptMaker(model, vocabulary, template)
        template.close()


def text_of(maker: PromptMaker, tokens: list[int]) -> bytes:
    return b"".join(maker._vocabulary.written(t) for t in tokens)


def is_text(data: bytes) -> bool:
    """Whether ``data`` ends between two characters."""
    return data.decode("utf-8", "ignore").encode() == data


words = st.sampled_from(["the", " cache", " holds", " ke", "ys", " and", " values", "é", "\n", " 12", "👍"])
texts = st.lists(words, max_size=12).map("".join)


@st.composite
def odd_tokens(draw: st.DrawFn, maker: PromptMaker, text: str) -> list[int]:
    """Tokens of ``text`` as no tokenizer would choose them: cut at any place."""
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)) | {0, len(text)})
    return [t for a, b in pairwise(cuts) for t in maker._tokenize_plain(text[a:b])]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_is_reused_has_the_text_that_is_wanted(maker: PromptMaker, data: st.DataObject) -> None:
    """Whatever is in the cache: the result begins with it, says the same, and loses no common token."""
    question, reply, edited, next_question = (data.draw(texts) for _ in range(4))
    turns = (Turn("user", question),)
    written = data.draw(odd_tokens(maker, reply))
    cached = maker.make(turns).tokens + written
    cached = cached[: data.draw(st.integers(0, len(cached)))]
    said = data.draw(st.sampled_from([reply, edited]))
    wanted = maker.make((*turns, Turn("assistant", said), Turn("user", next_question))).tokens
    result, n = maker.reuse(cached, wanted)
    assert result[:n] == cached[:n]
    assert n >= common_prefix(cached, wanted)
    assert text_of(maker, result) == text_of(maker, wanted)
    if said == reply and is_text(text_of(maker, cached)):
        assert n == len(cached)  # all that was read is still right


@pytest.mark.parametrize("name", ["<|im_end|>", "<|im_start|>", "<|endoftext|>"])
def test_names_of_control_tokens_stay_text(maker: PromptMaker, name: str) -> None:
    control = maker._vocabulary.control
    plain = [t for t in maker.make((Turn("user", "ab"),)).tokens if t in control]
    for role in ("system", "user", "assistant"):
        turns = (Turn(role, f"a{name}b"), Turn("user", "x"))
        usual = [t for t in maker.make((Turn(role, "ab"), Turn("user", "x"))).tokens if t in control]
        prompt = maker.make(turns)
        assert [t for t in prompt.tokens if t in control] == usual
        assert f"a{name}b".encode() in text_of(maker, prompt.tokens)
    prefixed = maker.make((Turn("user", "ab"),), prefix=f"so {name} is")
    assert [t for t in prefixed.tokens if t in control] == plain


def test_marks_that_hide_control_tokens_can_be_in_the_text_too(maker: PromptMaker) -> None:
    text = "\ue000" + "0\ue000<|im_end|>\ue0000\ue000"
    assert text.encode() in text_of(maker, maker.make((Turn("user", text),)).tokens)


def test_the_count_of_a_text_is_that_of_its_tokens(maker: PromptMaker) -> None:
    assert maker.count("") == 0
    assert maker.count("The cache holds keys.") == len(maker._tokenize_plain("The cache holds keys."))
