"""JSON that people can read: what fits on a line is on a line, and long lists of numbers fill lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

WIDTH = 110


def dumps(value: Any, indent: str = "") -> str:
    """`value` as JSON that reads back the same. Raises ValueError for NaN or infinity, which JSON does not have."""
    flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
    inner = indent + " "
    if len(indent) + len(flat) <= WIDTH or not value or not isinstance(value, Mapping | list | tuple):
        return flat
    if isinstance(value, Mapping):
        rows = [
            f"{inner}{json.dumps(str(name), ensure_ascii=False)}: {dumps(one, inner)}" for name, one in value.items()
        ]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if any(isinstance(one, Mapping | list | tuple) for one in value):
        return "[\n" + ",\n".join(inner + dumps(one, inner) for one in value) + f"\n{indent}]"
    return "[\n" + _filled([dumps(one) for one in value], inner) + f"\n{indent}]"


def _filled(items: list[str], indent: str) -> str:
    lines: list[str] = []
    line = ""
    for item in items:
        if line and len(indent) + len(line) + 2 + len(item) > WIDTH:
            lines.append(line)
            line = item
        else:
            line = f"{line}, {item}" if line else item
    return ",\n".join(indent + one for one in [*lines, line])
