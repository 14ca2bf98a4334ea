"""Train a policy model from scratch: `python -m apportion.lab.train small|large [--work FOLDER] [--threads N]`.

The learning rate warms up, stays, and decays linearly to zero over the last part; short stories come first. Hidden
matrices are trained with Muon and everything else with AdamW. A checkpoint in the work folder is resumed from; data
order and initial weights depend on the recipe's seed alone.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, Qwen2ForCausalLM

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.batches import IGNORED, Batch, pool_batches
from apportion.lab.growing import grow
from apportion.lab.models import SHAPES, export, load_model, new_model, stored_weights
from apportion.lab.paths import lab_path
from apportion.lab.runs import (
    CHECKPOINT_SECONDS,
    Log,
    Progress,
    Tensors,
    load_checkpoint,
    load_moments,
    mixed_precision,
    moments,
    run_arguments,
    save_checkpoint,
    write_record,
)
from apportion.lab.stories import MAX_OPS

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

    def state(self) -> Tensors:
        """Every state tensor under a flat name."""
        states = enumerate(map(moments, self.all))
        return {f"{which}/{name}": value for which, state in states for name, value in state.items()}

    def load(self, flat: Tensors) -> None:
        """Undo `state`."""
        for which, optimizer in enumerate(self.all):
            own = f"{which}/"
            state = {name.removeprefix(own): value for name, value in flat.items() if name.startswith(own)}
            load_moments(optimizer, state)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Warm up, hold, decay linearly to zero."""
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    left = min(1.0, (recipe.steps - step) / recipe.decay_steps)
    return recipe.lr * min(warm, left)


def loss_of(model: Qwen2ForCausalLM, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy over the solutions' tokens; logits are computed there only."""
    with mixed_precision():
        hidden = model.model(input_ids=batch.tokens, use_cache=False).last_hidden_state
        wanted = batch.targets != IGNORED
        logits = model.lm_head(hidden[wanted])
    return F.cross_entropy(logits.float(), batch.targets[wanted])


@dataclass
class PoolProgress(Progress):
    """Where a run that reads pool after pool stands."""

    pool: int = 0
    stories: int = 0


def fit(
    model: Qwen2ForCausalLM, recipe: Recipe, work: Path, pool_of: Callable[[PoolProgress], Iterable[Batch]]
) -> tuple[Qwen2ForCausalLM, PoolProgress]:
    """Train to the recipe's end on one pool of batches after the other, with checkpoints at their boundaries."""
    optimizers, progress = Optimizers(model, recipe), PoolProgress()
    if (found := load_checkpoint(work, recipe)) is not None:
        weights, state, stands = found
        model.load_state_dict(weights, strict=False)
        optimizers.load(state)
        progress = PoolProgress(**stands)
    log, saved = Log(progress), time.monotonic()
    while progress.step < recipe.steps:
        for batch in pool_of(progress):
            if progress.step >= recipe.steps:
                break
            loss = loss_of(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizers.step(learning_rate(recipe, progress.step))
            progress.stories += len(batch.tokens)
            log.step(batch.tokens.numel(), loss)
        progress.pool += 1
        if time.monotonic() - saved > CHECKPOINT_SECONDS or progress.step >= recipe.steps:
            save_checkpoint(work, stored_weights(model), optimizers.state(), progress, recipe)
            saved = time.monotonic()
    return model.eval(), progress


def train(name: str, recipe: Recipe, work: Path) -> tuple[Qwen2ForCausalLM, PoolProgress]:
    """The trained policy, and how far its run came."""
    model = new_model(SHAPES[name], recipe.seed, attention="lab_causal")
    if recipe.grow_from is not None:
        grow(load_model(lab_path(f"lab:{recipe.grow_from}")), model, recipe.seed)
    tokenizer = lab_tokenizer.build()

    def pool_of(progress: PoolProgress) -> Iterator[Batch]:
        max_ops = min(MAX_OPS, 2 + (MAX_OPS - 2) * progress.step // recipe.ramp_steps) if recipe.ramp_steps else MAX_OPS
        return pool_batches(tokenizer, f"{name}/{recipe.seed}/{progress.pool}", max_ops, recipe.batch_tokens)

    return fit(model, recipe, work, pool_of)


def main() -> None:
    """The command line."""
    arguments = run_arguments(__doc__, names=sorted(RECIPES))
    name = arguments.name
    model, progress = train(name, RECIPES[name], arguments.work / name)
    folder = lab_path(f"lab:{name}")
    export(model, SHAPES[name], folder)
    write_record(folder, {"recipe": asdict(RECIPES[name]), **asdict(progress), "threads": arguments.threads})


if __name__ == "__main__":
    main()
