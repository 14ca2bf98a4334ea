"""Choose what the grader is made of: `python -m apportion.lab.make_grader`.

It is `lab:large` and construction (see `grader`), built when it is asked for (see `made`), but for one number: from how
much surprise on a step is not kept. That is where, of samples of `lab:small` on training stories, the shares of right
steps kept and of wrong ones not kept have the largest sum. How well steps are graded is found on samples on calibration
stories.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from sklearn.metrics import roc_curve

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.grader import build, grade_text, grades
from apportion.lab.judging import area
from apportion.lab.models import load_model
from apportion.lab.network import Network
from apportion.lab.paths import lab_path
from apportion.lab.prm_data import Labelled, draw_stories, labelled_samples
from apportion.lab.runs import RECORD, run_arguments, write_judged, write_record
from apportion.lab.sampling import complete
from apportion.lab.train_prm import held_out_samples
from apportion.policies.spec_reason import SpecReason

SHIPPED: Final = lab_path("lab:large").parent / "grader" / RECORD
# What of the grader ships.

TEMPERATURE: Final = 0.8
HELD_OUT_STORIES: Final = 100
SOLVED: Final = 300
# Held-out stories of which steps are graded, and that are solved.


@dataclass(frozen=True, slots=True)
class GraderRecipe:
    """The training stories, and how many samples of each are read."""

    seed: int
    stories: int
    samples: int


RECIPE: Final = GraderRecipe(seed=8, stories=200, samples=4)


@dataclass(frozen=True, slots=True)
class Grading:
    """Shares of steps that are kept, of right ones and of the first wrong one of a sample, and the area under the ROC
    curve between the two; pass@1 on held-out stories, and that of `lab:large`.
    """

    right: int
    wrong: int
    right_kept: float
    wrong_kept: float
    area: float
    pass_at_1: float
    large: float


def questions(samples: Sequence[Labelled]) -> tuple[list[str], list[str]]:
    """What is asked about the right steps of the samples, and about the first wrong one of each."""
    right: list[str] = []
    wrong: list[str] = []
    for sample in samples:
        known = len(sample.steps) if sample.first_wrong is None else sample.first_wrong + 1
        for at in range(known):
            text = grade_text(sample.problem, sample.steps[: at + 1])
            (wrong if at == sample.first_wrong else right).append(text)
    return right, wrong


def doubtful_from(right: Sequence[float], wrong: Sequence[float]) -> float:
    """The surprise at which the shares of right steps below it and of wrong ones from it on have the largest sum."""
    is_wrong = np.repeat([0, 1], [len(right), len(wrong)])
    false, true, thresholds = roc_curve(is_wrong, [*right, *wrong])
    # The first threshold is infinite, and keeps all.
    return float(thresholds[1:][np.argmax((true - false)[1:])])


def chosen(recipe: GraderRecipe) -> dict[str, object]:
    """A record of what the grader is to be made of beside `lab:large`."""
    began = time.perf_counter()
    stories = draw_stories(random.Random(f"grader/{recipe.seed}"), "train", recipe.stories)
    network, tokenizer = Network.load(lab_path("lab:small")), lab_tokenizer.build()
    samples = labelled_samples(network, tokenizer, stories, recipe.samples, TEMPERATURE, recipe.seed)
    model = build(lab_path("lab:large"), 1.0)
    right, wrong = ([one.surprise for one in grades(model, texts)] for texts in questions(samples))
    return {
        "recipe": asdict(recipe),
        "right": len(right),
        "wrong": len(wrong),
        "doubtful": doubtful_from(right, wrong),
        "seconds": round(time.perf_counter() - began, 1),
    }


def pass_at_1(folder: Path, count: int) -> float:
    """Share of held-out stories that a sample of the policy solves."""
    stories = draw_stories(random.Random("grader/held-out"), "calibration", count)
    problems = [story.problem for story in stories]
    written = complete(Network.load(folder), lab_tokenizer.build(), problems, 1, TEMPERATURE, seed=11)
    ends = zip(stories, written, strict=True)
    return sum(texts[0].text.split("\n")[-1] == f"Answer: {story.answer}" for story, texts in ends) / count


def evaluate(folder: Path, count: int = HELD_OUT_STORIES) -> Grading:
    """How well steps are graded on held-out samples of `lab:small`, and stories solved."""
    model, keeps = load_model(folder), SpecReason().keeps
    right, wrong = (grades(model, texts) for texts in questions(held_out_samples(count)))
    return Grading(
        right=len(right),
        wrong=len(wrong),
        right_kept=sum(keeps(one.answer) for one in right) / len(right),
        wrong_kept=sum(keeps(one.answer) for one in wrong) / len(wrong),
        area=area([-one.surprise for one in right], [-one.surprise for one in wrong]),
        pass_at_1=pass_at_1(folder, SOLVED),
        large=pass_at_1(lab_path("lab:large"), SOLVED),
    )


def main() -> None:
    """The command line."""
    run_arguments(__doc__)
    folder = SHIPPED.parent
    folder.mkdir(exist_ok=True)
    record = chosen(RECIPE)
    write_record(folder, record)
    write_judged(folder, record, evaluate(lab_path("lab:grader")))


if __name__ == "__main__":
    main()
