"""What the learned tables are asked for."""

from __future__ import annotations

import pytest
from simulated import arm

from apportion.difficulty.table import COVERAGE
from apportion.scheduler.labels import chooses


@pytest.mark.parametrize(
    ("objective", "select", "kind"),
    [
        ("accuracy", "max_score", "max_score"),
        ("accuracy", "hierarchical", "weighted"),
        ("accuracy", "borda", "majority"),
        ("coverage", "hierarchical", COVERAGE),
    ],
)
def test_a_selector_without_curves_is_taken_for_the_nearest_that_has_them(
    objective: str, select: str, kind: str
) -> None:
    assert chooses(objective, arm(select=select)) == kind
