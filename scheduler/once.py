"""What a recorded purchase paid for its prompt, told apart from what it paid for its responses.

Engines keep a prompt that they have read: one response of sixteen costs more than a sixteenth of them all. This is told
for samples of one policy, verified or not; an endpoint is paid for the prompt with every response.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from apportion.costs import attended
from apportion.policies.arm import Arm
from apportion.policies.strategy import draws_independently
from apportion.scheduler.assemble import Prepared
from apportion.scheduler.journal import read_replies
from apportion.scheduler.outputs import JOURNAL
from apportion.types import Generated

Row = dict[str, Any]
Bought = tuple[int, int]
"""Prompt and number of the purchase."""

KEPT = 0.5
"""A prompt of which less than this share was read had been kept from an earlier purchase."""

PROMPT_COLUMNS = ("prompt_tokens", "prompt_flops")


@dataclass(slots=True)
class _Read:
    """Tokens of a purchase: of prompts that its policy read, all that its verifier read, and by response."""

    policy: int = 0
    verifier: int = 0
    written: dict[str, int] = field(default_factory=dict)

    def of_prompts(self, model: str, arm: Arm) -> int:
        """Tokens of prompts that a model read, or about so many; a verifier reads equal responses once."""
        return self.policy if model == arm.policy else self.verifier - sum(self.written.values())


def part_prompts(rows: Sequence[Row], prepared: Prepared, place: Mapping[str, int]) -> None:
    """Take what reading prompts cost out of `cost_tokens` and `cost_flops`, and write it into PROMPT_COLUMNS.

    `rows` are candidates as candidates.parquet has them; `place` numbers the job's prompts. What a purchase paid, with
    the prompt unless it was kept from an earlier one, stays what it is: the columns say what it costs an arm alone.
    """
    arms = {arm.name: arm for arm in prepared.spec.arms if _parts(arm, prepared)}
    purchases: dict[Bought, list[Row]] = defaultdict(list)
    for row in rows:
        row |= dict.fromkeys(PROMPT_COLUMNS)
        if row["arm"] in arms:
            purchases[place[row["prompt_id"]], row["purchase"]].append(row)
    read = _read(prepared, purchases)
    for bought, own in purchases.items():
        arm, whole, paid = arms[own[0]["arm"]], np.zeros(2), np.zeros(2)
        for name in (arm.policy, arm.verifier):
            if name is not None:
                length = int(prepared.prompt_tokens[name][bought[0]])
                flops = float(prepared.meter.profiles[name].flops(length, attended(0, length)))
                whole += (length, flops)
                # An engine has kept all of a prompt or nothing.
                paid += (length, flops) if read[bought].of_prompts(name, arm) > KEPT * length else (0.0, 0.0)
        for row in own:
            shares = np.array([row["cost_tokens"], row["cost_flops"]]) - paid / len(own)
            row["cost_tokens"], row["cost_flops"] = np.maximum(0.0, shares).tolist()
            row["prompt_tokens"], row["prompt_flops"] = whole.tolist()


def _parts(arm: Arm, prepared: Prepared) -> bool:
    shares = not prepared.meter.profiles[arm.policy].prompt_each
    return shares and arm.second is None and draws_independently(arm.strategy)


def _read(prepared: Prepared, purchases: Mapping[Bought, Sequence[Row]]) -> Mapping[Bought, _Read]:
    found: dict[Bought, _Read] = defaultdict(_Read)
    for name, reply in read_replies(prepared.spec.output / JOURNAL):
        bought = (name.prompt, name.purchase)
        if bought in purchases:
            if isinstance(reply, Generated):
                found[bought].policy += reply.usage.prompt_tokens
                found[bought].written |= {one.text: one.tokens for one in reply.completions}
            else:
                found[bought].verifier += reply.usage.prompt_tokens
    return found
