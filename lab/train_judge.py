"""Train the generative verifier: `python -m apportion.lab.train_judge [--work FOLDER]`.

It starts from a comparison of every token with what the small policy expected (see `judge`) and reads the samples that
the reward model was trained on, as many with the right answer as without. It learns to answer a solution with `Yes` or
`No`, and, which teaches faster, what it would say at every token before the end. Only the last layer and the head are
trained. A checkpoint in the work folder is resumed from.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import Qwen2ForCausalLM

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.batches import IGNORED, Batch, grouped, padded
from apportion.lab.judge import NO, YES, export_judge, is_right, judge_text, start_judge, verdict_tokens
from apportion.lab.judging import evaluate
from apportion.lab.paths import lab_path
from apportion.lab.prm_data import Labelled
from apportion.lab.runs import (
    CHECKPOINT_SECONDS,
    Log,
    Progress,
    load_checkpoint,
    load_moments,
    mixed_precision,
    moments,
    run_arguments,
    save_checkpoint,
    write_judged,
)
from apportion.lab.tokenizer import EOS, PAD, token_id
from apportion.lab.train import Recipe
from apportion.lab.train_prm import RECIPE as PRM_RECIPE
from apportion.lab.train_prm import Top, agreed_tokens, training_samples

RECIPE: Final = Recipe(
    seed=4, steps=1300, batch_tokens=4096, lr=1e-3, ramp_steps=0, decay_steps=1300, warmup_steps=10, weight_decay=0.0
)


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids of a question and its verdict; where the solution starts, where it goes wrong, where the verdict is."""

    ids: tuple[int, ...]
    start: int
    agreed: int
    verdict: int


def balanced(samples: list[Labelled], rng: random.Random) -> list[Labelled]:
    """All samples with the right answer and as many without."""
    right = [sample for sample in samples if is_right(sample)]
    wrong = [sample for sample in samples if not is_right(sample)]
    size = min(len(right), len(wrong))
    return rng.sample(right, size) + rng.sample(wrong, size)


def row_of(tokenizer: Tokenizer, sample: Labelled) -> Row:
    """A sample as it is trained on."""
    ids, start, agreed = agreed_tokens(tokenizer, sample, lambda problem, steps: judge_text(problem, "\n".join(steps)))
    verdict = tokenizer.encode(f"{YES if is_right(sample) else NO}{EOS}").ids
    return Row((*ids, *verdict), start, agreed, len(ids))


def targets_of(row: Row, yes: int, no: int) -> list[int]:
    """What each token of a row but the last should be followed by: the verdict, and before it what it would be.

    The token that ends the question is followed by the real verdict, all others of the solution by whether all of it
    agrees so far.
    """
    before = [IGNORED] * row.start
    so_far = [yes if place < row.agreed else no for place in range(row.start, row.verdict - 1)]
    return [*before, *so_far, *row.ids[row.verdict :]]


def judge_batches(rows: list[Row], tokenizer: Tokenizer, batch_tokens: int, rng: random.Random) -> Iterator[Batch]:
    """One epoch, rows of like length together, in random order."""
    yes, no = verdict_tokens(tokenizer)
    pad = token_id(tokenizer, PAD)
    order = sorted(rows, key=lambda row: (len(row.ids), rng.random()))
    for group in grouped(order, lambda row: len(row.ids), batch_tokens, rng):
        targets = padded([targets_of(row, yes, no) for row in group], IGNORED)
        yield Batch(padded([row.ids[:-1] for row in group], pad), targets)


def loss_of(model: Qwen2ForCausalLM, batch: Batch, newline: int) -> torch.Tensor:
    """Cross-entropy of the verdict, which is what is read later, and of all else, which teaches faster."""
    with mixed_precision():
        hidden = model.model(input_ids=batch.tokens, use_cache=False).last_hidden_state
        wanted = batch.targets != IGNORED
        logits = model.lm_head(hidden[wanted])
    losses = F.cross_entropy(logits.float(), batch.targets[wanted], reduction="none")
    last = _last_newline(batch.tokens, newline)[wanted]
    return losses[last].mean() + losses.mean()


def _last_newline(tokens: torch.Tensor, newline: int) -> torch.Tensor:
    """A mask of the last newline of each row, where the verdict is asked for."""
    is_newline = tokens == newline
    after = is_newline.flip(1).cumsum(1).flip(1)
    return is_newline & (after == 1)


def train(recipe: Recipe, work: Path) -> tuple[Qwen2ForCausalLM, dict[str, object]]:
    """The trained judge and a record of its training."""
    tokenizer = lab_tokenizer.build()
    samples = balanced(training_samples(PRM_RECIPE, work / "prm-samples.jsonl"), random.Random(recipe.seed))
    rows = [row_of(tokenizer, sample) for sample in samples]
    model = start_judge(lab_path("lab:small"), recipe.seed, *verdict_tokens(tokenizer), attention="lab_causal")
    top, progress, kept = Top(model, "lm_head", recipe), Progress(), work / "judge"
    if (found := load_checkpoint(kept, recipe)) is not None:
        weights, state, stands = found
        model.load_state_dict(weights, strict=False)
        load_moments(top.optimizer, state)
        progress = Progress(**stands)
    newline = tokenizer.encode("\n").ids[0]
    log, saved = Log(progress), time.monotonic()
    seen = epoch = 0
    while progress.step < recipe.steps:
        order = random.Random(f"judge/{recipe.seed}/{epoch}")
        epoch += 1
        for batch in judge_batches(rows, tokenizer, recipe.batch_tokens, order):
            seen += 1
            if seen <= progress.step:
                continue
            if progress.step >= recipe.steps:
                break
            loss = loss_of(model, batch, newline)
            top.step(loss, progress.step)
            log.step(batch.tokens.numel(), loss)
            if time.monotonic() - saved > CHECKPOINT_SECONDS or progress.step == recipe.steps:
                save_checkpoint(kept, top.weights, moments(top.optimizer), progress, recipe)
                saved = time.monotonic()
    return model.eval(), {"recipe": asdict(recipe), "samples": len(samples), **asdict(progress)}


def main() -> None:
    """The command line."""
    arguments = run_arguments(__doc__)
    model, record = train(RECIPE, arguments.work)
    folder = lab_path("lab:judge")
    export_judge(model, folder)
    write_judged(folder, record, evaluate(folder))


if __name__ == "__main__":
    main()
