"""Even courses: as many candidates of one arm for every prompt, whatever its votes, as playbooks among the others.

What evidence says about a prompt is not always worth acting on: where mistakes repeat, agreement does not tell which
prompts can still be won, and a rule that was learned on few prompts stops on noise. An even course owes its pool
nothing but the choice of its arm, so that a policy which may take it is no worse than spending evenly on the best arm,
as far as labels tell which that is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from apportion.difficulty.fitted import is_search, search_size
from apportion.difficulty.playbook import SCORE_UNIT, Orders, Playbook, vote_steps
from apportion.difficulty.stopping import Grid, Tables, price_grid, solve_stopping
from apportion.difficulty.votes import Votes

DEAREST = 0.5
"""Critical price of the first step, of the highest in the grid; those of later steps fall with what was spent."""


def even_book(arm: str, most: int, votes: Votes, labelled: bool) -> Playbook:
    """Up to `most` candidates of an arm; of a search, one whole. `labelled`: votes choose, not the arm's selector."""
    steps = ((arm, search_size(arm)),) if is_search(arm) else vote_steps(arm, most)
    return Playbook(steps, votes, SCORE_UNIT, 0.0, labelled)


def even_tables(book: Playbook, orders: Orders, cost: Sequence[float]) -> Tables:
    """The tables of an even book over a pool's prompts. `cost` is of each step, in the budget's unit."""
    walks, each = orders.walks(book), np.asarray(cost, dtype=np.float64)
    prices = price_grid(each)
    rule = DEAREST * float(prices[-1]) * float(each[0]) / np.cumsum(each)
    return solve_stopping(walks, each, Grid.of(walks, book.unit), book.plurality, prices, rule)
