"""Names that MLflow takes: letters, digits, and ``_ - . : / space``, at most 250 of them."""

import hashlib
import posixpath
import re
from functools import lru_cache

_LONGEST = 250
_REFUSED = re.compile(r"[^\w.\-: /]")


@lru_cache(maxsize=100_000)
def store_key(key: str) -> str:
    """Return ``key`` as MLflow takes it, different keys staying different.

    A refused character becomes its code between dashes (``w[0]`` becomes ``w-5b-0-5d-``); a key
    that is no plain path (``a//b``, ``../a``) or is too long gets a hash of itself at the end.
    """
    safe = _REFUSED.sub(lambda match: f"-{ord(match[0]):x}-", key)
    plain = posixpath.normpath(f"/{safe}").lstrip("/")
    if plain == safe and len(safe) <= _LONGEST and not plain.startswith(".."):
        return safe
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{plain.lstrip('./')[: _LONGEST - 13]}-{digest}"
