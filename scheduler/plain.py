"""Values made fit for a file: text that UTF-8 can hold, numbers that JSON has; URLs without their secrets. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

_URL = re.compile(r"://[^\s'\"<>]+")
_CREDENTIALS = re.compile(r"(?<=://)(?:[^/:]*:.*|[^/]*)@")


def encodable(text: str) -> str:
    """Text as it is where UTF-8 can hold it; half a surrogate pair, which a model may write, as its escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def plain(value: Any) -> Any:
    """A copy for JSON and Parquet: every text `encodable`, and None for NaN and the infinities, which JSON lacks."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {plain(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def dumps(value: Any, indent: int | None = None) -> str:
    """A value as JSON that any reader takes, its text readable."""
    return json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def masked(text: str) -> str:
    """Text whose URLs have `***` for their user and password and for every value of their query."""
    return _URL.sub(lambda found: _masked_url(found.group()), text)


def _masked_url(url: str) -> str:
    address, mark, query = url.partition("?")
    address = _CREDENTIALS.sub("***@", address)
    if not mark:
        return address
    return f"{address}?" + "&".join(
        f"{part.partition('=')[0]}=***" if "=" in part else "***" for part in query.split("&")
    )
