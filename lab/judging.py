"""How well the generative verifier tells right solutions from wrong ones, beside the reward model.

On the small policy's samples on calibration stories. A verdict is drawn as a job would at temperature 1; the mean of V
verdicts is a solution's score. The area under the ROC curve is given over all samples, where the judge must also know
which stories are hard, and as the mean over the stories that have right and wrong samples, which is what choosing an
answer needs.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.judge import is_right, judge_text, verdict_tokens
from apportion.lab.models import load_model
from apportion.lab.paths import lab_path
from apportion.lab.prm import Scorer
from apportion.lab.prm_data import Labelled
from apportion.lab.train_prm import held_out_samples

STORIES: Final = 300
VERDICTS: Final = (1, 4, 16)


@dataclass(frozen=True, slots=True)
class Judging:
    """`areas` maps a score's name to its area over all samples and within a story; `stories` have both kinds."""

    right: int
    wrong: int
    stories: int
    readable: float
    """probability that a verdict begins with Yes or No, mean over samples"""
    areas: dict[str, tuple[float, float]]


def area(right: Sequence[float], wrong: Sequence[float]) -> float:
    """Probability that a right one scores higher than a wrong one, ties counting half."""
    higher = torch.tensor(right)[:, None] - torch.tensor(wrong)[None, :]
    return float((higher > 0).double().mean() + (higher == 0).double().mean() / 2.0)


def within_stories(
    scores: Sequence[float], samples: Sequence[Labelled], right: Callable[[Labelled], bool]
) -> list[float]:
    """The area within each story that has right and wrong samples, by what `right` calls so."""
    by_story: dict[str, dict[bool, list[float]]] = {}
    for score, sample in zip(scores, samples, strict=True):
        by_story.setdefault(sample.problem, {True: [], False: []})[right(sample)].append(score)
    return [area(one[True], one[False]) for one in by_story.values() if one[True] and one[False]]


def areas(scores: Sequence[float], samples: Sequence[Labelled]) -> tuple[float, float, int]:
    """The area over all samples, the mean area within a story, and of how many stories."""
    both: dict[bool, list[float]] = {True: [], False: []}
    for score, sample in zip(scores, samples, strict=True):
        both[is_right(sample)].append(score)
    within = within_stories(scores, samples, is_right)
    return area(both[True], both[False]), sum(within) / len(within), len(within)


@torch.inference_mode()
def first_words(folder: Path, samples: Sequence[Labelled]) -> list[tuple[float, float]]:
    """Per sample the probabilities that the judge's answer begins as Yes and as No do."""
    model, tokenizer = load_model(folder), lab_tokenizer.build()
    words = list(verdict_tokens(tokenizer))
    found: list[tuple[float, float]] = []
    for sample in samples:
        ids = tokenizer.encode(judge_text(sample.problem, "\n".join(sample.steps))).ids
        yes, no = model(torch.tensor([ids])).logits[0, -1].softmax(dim=-1)[words].tolist()
        found.append((yes, no))
    return found


def evaluate(folder: Path, stories: int = STORIES) -> Judging:
    """Areas of the mean of some verdicts, of the probability of one, and of the reward model's last score."""
    samples = held_out_samples(stories)
    words = first_words(folder, samples)
    rng = random.Random("judge/held-out")
    scores = {
        f"{count} verdicts" if count > 1 else "1 verdict": [
            sum(rng.random() < yes / (yes + no) for _ in range(count)) / count for yes, no in words
        ]
        for count in VERDICTS
    }
    scores["probability of Yes"] = [yes / (yes + no) for yes, no in words]
    steps = Scorer(lab_path("lab:prm")).score([(sample.problem, sample.steps) for sample in samples])
    scores["lab:prm, last step"] = [one[-1] for one in steps]
    found = {name: areas(values, samples) for name, values in scores.items()}
    right = sum(map(is_right, samples))
    return Judging(
        right=right,
        wrong=len(samples) - right,
        stories=next(iter(found.values()))[2],
        readable=sum(yes + no for yes, no in words) / len(words),
        areas={name: (everywhere, within) for name, (everywhere, within, _) in found.items()},
    )
