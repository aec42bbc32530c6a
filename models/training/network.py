"""The llama architecture as llama.cpp computes it (interleaved RoPE, RMS norms, SwiGLU, tied embedding)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.training.config import Shape

BLOCK = 256
"""Weights that share a scale in TQ2_0."""


def ternary(weight: Tensor) -> Tensor:
    """round(w / s) clipped to -1, 0, 1, times s = mean |w| of each block of 256, as TQ2_0 stores it.

    BitNet b1.58 (arXiv 2402.17764) has one scale per tensor; TQ2_0 stores one per block, so finer
    scales cost nothing. The scale is rounded to f16, as it is stored. ``weight`` is (rows, columns) with
    columns divisible by 256.
    """
    blocks = weight.reshape(weight.shape[0], -1, BLOCK)
    scale = blocks.abs().mean(-1, keepdim=True).clamp(min=1e-5).half().to(weight.dtype)
    return ((blocks / scale).round().clamp(-1, 1) * scale).reshape(weight.shape)


class Linear(nn.Module):
    """A matrix, ternary on demand."""

    def __init__(self, n_in: int, n_out: int, ternary: bool, zero: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.zeros(n_out, n_in) if zero else torch.randn(n_out, n_in) * n_in**-0.5
        )
        self.ternary = ternary

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if self.ternary:  # the values are ternary, gradients pass through (w - w is exactly 0)
            weight = ternary(weight.detach()) + (weight - weight.detach())
        return F.linear(x, weight.to(x.dtype))


class Norm(nn.Module):
    """RMS norm with a learned scale."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate neighbouring pairs; ``x`` is (batch, heads, time, head_dim), cos and sin (time, head_dim / 2)."""
    even, odd = x[..., 0::2].float(), x[..., 1::2].float()
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2).to(x.dtype)


class Block(nn.Module):
    """One layer."""

    def __init__(self, s: Shape, ternary: bool) -> None:
        super().__init__()
        self.s = s
        self.attn_norm = Norm(s.n_embd, s.norm_eps)
        self.attn_q = Linear(s.n_embd, s.n_head * s.head_dim, ternary)
        self.attn_k = Linear(s.n_embd, s.n_head_kv * s.head_dim, ternary)
        self.attn_v = Linear(s.n_embd, s.n_head_kv * s.head_dim, ternary)
        self.attn_output = Linear(s.n_head * s.head_dim, s.n_embd, ternary, zero=True)
        self.ffn_norm = Norm(s.n_embd, s.norm_eps)
        self.ffn_gate = Linear(s.n_embd, s.n_ff, ternary)
        self.ffn_up = Linear(s.n_embd, s.n_ff, ternary)
        self.ffn_down = Linear(s.n_ff, s.n_embd, ternary, zero=True)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        s, (b, t, _) = self.s, x.shape
        h = self.attn_norm(x)
        q = rope(self.attn_q(h).view(b, t, s.n_head, s.head_dim).transpose(1, 2), cos, sin)
        k = rope(self.attn_k(h).view(b, t, s.n_head_kv, s.head_dim).transpose(1, 2), cos, sin)
        v = self.attn_v(h).view(b, t, s.n_head_kv, s.head_dim).transpose(1, 2)
        group = s.n_head // s.n_head_kv
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(a.transpose(1, 2).reshape(b, t, -1))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Network(nn.Module):
    """Tokens to logits."""

    def __init__(self, shape: Shape, ternary: bool = False) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.n_vocab, shape.n_embd)
        nn.init.normal_(self.token_embd.weight, std=0.02)
        self.blk = nn.ModuleList(Block(shape, ternary) for _ in range(shape.n_layer))
        self.output_norm = Norm(shape.n_embd, shape.norm_eps)
        angles = shape.rope_base ** (-torch.arange(0, shape.head_dim, 2) / shape.head_dim)
        table = torch.arange(shape.n_ctx)[:, None] * angles[None, :]
        self.register_buffer("cos", table.cos(), persistent=False)
        self.register_buffer("sin", table.sin(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits, shape (batch, time, n_vocab), in the dtype of the computation."""
        t = tokens.shape[1]
        x = self.token_embd(tokens).to(torch.bfloat16 if tokens.is_cuda else torch.float32)
        cos, sin = self.cos[:t], self.sin[:t]
        for block in self.blk:
            x = block(x, cos, sin)
        return F.linear(self.output_norm(x), self.token_embd.weight.to(x.dtype))
