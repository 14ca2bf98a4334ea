"""Tokens a second of the embedded engine, beside transformers' `generate` on the same prompts.

    python benchmarks/engine.py [--model lab:small] [--prompts 96] [--samples 8] [--batch 256] [--threads N]

Best-of-n requests on the first problems of the lab test set, all at once, as a job sends them. transformers gets the
same sequences in batches of the same size, padded on the left, each batch as long as its longest sequence, and
computes none of the engine's log-probability statistics. Both run in turn, in one process, with the same threads;
figures are medians over the repeats. Tokens a CPU second are what is left of the noise on a machine that others use.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM

from apportion.actors.embedded import EmbeddedEngine, build_engine
from apportion.actors.spec import ModelSpec, Role
from apportion.actors.tokens import ChatTokenizer
from apportion.lab import lab_path
from apportion.types import Generate, Message, Sampling

TEMPERATURE = 0.8
MAX_TOKENS = 200


@dataclass(frozen=True, slots=True)
class Run:
    """One pass over all prompts."""

    tokens: int
    wall_s: float
    cpu_s: float


def timed(work: Callable[[], int]) -> Run:
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = work()
    return Run(tokens, time.perf_counter() - wall, time.process_time() - cpu)


def problems(count: int) -> list[tuple[Message, ...]]:
    with lab_path("lab:test").open() as lines:
        return [(Message("user", json.loads(line)["problem"]),) for line, _ in zip(lines, range(count), strict=False)]


def with_engine(engine: EmbeddedEngine, loop: asyncio.AbstractEventLoop, prompts: list[Any], samples: int) -> int:
    async def run() -> int:
        requests = [
            Generate("small", prompt, tuple(range(samples)), Sampling(TEMPERATURE, 1.0, MAX_TOKENS))
            for prompt in prompts
        ]
        replies = await asyncio.gather(*map(engine.generate, requests))
        return sum(reply.usage.completion_tokens for reply in replies)

    return loop.run_until_complete(run())


def with_transformers(model: Any, tokenizer: ChatTokenizer, prompts: list[Any], samples: int, batch: int) -> int:
    sequences = [tokenizer.encode_prompt(prompt) for prompt in prompts for _ in range(samples)]
    pad, written = model.generation_config.pad_token_id, 0
    for start in range(0, len(sequences), batch):
        group = sequences[start : start + batch]
        width = max(map(len, group))
        ids = torch.tensor([[pad] * (width - len(ids)) + ids for ids in group])
        with torch.inference_mode():
            output = model.generate(
                ids,
                attention_mask=(ids != pad).long(),
                do_sample=True,
                temperature=TEMPERATURE,
                top_k=0,
                top_p=1.0,
                max_new_tokens=MAX_TOKENS,
            )
        written += int((output[:, width:] != pad).sum())
    return written


def rates(runs: list[Run]) -> tuple[float, float]:
    """Median tokens a second, by wall clock and by CPU time."""
    by_wall = statistics.median(run.tokens / run.wall_s for run in runs)
    return by_wall, statistics.median(run.tokens / run.cpu_s for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lab:small", help="a lab name or a model folder")
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    folder = str(lab_path(options.model)) if options.model.startswith("lab:") else options.model
    load_before = os.getloadavg()[0]
    torch.set_num_threads(options.threads)
    spec = ModelSpec("small", "embedded", Role.POLICY, folder, cpus=options.threads, max_batch=options.batch)
    engine, loop = build_engine(spec), asyncio.new_event_loop()
    tokenizer = ChatTokenizer(lab_path(options.model) if options.model.startswith("lab:") else options.model)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompts = problems(options.prompts)
    with_engine(engine, loop, prompts[:32], options.samples)
    ours: list[Run] = []
    theirs: list[Run] = []
    for _ in range(options.repeats):
        ours.append(timed(lambda: with_engine(engine, loop, prompts, options.samples)))
        theirs.append(timed(lambda: with_transformers(model, tokenizer, prompts, options.samples, options.batch)))
    loop.run_until_complete(engine.close())
    report(options, load_before, ours, theirs)


def report(options: argparse.Namespace, load: float, ours: list[Run], theirs: list[Run]) -> None:
    """The table, and one line of JSON."""
    table = Table(title=f"{options.model}, {options.prompts} prompts x {options.samples}, batch {options.batch}")
    for heading in ("", "tokens", "tokens/s", "tokens/CPU s"):
        table.add_column(heading, justify="right")
    for name, runs in (("embedded engine", ours), ("transformers generate", theirs)):
        table.add_row(name, str(runs[0].tokens), *(f"{rate:,.0f}" for rate in rates(runs)))
    Console().print(table)
    result = {
        "benchmark": "engine",
        "model": options.model,
        "prompts": options.prompts,
        "samples": options.samples,
        "batch": options.batch,
        "threads": options.threads,
        "load_before": load,
        "load_after": os.getloadavg()[0],
        "tokens_per_s": rates(ours)[0],
        "tokens_per_cpu_s": rates(ours)[1],
        "generate_tokens_per_s": rates(theirs)[0],
        "generate_tokens_per_cpu_s": rates(theirs)[1],
        "ratio": rates(ours)[0] / rates(theirs)[0],
        "ratio_cpu": rates(ours)[1] / rates(theirs)[1],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
