"""Names of lab assets: resolved from the package, whatever the working directory; importing stays light."""

import subprocess
import sys
from pathlib import Path

import pytest

from apportion.lab import LAB_NAMES, lab_path

MAX_LAB_MEGABYTES = 25


def test_every_name_resolves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in LAB_NAMES:
        path = lab_path(name)
        assert path.is_absolute()
        assert path.exists(), f"{name} is not at {path}"


def test_unknown_name_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'lab:smal' is no lab asset.*lab:large.*Did you mean 'lab:small'"):
        lab_path("lab:smal")


def test_import_is_light() -> None:
    code = (
        "import sys, apportion.lab; print([m for m in ('torch', 'transformers', 'ray', 'numpy') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_folder_stays_small() -> None:
    root = lab_path("lab:test").parents[1]
    files = [path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    total = sum(path.stat().st_size for path in files)
    assert total <= MAX_LAB_MEGABYTES * 1_000_000, f"lab/ holds {total / 1e6:.1f} MB"
