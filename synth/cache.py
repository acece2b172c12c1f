"""What was found out once: small JSON files in `build/synth`, named by a digest of all that decides them."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def root() -> Path:
    """Where results are kept: `build/synth`, or the folder named by PROCRUSTES_SYNTH."""
    override = os.environ.get("PROCRUSTES_SYNTH")
    return Path(override).resolve() if override else ROOT / "build" / "synth"


def key(*parts: str) -> str:
    """Digest of texts, so that no two lists of texts have the same."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:".encode())
        digest.update(part.encode())
    return digest.hexdigest()[:32]


def load(name: str) -> Any | None:
    """What was stored under `name`; None if there is nothing, or nothing whole."""
    try:
        return json.loads((root() / f"{name}.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def store(name: str, value: Any) -> None:
    """Keep `value` under `name`; others see all of it or nothing."""
    folder = root()
    folder.mkdir(parents=True, exist_ok=True)
    handle, path = tempfile.mkstemp(dir=folder, suffix=".part")
    with os.fdopen(handle, "w") as file:
        json.dump(value, file)
    Path(path).replace(folder / f"{name}.json")
