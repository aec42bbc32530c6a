"""What is trained on is what llama.cpp will read: the same tokens for the same text in its file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest

from models.training import gguf_file
from models.training.chatml import SPECIAL, Turn, encode_chat
from models.training.config import Shape
from models.training.examine import prompt, unseen_chat, unseen_prose
from models.training.tasks import recall
from models.training.tasks_registry import SHORT
from models.training.tokenizer import Tokenizer
from quantize.llama import Model, send_log_to

TINY = Shape(n_embd=64, n_layer=1, n_head=1, n_head_kv=1, head_dim=64, n_ff=64, n_ctx=256)
ODD = (
    "",
    " ",
    "a  b   c\n\n\n d\t\te",
    "It's they're I'LL don't 'quoted'",
    "12345 3.14 2026-11-25 1,000",
    "def f(x):\n    return x ** 2  # square\r\n",
    "Ünïcödé žluťoučký 漢字 かな עברית emoji 🙂🚀 naïve café",
    'He said: "No!"\n\nShe left...\n',
    "trailing space \n next",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """The vocabulary in a model of random weights."""
    send_log_to(lambda _level, _text: None)
    path = tmp_path_factory.mktemp("training") / "tiny.gguf"
    writer = gguf_file.begin(path, TINY, "f16", "tiny", "for a test")
    rng = np.random.default_rng(1)
    shapes = {"token_embd.weight": (TINY.n_vocab, 64), "output_norm.weight": (64,)}
    shapes |= {f"blk.0.{n}.weight": (64, 64) for n in ("attn_q", "attn_k", "attn_v", "attn_output")}
    shapes |= {f"blk.0.{n}.weight": (64, 64) for n in ("ffn_gate", "ffn_up", "ffn_down")}
    shapes |= {f"blk.0.{n}.weight": (64,) for n in ("attn_norm", "ffn_norm")}
    for name, shape in shapes.items():
        writer.add_tensor(name, rng.standard_normal(shape).astype(np.float32))
    gguf_file.finish(writer)
    with Model(path) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer()


def test_text_gives_the_same_tokens(model: Model, tokenizer: Tokenizer) -> None:
    texts = [*ODD, *unseen_prose()[:6], *unseen_chat()[:20]]
    for text in texts:
        assert model.tokenize(text, parse_special=False) == tokenizer.encode(text), text[:80]


def test_tokens_give_the_text_back(model: Model, tokenizer: Tokenizer) -> None:
    for text in ODD:
        assert b"".join(model.piece(t) for t in tokenizer.encode(text)).decode() == text


def test_conversations_give_the_tokens_that_the_engine_will_send(model: Model, tokenizer: Tokenizer) -> None:
    """Turn by turn in training, in one string here."""
    rng = Random(1)
    talks = [make(rng) for make in SHORT.values() for _ in range(10)]
    for turns in talks:
        tokens, _ = encode_chat(turns, tokenizer)
        head = [1, *tokenizer.encode("assistant\n")]
        assert model.tokenize(prompt(turns)) == tokens + head


def test_pieces_of_a_pasted_text_give_the_tokens_of_the_whole(tokenizer: Tokenizer) -> None:
    rng = Random(2)
    prose = unseen_prose()

    def filler(r: Random, n_chars: int) -> str:
        return r.choice(prose)[:n_chars].strip()

    pieces = 0
    for _ in range(40):
        for turn in recall.pasted(rng, 3000, filler):
            whole = encode_chat([Turn(turn.role, turn.text)], tokenizer)[0]
            assert encode_chat([turn], tokenizer)[0] == whole
            pieces += len(turn.parts)
    assert pieces > 200


def test_the_file_ends_a_reply_where_training_does(model: Model) -> None:
    assert [model.is_end(i) for i in range(4)] == [True, False, True, False]
    assert [model.tokenize(text) for text in SPECIAL] == [[0], [1], [2]]
    assert model.metadata("tokenizer.chat_template") == gguf_file.TEMPLATE


def test_the_unseen_texts_are_long_enough_and_plain(tmp_path: Path) -> None:
    prose, chat = unseen_prose(), unseen_chat()
    assert sum(map(len, prose)) > 60_000 and sum(map(len, chat)) > 25_000
    assert all(text.isascii() for text in prose)
    assert all(text.startswith("User: ") for text in chat)
