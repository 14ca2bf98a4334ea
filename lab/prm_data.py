"""Step-labelled samples of the small model, for training and judging the reward model.

A step is right while every line so far equals the story's own solution; from the first that differs on, all are wrong.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from apportion.lab.make_data import draw_mixed
from apportion.lab.network import Network
from apportion.lab.prm import split_steps
from apportion.lab.sampling import complete
from apportion.lab.stories import Split, Story


@dataclass(frozen=True, slots=True)
class Labelled:
    """A sampled solution and the true one; `first_wrong` is its first wrong step, None if there is none."""

    problem: str
    steps: tuple[str, ...]
    solution: str
    first_wrong: int | None

    def labels(self) -> list[int]:
        """1 for every step while all are right, 0 from the first wrong one on."""
        right = len(self.steps) if self.first_wrong is None else self.first_wrong
        return [1] * right + [0] * (len(self.steps) - right)


def agreement(one: Sequence[object], other: Sequence[object]) -> int:
    """How many of their first elements two sequences have alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))


def first_wrong_step(steps: Sequence[str], solution: str) -> int | None:
    """The first index at which `steps` leaves the true solution."""
    agreed = agreement(steps, solution.split("\n"))
    return agreed if agreed < len(steps) else None


def draw_stories(rng: random.Random, split: Split, count: int) -> list[Story]:
    """Stories with the datasets' mix of difficulties."""
    return [draw_mixed(rng, split) for _ in range(count)]


def labelled_samples(
    network: Network,
    tokenizer: Tokenizer,
    stories: list[Story],
    samples: int,
    temperature: float,
    seed: int,
) -> list[Labelled]:
    """Distinct complete solutions the model samples for each story, labelled."""
    completions = complete(network, tokenizer, [story.problem for story in stories], samples, temperature, seed)
    labelled: list[Labelled] = []
    for story, texts in zip(stories, completions, strict=True):
        for text in dict.fromkeys(done.text for done in texts if done.finished):
            steps = split_steps(text)
            if steps and steps[-1].startswith("Answer:"):
                labelled.append(
                    Labelled(story.problem, tuple(steps), story.solution, first_wrong_step(steps, story.solution))
                )
    return labelled
