"""Keep the curves of a run beside the weights it gave: `python benchmarks/expected_curves.py RUN FOLDER TITLE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml

from alice3d.engine.log import read_log
from alice3d.report.curves import NAME, thinned

if __name__ == "__main__":
    run, folder, title = sys.argv[1:]
    settings = yaml.safe_load((Path(run) / "config.yaml").read_text(encoding="utf-8"))
    content = thinned(read_log(Path(run) / "log.jsonl"), settings, title)
    (Path(folder) / NAME).write_text(json.dumps(content) + "\n", encoding="utf-8")
