"""Every number of the pipeline in one place; a run writes its own copy beside its curves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """The architecture (llama)."""

    n_embd: int = 512
    n_layer: int = 10
    n_head: int = 4
    n_head_kv: int = 2
    head_dim: int = 128
    n_ff: int = 1536
    n_vocab: int = 8192
    rope_base: float = 500_000.0
    norm_eps: float = 1e-5
    n_ctx: int = 8192


@dataclass(frozen=True, slots=True)
class Mixture:
    """Share of the tokens that each kind of text gets."""

    corpus: float = 0.60
    recall: float = 0.26
    arithmetic: float = 0.035
    language: float = 0.025
    guide: float = 0.045
    identity: float = 0.035


@dataclass(frozen=True, slots=True)
class Run:
    """One training run."""

    name: str = "dense"
    shape: Shape = Shape()
    mixture: Mixture = Mixture()
    long_mixture: Mixture = Mixture(
        corpus=0.47, recall=0.42, arithmetic=0.02, language=0.02, guide=0.04, identity=0.03
    )
    """The same for sequences of the whole context."""
    ternary: bool = False
    start_from: str = ""
    """A checkpoint whose weights the run begins with."""
    teacher: str = ""
    """A checkpoint whose predictions the run learns from, besides the text."""
    minutes: float = 12.0
    """The learning rate is scheduled over this time, so that a run fits the machine it gets."""
    batch_tokens: int = 131_072
    long_share: float = 0.4
    """Share of the batches that are sequences of the whole context; the others have 2,048 tokens."""
    short_len: int = 2048
    lr_matrix: float = 0.02
    lr_embed: float = 0.003
    weight_decay: float = 0.1
    dropout: float = 0.0
    warmup_s: float = 15.0
    cooldown: float = 0.45
    """Last part of the time in which the learning rate falls to zero."""
    seed: int = 7


SMALL = Shape(n_embd=256, n_layer=6, n_head=8, n_head_kv=2, head_dim=64, n_ff=768)
"""The laboratory's sibling: head_dim 64, GQA 4."""

RUNS = {
    "dense": Run(),
    "ternary": Run(
        name="ternary",
        ternary=True,
        start_from="dense",
        teacher="dense",
        minutes=7.0,
        lr_matrix=0.01,
        lr_embed=0.001,
        warmup_s=5.0,
        cooldown=0.6,
    ),
    "small": Run(name="small", shape=SMALL, minutes=3.0),
}
