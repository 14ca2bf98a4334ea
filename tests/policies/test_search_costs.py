"""What a search is predicted to cost is what it costs where responses are as long as expected and nothing repeats."""

from __future__ import annotations

import pytest
from even_world import PROMPT, check_prediction

from apportion.policies.beam_search import BeamSearch
from apportion.policies.dvts import DiverseTrees
from apportion.policies.lookahead import Lookahead
from apportion.policies.strategy import Lengths, Strategy


@pytest.mark.parametrize("n", [4, 16])
@pytest.mark.parametrize(
    "strategy",
    [
        BeamSearch(),
        BeamSearch(width="sqrt"),
        BeamSearch(depth=2),
        DiverseTrees(),
        DiverseTrees(width=2, depth=3),
        Lookahead(),
        Lookahead(k=0),
        Lookahead(k=3),
        Lookahead(k=9),
        Lookahead(k=2, depth=3),
    ],
    ids=str,
)
def test_prediction_is_what_is_paid(strategy: Strategy, n: int) -> None:
    check_prediction(strategy, n)


def test_a_step_ahead_of_long_responses_doubles_the_work() -> None:
    """N(k + 1), as the paper counts it, less what cannot be looked ahead of: the end."""
    lengths = Lengths(PROMPT, 4000.0, 100.0)
    plain = BeamSearch(depth=200).workload(16, lengths, verified=True)
    for k in (1, 3):
        ahead = Lookahead(depth=200, k=k).workload(16, lengths, verified=True)
        assert 0.95 * (k + 1) < ahead.completion_tokens / plain.completion_tokens < k + 1
