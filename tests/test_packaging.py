"""The folders stand at the root and import as `apportion.<folder>`; nothing else may answer to our names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("actors", "configs", "difficulty", "lab", "policies", "scheduler")
HEAVY = ("ray", "torch", "transformers", "vllm")


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_links_packages_and_package_dir_agree() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for folder in FOLDERS:
        link = ROOT / "apportion" / folder
        assert link.is_symlink()
        assert os.readlink(link) == f"../{folder}"
    assert {entry.name for entry in (ROOT / "apportion").iterdir() if entry.is_symlink()} == set(FOLDERS)
    with_code = {"apportion", "apportion.commands"} | {
        f"apportion.{path.parent.relative_to(ROOT).as_posix().replace('/', '.')}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(setuptools["packages"]) == with_code
    # What is no link lies in apportion/ itself.
    expected = {name: name.removeprefix("apportion.").replace(".", "/") for name in with_code}
    expected["apportion.commands"] = "apportion/commands"
    assert setuptools["package-dir"] == expected


@pytest.mark.parametrize("module", ["apportion", "apportion.cli", "apportion.configs.build", "apportion.lab"])
def test_importing_brings_in_no_framework(module: str) -> None:
    code = f"import json, sys, {module}; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    ran = python("-c", code)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == []


def test_the_public_names_are_there() -> None:
    import apportion

    assert all(getattr(apportion, name) is not None for name in apportion.__all__)
    with pytest.raises(AttributeError, match="no attribute 'solv'"):
        apportion.solv  # noqa: B018


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_bare_import_of_a_folder_is_refused_by_lint(folder: str) -> None:
    snippet = ROOT / "scheduler" / "snippet.py"
    ran = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "TID251", "--stdin-filename", snippet, "-"],
        input=f"import {folder}\n",
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "TID251" in ran.stdout


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_users_own_folder_never_shadows_ours(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "__init__.py").write_text("raise SystemExit('the user\\'s own package was imported')\n")
    code = f"import apportion.{folder} as ours; print(ours.__name__, ours.__file__)"
    ran = python("-c", code, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"apportion.{folder} ")
    assert str(tmp_path) not in ran.stdout


def test_layers_import_one_way() -> None:
    """core <- difficulty, policies, actors <- scheduler <- command line; policies never sees actors."""
    forbidden = {
        "policies": ("apportion.actors", "apportion.scheduler", "apportion.configs", "apportion.difficulty"),
        "actors": ("apportion.scheduler", "apportion.configs", "apportion.difficulty"),
        "difficulty": ("apportion.actors", "apportion.configs"),
        "scheduler": ("apportion.cli", "apportion.commands"),
    }
    for folder, names in forbidden.items():
        for path in (ROOT / folder).rglob("*.py"):
            lines = path.read_text().splitlines()
            imports = [line.strip() for line in lines if line.strip().startswith(("import ", "from "))]
            for name in names:
                assert not [line for line in imports if name in line], f"{path} imports {name}"
