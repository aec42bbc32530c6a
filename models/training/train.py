"""One training run: ``python -m models.training.train NAME CORPUS OUT [--minutes M]``.

Writes ``OUT/NAME.pt`` (weights), ``OUT/NAME-curve.jsonl`` and ``OUT/NAME-config.json``. A checkpoint is
kept every minute; starting the same command again goes on from it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.training import corpus
from models.training.chatml import encode_chat, encode_document
from models.training.config import RUNS, Run
from models.training.muon import Muon
from models.training.network import Network
from models.training.stream import Stream
from models.training.tokenizer import Tokenizer


class Batches(torch.utils.data.IterableDataset[tuple[Tensor, Tensor]]):
    """Batches of a fixed number of tokens; every worker process has a stream of its own."""

    def __init__(self, documents: list[corpus.Document], run: Run, length: int, salt: int) -> None:
        self.documents, self.run, self.length, self.salt = documents, run, length, salt

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        info = torch.utils.data.get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        mixture = self.run.long_mixture if self.length > self.run.short_len else self.run.mixture
        stream = Stream(self.documents, mixture, worker, workers, self.run.seed + self.salt)
        rows = stream.sequences(self.length)
        n = max(1, self.run.batch_tokens // self.length)
        while True:
            pairs = [next(rows) for _ in range(n)]
            tokens = torch.from_numpy(np.stack([p[0] for p in pairs]).astype(np.int32))
            yield tokens, torch.from_numpy(np.stack([p[1] for p in pairs]))


def held_out_tokens(
    documents: list[corpus.Document], limit: int = 400_000
) -> dict[str, tuple[list[list[int]], int]]:
    """Tokens and bytes of the held-out prose and talk, cut to about ``limit`` characters each."""
    tokenizer = Tokenizer()
    found: dict[str, tuple[list[list[int]], int]] = {}
    for label, talk in (("prose", False), ("chat", True)):
        rows: list[list[int]] = []
        size = 0
        for d in documents:
            if d.held_out and d.is_talk == talk and size < limit:
                text = d.text[:8000]
                rows.append(
                    encode_chat(corpus.turns(text), tokenizer)[0]
                    if talk
                    else encode_document(text, tokenizer)[0]
                )
                size += len(text.encode())
        found[label] = rows, size
    return found


@torch.no_grad()
def bits_per_byte(network: Network, rows: list[list[int]], n_bytes: int, device: str) -> float:
    """Bits per byte of held-out texts, each read from its own beginning (in rows of 2,048 tokens)."""
    total = 0.0
    for i in range(0, len(rows), 16):
        part = [r[:2048] for r in rows[i : i + 16]]
        width = -(-max(map(len, part)) // 256) * 256
        tokens = torch.zeros(len(part), width, dtype=torch.long)
        mask = torch.zeros(len(part), width, dtype=torch.bool)
        for j, row in enumerate(part):
            tokens[j, : len(row)] = torch.tensor(row)
            mask[j, : len(row)] = True
        tokens, mask = tokens.to(device), mask.to(device)
        logits = network(tokens)[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none")
        total += float((loss * mask[:, 1:].flatten()).sum())
    return total / np.log(2) / n_bytes


def loss_of(network: Network, tokens: Tensor, learn: Tensor, teacher: Network | None) -> Tensor:
    """Mean cross-entropy over the learned tokens; with a teacher, half of it is the KL divergence to it."""
    logits = network(tokens[:, :-1]).flatten(0, 1).float()
    weight = learn[:, 1:].flatten().float()
    loss = F.cross_entropy(logits, tokens[:, 1:].flatten(), reduction="none")
    if teacher is not None:
        with torch.no_grad():
            target = F.log_softmax(teacher(tokens[:, :-1]).flatten(0, 1).float(), -1)
        divergence = (target.exp() * (target - F.log_softmax(logits, -1))).sum(-1)
        return (0.3 * (loss * weight).sum() + 0.7 * (divergence * (0.3 + 0.7 * weight)).sum()) / weight.sum()
    return (loss * weight).sum() / weight.sum()


def train(run: Run, folder: Path, out: Path, workers: int) -> None:
    """Train until the time of the run is over."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(run.seed)
    torch.set_float32_matmul_precision("high")
    out.mkdir(parents=True, exist_ok=True)
    documents = list(corpus.read(folder))
    fingerprint = blake2b("".join(d.text[:64] for d in documents).encode(), digest_size=8).hexdigest()
    print(f"{len(documents)} documents, fingerprint {fingerprint}", flush=True)
    held_out = held_out_tokens(documents)
    documents = [d for d in documents if not d.held_out]

    network = Network(run.shape, run.ternary).to(device)
    teacher = None
    if run.start_from:
        network.load_state_dict(torch.load(out / f"{run.start_from}.pt", map_location=device)["weights"])
    if run.teacher:
        teacher = Network(run.shape).to(device).bfloat16().eval()
        teacher.load_state_dict(torch.load(out / f"{run.teacher}.pt", map_location=device)["weights"])
        teacher = torch.compile(teacher)
    matrices = [p for n, p in network.named_parameters() if n.startswith("blk") and p.ndim == 2]
    others = [p for n, p in network.named_parameters() if not (n.startswith("blk") and p.ndim == 2)]
    optimizers: list[torch.optim.Optimizer] = [
        Muon(matrices, run.lr_matrix, run.weight_decay),
        torch.optim.AdamW(others, run.lr_embed, betas=(0.9, 0.95), weight_decay=0.01, fused=device == "cuda"),
    ]
    base = [g["lr"] for o in optimizers for g in o.param_groups]
    step = 0
    spent = 0.0
    checkpoint = out / f"{run.name}-checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device)
        network.load_state_dict(saved["weights"])
        for o, s in zip(optimizers, saved["optimizers"], strict=True):
            o.load_state_dict(s)
        step, spent = saved["step"], saved["spent"]
        print(f"goes on at step {step}", flush=True)

    def loader(length: int, share: float) -> Iterator[tuple[Tensor, Tensor]]:
        n = max(1, round(workers * share))
        data = Batches(documents, run, length, step + length)
        return iter(
            torch.utils.data.DataLoader(
                data,
                batch_size=None,
                num_workers=n if workers else 0,
                prefetch_factor=4 if workers else None,
                pin_memory=device == "cuda",
            )
        )

    short = loader(run.short_len, 1 - run.long_share)
    long = loader(run.shape.n_ctx, run.long_share)
    step_fn = torch.compile(loss_of, dynamic=False) if device == "cuda" else loss_of
    curve = (out / f"{run.name}-curve.jsonl").open("a")
    (out / f"{run.name}-config.json").write_text(
        json.dumps({**asdict(run), "fingerprint": fingerprint}, indent=1)
    )
    total = run.minutes * 60
    started, warm = time.monotonic(), False
    owed = 0.0
    seen = 0
    last_save = last_print = spent
    waited = 0.0
    while spent < total:
        owed += run.long_share
        take_long = owed >= 1
        owed -= take_long
        t0 = time.monotonic()
        tokens, learn = next(long if take_long else short)
        waited += time.monotonic() - t0
        tokens, learn = tokens.to(device, non_blocking=True).long(), learn.to(device, non_blocking=True)
        x = spent / total
        scale = min(1.0, (spent + 0.5) / run.warmup_s) * min(1.0, (1 - x) / run.cooldown)
        for group, lr in zip((g for o in optimizers for g in o.param_groups), base, strict=True):
            group["lr"] = lr * scale
        loss = step_fn(network, tokens, learn, teacher)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        for o in optimizers:
            o.step()
            o.zero_grad(set_to_none=True)
        step += 1
        seen += tokens.numel()
        if not warm and step >= 6 + 0:  # compiling does not count as training time
            if device == "cuda":
                torch.cuda.synchronize()
            print(f"compiled in {time.monotonic() - started:.0f} s", flush=True)
            started, warm, seen = time.monotonic() - spent, True, 0
        if warm:
            if device == "cuda" and step % 8 == 0:
                torch.cuda.synchronize()
            spent = time.monotonic() - started
        if spent - last_print >= 15 or spent >= total:
            last_print = spent
            row = {
                "step": step,
                "s": round(spent, 1),
                "loss": float(loss.detach()),
                "tokens": seen,
                "waited": round(waited, 1),
            }
            if int(spent / 15) % 8 == 0 or spent >= total:
                network.eval()
                row |= {k: bits_per_byte(network, rows, n, device) for k, (rows, n) in held_out.items()}
                network.train()
            print(json.dumps(row), flush=True)
            curve.write(json.dumps(row) + "\n")
            curve.flush()
        if spent - last_save >= 60:
            last_save = spent
            save(
                checkpoint,
                {
                    "weights": network.state_dict(),
                    "optimizers": [o.state_dict() for o in optimizers],
                    "step": step,
                    "spent": spent,
                },
            )
    save(out / f"{run.name}.pt", {"weights": network.state_dict(), "run": asdict(run)})
    checkpoint.unlink(missing_ok=True)


def save(path: Path, content: dict[str, object]) -> None:
    """Write a checkpoint so that a crash leaves the old one."""
    torch.save(content, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=RUNS)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--batch-tokens", type=int)
    parser.add_argument("--workers", type=int, default=max(0, (os.cpu_count() or 2) - 1))
    args = parser.parse_args()
    run = RUNS[args.name]
    if args.minutes:
        run = replace(run, minutes=args.minutes)
    if args.batch_tokens:
        run = replace(run, batch_tokens=args.batch_tokens)
    train(run, args.corpus, args.out, args.workers)


if __name__ == "__main__":
    main()
