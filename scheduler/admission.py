"""Whether a purchase may begin beside those under way: where costs are not known well, part of the budget is held back.

Purchases of an arm whose costs nobody has seen take a part of the budget at most, until the first of them, its pilots,
have all ended: when they cost more than was guessed, enough is left to see them to their end, and when they cost less,
to share out. All pilots must have ended, as those that end first are the cheapest.

Purchases that go on for many steps show what they cost only near their end. If all that is left were committed to them,
and they cost a tenth more, many would be cut off shortly before; so some of it is kept until others have ended.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

from apportion.policies.arm import Arm
from apportion.policies.strategy import continues_text, extends_conversation

PILOTS = 32
PILOT_SHARE = 0.25
"""of what is left of the budget, for what an arm begins before its pilots have ended"""
LONG_SHARE = 0.75
"""of what is left, for all that is under way, where one more purchase of many steps is to begin"""


class Admission:
    """`known` says whether it was told beforehand what an arm costs."""

    def __init__(self, known: Callable[[str], bool]) -> None:
        self._known = known
        self._seen: set[str] = set()
        self._pilots: Counter[str] = Counter()
        """under way"""
        self._begun: Counter[str] = Counter()
        self._piloted: defaultdict[str, float] = defaultdict(float)
        """what was expected of all that an arm began before it was seen"""

    def admit(self, arm: Arm, cost: float, under_way: float, left: float) -> bool:
        """Whether a purchase that is expected to cost so much may begin now, beside others."""
        long = continues_text(arm.strategy) or extends_conversation(arm.strategy)
        if long and under_way + cost > LONG_SHARE * left:
            return False
        pilots = self._pilots[arm.name] and arm.name not in self._seen
        return not pilots or self._piloted[arm.name] + cost <= PILOT_SHARE * left

    def begin(self, arm: str, cost: float) -> bool:
        """A purchase begins; whether it is a pilot."""
        if arm in self._seen:
            return False
        if not self._pilots[arm] and self._known(arm):
            self._seen.add(arm)
            return False
        self._begun[arm] += 1
        self._piloted[arm] += cost
        pilot = self._begun[arm] <= PILOTS
        self._pilots[arm] += pilot
        return pilot

    def end(self, arm: str) -> bool:
        """A pilot ended; whether it was the last, so that what others cost is to be told anew."""
        self._pilots[arm] -= 1
        if self._pilots[arm]:
            return False
        self._seen.add(arm)
        return True
