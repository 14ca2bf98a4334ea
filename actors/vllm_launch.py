"""Starting vLLM in this process: from a model's row to an `AsyncLLM`, or to an error that says what to change.

vLLM runs the model in processes of its own and tells the one that started it only that they failed. So its log goes
to a file, from which the cause is read. What is not given is chosen so that a model starts: on a CPU, float32, no
compilation, and a key-value cache of a size of its own, since vLLM would take nearly all memory of the machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apportion.actors.describe import context_length, read_config
from apportion.actors.gpu_turn import turn_on_gpu
from apportion.actors.spec import ModelSpec, Role
from apportion.actors.vllm_args import OwnArgs, require_vllm
from apportion.actors.vllm_meter import BusyMeter
from apportion.actors.vllm_running import Running, cause_in
from apportion.actors.vllm_watch import Watch
from apportion.errors import ConfigError, ModelError

CPU_KV_BYTES = 2**30
# For each replica. Enough for hundreds of sequences of a small model; `kv_cache_memory_bytes` gives another size.

CPU_BLOCK = 32
# Tokens: what the CPU kernels like best. vLLM's 128 would leave the prefixes of short prompts uncached.

CPU_BATCH_TOKENS = 4096
# Tokens of a step: vLLM's own default for a CPU.

GPU_SHARE = 0.9
# Of a GPU's memory, as vLLM's default; a replica on a share of a GPU takes this part of its share.

NO_ROOM = re.compile(
    r"KV cache|max_model_len|out of memory|OutOfMemory|[Aa]vailable memory|Free memory|No available memory",
    re.IGNORECASE,
)
"""What vLLM says where a model, or a sequence of the asked length, does not fit."""


def launch(spec: ModelSpec, describing: Path, wanted: Mapping[str, Any]) -> Running:
    """Start vLLM on a model; `describing` holds its config.json, `wanted` are the arguments that its role needs.

    Raises ConfigError for arguments vLLM does not take, ModelError where the model is not there or does not fit.
    """
    require_vllm(spec)
    own, given = OwnArgs.split(spec)
    context = context_length(read_config(describing, spec.name), spec)
    folder = Path(tempfile.mkdtemp(prefix="apportion-vllm-"))
    log = folder / "vllm.log"
    meter = BusyMeter()
    try:
        watch = Watch()
        with turn_on_gpu(spec), _environment(spec), watch:
            chosen = _defaults(spec, given, context, _log_config(folder, log))
            llm = _start(spec, _joined(chosen, wanted, given), meter)
    except BaseException as error:
        cause = cause_in(log)
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, ConfigError | ModelError) or not isinstance(error, Exception):
            raise
        raise _refusal(spec, cause or f"{type(error).__name__}: {error}") from error
    return Running(spec, own, llm, meter, context, log, watch)


def _start(spec: ModelSpec, arguments: dict[str, Any], meter: BusyMeter) -> Any:
    from vllm.config import PoolerConfig
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    class Llm(AsyncLLM):
        """Shut down by `Running.close`, or by its own finalizer; its destructor fails where the interpreter ends."""

        def __del__(self) -> None:
            pass

    if isinstance(arguments.get("pooler_config"), Mapping):
        arguments["pooler_config"] = PoolerConfig(**arguments["pooler_config"])
    try:
        engine_args = AsyncEngineArgs(**arguments)
    except TypeError as error:
        raise ConfigError(f"models.{spec.name}.engine_args: vLLM does not take them: {error}") from error
    llm = Llm.from_engine_args(engine_args)
    llm.output_processor.process_outputs = _counting(llm.output_processor.process_outputs, meter)
    return llm


def _counting(process: Callable[..., Any], meter: BusyMeter) -> Callable[..., Any]:
    """vLLM's own handling of each step's outputs, which also tells the meter what the step processed.

    Its statistics would say as much, but are worked out for every sequence and step on a core the engine waits for.
    """

    def counted(outputs: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        read = sum([one.prefill_stats.num_computed_tokens for one in outputs if one.prefill_stats is not None])
        meter.processed(read + sum([len(one.new_token_ids) for one in outputs]))
        return process(outputs, *args, **kwargs)

    return counted


def _defaults(spec: ModelSpec, given: Mapping[str, Any], context: int, log_config: Path) -> dict[str, Any]:
    """The arguments that are chosen where they are not given."""
    from vllm.platforms import current_platform

    parallel = max(spec.tensor_parallel, int(spec.gpus))
    chosen: dict[str, Any] = {
        "model": spec.path,
        "max_model_len": context,
        "max_num_seqs": spec.max_batch,
        "tensor_parallel_size": parallel,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "log_config_file": str(log_config),
    }
    if max(spec.gpus, int(given.get("tensor_parallel_size", parallel))) > 1:
        # In an actor vLLM would otherwise ask Ray for GPUs beside those the replica already has.
        chosen["distributed_executor_backend"] = "mp"
    if 0.0 < spec.gpus < 1.0:
        chosen["gpu_memory_utilization"] = round(GPU_SHARE * spec.gpus, 3)
    if current_platform.is_cpu():
        chosen |= {
            "dtype": "float32",
            "enforce_eager": True,
            "block_size": CPU_BLOCK,
            "kv_cache_memory_bytes": CPU_KV_BYTES,
        }
        if spec.role is Role.POLICY:
            # A prompt that is run in parts draws a token that is thrown away, and vLLM cannot set a seeded CPU
            # generator back (0.32: "CPU Generator does not use offset"). So a batch must hold the longest prompt.
            chosen |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(context, CPU_BATCH_TOKENS)}
    return chosen


def _joined(chosen: Mapping[str, Any], wanted: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments: what is given rules, but what both give as mappings is joined."""
    joined = {**chosen, **wanted}
    for name, value in given.items():
        both = isinstance(value, Mapping) and isinstance(joined.get(name), Mapping)
        joined[name] = {**joined[name], **value} if both else value
    return joined


def _log_config(folder: Path, log: Path) -> Path:
    """A logging configuration that writes warnings and errors to `log`, and to the console what the user asks for."""
    console = os.environ.get("VLLM_LOGGING_LEVEL")
    handlers: dict[str, Any] = {
        "file": {"class": "logging.FileHandler", "filename": str(log), "level": "WARNING", "formatter": "plain"}
    }
    if console:
        handlers["console"] = {"class": "logging.StreamHandler", "level": console.upper(), "formatter": "plain"}
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(levelname)s %(asctime)s [%(process)d] %(message)s"}},
        "handlers": handlers,
        "loggers": {"vllm": {"handlers": list(handlers), "level": (console or "WARNING").upper(), "propagate": False}},
    }
    path = folder / "logging.json"
    path.write_text(json.dumps(config))
    return path


@contextmanager
def _environment(spec: ModelSpec) -> Iterator[None]:
    """What vLLM's processes read from their environment while they start; the user's own values stay.

    vLLM binds a CPU engine's threads to cores of its choice, the same for every engine of a machine.
    """
    wanted = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(max(1, int(spec.cpus)))}
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def _refusal(spec: ModelSpec, cause: str) -> ModelError:
    """The error of a model that did not start, with what to do about it."""
    said = " ".join(cause.split())
    if NO_ROOM.search(said):
        advice = (
            "it does not fit: lower engine_args.max_model_len or max_batch, raise engine_args.gpu_memory_utilization "
            "(on a CPU engine_args.kv_cache_memory_bytes), or split it over more GPUs with tensor_parallel"
        )
    else:
        advice = f"check engine_args and that vLLM supports the model: `vllm serve {spec.path}` says more"
    return ModelError(f"models.{spec.name}: vLLM does not start {spec.path!r}: {said}. {advice}")
