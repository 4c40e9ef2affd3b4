"""Digest: "algorithm:hex" (OCI image specification, descriptor.md, digests); chain IDs (layer.md)."""

import hashlib
import re
from collections.abc import Sequence

from stackctl.errors import InvalidInputError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def check_digest(text: str) -> str:
    """Return the text when it is a digest we can verify; raises InvalidInputError."""
    if not is_digest(text):
        raise InvalidInputError(f'"{text[:100]}" is not a digest', hint="expected sha256:<64 hex>")
    return text


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """Return the chain ID of every layer, lowest first: a layer's name including all below it."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(digest_of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)
