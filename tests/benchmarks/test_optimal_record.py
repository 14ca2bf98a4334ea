"""What optimal_record.py records: every arm of the config, as much of it as is bought at once."""

from __future__ import annotations

import optimal_record

from apportion.configs.build import load_job


def test_every_arm_is_recorded_by_its_amounts_or_its_samples() -> None:
    spec, found = load_job(optimal_record.CONFIG, []), optimal_record.jobs(None)
    assert {name for name, _ in found} == {arm.name for arm in spec.arms}
    assert len(set(found)) == len(found)
    assert [n for name, n in found if name == "beam"] == [4, 16, 64]
    assert [n for name, n in found if name == "genrm"] == [4, 16]
    assert [n for name, n in found if name in ("vote", "large", "greedy")] == [spec.calibration.samples, 16, 1]
