"""Every number of the pipeline in one place; a run writes its own copy beside its curves."""

from __future__ import annotations

from dataclasses import dataclass, replace


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

    corpus: float = 0.66
    recall: float = 0.17
    arithmetic: float = 0.03
    language: float = 0.02
    guide: float = 0.07
    identity: float = 0.05


@dataclass(frozen=True, slots=True)
class Run:
    """One training run."""

    name: str = "dense"
    shape: Shape = Shape()
    mixture: Mixture = Mixture()
    long_mixture: Mixture = Mixture(
        corpus=0.50, recall=0.36, arithmetic=0.02, language=0.02, guide=0.06, identity=0.04
    )
    """The same for sequences of the whole context."""
    ternary: bool = False
    start_from: str = ""
    """The run whose weights this one begins with, or a GGUF file."""
    teacher: str = ""
    """The run (or GGUF file) whose predictions this one learns from, besides the text."""
    minutes: float = 12.0
    """The learning rate is scheduled over this time, so that a run fits the machine it gets. The pipeline
    divides the time that it has in the proportion of these."""
    batch_tokens: int = 131_072
    micro_tokens: int = 131_072
    """Tokens computed at once; a batch is the sum of such pieces. Less takes less memory: 131,072 about
    50 GB, with a teacher half as many."""
    long_share: float = 0.35
    """Share of the batches that are sequences of the whole context; the others have 2,048 tokens."""
    short_len: int = 2048
    lr_matrix: float = 0.02
    lr_embed: float = 0.003
    weight_decay: float = 0.1
    warmup_s: float = 15.0
    cooldown: float = 0.45
    """Last part of the time in which the learning rate falls to zero."""
    average: float = 0.03
    """Share of the run over which the averaged weights look back. The better of the last and the averaged
    weights on the held-out text is kept."""
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
        minutes=6.5,
        micro_tokens=65_536,
        lr_matrix=0.01,
        lr_embed=0.001,
        warmup_s=5.0,
        cooldown=0.6,
    ),
    "small": Run(name="small", shape=SMALL, minutes=2.0),
}


def trial(run: Run) -> Run:
    """The same run in miniature: every path of the code in some seconds on any machine, and a useless model."""
    shape = Shape(n_embd=256, n_layer=2, n_head=2, n_head_kv=1, head_dim=128, n_ff=256, n_ctx=512)
    if run.name == "small":
        shape = replace(shape, n_head=4, head_dim=64)
    return replace(run, shape=shape, batch_tokens=512, micro_tokens=256, short_len=128, warmup_s=1.0)
