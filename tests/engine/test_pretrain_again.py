"""`alice pretrain` given again says that it is done, and other settings are refused; `test_kills` cuts it short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
