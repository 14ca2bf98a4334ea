"""Train the reviser: `python -m apportion.lab.train_reviser [--work FOLDER] [--threads N]`.

It starts as `lab:small` and goes on with that model's own wrong attempts in context (see `reviser_data`), in a context
twice as long. A checkpoint in the work folder is resumed from; rows and their order depend on the recipe alone.
"""

import argparse
import json
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from transformers import Qwen2ForCausalLM

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.models import SHAPES, export, load_model, new_model
from apportion.lab.paths import lab_path
from apportion.lab.reviser_data import attempts_of, make_row, row_batches
from apportion.lab.revisions import evaluate
from apportion.lab.train import (
    CHECKPOINT_SECONDS,
    LOG_STEPS,
    Optimizers,
    Recipe,
    learning_rate,
    load_checkpoint,
    loss_of,
    save_checkpoint,
)

POOL_STORIES: Final = 2048
# Enough that neighbours in length order differ by a token or two.


@dataclass(frozen=True, slots=True)
class ReviserRecipe:
    """How the reviser is trained: on `samples` attempts at each of `stories`; `optimizer` is as for the policies.

    From step `right_from` on, `right_share` of the rows with attempts have a right one last. Snell's recipe has none,
    and what is trained by it alone takes every attempt for wrong.
    """

    stories: int
    samples: int
    right_from: int
    right_share: float
    optimizer: Recipe


RECIPE: Final = ReviserRecipe(
    stories=8192,
    samples=16,
    right_from=1350,
    right_share=0.3,
    optimizer=Recipe(seed=5, steps=1510, batch_tokens=8192, lr=3e-3, ramp_steps=0, decay_steps=1000, warmup_steps=50),
)


def start_model() -> Qwen2ForCausalLM:
    """`lab:small` in the reviser's longer context, as it is trained."""
    model = new_model(SHAPES["reviser"], seed=0, attention="lab_causal")
    model.load_state_dict(load_model(lab_path("lab:small")).state_dict())
    return model


def train(recipe: ReviserRecipe, work: Path) -> Qwen2ForCausalLM:
    """Train to the recipe's end, with checkpoints at pool boundaries."""
    tokenizer = lab_tokenizer.build()
    seed = recipe.optimizer.seed
    tried = attempts_of(recipe.stories, recipe.samples, seed, work.parent / "reviser-attempts.jsonl")
    model = start_model()
    optimizers = Optimizers(model, recipe.optimizer)
    progress = load_checkpoint(work, model, optimizers)
    pools = len(tried) // POOL_STORIES
    saved = last = time.monotonic()
    running = 0.0
    while progress.step < recipe.optimizer.steps:
        rng = random.Random(f"reviser/{seed}/{progress.pool}")
        stories = tried[progress.pool % pools :: pools]
        right_share = recipe.right_share if progress.step >= recipe.right_from else 0.0
        rows = [make_row(one, tokenizer, rng, right_share) for one in stories]
        for batch in row_batches(rows, tokenizer, recipe.optimizer.batch_tokens, rng):
            if progress.step >= recipe.optimizer.steps:
                break
            loss = loss_of(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizers.step(learning_rate(recipe.optimizer, progress.step))
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
                print(f"step {progress.step} loss {mean:.4f} tokens {progress.tokens} {rate:.0f}/s", flush=True)
                running = 0.0
        progress.pool += 1
        if time.monotonic() - saved > CHECKPOINT_SECONDS or progress.step >= recipe.optimizer.steps:
            save_checkpoint(work, model, optimizers, progress)
            saved = time.monotonic()
    return model.eval()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("lab-work"), help="folder for attempts and checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = train(RECIPE, arguments.work / "reviser")
    folder = lab_path("lab:reviser")
    export(model, SHAPES["reviser"], folder)
    progress = json.loads((arguments.work / "reviser" / "progress.json").read_text())
    record = {"recipe": asdict(RECIPE), **progress, "threads": arguments.threads, "held_out": asdict(evaluate(folder))}
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
