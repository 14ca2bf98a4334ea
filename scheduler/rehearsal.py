"""A rehearsal: a policy plays on with a sample of the prompts, against futures drawn from its own beliefs.

Adaptive spending reaches more than any plan fixed today, because it learns on the way; only playing shows how much.
For each prompt of the cohort a truth is drawn from the belief (which answer is right, the pass rate), and candidates
from it, wrong ones by the Chinese restaurant process. Everything is seeded: the same state gives the same rehearsal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.belief import CONCENTRATIONS, collisions
from apportion.difficulty.evidence import Rows
from apportion.difficulty.grid import LOGIT, sigmoid
from apportion.scheduler.allocation import Allocation, Offer, Rest
from apportion.scheduler.outlook import Outlook
from apportion.types import Candidate, Draft, Finish

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COHORT = 400
"""Prompts that are played, with repeats where there are fewer: their mean is then known within a percent."""
AT_ONCE = 8
"""An eighth of the cohort buys before offers are looked at again, as a job with that many under way would."""
PRICED = 4
"""The price is solved again after purchases of a quarter of the cohort."""
MOST_ROUNDS = 2000
"""A rehearsal ends here at the latest, with what it has reached."""


class Cohort:
    """Some prompts with a drawn truth each. `active` are the prompts that may still buy; `share` how many times their
    number is played."""

    def __init__(self, outlook: Outlook, active: Ints) -> None:
        size = COHORT
        self.share = size / len(active)
        self.outlook = outlook.part(active[np.arange(size) * len(active) // size])
        self._rng = np.random.default_rng(outlook.problem.seed)
        difficulty = self.outlook.difficulty
        rows, belief = difficulty.belief(slice(0, size))
        joint = belief.joint.reshape(size, -1)
        # One stratum a prompt: prompts with equal beliefs then get truths spread evenly over them.
        level = (self._rng.permutation(size) + self._rng.random(size)) / size
        at = (np.cumsum(joint, axis=1) < level[:, None] * joint.sum(axis=1, keepdims=True)).sum(axis=1)
        hypothesis, rate = np.divmod(np.minimum(at, joint.shape[1] - 1), len(LOGIT))
        answers = belief.joint.shape[1] - 1
        self._right = ["right" if one == answers else str(one) for one in hypothesis.tolist()]
        self._logit = LOGIT[rate]
        sizes = collisions(rows.votes)[np.arange(size), hypothesis]
        chances = difficulty.world.prior[rate] * np.exp(sizes - sizes.max(axis=1, keepdims=True))
        place = self._rng.random(size)[:, None] * chances.sum(axis=1, keepdims=True)
        kind = (np.cumsum(chances, axis=1) < place).sum(axis=1)
        self._alpha = CONCENTRATIONS[np.minimum(kind, len(CONCENTRATIONS) - 1)]
        self._level = self._levels(rows, hypothesis)
        self._wrong: list[dict[str, float]] = [
            {str(slot): votes for slot, votes in enumerate(line) if votes > 0 and str(slot) != right}
            for line, right in zip(rows.votes.tolist(), self._right, strict=True)
        ]
        self._draft = Draft("", (), 1, Finish.END)

    def _levels(self, rows: Rows, hypothesis: Ints) -> Floats:
        """The level of each prompt's scores, drawn given its truth and the scores it has."""
        calibration = self.outlook.difficulty.world.calibration
        own = np.concatenate([rows.scored, np.zeros((len(hypothesis), 1))], axis=1)[
            np.arange(len(hypothesis)), hypothesis
        ]
        before = 1.0 / calibration.spread**2
        sure = before + rows.scored.sum(axis=1) / calibration.noise**2
        told = (rows.logit.sum(axis=1) - calibration.gap * own) / calibration.noise**2
        expected = calibration.center + calibration.slope * self._logit
        return np.asarray(self._rng.normal((before * expected + told) / sure, 1.0 / np.sqrt(sure)))

    def draw(self, prompt: int, arm: int, n: int) -> list[Candidate]:
        """n candidates of one arm. Those that share ancestors agree, as many as are worth one independent one."""
        difficulty = self.outlook.difficulty
        worth, calibration = float(difficulty.worth[arm]), difficulty.world.calibration
        passes = float(sigmoid(self._logit[prompt] + difficulty.world.lifts[arm]))
        verified = self.outlook.problem.arms[arm].scored
        draft = self._draft if worth == 1.0 else Draft("", (), 1, Finish.END, weight=worth)
        found: list[Candidate] = []
        independent = max(1, round(n * worth))
        for group in range(independent):
            right = bool(self._rng.random() < passes)
            answer = self._right[prompt] if right else self._wrong_answer(prompt)
            score = None
            if verified and answer is not None:
                logit = self._rng.normal(self._level[prompt] + calibration.gap * right, calibration.noise)
                score = float(sigmoid(logit))
            copies = n // independent + (group < n % independent)
            found += [Candidate("", 0, "", 0, draft, answer, score)] * copies
        return found

    def _wrong_answer(self, prompt: int) -> str | None:
        if self._rng.random() < self.outlook.difficulty.world.unparsed:
            return None
        tables, alpha = self._wrong[prompt], float(self._alpha[prompt])
        place = self._rng.random() * (sum(tables.values()) + alpha)
        for answer, seated in tables.items():
            place -= seated
            if place < 0.0:
                tables[answer] = seated + 1.0
                return answer
        answer = f"new {len(tables)}"
        tables[answer] = 1.0
        return answer


def rehearse(policy: Allocation, cohort: Cohort, budget: float) -> tuple[float, float]:
    """Mean gain a prompt in expected objective, and what all prompts together spend, of `budget` for all of them."""
    outlook = cohort.outlook
    everyone = np.arange(outlook.problem.prompts)
    outlook.update(everyone)
    before = float(outlook.now.mean())
    left = budget * cohort.share
    open_prompts: Sequence[int] = everyone.tolist()
    policy.reprice(left)
    idle, since = False, 0
    for _ in range(MOST_ROUNDS):
        outlook.update(np.array(open_prompts, dtype=np.int64))
        offers = [(prompt, policy.offer(prompt, left)) for prompt in open_prompts]
        open_prompts = [prompt for prompt, offer in offers if offer is not Rest.STOP]
        ready = sorted(((prompt, o) for prompt, o in offers if isinstance(o, Offer)), key=lambda one: -one[1].ratio)
        if not open_prompts or (idle and not ready):
            break
        idle = not ready
        for prompt, offer in ready[: max(1, len(everyone) // AT_ONCE)]:
            if offer.cost <= left:
                arm = next(option.arm for option in outlook.options if option.name == offer.purchase.arm)
                policy.observe(prompt, offer.purchase, cohort.draw(prompt, arm, offer.purchase.n), offer.cost)
                left -= offer.cost
                since += 1
        if idle or since * PRICED >= len(everyone):
            policy.reprice(left)
            since = 0
    outlook.update(everyone)
    return float(outlook.now.mean()) - before, budget - left / cohort.share
