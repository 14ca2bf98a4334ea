"""A response ends with the first of its arm's stop strings, however many requests it was written in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from apportion.policies import conformance
from apportion.policies.beam_search import BeamSearch
from apportion.policies.best_of_n import BestOfN
from apportion.policies.dvts import DiverseTrees
from apportion.policies.lookahead import Lookahead
from apportion.policies.particle_filter import ParticleFilter
from apportion.policies.qalign import QAlign
from apportion.policies.rebase import Rebase
from apportion.policies.rsd import RewardGuided
from apportion.policies.spec_reason import SpecReason
from apportion.policies.strategy import Strategy, needs_second
from apportion.types import Completion, Draft, Finish, Generate

SEPARATOR = conformance.SEPARATOR

STRATEGIES: list[Strategy] = [
    BeamSearch(width=2),
    BeamSearch(width=2, depth=2),
    DiverseTrees(width=2),
    Lookahead(width=2, k=2),
    ParticleFilter(),
    QAlign(chains=2),
    Rebase(),
    RewardGuided(),
    SpecReason(threshold=5),
]


@dataclass(slots=True)
class OneText(conformance.World):
    """A world in which a model writes nothing but one text, of which a token is a character."""

    text: str = ""

    def completion(self, request: Generate, seed: int) -> Completion:
        """The text from where the prefix ends, up to the first stop string in what is new."""
        if request.messages != conformance.task(1, verified=True).messages:
            return Completion("7", 1, Finish.END)
        assert self.text.startswith(request.prefix), f"{request.prefix!r} was never written"
        rest = self.text[len(request.prefix) :]
        ends = [at + len(stop) for stop in request.sampling.stop if (at := rest.find(stop)) >= 0]
        most = min([*ends, len(rest)])
        if most > request.sampling.max_tokens:
            return Completion(rest[: request.sampling.max_tokens], request.sampling.max_tokens, Finish.LENGTH)
        return Completion(rest[:most], most, Finish.STOP if ends else Finish.END)


def written(strategy: Strategy, text: str, stop: tuple[str, ...]) -> tuple[Draft, ...]:
    task = conformance.task(16, verified=True, second=needs_second(strategy))
    task = replace(task, sampling=replace(task.sampling, stop=stop))
    return conformance.drive(strategy, task, OneText(text=text))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda one: one.name)
@pytest.mark.parametrize(
    ("text", "stop"),
    [
        ("2 + 2 = 4\nAnswer: 4\nQ: what is 3 + 3?\nAnswer: 6\nQ: and", ("\nQ:",)),
        ("2 + 2 = 4\nAnswer: 4\n\nQ: what is 3 + 3?\nAnswer: 6", ("\n\n",)),
        ("2 + 2 = 4\nAnswer: 4 END\nmore\nAnswer: 6", ("END\n", "more")),
        ("2 + 2 = 4\nAnswer: 4 END\nmore\nAnswer: 6", ("more", "absent")),
        ("2 + 2 = 4\nAnswer: 4", ("absent",)),
    ],
)
def test_a_search_ends_where_one_request_would(strategy: Strategy, text: str, stop: tuple[str, ...]) -> None:
    whole = written(BestOfN(), text, stop)[0]
    for draft in written(strategy, text, stop):
        assert (draft.text, draft.tokens, draft.finish) == (whole.text, whole.tokens, whole.finish)
        assert draft.steps == whole.steps


@pytest.mark.parametrize(
    ("text", "stop", "last"),
    [
        ("2 + 2 = 4\nAnswer: 4\nQ: and", ("\nQ:",), "Answer: 4"),
        ("2 + 2 = 4\nAnswer: 4\nQ: and", ("Q:", "absent"), "Answer: 4"),
        ("2 + 2 = 4\n<answer>4</answer>\nQ: and", ("</answer>",), "<answer>4</answer>"),
        ("Q: and", ("Q:",), "Q:"),
    ],
)
def test_a_stop_string_is_no_step_of_its_own(text: str, stop: tuple[str, ...], last: str) -> None:
    """What a verifier says of it would be the response's score."""
    draft = written(BestOfN(), text, stop)[0]
    assert draft.steps[-1] == last
    assert draft.text.endswith(stop)
