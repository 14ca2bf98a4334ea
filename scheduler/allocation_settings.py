"""The settings that each allocation policy takes, by its name: what may stand beside `allocation.policy`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apportion.scheduler.asc import AscSettings
from apportion.scheduler.binned import BinnedSettings
from apportion.scheduler.blend_asc import BlendSettings
from apportion.scheduler.calibration import CalibrationSettings
from apportion.scheduler.damani import DamaniSettings
from apportion.scheduler.elimination import EliminationSettings
from apportion.scheduler.esc import EscSettings
from apportion.scheduler.oracle import OracleSettings
from apportion.scheduler.price import PriceSettings
from apportion.scheduler.uniform import UniformSettings

SETTINGS: Mapping[str, type[Any]] = {
    "asc": AscSettings,
    "binned": BinnedSettings,
    "blend_asc": BlendSettings,
    "calibration": CalibrationSettings,
    "damani": DamaniSettings,
    "elimination": EliminationSettings,
    "esc": EscSettings,
    "oracle": OracleSettings,
    "price": PriceSettings,
    "uniform": UniformSettings,
}
