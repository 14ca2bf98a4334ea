"""Train a policy model from scratch: `python -m apportion.lab.train small|large [--work FOLDER] [--export]`.

The learning rate warms up, stays, and decays linearly to zero over the last part; short stories come first. Hidden
matrices are trained with Muon and everything else with AdamW. A checkpoint in the work folder is resumed from; data
order and initial weights depend on the recipe's seed alone.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import AttentionInterface, Qwen2ForCausalLM

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.batches import IGNORED, Batch, pool_batches
from apportion.lab.growing import grow
from apportion.lab.models import SHAPES, export, load_model, new_model
from apportion.lab.paths import lab_path
from apportion.lab.stories import MAX_OPS

CHECKPOINT_SECONDS: Final = 120.0
LOG_STEPS: Final = 50

SLOW_PACE: Final = 0.1
# For weights that are trained already and should rather be used than changed.


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one model is trained; `steps` optimiser steps of about `batch_tokens` tokens each."""

    seed: int
    steps: int
    batch_tokens: int
    lr: float
    ramp_steps: int
    decay_steps: int
    warmup_steps: int = 100
    weight_decay: float = 0.02
    grow_from: str | None = None


RECIPES: Final = {
    "small": Recipe(seed=1, steps=2400, batch_tokens=4096, lr=8e-3, ramp_steps=700, decay_steps=750),
    "large": Recipe(
        seed=2,
        steps=1150,
        batch_tokens=4096,
        lr=4e-3,
        ramp_steps=0,
        decay_steps=1000,
        warmup_steps=50,
        grow_from="small",
    ),
}


def _attend(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: None, **_: Any
) -> tuple[torch.Tensor, None]:
    # In float32 also under autocast: the CPU's bfloat16 backward pass is twice as slow.
    with torch.autocast("cpu", enabled=False):
        mixed = F.scaled_dot_product_attention(
            query.float(), key.float(), value.float(), is_causal=True, enable_gqa=True
        )
    return mixed.transpose(1, 2).contiguous(), None


AttentionInterface.register("lab_causal", _attend)


class Optimizers:
    """Muon on the hidden matrices and AdamW on the rest, with one learning rate; parameters named `slow` get less."""

    def __init__(self, model: torch.nn.Module, recipe: Recipe, slow: frozenset[str] = frozenset()) -> None:
        groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            matrix = parameter.ndim == 2 and "embed" not in name
            groups.setdefault((matrix, name in slow), []).append(parameter)
        matrices, rest = (
            [
                {"params": groups[kind, late], "pace": SLOW_PACE if late else 1.0}
                for late in (False, True)
                if (kind, late) in groups
            ]
            for kind in (True, False)
        )
        self.all: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.0),
            torch.optim.Muon(matrices, lr=recipe.lr, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"),
        ]

    def step(self, lr: float) -> None:
        """One update at this learning rate; gradients are cleared."""
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["lr"] = lr * group["pace"]
            optimizer.step()
            optimizer.zero_grad()

    def state(self) -> dict[str, torch.Tensor]:
        """Every state tensor under a flat name."""
        return {
            f"{which}/{index}/{key}": value.clone()
            for which, optimizer in enumerate(self.all)
            for index, entry in optimizer.state_dict()["state"].items()
            for key, value in entry.items()
        }

    def load(self, flat: dict[str, torch.Tensor]) -> None:
        """Undo `state`."""
        for which, optimizer in enumerate(self.all):
            entries: dict[int, dict[str, torch.Tensor]] = {}
            for name, value in flat.items():
                owner, index, key = name.split("/")
                if int(owner) == which:
                    entries.setdefault(int(index), {})[key] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})


def learning_rate(recipe: Recipe, step: int) -> float:
    """Warm up, hold, decay linearly to zero."""
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    left = min(1.0, (recipe.steps - step) / recipe.decay_steps)
    return recipe.lr * min(warm, left)


def loss_of(model: Qwen2ForCausalLM, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy over the solutions' tokens; logits are computed there only."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=batch.tokens, use_cache=False).last_hidden_state
        wanted = batch.targets != IGNORED
        logits = model.lm_head(hidden[wanted])
    return F.cross_entropy(logits.float(), batch.targets[wanted])


@dataclass
class Progress:
    """Where a run stands; what its checkpoint's JSON holds."""

    step: int = 0
    pool: int = 0
    tokens: int = 0
    stories: int = 0
    seconds: float = 0.0


def save_checkpoint(work: Path, model: Qwen2ForCausalLM, optimizers: Optimizers, progress: Progress) -> None:
    """Write weights and optimiser state, then the JSON that names them, each by rename."""
    work.mkdir(parents=True, exist_ok=True)
    weights = {name: weight for name, weight in model.state_dict().items() if name != "lm_head.weight"}
    for stem, tensors in (("weights", weights), ("optimizer", optimizers.state())):
        save_file(tensors, work / f"{stem}.part")
        (work / f"{stem}.part").rename(work / f"{stem}.safetensors")
    (work / "progress.part").write_text(json.dumps(asdict(progress)))
    (work / "progress.part").rename(work / "progress.json")


def load_checkpoint(work: Path, model: Qwen2ForCausalLM, optimizers: Optimizers) -> Progress:
    """Restore a run, or start one."""
    if not (work / "progress.json").exists():
        return Progress()
    model.load_state_dict(load_file(work / "weights.safetensors"), strict=False)
    optimizers.load(load_file(work / "optimizer.safetensors"))
    return Progress(**json.loads((work / "progress.json").read_text()))


def train(name: str, recipe: Recipe, work: Path) -> Qwen2ForCausalLM:
    """Train to the recipe's end, with checkpoints at pool boundaries."""
    model = new_model(SHAPES[name], recipe.seed, attention="lab_causal")
    if recipe.grow_from is not None:
        grow(load_model(lab_path(f"lab:{recipe.grow_from}")), model, recipe.seed)
    optimizers = Optimizers(model, recipe)
    progress = load_checkpoint(work, model, optimizers)
    tokenizer = lab_tokenizer.build()
    saved = last = time.monotonic()
    running = 0.0
    while progress.step < recipe.steps:
        max_ops = min(MAX_OPS, 2 + (MAX_OPS - 2) * progress.step // recipe.ramp_steps) if recipe.ramp_steps else MAX_OPS
        for batch in pool_batches(tokenizer, f"{name}/{recipe.seed}/{progress.pool}", max_ops, recipe.batch_tokens):
            if progress.step >= recipe.steps:
                break
            loss = loss_of(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizers.step(learning_rate(recipe, progress.step))
            now = time.monotonic()
            progress.step += 1
            progress.tokens += batch.tokens.numel()
            progress.stories += len(batch.tokens)
            progress.seconds += now - last
            last = now
            running += float(loss.detach())
            if progress.step % LOG_STEPS == 0:
                rate = progress.tokens / progress.seconds
                mean = running / LOG_STEPS
                print(
                    f"step {progress.step} ops<={max_ops} loss {mean:.4f} tokens {progress.tokens} {rate:.0f}/s",
                    flush=True,
                )
                running = 0.0
        progress.pool += 1
        if time.monotonic() - saved > CHECKPOINT_SECONDS or progress.step >= recipe.steps:
            save_checkpoint(work, model, optimizers, progress)
            saved = time.monotonic()
    return model.eval()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--work", type=Path, default=Path("lab-work"), help="folder for checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    name = arguments.name
    model = train(name, RECIPES[name], arguments.work / name)
    folder = lab_path(f"lab:{name}")
    export(model, SHAPES[name], folder)
    progress = json.loads((arguments.work / name / "progress.json").read_text())
    record = {"recipe": asdict(RECIPES[name]), **progress, "threads": arguments.threads}
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
