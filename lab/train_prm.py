"""Train the process reward model: `python -m apportion.lab.train_prm [--work FOLDER]`.

It starts from a comparison of every token with what the small policy expected (see `prm_start`), reads that policy's
own samples on training stories, and learns at every step whether all steps so far are right. Only the last layer and
the head are trained. What it is judged on are samples on calibration stories.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.batches import grouped, padded
from apportion.lab.network import Network
from apportion.lab.paths import lab_path
from apportion.lab.prm import ProcessRewardModel, Scorer, export_prm, prm_text
from apportion.lab.prm_data import Labelled, agreement, draw_stories, labelled_samples
from apportion.lab.prm_start import PRM, start_model
from apportion.lab.runs import WEIGHTS, Log, Progress, kept_rows, mixed_precision, origin, run_arguments, write_judged
from apportion.lab.tokenizer import PAD, STEP, token_id
from apportion.lab.train import Recipe, learning_rate

TEMPERATURES: Final = ((0.8, 12), (1.0, 4))
# (temperature, samples of each story): mostly as the policy is used, some with more mistakes.

EXPORT_STEPS: Final = 300
THRESHOLD: Final = 0.5

Start = Callable[[Path, int, str], ProcessRewardModel]


@dataclass(frozen=True, slots=True)
class PrmRecipe:
    """How the reward model is trained, by AdamW, on `samples` of those drawn; `optimizer` is as for the policies."""

    stories: int
    samples: int
    held_out_stories: int
    optimizer: Recipe


RECIPE: Final = PrmRecipe(
    stories=7000,
    samples=16896,
    held_out_stories=200,
    optimizer=Recipe(
        seed=3,
        steps=600,
        batch_tokens=4096,
        lr=1e-3,
        ramp_steps=0,
        decay_steps=600,
        warmup_steps=10,
        weight_decay=0.0,
    ),
)


@dataclass(frozen=True, slots=True)
class ProcessBench:
    """Accuracy of finding the first wrong step, of passing right solutions, and their harmonic mean."""

    erroneous: int
    correct: int
    found: float
    passed: float
    f1: float
    threshold: float


def process_bench(scores: list[list[float]], samples: list[Labelled], threshold: float) -> ProcessBench:
    """ProcessBench F1: the predicted first wrong step is the first whose score is below the threshold."""
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for sample, steps in zip(samples, scores, strict=True):
        predicted = next((index for index, score in enumerate(steps) if score < threshold), None)
        hits[sample.first_wrong is None].append(predicted == sample.first_wrong)
    found = sum(hits[False]) / max(1, len(hits[False]))
    passed = sum(hits[True]) / max(1, len(hits[True]))
    f1 = 2 * found * passed / (found + passed) if found + passed else 0.0
    return ProcessBench(len(hits[False]), len(hits[True]), found, passed, f1, threshold)


def held_out_samples(count: int) -> list[Labelled]:
    """Labelled samples of the small policy on calibration stories."""
    network = Network.load(lab_path("lab:small"))
    stories = draw_stories(random.Random("prm/held-out"), "calibration", count)
    return labelled_samples(network, lab_tokenizer.build(), stories, 8, 0.8, seed=11)


def evaluate(folder: Path, count: int = RECIPE.held_out_stories, threshold: float = THRESHOLD) -> ProcessBench:
    """ProcessBench F1 of a shipped reward model on freshly sampled held-out solutions."""
    samples = held_out_samples(count)
    scores = Scorer(folder).score([(sample.problem, sample.steps) for sample in samples])
    return process_bench(scores, samples, threshold)


def training_samples(recipe: PrmRecipe, cache: Path) -> list[Labelled]:
    """Labelled samples of the small policy on training stories, drawn once and kept in the work folder."""
    made_from = origin(lab_path("lab:small") / WEIGHTS, recipe.stories, recipe.optimizer.seed, TEMPERATURES)
    rows = kept_rows(
        cache, made_from, lambda: [(one.problem, one.steps, one.solution, one.first_wrong) for one in _drawn(recipe)]
    )
    return [Labelled(problem, tuple(steps), solution, wrong) for problem, steps, solution, wrong in rows]


def _drawn(recipe: PrmRecipe) -> list[Labelled]:
    network = Network.load(lab_path("lab:small"))
    stories = draw_stories(random.Random(f"prm/{recipe.optimizer.seed}"), "train", recipe.stories)
    samples: list[Labelled] = []
    for index, (temperature, count) in enumerate(TEMPERATURES):
        samples += labelled_samples(network, lab_tokenizer.build(), stories, count, temperature, seed=1000 * index)
    return samples


def agreed_tokens(
    tokenizer: Tokenizer, sample: Labelled, text: Callable[[str, Sequence[str]], str] = prm_text
) -> tuple[list[int], int, int]:
    """A sample's token ids, where its solution starts in them, and up to where they are the true solution's.

    `text` makes what a model reads of a problem and its steps.
    """
    ids = tokenizer.encode(text(sample.problem, sample.steps)).ids
    truth = tokenizer.encode(text(sample.problem, sample.solution.split("\n"))).ids
    return ids, len(tokenizer.encode(f"{sample.problem}\n").ids), agreement(ids, truth)


def prm_batches(
    samples: list[Labelled], tokenizer: Tokenizer, batch_tokens: int, rng: random.Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """One epoch of (tokens, mask of the solutions, labels of the masked tokens in order).

    Every token of a solution is labelled, not only the step tags: the token at which a solution goes wrong tells the
    model far more than a tag some tokens later.
    """
    # Ties in length are broken at random, so that a prompt's samples do not share a batch.
    order = sorted(samples, key=lambda sample: (sum(map(len, sample.steps)) + len(sample.problem), rng.random()))
    rows = (agreed_tokens(tokenizer, sample) for sample in order)
    pad = token_id(tokenizer, PAD)
    for group in grouped(rows, lambda row: len(row[0]), batch_tokens, rng):
        tokens = padded([ids for ids, _, _ in group], pad)
        wanted = torch.zeros_like(tokens, dtype=torch.bool)
        labels: list[int] = []
        for index, (ids, start, agreed) in enumerate(group):
            wanted[index, start : len(ids)] = True
            labels += [1] * (agreed - start) + [0] * (len(ids) - agreed)
        yield tokens, wanted, torch.tensor(labels)


def loss_of(logits: torch.Tensor, labels: torch.Tensor, is_tag: torch.Tensor) -> torch.Tensor:
    """Cross-entropy at the step tags, which is what is read later, and at every token, which teaches faster."""
    return F.cross_entropy(logits[is_tag], labels[is_tag]) + F.cross_entropy(logits, labels)


class Top:
    """The last layer, the last norm and the head of a model, and AdamW on them.

    All else is held fixed, the comparison most of all.
    """

    def __init__(self, model: torch.nn.Module, head: str, recipe: Recipe) -> None:
        prefixes = (f"model.layers.{PRM.gathering}.", "model.norm.", f"{head}.")
        self.weights = {name: one for name, one in model.named_parameters() if name.startswith(prefixes)}
        self._all = list(self.weights.values())
        self._recipe = recipe
        self.optimizer = torch.optim.AdamW(self._all, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=recipe.weight_decay)
        model.requires_grad_(False)
        for one in self._all:
            one.requires_grad_(True)

    def step(self, loss: torch.Tensor, step: int) -> None:
        """One update, at the learning rate of this step."""
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._all, 1.0)
        self.optimizer.param_groups[0]["lr"] = learning_rate(self._recipe, step)
        self.optimizer.step()
        self.optimizer.zero_grad()


def train(recipe: PrmRecipe, work: Path, start: Start = start_model) -> tuple[ProcessRewardModel, dict[str, object]]:
    """The trained model and a record of its training; `start` makes its first weights."""
    tokenizer = lab_tokenizer.build()
    samples = training_samples(recipe, work / "prm-samples.jsonl")
    rng = random.Random(recipe.optimizer.seed)
    samples = rng.sample(samples, recipe.samples)
    model = start(lab_path("lab:small"), recipe.optimizer.seed, "lab_causal")
    top = Top(model, "score", recipe.optimizer)
    tag = token_id(tokenizer, STEP)
    progress = Progress()
    log = Log(progress)
    while progress.step < recipe.optimizer.steps:
        for tokens, wanted, labels in prm_batches(samples, tokenizer, recipe.optimizer.batch_tokens, rng):
            if progress.step >= recipe.optimizer.steps:
                break
            with mixed_precision():
                logits = model(tokens, wanted)
            loss = loss_of(logits.float(), labels, tokens[wanted] == tag)
            top.step(loss, progress.step)
            log.step(tokens.numel(), loss)
            if progress.step % EXPORT_STEPS == 0:
                export_prm(model, work / "prm")
    record = {
        "recipe": asdict(recipe),
        "samples": len(samples),
        "wrong_samples": sum(sample.first_wrong is not None for sample in samples),
        "tokens": progress.tokens,
        "seconds": round(progress.seconds, 1),
    }
    return model.eval(), record


def command(doc: str | None, name: str, recipe: PrmRecipe, start: Start = start_model, work: str = "lab-work") -> None:
    """The command line that trains, exports and judges the reward model of a name."""
    arguments = run_arguments(doc, work)
    model, record = train(recipe, arguments.work, start)
    folder = lab_path(name)
    export_prm(model, folder)
    write_judged(folder, record, evaluate(folder))


def main() -> None:
    """The command line."""
    command(__doc__, "lab:prm", RECIPE)


if __name__ == "__main__":
    main()
