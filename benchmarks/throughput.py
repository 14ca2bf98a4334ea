"""Tokens a second of best-of-8 on vLLM: through apportion, by vllm.LLM.generate, and by ray.data.llm's vLLM processor.

    python benchmarks/throughput.py [--prompts 128] [--repeats 5] [--cluster local|inline] [--only apportion,vllm,ray]

Run it with the interpreter of an environment that has vLLM. The same model, engine arguments, prompts (as tokens) and
seeds in every arm, each run in a process of its own, the arms in turn; loading the model and a first small request are
outside of the clock. On a CPU the engine's threads are bound to the first core this process may use, everything else
to the others. `apportion` is an ordinary job with its journal, on Ray actors unless --cluster inline. The rows of
`ray` carry token ids, so it needs no stages but the engine's; its clock starts when its first batch, which asks for
one token a row, is answered, when the others are under way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from barrier import unbarred
from rich.console import Console
from rich.table import Table
from search_barrier import ratios

from apportion.actors.backends import backend_for
from apportion.actors.tokens import ChatTokenizer
from apportion.configs.build import load_job
from apportion.scheduler.allocation import Offer
from apportion.scheduler.assemble import Prepared, prepare
from apportion.scheduler.prompt_state import PromptState
from apportion.scheduler.purchase import open_purchase
from apportion.types import Generate, Purchase

ARMS = ("apportion", "vllm", "ray")
SAMPLES = 8
SEQUENCES = 256
TEMPERATURE, MAX_TOKENS = 0.8, 200
RAY_BATCH = 64
"""Rows that ray.data.llm gives its engine at once; it has eight such batches under way."""
ENGINE: dict[str, Any] = {"max_model_len": 512, "enable_prefix_caching": True}
ON_CPU: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "block_size": 32,
    "kv_cache_memory_bytes": 2**30,
    "enable_chunked_prefill": False,
    "max_num_batched_tokens": 4096,
}


def engine_args(on_gpu: bool) -> dict[str, Any]:
    """The engine's arguments, the same in every arm."""
    return ENGINE if on_gpu else {**ENGINE, **ON_CPU}


def job(options: argparse.Namespace, output: Path) -> Prepared:
    """Best-of-8 of every prompt."""
    model = {"engine": "vllm", "model": options.model, "max_batch": SEQUENCES, "gpus": 1 if options.gpu else 0}
    arm = {"strategy": "best_of_n", "policy": "small", "select": "majority", "n": [SAMPLES]}
    config = {
        "dataset": {"path": "lab:test", "prompt": "problem", "id": "id", "limit": options.prompts},
        "output": str(output),
        "budget": {"amount": 1e18, "unit": "flops"},
        "models": {"small": {**model, "engine_args": engine_args(options.gpu)}},
        "arms": {"vote": {**arm, "max_tokens": MAX_TOKENS, "temperature": TEMPERATURE}},
        "answer": {"kind": "number"},
        "allocation": {"policy": "uniform", "n": SAMPLES},
        "cluster": {"address": options.cluster},
    }
    return prepare(load_job(config, [], False))


def requests_of(prepared: Prepared) -> list[Generate]:
    """What the job asks for."""
    (arm,) = prepared.spec.arms
    offer = Offer(Purchase(arm.name, SAMPLES), 1.0, 1.0)
    opened = [
        open_purchase(PromptState(at, prompt), arm, offer, prepared.spec.seed)
        for at, prompt in enumerate(prepared.dataset.prompts)
    ]
    return [request for one in opened for request in one.requests if isinstance(request, Generate)]


def with_apportion(prepared: Prepared) -> tuple[int, float]:
    """Tokens written and seconds."""

    async def work() -> tuple[int, float]:
        backend = backend_for(prepared.spec.cluster, tuple(prepared.spec.models.values()))
        try:
            await backend.start()
            first = requests_of(prepared)[0]
            await backend.submit(replace(first, seeds=first.seeds[:1]), 0)
            found = await unbarred(prepared, backend)
            return found.tokens, found.seconds
        finally:
            await backend.close()

    return asyncio.run(work())


def sampling_of(request: Generate, seed: int) -> dict[str, Any]:
    return {"temperature": TEMPERATURE, "top_p": request.sampling.top_p, "max_tokens": MAX_TOKENS, "seed": seed}


def tokenized(prepared: Prepared) -> list[tuple[list[int], dict[str, Any]]]:
    """Prompt tokens and sampling parameters of each sequence."""
    tokenizer = ChatTokenizer(Path(prepared.spec.models["small"].path))
    return [
        (ids, sampling_of(request, seed))
        for request in requests_of(prepared)
        for ids in [tokenizer.encode_prompt(request.messages)]
        for seed in request.seeds
    ]


def with_vllm(prepared: Prepared) -> tuple[int, float]:
    """vllm.LLM.generate, given everything at once."""
    from vllm import LLM, SamplingParams
    from vllm.inputs import tokens_input

    spec = prepared.spec.models["small"]
    llm = LLM(spec.path, max_num_seqs=SEQUENCES, disable_log_stats=True, **spec.engine_args)
    sequences = tokenized(prepared)
    prompts = [tokens_input(ids) for ids, _ in sequences]
    params = [SamplingParams(**one) for _, one in sequences]
    llm.generate(prompts[:1], params[:1], use_tqdm=False)
    begun = time.perf_counter()
    outputs = llm.generate(prompts, params, use_tqdm=False)
    seconds = time.perf_counter() - begun
    # Left alone, its processes and this one wait for each other's end.
    llm.llm_engine.engine_core.shutdown()
    return sum(len(output.outputs[0].token_ids) for output in outputs), seconds


def with_ray(prepared: Prepared) -> tuple[int, float]:
    """ray.data.llm's vLLM processor on the same rows."""
    import ray
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    # Never the cluster that somebody else runs on this machine.
    ray.init(address="local", num_cpus=4, include_dashboard=False, logging_level="ERROR")
    try:
        spec = prepared.spec.models["small"]
        off = {"enabled": False}
        config = vLLMEngineProcessorConfig(
            model_source=spec.path,
            engine_kwargs={"max_num_seqs": SEQUENCES, "disable_log_stats": True, **spec.engine_args},
            concurrency=1,
            batch_size=RAY_BATCH,
            chat_template_stage=off,
            tokenize_stage=off,
            detokenize_stage=off,
            prepare_multimodal_stage=off,
            log_engine_metrics=False,
            **({} if int(spec.gpus) else {"placement_group_config": {"bundles": [{"CPU": 1}]}}),
        )
        rows = [{"ids": ids, "params": params, "warm": False} for ids, params in tokenized(prepared)]
        warm = [{**row, "params": {**row["params"], "max_tokens": 1}, "warm": True} for row in rows[:RAY_BATCH]]
        processor = build_processor(
            config,
            preprocess=lambda row: {
                "tokenized_prompt": row["ids"],
                "sampling_params": row["params"],
                "warm": row["warm"],
            },
            postprocess=lambda row: {
                "tokens": row["num_generated_tokens"],
                "warm": row["warm"],
                "at": time.time(),
            },
        )
        data = ray.data.from_items([*warm, *rows], override_num_blocks=(len(rows) + len(warm)) // RAY_BATCH)
        done = processor(data).take_all()
        begun = min(row["at"] for row in done if row["warm"])
        written = [row for row in done if not row["warm"]]
        return sum(row["tokens"] for row in written), max(row["at"] for row in written) - begun
    finally:
        ray.shutdown()


RUN: dict[str, Callable[[Prepared], tuple[int, float]]] = {
    "apportion": with_apportion,
    "vllm": with_vllm,
    "ray": with_ray,
}


def one_run(arm: str, options: argparse.Namespace) -> dict[str, float]:
    """An arm in a process of its own."""
    cores = sorted(os.sched_getaffinity(0))
    env = {**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1", "RAY_DEDUP_LOGS": "0"}
    if not options.gpu:
        env |= {"VLLM_CPU_OMP_THREADS_BIND": str(cores[0]), "OMP_NUM_THREADS": "1"}
    rest = ["--rest", ",".join(map(str, cores[1:]))] if len(cores) > 1 and not options.gpu else []
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, __file__, "--arm", arm, "--result", str(result), *rest, *passed_on(options)]
        subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
        found: dict[str, float] = json.loads(result.read_text())
        return found


def passed_on(options: argparse.Namespace) -> list[str]:
    gpu = ["--gpu"] if options.gpu else []
    return ["--prompts", str(options.prompts), "--model", options.model, "--cluster", options.cluster, *gpu]


def report(options: argparse.Namespace, load: float, runs: dict[str, list[dict[str, float]]]) -> None:
    """The table, and one line of JSON."""
    rates = {arm: [run["tokens"] / run["seconds"] for run in found] for arm, found in runs.items()}
    table = Table(
        title=f"{options.model}, {options.prompts} prompts x {SAMPLES}, {len(next(iter(rates.values())))} runs each"
    )
    for heading in ("", "tokens", "tokens/s", "apportion is"):
        table.add_column(heading, justify="right")
    result: dict[str, Any] = {"benchmark": "throughput", "load_before": load, "load_after": os.getloadavg()[0]}
    for arm, each in rates.items():
        shown = "-"
        if arm != "apportion" and "apportion" in rates:
            found = result[f"over_{arm}"] = ratios(rates["apportion"], each)
            interval = f" ({found['low']:.3f} to {found['high']:.3f})" if "low" in found else ""
            shown = f"{found['ratio']:.3f}{interval}"
        table.add_row(arm, f"{runs[arm][0]['tokens']:,.0f}", f"{statistics.median(each):,.0f}", shown)
    Console(width=110).print(table)
    print(json.dumps({**result, "prompts": options.prompts, "cluster": options.cluster, "runs": runs}))


def chosen(options: argparse.Namespace) -> Sequence[str]:
    arms = options.only.split(",") if options.only else list(ARMS)
    for arm in arms:
        if arm not in ARMS:
            raise SystemExit(f"--only {arm!r} is no arm; use some of {', '.join(ARMS)}")
    return arms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lab:small")
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cluster", choices=("local", "inline"), default="local")
    parser.add_argument("--only", help="some of apportion,vllm,ray")
    parser.add_argument("--gpu", action="store_true", help="on a GPU; nothing is bound to cores")
    for hidden in ("--arm", "--result", "--rest"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        if options.rest:
            os.sched_setaffinity(0, {int(core) for core in options.rest.split(",")})
        with tempfile.TemporaryDirectory() as folder:
            tokens, seconds = RUN[options.arm](job(options, Path(folder) / "run"))
        Path(options.result).write_text(json.dumps({"tokens": tokens, "seconds": seconds}))
        return
    load, arms = os.getloadavg()[0], chosen(options)
    runs: dict[str, list[dict[str, float]]] = {arm: [] for arm in arms}
    for repeat in range(options.repeats):
        for arm in arms if repeat % 2 == 0 else reversed(arms):
            runs[arm].append(one_run(arm, options))
            print(arm, runs[arm][-1], file=sys.stderr)
    report(options, load, runs)


if __name__ == "__main__":
    main()
