"""What the lab's trainings share: command line, progress, checkpoints, kept samples, and records beside the weights.

What a run goes on from is written whole or not at all, by rename; `progress.json` comes last and says that the rest is
there. What was made from another recipe, other weights or other data is not gone on from.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]

CHECKPOINT_SECONDS: Final = 120.0
LOG_STEPS: Final = 50
RECORD: Final = "training.json"
WEIGHTS: Final = "model.safetensors"


def run_arguments(doc: str | None, work: str = "lab-work", names: Sequence[str] = ()) -> argparse.Namespace:
    """The command line of a training, one of `names` where there are any; torch gets the threads it asks for."""
    parser = argparse.ArgumentParser(description=doc)
    if names:
        parser.add_argument("name", choices=names)
    parser.add_argument("--work", type=Path, default=Path(work), help="folder for samples and checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    return arguments


@dataclass
class Progress:
    """Where a run stands; what its checkpoint's JSON holds."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0


def mixed_precision() -> torch.autocast:
    """Multiplication in bfloat16 where the CPU has it; elsewhere, where that takes many times longer, in float32."""
    able = torch.cpu.get_capabilities()
    has = any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.autocast("cpu", torch.bfloat16, enabled=has)


class Log:
    """Counts the steps of a run in its progress, and prints the mean loss of every LOG_STEPS of them."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._last = time.monotonic()
        self._running = 0.0

    def step(self, tokens: int, loss: torch.Tensor) -> None:
        """One step on so many tokens is done."""
        now, progress = time.monotonic(), self._progress
        progress.step += 1
        progress.tokens += tokens
        progress.seconds += now - self._last
        self._last = now
        self._running += float(loss.detach())
        if progress.step % LOG_STEPS == 0:
            mean, rate = self._running / LOG_STEPS, progress.tokens / progress.seconds
            print(f"step {progress.step} loss {mean:.4f} tokens {progress.tokens} {rate:.0f}/s", flush=True)
            self._running = 0.0


def moments(optimizer: torch.optim.Optimizer) -> Tensors:
    """Every state tensor of an optimiser under a flat name."""
    return {
        f"{index}/{key}": value.clone()
        for index, entry in optimizer.state_dict()["state"].items()
        for key, value in entry.items()
    }


def load_moments(optimizer: torch.optim.Optimizer, flat: Mapping[str, torch.Tensor]) -> None:
    """Undo `moments`."""
    entries: dict[int, Tensors] = {}
    for name, value in flat.items():
        index, key = name.split("/")
        entries.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})


def save_checkpoint(work: Path, weights: Tensors, optimizer: Tensors, progress: Progress, recipe: Any) -> None:
    """Write weights and optimiser state, then the JSON that names them, each by rename; `recipe` is a dataclass."""
    work.mkdir(parents=True, exist_ok=True)
    for stem, tensors in (("weights", weights), ("optimizer", optimizer)):
        save_file({name: one.detach() for name, one in tensors.items()}, work / f"{stem}.part")
        (work / f"{stem}.part").rename(work / f"{stem}.safetensors")
    _write_whole(work / "progress.json", json.dumps({"recipe": asdict(recipe), **asdict(progress)}))


def load_checkpoint(work: Path, recipe: Any) -> tuple[Tensors, Tensors, dict[str, Any]] | None:
    """Weights, optimiser state and progress of a run of this recipe that was begun; None where there is none.

    Raises ValueError where a run of another recipe was begun.
    """
    if not (work / "progress.json").exists():
        return None
    progress = json.loads((work / "progress.json").read_text())
    if (begun := progress.pop("recipe", None)) != asdict(recipe):
        raise ValueError(f"{work} holds a run of another recipe: {begun}; remove it, or give another --work")
    return load_file(work / "weights.safetensors"), load_file(work / "optimizer.safetensors"), progress


def origin(*parts: object) -> str:
    """A short name for what something is made from; a path stands for what is in its file."""
    digest = hashlib.blake2b(digest_size=6)
    for part in parts:
        digest.update(part.read_bytes() if isinstance(part, Path) else repr(part).encode())
    return digest.hexdigest()


def kept_rows(cache: Path, made_from: str, draw: Callable[[], Sequence[Sequence[object]]]) -> list[list[Any]]:
    """Rows that are drawn once of an `origin` and kept as lines of JSON; tuples in them come back as lists."""
    cache = cache.with_stem(f"{cache.stem}-{made_from}")
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(cache, "".join(f"{json.dumps(row)}\n" for row in draw()))
    return [json.loads(line) for line in cache.read_text().splitlines()]


def _write_whole(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    part.rename(path)


def read_record(folder: Path) -> dict[str, Any]:
    """What the training script left in a model's folder."""
    record: dict[str, Any] = json.loads((folder / RECORD).read_text())
    return record


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Leave a training's record beside the weights."""
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")


def write_judged(folder: Path, record: Mapping[str, Any], found: Any) -> None:
    """Leave a training's record, with what was found on held-out stories, a dataclass, which is printed too."""
    write_record(folder, {**record, "held_out": asdict(found)})
    print(found)
