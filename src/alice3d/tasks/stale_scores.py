"""Scores in a model's folder that are of weights which are no longer there."""

from __future__ import annotations

from pathlib import Path

from alice3d import console, files, outputs
from alice3d.weights.files import find_weights


def remove_stale_scores(folder: Path) -> list[str]:
    """Remove what `alice evaluate` made in a model's folder from other weights than those in it; files that it did not
    make stay.

    Args:
        folder: of a model whose weights have just been written.

    Returns:
        names of the folders of scores.
    """
    weights = files.file_sha256(find_weights(folder, "model"))
    gone = []
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
        marker = outputs.read_marker(inner)
        if marker is None or marker["kind"] != "evaluation":
            continue
        inputs = marker["settings"].get("inputs")
        if isinstance(inputs, dict) and inputs.get("model") != weights:
            outputs.remove(inner)
            gone.append(inner.name)
    if gone:
        console.say(f"Removed {', '.join(gone)}: scores of the model that was here before")
    return gone
