"""Which of PyTorch's exact attention kernels is the fastest on this GPU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.training.config import Shape

TOLERANCE = 0.02
"""Largest difference from flash attention, relative to the largest value (bf16 has 8 bits)."""


def _run(backend: SDPBackend, qkv: list[Tensor], n: int) -> tuple[list[Tensor], float]:
    """Output and gradients, and milliseconds of one pass forward and back."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    found: list[Tensor] = []
    with sdpa_kernel(backend):
        for i in range(n + 2):
            if i == 2:
                start.record()
            out = F.scaled_dot_product_attention(*qkv, is_causal=True)
            found = [out, *torch.autograd.grad(out, qkv, torch.ones_like(out))]
    end.record()
    torch.cuda.synchronize()
    return found, start.elapsed_time(end) / n


def choose(shape: Shape) -> str:
    """Leave only the faster one of flash attention and cuDNN's switched on, if both compute the same."""
    torch.manual_seed(0)
    size = (2, shape.n_head, shape.n_ctx, shape.head_dim)
    qkv = [torch.randn(size, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    expected, flash = _run(SDPBackend.FLASH_ATTENTION, qkv, 10)
    try:
        found, cudnn = _run(SDPBackend.CUDNN_ATTENTION, qkv, 10)
    except RuntimeError as e:
        return f"flash attention ({flash:.2f} ms), for cuDNN's fails: {e}"
    apart = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True))
    use_cudnn = cudnn < flash and apart < TOLERANCE  # False for NaN
    torch.backends.cuda.enable_cudnn_sdp(use_cudnn)
    torch.backends.cuda.enable_flash_sdp(not use_cudnn)
    return (
        f"{'cuDNN' if use_cudnn else 'flash'} attention: flash {flash:.2f} ms, cuDNN {cudnn:.2f} ms, "
        f"largest difference {apart:.4f}"
    )
