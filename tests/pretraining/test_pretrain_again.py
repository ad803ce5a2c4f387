"""`alice pretrain` given again says that it is done; what cannot be trained is refused before anything is claimed;
`test_kills` cuts it short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from in_processes import SMALL, pretrain

from alice3d.errors import UserError
from alice3d.outputs import read_marker

OPTIONS = (
    "--steps 24 --batch 2 --crop 16 --checkpoint-every 5 --threads 1 --points 16 --candidates 32 "
    "--backbone-options.widths 4,6,8,12 --backbone-options.blocks 1,1,1 --options.decoder_width 12 "
    "--options.decoder_heads 2 --options.casa_heads 2 --options.prototypes 8 --options.hidden 8 --options.bottleneck 8"
)


def start(store: Path, out: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "alice3d.cli", "pretrain", str(store), str(out), *OPTIONS.split(), "--json"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def finish(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return out


@pytest.mark.slow
def test_done_is_said_and_other_settings_are_refused(tiny_store: Path, tmp_path: Path) -> None:
    first = finish(start(tiny_store, tmp_path / "run"))
    again = finish(start(tiny_store, tmp_path / "run"))
    assert first == again
    words = [sys.executable, "-m", "alice3d.cli", "pretrain", str(tiny_store), str(tmp_path / "run")]
    done = subprocess.run([*words, *OPTIONS.split(), "--seed", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "seed 0, this call has 1" in done.stderr
    assert done.stdout == ""


MAE = {"method": "mae", "options": {"decoder_width": 12, "decoder_heads": 2}}
SAM = {"method": "sam", "options": {"fine_width": 4, "coarse_width": 4}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mask_ratio": 0}, r"--mask-ratio: 0 of a crop's patches \(8\) hides none"),
        ({"mask_ratio": 0.01}, "take a larger --mask-ratio or --crop"),
        ({"mask_ratio": 0, **MAE}, "hides none"),
        ({"crop": 8}, r"--mask-ratio: 0.75 of a crop's patches \(1\) hides none.*take a larger --crop"),
        ({"accumulate": 2, "batch": 3}, r"--batch: 3 samples cannot be split equally over 1 process in 2 parts"),
        ({"options": {**SMALL["options"], "koleo_weight": 0.1}, "batch": 1}, "need 2 pairs at a time"),
        ({"options": {**SMALL["options"], "koleo_weight": 0.1}, "accumulate": 2}, "need 2 pairs at a time"),
        (
            {"options": {**SMALL["options"], "queue": 0}, "batch": 6, "accumulate": 2},
            "need 4 pairs in one forward pass of all processes, there would be 3; .* opposite; .* --options.queue 8",
        ),
    ],
)
def test_what_cannot_be_learnt_from_is_refused_before_the_folder_is_claimed(
    tiny_store: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        pretrain(tiny_store, tmp_path / "run", changes)
    assert not (tmp_path / "run").exists()


def test_torchrun_refuses_an_uneven_batch_before_the_folder_is_claimed(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match="--batch: 4 samples cannot be split equally over 3 processes"):
        pretrain(tiny_store, tmp_path / "run", {"batch": 4})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"options": {**SMALL["options"], "reconstruction_weight": 0}},
        {**MAE, "options": {**MAE["options"], "hidden_only": False}},  # type: ignore[dict-item]
        SAM,
    ],
)
def test_nothing_need_be_hidden_where_hidden_patches_do_not_count(
    tiny_store: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """And the same call again knows its own folder."""
    for _ in range(2):
        pretrain(tiny_store, tmp_path / "run", {**changes, "mask_ratio": 0, "steps": 1, "monitor_every": 0})
    marker = read_marker(tmp_path / "run")
    assert marker is not None
    assert (marker["kind"], marker["state"]) == ("encoder", "done")


def test_a_checkpoint_that_does_not_fit_is_said_so(tiny_store: Path, tmp_path: Path) -> None:
    import torch

    few = {"steps": 2, "monitor_every": 0, "checkpoint_every": 1}
    pretrain(tiny_store, tmp_path / "run", few)
    (tmp_path / "run" / "status.json").write_text(
        (tmp_path / "run" / "status.json").read_text().replace('"done"', '"started"')
    )
    (tmp_path / "run" / "checkpoints" / "step-2.pt").unlink()
    kept = torch.load(tmp_path / "run" / "checkpoints" / "step-1.pt", weights_only=True)
    one, other = kept["optimiser"]["param_groups"]
    other["params"] = [*other["params"], one["params"].pop()]  # other weights decay
    torch.save(kept, tmp_path / "run" / "checkpoints" / "step-1.pt")
    with pytest.raises(UserError, match=r"checkpoint of step 1 does not fit the method; .* --overwrite"):
        pretrain(tiny_store, tmp_path / "run", few)
