"""Train the reviser: `python -m apportion.lab.train_reviser [--work FOLDER] [--threads N]`.

It starts as `lab:small` and goes on with that model's own wrong attempts in context (see `reviser_data`), in a context
twice as long. A checkpoint in the work folder is resumed from; rows and their order depend on the recipe alone.
"""

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from transformers import Qwen2ForCausalLM

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.batches import POOL_STORIES, Batch
from apportion.lab.models import SHAPES, export, load_model, new_model
from apportion.lab.paths import lab_path
from apportion.lab.reviser_data import attempts_of, make_row, row_batches
from apportion.lab.revisions import evaluate
from apportion.lab.runs import run_arguments, write_judged
from apportion.lab.train import PoolProgress, Recipe, fit


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


def train(recipe: ReviserRecipe, work: Path) -> tuple[Qwen2ForCausalLM, PoolProgress]:
    """The trained reviser, and how far its run came."""
    tokenizer = lab_tokenizer.build()
    seed = recipe.optimizer.seed
    tried = attempts_of(recipe.stories, recipe.samples, seed, work.parent / "reviser-attempts.jsonl")
    pools = len(tried) // POOL_STORIES

    def pool_of(progress: PoolProgress) -> Iterator[Batch]:
        rng = random.Random(f"reviser/{seed}/{progress.pool}")
        stories = tried[progress.pool % pools :: pools]
        right_share = recipe.right_share if progress.step >= recipe.right_from else 0.0
        rows = [make_row(one, tokenizer, rng, right_share) for one in stories]
        return row_batches(rows, tokenizer, recipe.optimizer.batch_tokens, rng)

    return fit(start_model(), recipe.optimizer, work, pool_of)


def main() -> None:
    """The command line."""
    arguments = run_arguments(__doc__)
    model, progress = train(RECIPE, arguments.work / "reviser")
    folder = lab_path("lab:reviser")
    export(model, SHAPES["reviser"], folder)
    record = {"recipe": asdict(RECIPE), **asdict(progress), "threads": arguments.threads}
    write_judged(folder, record, evaluate(folder))


if __name__ == "__main__":
    main()
