"""How well the reviser revises: `python -m apportion.lab.revisions` judges it and notes the figures beside its weights.

Chains of five attempts at calibration stories, each with the last four in context, as the strategy `revise` writes them
at temperature 0.8.
"""

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import torch
from tokenizers import Tokenizer

from apportion.lab import tokenizer as lab_tokenizer
from apportion.lab.models import SAMPLING_TEMPERATURE, SHAPES
from apportion.lab.network import Network
from apportion.lab.paths import lab_path
from apportion.lab.prm_data import draw_stories
from apportion.lab.record_pool import parse_answer
from apportion.lab.reviser_data import MAX_ATTEMPTS
from apportion.lab.runs import read_record, write_judged
from apportion.lab.sampling import MAX_TOKENS, Completion, complete

STORIES: Final = 150
CHAINS: Final = 4
ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Revisions:
    """What happens along chains.

    `pass_at_1` is of each attempt, `alone` that of `lab:small` on the same stories. `lost` is the share of right
    attempts whose next one is wrong, `gained` that of wrong ones whose next one is right. `repeated` is the share of
    attempts after the first that say what the one before said. `worth` is how many independent attempts a chain's are
    worth, by the variance of its share of right ones within a story.
    """

    chains: int
    alone: float
    pass_at_1: tuple[float, ...]
    lost: float
    gained: float
    repeated: float
    worth: float


def judge(right: np.ndarray, texts: Sequence[Sequence[str]], alone: float, per_story: int) -> Revisions:
    """The figures of chains: `right` is [chains, attempts], `per_story` chains of one story after the other."""
    before, after = right[:, :-1], right[:, 1:]
    shares = right.mean(axis=1).reshape(-1, per_story)
    rates = right.reshape(len(shares), per_story, -1).mean(axis=1)
    # Of as many independent attempts as each place of a chain has, with its own pass rate.
    single = (rates * (1.0 - rates)).sum(axis=1).mean() / right.shape[1]
    return Revisions(
        chains=len(right),
        alone=alone,
        pass_at_1=tuple(float(rate) for rate in right.mean(axis=0)),
        lost=float(1.0 - after[before].mean()),
        gained=float(after[~before].mean()),
        repeated=float(np.mean([one == other for chain in texts for one, other in pairwise(chain)])),
        worth=float(single / ((per_story - 1) / per_story) / (shares.var(axis=1, ddof=1).mean())),
    )


def talk(problem: str, attempts: Sequence[Completion], tokenizer: Tokenizer) -> str:
    """A conversation but for its last newline: the latest attempts, as many as leave room for another."""
    left = SHAPES["reviser"].context - MAX_TOKENS - len(tokenizer.encode(problem).ids) - 1
    kept: list[str] = []
    for attempt in reversed(attempts[-MAX_ATTEMPTS:]):
        left -= attempt.tokens + 1
        if left < 0:
            break
        kept.append(attempt.text)
    return "\n".join([problem, *reversed(kept)])


def evaluate(folder: Path, stories: int = STORIES, chains: int = CHAINS) -> Revisions:
    """The reviser of a model folder on held-out stories."""
    drawn = draw_stories(random.Random("reviser/held-out"), "calibration", stories)
    tokenizer, network = lab_tokenizer.build(), Network.load(folder)
    tried: list[list[Completion]] = [[] for _ in range(stories * chains)]
    owners = [story for story in drawn for _ in range(chains)]
    for attempt in range(ATTEMPTS):
        talks = [talk(story.problem, attempts, tokenizer) for story, attempts in zip(owners, tried, strict=True)]
        written = complete(network, tokenizer, talks, 1, SAMPLING_TEMPERATURE, seed=1000 * attempt)
        for attempts, (done,) in zip(tried, written, strict=True):
            attempts.append(done)
    texts = [[done.text for done in attempts] for attempts in tried]
    right = np.array(
        [[parse_answer(text) == story.answer for text in chain] for story, chain in zip(owners, texts, strict=True)]
    )
    small = complete(
        Network.load(lab_path("lab:small")),
        tokenizer,
        [story.problem for story in drawn],
        chains,
        SAMPLING_TEMPERATURE,
        seed=0,
    )
    alone = [
        parse_answer(done.text) == story.answer for story, dones in zip(drawn, small, strict=True) for done in dones
    ]
    return judge(right, texts, float(np.mean(alone)), chains)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = lab_path("lab:reviser")
    write_judged(folder, read_record(folder), evaluate(folder))


if __name__ == "__main__":
    main()
