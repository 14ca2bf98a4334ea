"""The wheel that travels: the package that runs here, whole, named by its content, and installed without a network."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import apportion
from apportion.scheduler.submit_wheel import build_wheel, requirements

PACKAGE = Path(apportion.__file__).resolve().parent


def modules(folder: Path) -> set[str]:
    """Every Python file below a folder, as a path in it; links are followed as imports follow them."""
    found = set()
    for path in folder.iterdir():
        if path.is_dir() and path.name != "__pycache__":
            found.update(f"{path.name}/{name}" for name in modules(path))
        elif path.suffix == ".py":
            found.add(path.name)
    return found


def tiny(folder: Path, text: str) -> Path:
    (folder / "sub" / "__pycache__").mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text(text)
    (folder / "sub" / "data.json").write_text("{}")
    (folder / "sub" / "__pycache__" / "old.pyc").write_bytes(b"old")
    (folder / ".hidden").write_text("a secret")
    return folder


def test_all_modules_and_data_travel_and_the_wheel_installs_without_a_network(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path, "7f")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"apportion/{name}" for name in modules(PACKAGE)} <= names
    assert {"apportion/configs/quickstart.yaml", "apportion/lab/data/test.jsonl", "apportion/py.typed"} <= names
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-cache-dir", "--no-compile"]
    subprocess.run([*pip, f"--target={tmp_path / 'there'}", wheel], check=True, timeout=120)
    # What is installed without its source makes the same wheel.
    (tmp_path / "again").mkdir()
    assert build_wheel(tmp_path / "again", "7f", tmp_path / "there" / "apportion").name == wheel.name
    code = "import apportion.lab, importlib.metadata as m; print(apportion.__file__, m.version('apportion'))"
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code], env={"PYTHONPATH": str(tmp_path / "there")}, capture_output=True, text=True
    )
    where, version = ran.stdout.split()
    assert where == str(tmp_path / "there" / "apportion" / "__init__.py")
    assert re.fullmatch(rf"{re.escape(apportion.__version__)}\+[0-9a-f]{{12}}\.j7f", version)


def test_the_same_files_give_the_same_wheel_and_others_or_another_job_another_name(tmp_path: Path) -> None:
    package = tiny(tmp_path / "apportion", "a = 1\n")
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first = build_wheel(tmp_path / "one", "7f", package)
    second = build_wheel(tmp_path / "two", "7f", package)
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()
    # Ray installs wheels of one name for two jobs at once, each into the other's folder.
    assert build_wheel(tmp_path / "two", "80", package).name != first.name
    tiny(package, "a = 2\n")
    assert build_wheel(tmp_path / "two", "7f", package).name != first.name


def test_hidden_and_compiled_files_stay_behind(tmp_path: Path) -> None:
    names = zipfile.ZipFile(build_wheel(tmp_path, "7f", tiny(tmp_path / "apportion", ""))).namelist()
    packed = [name for name in names if name.startswith("apportion/")]
    assert packed == ["apportion/__init__.py", "apportion/sub/data.json"]


def test_what_apportion_requires_is_listed_without_its_extras() -> None:
    listed = requirements()
    assert any(line.startswith("ray[default]") for line in listed)
    assert not any("pytest" in line or "vllm" in line for line in listed)
