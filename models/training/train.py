"""One training run: ``python -m models.training.train NAME CORPUS OUT [--minutes M]``.

Writes ``OUT/NAME.pt`` (weights), ``OUT/NAME-curve.jsonl``, ``OUT/NAME-config.json`` and, all the time, one line
to ``OUT/status.txt``. A checkpoint is kept every minute; starting the same command again goes on from it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.training import attention, corpus
from models.training.chatml import encode_chat, encode_document
from models.training.config import RUNS, Run, trial
from models.training.muon import Muon
from models.training.network import Network
from models.training.ranks import Ranks
from models.training.status import say
from models.training.stream import Stream
from models.training.temperature import CANDIDATES
from models.training.tokenizer import Tokenizer

AGREE_STEPS = 64
"""Steps after which several processes take the first one's weights."""
PRINT_S, EXAMINE_S, SAVE_S = 15.0, 120.0, 60.0
"""Seconds between the rows of the curve, those with bits per byte, and the checkpoints."""


class Batches(torch.utils.data.IterableDataset[tuple[Tensor, Tensor]]):
    """This process' part of every batch; every worker process has a stream of its own."""

    def __init__(
        self, documents: list[corpus.Document], run: Run, length: int, salt: int, ranks: Ranks
    ) -> None:
        self.documents, self.run, self.length, self.salt, self.ranks = documents, run, length, salt, ranks

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        info = torch.utils.data.get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        worker, workers = self.ranks.rank * workers + worker, self.ranks.count * workers
        mixture = self.run.long_mixture if self.length > self.run.short_len else self.run.mixture
        stream = Stream(self.documents, mixture, worker, workers, self.run.seed + self.salt)
        rows = stream.sequences(self.length)
        n = max(1, self.run.batch_tokens // self.ranks.count // self.length)
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
                tokens = (
                    encode_chat(corpus.turns(text), tokenizer)[0]
                    if talk
                    else encode_document(text, tokenizer)[0]
                )
                rows.append(tokens[:2048])
                size += round(len(text.encode()) * min(1.0, 2048 / len(tokens)))
        found[label] = rows, size
    return found


@torch.no_grad()
def bits_per_byte(
    network: Network, rows: list[list[int]], n_bytes: int, device: str, temperature: float = 1.0
) -> float:
    """Bits per byte of held-out texts, each read from its own beginning (in rows of 2,048 tokens at most)."""
    total = 0.0
    for i in range(0, len(rows), 16):
        part = [r[: network.shape.n_ctx] for r in rows[i : i + 16]]
        width = -(-max(map(len, part)) // 256) * 256
        tokens = torch.zeros(len(part), width, dtype=torch.long)
        mask = torch.zeros(len(part), width, dtype=torch.bool)
        for j, row in enumerate(part):
            tokens[j, : len(row)] = torch.tensor(row)
            mask[j, : len(row)] = True
        tokens, mask = tokens.to(device), mask.to(device)
        logits = network(tokens)[:, :-1] / temperature
        loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none")
        total += float((loss * mask[:, 1:].flatten()).sum())
    return total / np.log(2) / n_bytes


def loss_of(network: Network, tokens: Tensor, weights: Tensor, teacher: Network | None) -> Tensor:
    """Mean cross-entropy over the learned tokens by weight; with a teacher, 0.7 of it is the KL divergence to it."""
    logits = network(tokens[:, :-1]).flatten(0, 1).float()
    weight = weights[:, 1:].flatten().float()
    loss = F.cross_entropy(logits, tokens[:, 1:].flatten(), reduction="none")
    if teacher is not None:
        with torch.no_grad():
            target = F.log_softmax(teacher(tokens[:, :-1]).flatten(0, 1).float(), -1)
        divergence = (target.exp() * (target - F.log_softmax(logits, -1))).sum(-1)
        return (0.3 * (loss * weight).sum() + 0.7 * (divergence * (0.3 + 0.7 * weight)).sum()) / weight.sum()
    return (loss * weight).sum() / weight.sum()


def weights_of(source: str, out: Path, device: str) -> dict[str, Tensor]:
    """The weights of a finished run, by its name, or of a GGUF file that ``export`` wrote, by its path."""
    if not source.endswith(".gguf"):
        found: dict[str, Tensor] = torch.load(out / f"{source}.pt", map_location=device)["weights"]
        return found
    import gguf

    return {
        t.name: torch.from_numpy(gguf.quants.dequantize(t.data, t.tensor_type).copy()).float().to(device)
        for t in gguf.GGUFReader(source).tensors
    }


class Trainer:
    """A network, its optimizers and its averaged weights; what a checkpoint holds."""

    def __init__(self, run: Run, out: Path, device: str) -> None:
        self.run, self.out, self.device = run, out, device
        self.network = Network(run.shape, run.ternary).to(device)
        if run.start_from:
            self.network.load_state_dict(weights_of(run.start_from, out, device))
        self.teacher = None
        if run.teacher:
            self.teacher = Network(run.shape).to(device).eval().requires_grad_(False)
            self.teacher.load_state_dict(weights_of(run.teacher, out, device))
        named = list(self.network.named_parameters())
        matrices = [p for n, p in named if n.startswith("blk") and p.ndim == 2]
        self.others = [p for n, p in named if not (n.startswith("blk") and p.ndim == 2)]
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, run.lr_matrix, run.weight_decay),
            torch.optim.AdamW(
                self.others, run.lr_embed, betas=(0.9, 0.95), weight_decay=0.01, fused=device == "cuda"
            ),
        ]
        self.groups = [g for o in self.optimizers for g in o.param_groups]
        self.base = [g["lr"] for g in self.groups]
        self.parameters = [p for _, p in named]
        self.average = [p.detach().clone() for p in self.parameters]
        self.step, self.spent = 0, 0.0
        self.checkpoint = out / f"{run.name}-checkpoint.pt"
        if self.checkpoint.exists():
            self._go_on()

    def _go_on(self) -> None:
        saved = torch.load(self.checkpoint, map_location=self.device)
        self.network.load_state_dict(saved["weights"])
        for o, s in zip(self.optimizers, saved["optimizers"], strict=True):
            o.load_state_dict(s)
        self.average = saved["average"]
        self.step, self.spent = saved["step"], saved["spent"]
        print(f"goes on at step {self.step}", flush=True)

    def save(self) -> None:
        """Keep a checkpoint."""
        write(
            self.checkpoint,
            {
                "weights": self.network.state_dict(),
                "optimizers": [o.state_dict() for o in self.optimizers],
                "average": self.average,
                "step": self.step,
                "spent": self.spent,
            },
        )

    def update(self, scale: float, decay: float) -> None:
        """One step of the optimizers at ``scale`` of their learning rates; move the average by ``1 - decay``."""
        for group, lr in zip(self.groups, self.base, strict=True):
            group["lr"] = lr * scale
        torch.nn.utils.clip_grad_norm_(self.others, 1.0)
        for o in self.optimizers:
            o.step()
            o.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.parameters, 1 - decay)
        self.step += 1

    def swap(self) -> None:
        """Exchange the weights and their average."""
        with torch.no_grad():
            for p, a in zip(self.parameters, self.average, strict=True):
                kept = p.detach().clone()
                p.copy_(a)
                a.copy_(kept)


def better(it: Trainer, examine: Callable[[], dict[str, float]]) -> dict[str, object]:
    """Keep the last or the averaged weights, whichever needs fewer bits for the held-out text; both figures."""
    last = examine()
    it.swap()
    averaged = examine()
    keep = sum(averaged.values()) <= sum(last.values())
    if not keep:
        it.swap()
    return {**(averaged if keep else last), "last": last, "averaged": averaged}


@torch.no_grad()
def calm(it: Trainer, examine: Callable[..., dict[str, float]]) -> dict[str, object]:
    """Divide the logits by the temperature that needs the fewest bits for the held-out text."""
    bits = {t: examine(t) for t in CANDIDATES}
    best = min(bits, key=lambda t: sum(bits[t].values()))
    it.network.output_norm.weight /= best
    return {**bits[best], "temperature": best}


def schedule(run: Run, spent: float, total: float) -> float:
    """Share of the learning rate: a short rise, a plateau, and a straight fall to zero."""
    return min(1.0, (spent + 0.5) / run.warmup_s) * min(1.0, max(0.0, 1 - spent / total) / run.cooldown)


def train(
    run: Run, folder: Path, out: Path, workers: int, compiled: bool | None = None, ranks: Ranks | None = None
) -> None:
    """Train until the time of the run is over; compiling and reading the corpus do not count."""
    ranks = ranks or Ranks()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    compiled = device == "cuda" if compiled is None else compiled
    torch.manual_seed(run.seed)
    torch.set_float32_matmul_precision("high")
    out.mkdir(parents=True, exist_ok=True)
    tell = (lambda what: say(out, f"{run.name}: {what}")) if ranks.first else (lambda _what: None)
    tell("reads the corpus")
    documents = list(corpus.read(folder))
    fingerprint = blake2b("".join(d.text[:64] for d in documents).encode(), digest_size=8).hexdigest()
    print(f"{len(documents)} documents, fingerprint {fingerprint}", flush=True)
    held_out = held_out_tokens(documents, 400_000 if device == "cuda" else 4_000)
    documents = [d for d in documents if not d.held_out and not corpus.contradicts(d)]
    print(f"{len(documents)} of them to learn from", flush=True)
    it = Trainer(run, out, device)

    def loader(length: int, share: float) -> Iterator[tuple[Tensor, Tensor]]:
        n = max(1, round(workers * share))
        data = Batches(documents, run, length, it.step + length, ranks)
        return iter(
            torch.utils.data.DataLoader(
                data,
                batch_size=None,
                num_workers=n if workers else 0,
                prefetch_factor=4 if workers else None,
                pin_memory=device == "cuda",
            )
        )

    def examine(temperature: float = 1.0) -> dict[str, float]:
        it.network.eval()
        found = {
            k: bits_per_byte(it.network, rows, n, device, temperature) for k, (rows, n) in held_out.items()
        }
        it.network.train()
        return found

    short = loader(run.short_len, 1 - run.long_share)
    long = loader(run.shape.n_ctx, run.long_share)
    step_fn = torch.compile(loss_of, dynamic=False) if compiled else loss_of
    kernel = attention.choose(run.shape) if device == "cuda" else "the CPU's attention"
    print(kernel, flush=True)
    about = {
        "fingerprint": fingerprint,
        "documents": len(documents),
        "gpus": ranks.count,
        "attention": kernel,
    }
    curve = (out / f"{run.name}-curve.jsonl").open("a")
    if ranks.first:
        (out / f"{run.name}-config.json").write_text(json.dumps({**asdict(run), **about}, indent=1))
    tell("compiles")
    total = run.minutes * 60
    begun = started = warm_since = time.monotonic()
    warm = False
    new_steps = seen = 0
    owed = waited = 0.0
    last_save = last_print = last_examined = it.spent
    parent = os.getppid()
    while it.spent < total:
        if os.getppid() != parent:  # whoever wanted this has died and may have been started again
            if ranks.first:
                it.save()
            raise SystemExit("The parent process is gone; a checkpoint is kept.")
        owed += run.long_share
        take_long = owed >= 1
        owed -= take_long
        t0 = time.monotonic()
        tokens, weights = next(long if take_long else short)
        waited += time.monotonic() - t0
        rows = max(1, run.micro_tokens // (tokens.shape[1] - 1))
        pieces = -(-len(tokens) // rows)
        for i in range(0, len(tokens), rows):
            part = tokens[i : i + rows].to(device, non_blocking=True).long()
            loss = step_fn(it.network, part, weights[i : i + rows].to(device, non_blocking=True), it.teacher)
            (loss / pieces).backward()
        before = it.spent
        new_steps += 1
        seen += tokens.numel()
        if device == "cuda" and (not warm or it.step % 8 == 0):
            torch.cuda.synchronize()
        ranks.average(it.parameters)
        if warm:
            it.spent = ranks.clock(time.monotonic() - started)
        elif new_steps >= 6:
            # both lengths are compiled: that did not count as training time
            print(f"ready after {time.monotonic() - begun:.0f} s", flush=True)
            ranks.clock(0.0)  # wait for the slowest
            warm_since = time.monotonic()
            started, warm, seen, waited = warm_since - it.spent, True, 0, 0.0
        # The average looks back over a share of the time, whatever a step takes.
        decay = 1 - min(0.1, max(it.spent - before, 1e-3) / (run.average * total))
        it.update(schedule(run, before, total), decay)
        if it.step % AGREE_STEPS == 0:
            ranks.agree(it.parameters)
        over = it.spent >= total
        if ranks.first and (it.spent - last_print >= PRINT_S or over):
            last_print = it.spent
            row: dict[str, object] = {"step": it.step, "s": round(it.spent, 1), "loss": float(loss.detach())}
            row |= {"tokens": ranks.count * seen, "waited": round(waited, 1)}
            if over:
                row |= better(it, examine)
                row |= calm(it, examine)
            elif it.spent - last_examined >= min(EXAMINE_S, total / 8):
                last_examined = it.spent
                row |= examine()
            print(json.dumps(row), flush=True)
            curve.write(json.dumps(row) + "\n")
            curve.flush()
            rate = ranks.count * seen / max(1e-3, time.monotonic() - warm_since)
            tell(
                f"{it.spent / 60:.1f} of {run.minutes:.1f} min, step {it.step}, loss {loss.item():.3f}, "
                f"{rate / 1000:.0f}k tokens/s, waited {waited:.0f} s",
            )
        if ranks.first and it.spent - last_save >= min(SAVE_S, total / 4) and not over:
            last_save = it.spent
            it.save()
    if ranks.first:
        write(out / f"{run.name}.pt", {"weights": it.network.state_dict(), "run": asdict(run)})
        it.checkpoint.unlink(missing_ok=True)
    tell("trained")


def write(path: Path, content: dict[str, object]) -> None:
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
    parser.add_argument("--micro-tokens", type=int)
    parser.add_argument("--start-from", help="a run or a GGUF file to begin with, instead of the usual one")
    parser.add_argument("--workers", type=int, default=max(0, (os.cpu_count() or 2) - 1))
    parser.add_argument("--trial", action="store_true", help="in miniature, to try the code")
    parser.add_argument("--compile", action="store_true", help="compile on a CPU, too")
    args = parser.parse_args()
    run = trial(RUNS[args.name]) if args.trial else RUNS[args.name]
    for name in ("minutes", "batch_tokens", "micro_tokens"):
        if getattr(args, name):
            run = replace(run, **{name: getattr(args, name)})
    if args.start_from:
        run = replace(run, start_from=args.start_from, teacher=args.start_from if run.teacher else "")
    ranks = Ranks.join()
    train(run, args.corpus, args.out, args.workers, True if args.compile else None, ranks)
    ranks.leave()


if __name__ == "__main__":
    main()
