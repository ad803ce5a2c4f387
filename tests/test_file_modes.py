"""Who may read what the program writes follows from the umask: results say much about patients."""

import stat
import subprocess
import sys

import pytest

WRITE_ALL = """
import os, sys
from pathlib import Path

os.umask(int(sys.argv[1], 8))
out = Path(sys.argv[2])

import numpy as np
import torch

from alice3d import files, outputs
from alice3d.commands.prepare import PrepareConfig, run
from alice3d.engine.checkpoint import save_checkpoint
from alice3d.weights.files import save_weights

outputs.begin(out / "run", "matcher", {}, state="new")
files.write_text(out / "new" / "text.json", "{}")
files.write_text(out / "new" / "text.json", "{ }")
save_weights(out / "weights", "encoder", {"a": torch.zeros(2)}, {})
save_checkpoint(out / "checkpoints", 1, {"a": torch.zeros(2)})
run(PrepareConfig(scans=Path(sys.argv[3]), store=out / "store", spacing="16"))
"""


@pytest.mark.parametrize(("umask", "file", "folder"), [("077", 0o600, 0o700), ("022", 0o644, 0o755)])
def test_files_and_folders_are_as_open_as_the_umask_says(tmp_path, tiny_scans, umask, file, folder):
    out = tmp_path / "out"
    words = [sys.executable, "-c", WRITE_ALL, umask, str(out), str(tiny_scans.images)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = [out, *out.rglob("*")]
    assert {path.suffix for path in made} >= {".json", ".safetensors", ".pt", ".b2nd", ".csv"}
    wanted = {path.relative_to(tmp_path): folder if path.is_dir() else file for path in made}
    assert {path: stat.S_IMODE((tmp_path / path).stat().st_mode) for path in wanted} == wanted
