"""Generation through the whole engine against a bare llama-cpp-python loop, in one run.

    python -m benchmarks.generation [--model builtin] [--rounds 7] [--threads 0] [--kernel stock]
                                    [--bare-threads 1,2,4,8,16] [--json]

Both write replies to the same prompt with the same samplers and seeds, in turns, both with the attention
of llama.cpp unless ``--kernel own`` gives the engine its own. Rates are compared, since the replies can
differ: a sum that is split over other threads or computed by another kernel rounds otherwise, and another
word may be drawn. How many did is said. With ``--bare-threads`` the bare loop takes the number of these
that it is fastest with; else it has as many as the engine. The engine's time is
taken at the client: from the first text that arrives to the closing event, through the sampler,
the text stream, the pipe and the decoding of messages. The bare loop only samples, decodes and turns
tokens into bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter, process_time

import psutil

from app.engine.client import EngineClient
from app.engine.protocol import (
    Ask,
    Event,
    Failed,
    Finished,
    Forget,
    Generate,
    Load,
    Loaded,
    Sampling,
    Status,
    TextChunk,
    Turn,
)
from models.resolve import resolve

TURNS = (Turn("user", "Tell me a long story about a dog who looks for the sea."),)
MAX_TOKENS = 400
REPLIES = 6
"""Replies per round: their lengths differ much."""
N_CTX = 2048
WANTED = 0.95


@dataclass
class Result:
    """Medians over the rounds."""

    model: str
    n_threads: int
    bare_threads: int
    rounds: int
    tokens: int
    differing: int
    """Replies of which the two wrote another number of tokens."""
    engine_tps: float
    bare_tps: float
    ratio: float
    """Median of the ratios of neighbouring rounds."""
    cpu_ratio: float
    """The same with the processor time of the processes: it says what the engine adds where other
    programs disturb the clock, with one thread (idle threads of a pool spin)."""


def sampling(seed: int) -> Sampling:
    """Everything on, and hot, so that replies are long."""
    return Sampling(
        temperature=2.5,
        top_k=40,
        top_p=0.95,
        min_p=0.05,
        repeat_penalty=1.1,
        seed=seed,
        max_tokens=MAX_TOKENS,
    )


class Engine:
    """The engine as the interface uses it."""

    def __init__(self, path: Path, n_threads: int, *, adapt: bool = True) -> None:
        self._events: queue.SimpleQueue[tuple[float, Event]] = queue.SimpleQueue()
        log = Path(tempfile.mkdtemp(prefix="stretch-")) / "engine.log"
        self.client = EngineClient(lambda event: self._events.put((perf_counter(), event)), log)
        self.client.start()
        self.client.send(Load(1, str(path), N_CTX, n_threads=n_threads, adapt_threads=adapt))
        self._until(Loaded)
        self._process = psutil.Process(self.client.pid)

    def _until(self, kind: type[Event]) -> tuple[float, Event, float]:
        first = 0.0
        while True:
            at, event = self._events.get()
            if isinstance(event, Failed):
                raise SystemExit(event.message)
            if isinstance(event, TextChunk) and not first:
                first = at
            if isinstance(event, kind) and (not isinstance(event, Status) or event.id):
                return at, event, first

    def reply(self, seed: int) -> tuple[int, float, float]:
        """Tokens after the first, the seconds that they took, and processor seconds of all."""
        before = self._cpu_seconds()
        end, finished, first = self._generate(TURNS, sampling(seed))
        return finished.n_generated - 1, end - first, self._cpu_seconds() - before

    def ask(self) -> Status:
        """The figures of now."""
        self.client.send(Ask(self.client.next_id()))
        status = self._until(Status)[1]
        assert isinstance(status, Status)
        return status

    def read(self, turns: tuple[Turn, ...]) -> float:
        """Tokens per second that a prompt is read with."""
        _, finished, _ = self._generate(turns, replace(sampling(1), max_tokens=1))
        return finished.n_prompt / finished.prefill_s

    def _generate(self, turns: tuple[Turn, ...], sampling: Sampling) -> tuple[float, Finished, float]:
        self.client.send(Forget(self.client.next_id()))
        self._until(Status)
        self.client.send(Generate(self.client.next_id(), turns, sampling))
        end, finished, first = self._until(Finished)
        assert isinstance(finished, Finished)
        return end, finished, first

    def _cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


class Bare:
    """The shortest loop that writes the same reply."""

    def __init__(self, path: Path, n_threads: int) -> None:
        from app.engine.template import chatml
        from quantize.llama import Context, Model, send_log_to

        send_log_to(lambda _level, _text: None)
        self.model = Model(path)
        self.context = Context(self.model, n_ctx=N_CTX, n_threads=n_threads)
        self.prompt = self.model.tokenize(chatml(TURNS))

    def take_fastest(self, numbers: Sequence[int]) -> None:
        """Go on with the number of threads that writes fastest."""
        rates = {}
        for n in numbers:
            self.context.set_threads(n)
            written = [self.reply(seed) for seed in range(REPLIES)]
            rates[n] = sum(w[0] for w in written) / sum(w[1] for w in written)
        self.context.set_threads(max(rates, key=lambda n: rates[n]))

    def reply(self, seed: int) -> tuple[int, float, float]:
        """As ``Engine.reply``."""
        import llama_cpp.llama_cpp as L

        s, model = sampling(seed), self.model
        chain = L.llama_sampler_chain_init(L.llama_sampler_chain_default_params())
        for sampler in (
            L.llama_sampler_init_penalties(model.n_vocab, 64, s.repeat_penalty, 0.0, 0.0),
            L.llama_sampler_init_top_k(s.top_k),
            L.llama_sampler_init_top_p(s.top_p, 1),
            L.llama_sampler_init_min_p(s.min_p, 1),
            L.llama_sampler_init_temp(s.temperature),
            L.llama_sampler_init_dist(s.seed),
        ):
            L.llama_sampler_chain_add(chain, sampler)
        for token in self.prompt[-64:]:
            L.llama_sampler_accept(chain, token)
        before = process_time()
        self.context.clear()
        self.context.decode(self.prompt, 0)
        text, n, began = b"", 0, 0.0
        while n < MAX_TOKENS:
            token = L.llama_sampler_sample(chain, self.context.handle, -1)
            if model.is_end(token):
                break
            text += model.piece(token)
            n += 1
            if n == 1:
                began = perf_counter()
            if n < MAX_TOKENS:
                self.context.decode_one(token, len(self.prompt) + n - 1)
        seconds = perf_counter() - began
        L.llama_sampler_free(chain)
        return n - 1, seconds, process_time() - before


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0, help="of the engine; 0: as it chooses")
    parser.add_argument("--kernel", choices=("stock", "own"), default="stock", help="of the engine")
    parser.add_argument("--bare-threads", default="", help="numbers of which the bare loop takes the fastest")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    path = resolve(args.model)
    if args.kernel == "stock":
        os.environ["STRETCH_KERNEL"] = "stock"
    engine = Engine(path, args.threads)
    n_threads = engine.ask().most_threads
    bare = Bare(path, n_threads)
    if args.bare_threads:
        bare.take_fastest([int(n) for n in args.bare_threads.split(",")])
    engine_tps, bare_tps, ratios, cpu_ratios, tokens, differing = [], [], [], [], 0, 0
    for number in range(args.rounds + 1):
        n, n_bare, seconds, bare_seconds, cpu, bare_cpu = 0, 0, 0.0, 0.0, 0.0, 0.0
        for seed in range(number * REPLIES, (number + 1) * REPLIES):
            written, bare_written = engine.reply(seed), bare.reply(seed)
            differing += number > 0 and written[0] != bare_written[0]
            n += written[0]
            n_bare += bare_written[0]
            seconds += written[1]
            bare_seconds += bare_written[1]
            cpu += written[2]
            bare_cpu += bare_written[2]
        if number:  # the first round warms both up
            tokens += n
            engine_tps.append(n / seconds)
            bare_tps.append(n_bare / bare_seconds)
            ratios.append(n / seconds / (n_bare / bare_seconds))
            cpu_ratios.append(n / cpu / (n_bare / bare_cpu))
    engine.client.close()
    median = statistics.median
    result = Result(
        args.model,
        n_threads,
        bare.context.n_threads,
        len(ratios),
        tokens,
        differing,
        median(engine_tps),
        median(bare_tps),
        median(ratios),
        median(cpu_ratios),
    )
    if args.json:
        print(json.dumps(asdict(result)))
        return
    print(
        f"{result.model}, {n_threads} threads (bare {result.bare_threads}), {result.rounds} rounds, "
        f"{tokens:,} tokens; {differing} of {result.rounds * REPLIES} replies differ"
    )
    print(f"engine {result.engine_tps:7.1f} t/s\nbare   {result.bare_tps:7.1f} t/s")
    print(f"ratio  {result.ratio:.3f} (at least {WANTED} wanted), of processor time {result.cpu_ratio:.3f}")


if __name__ == "__main__":
    main()
