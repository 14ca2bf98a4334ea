"""Train the process reward model: `python -m apportion.lab.train_prm [--work FOLDER]`.

It starts from a comparison of every token with what the small policy expected (see `prm_start`), reads that policy's
own samples on training stories, and learns at every step whether all steps so far are right. Only the last layer and
the head are trained. What it is judged on are samples on calibration stories.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.network import Network
from apportion.lab.paths import lab_path
from apportion.lab.prm import ProcessRewardModel, Scorer, export_prm, padded, prm_text
from apportion.lab.prm_data import Labelled, draw_stories, labelled_samples
from apportion.lab.prm_start import GATHERING, start_model
from apportion.lab.tokenizer import PAD, STEP, token_id
from apportion.lab.train import Recipe, learning_rate

TEMPERATURES: Final = ((0.8, 12), (1.0, 4))
# (temperature, samples of each story): mostly as the policy is used, some with more mistakes.

LOG_STEPS: Final = 50
THRESHOLD: Final = 0.5


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
    if cache.exists():
        rows = [json.loads(line) for line in cache.read_text().splitlines()]
        return [Labelled(problem, tuple(steps), solution, wrong) for problem, steps, solution, wrong in rows]
    network = Network.load(lab_path("lab:small"))
    stories = draw_stories(random.Random(f"prm/{recipe.optimizer.seed}"), "train", recipe.stories)
    samples: list[Labelled] = []
    for index, (temperature, count) in enumerate(TEMPERATURES):
        samples += labelled_samples(network, lab_tokenizer.build(), stories, count, temperature, seed=1000 * index)
    lines = [json.dumps([sample.problem, sample.steps, sample.solution, sample.first_wrong]) for sample in samples]
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text("".join(f"{line}\n" for line in lines))
    return samples


def agreed_tokens(tokenizer: Tokenizer, sample: Labelled) -> tuple[list[int], int, int]:
    """A sample's token ids, where its solution starts in them, and up to where they are the true solution's."""
    ids = tokenizer.encode(prm_text(sample.problem, sample.steps)).ids
    truth = tokenizer.encode(prm_text(sample.problem, sample.solution.split("\n"))).ids
    agreed = next(
        (place for place, (one, other) in enumerate(zip(ids, truth, strict=False)) if one != other),
        min(len(ids), len(truth)),
    )
    return ids, len(tokenizer.encode(f"{sample.problem}\n").ids), agreed


def prm_batches(
    samples: list[Labelled], tokenizer: Tokenizer, batch_tokens: int, rng: random.Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """One epoch of (tokens, mask of the solutions, labels of the masked tokens in order).

    Every token of a solution is labelled, not only the step tags: the token at which a solution goes wrong tells the
    model far more than a tag some tokens later.
    """
    # Ties in length are broken at random, so that a prompt's samples do not share a batch.
    order = sorted(samples, key=lambda sample: (sum(map(len, sample.steps)) + len(sample.problem), rng.random()))
    groups: list[list[tuple[list[int], int, int]]] = [[]]
    longest = 0
    for sample in order:
        row = agreed_tokens(tokenizer, sample)
        longest = max(longest, len(row[0]))
        if groups[-1] and longest * (len(groups[-1]) + 1) > batch_tokens:
            groups.append([])
            longest = len(row[0])
        groups[-1].append(row)
    rng.shuffle(groups)
    pad = token_id(tokenizer, PAD)
    for group in groups:
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


def trained_parameters(model: ProcessRewardModel) -> list[torch.nn.Parameter]:
    """The last layer, the last norm and the head; all else is held fixed, the comparison most of all."""
    model.requires_grad_(False)
    trained = [*model.model.layers[GATHERING:].parameters(), *model.model.norm.parameters(), *model.score.parameters()]
    for parameter in trained:
        parameter.requires_grad_(True)
    return trained


def train(
    recipe: PrmRecipe, work: Path, start: Callable[[Path, int, str], ProcessRewardModel] = start_model
) -> tuple[ProcessRewardModel, dict[str, object]]:
    """The trained model and a record of its training; `start` makes its first weights."""
    tokenizer = lab_tokenizer.build()
    samples = training_samples(recipe, work / "prm-samples.jsonl")
    rng = random.Random(recipe.optimizer.seed)
    samples = rng.sample(samples, recipe.samples)
    model = start(lab_path("lab:small"), recipe.optimizer.seed, "lab_causal")
    trained = trained_parameters(model)
    optimizer = torch.optim.AdamW(trained, betas=(0.9, 0.98), weight_decay=recipe.optimizer.weight_decay)
    tag = token_id(tokenizer, STEP)
    begun = time.monotonic()
    step = tokens_seen = 0
    running = 0.0
    while step < recipe.optimizer.steps:
        for tokens, wanted, labels in prm_batches(samples, tokenizer, recipe.optimizer.batch_tokens, rng):
            if step >= recipe.optimizer.steps:
                break
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(tokens, wanted)
            loss = loss_of(logits.float(), labels, tokens[wanted] == tag)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.param_groups[0]["lr"] = learning_rate(recipe.optimizer, step)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            tokens_seen += tokens.numel()
            running += float(loss.detach())
            if step % LOG_STEPS == 0:
                rate = tokens_seen / (time.monotonic() - begun)
                print(f"step {step} loss {running / LOG_STEPS:.4f} tokens {tokens_seen} {rate:.0f}/s", flush=True)
                running = 0.0
                if step % (6 * LOG_STEPS) == 0:
                    export_prm(model, work / "prm")
    record = {
        "recipe": asdict(recipe),
        "samples": len(samples),
        "wrong_samples": sum(sample.first_wrong is not None for sample in samples),
        "tokens": tokens_seen,
        "seconds": round(time.monotonic() - begun, 1),
    }
    return model.eval(), record


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("lab-work"), help="folder for samples and checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, record = train(RECIPE, arguments.work)
    folder = lab_path("lab:prm")
    export_prm(model, folder)
    result = evaluate(folder)
    (folder / "training.json").write_text(json.dumps({**record, "held_out": asdict(result)}, indent=2) + "\n")
    print(result)


if __name__ == "__main__":
    main()
