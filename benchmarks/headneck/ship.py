"""Put the weights of a run into the package under a name: half precision, card completed, size checked.

python benchmarks/headneck/ship.py RUN NAME, after the head-and-neck run (docs/how-to/head-and-neck.md).
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from alice3d.weights.files import SHIPPED, find_weights, read_card, read_state, save_weights

MOST_BYTES = 8 * 2**20
ABOUT = {
    "licence": "MIT",
    "data": "OpenKBP head-and-neck planning CTs (ababier/open-kbp, MIT; scans from The Cancer Imaging Archive)",
    "citation": "Babier et al., OpenKBP, Medical Physics 48:5549-5561, 2021, doi:10.1002/mp.14845",
    "precision": "fp16",
}


def main(run: str, name: str) -> None:
    """Write `weights/NAME` from the matcher or encoder of a run folder."""
    path = find_weights(Path(run), "matcher", "encoder")
    kind = path.stem
    state = read_state(path)
    halved = {key: value.half() if value.dtype == torch.float32 else value for key, value in state.items()}
    worst = max(float((halved[key].float() - value).abs().max()) for key, value in state.items())
    written = save_weights(SHIPPED / name, kind, halved, {**read_card(path, kind), **ABOUT})
    size = written.stat().st_size
    assert size <= MOST_BYTES, f"{size} bytes are more than {MOST_BYTES}"
    print(f"{written.parent.name}/{written.name}: {size} bytes, no weight moved by more than {worst:.2g}")


if __name__ == "__main__":
    main(*sys.argv[1:])
