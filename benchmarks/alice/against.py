"""Test an arm of one comparison against an arm of another, both fine-tuned from the same draws of labelled cases.

python benchmarks/alice/against.py OUT:ARM OTHER_OUT:ARM --labels 2 --split test

OUT and OTHER_OUT are folders of `alice compare` with the measure finetune, with other settings of fine-tuning each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from alice3d.comparison.table import TESTS, Unit, dice_by_case, paired_tests


def units_of(where: str, labels: int, split: str) -> list[Unit]:
    """Dice of every case of an arm, the mean over its structures; a unit a case and seed."""
    folder, _, arm = where.rpartition(":")
    units = []
    for path in sorted(Path(folder).glob(f"cells/{arm}/seed-*/model-{labels}/evaluation-{split}/metrics.csv")):
        seed = int(path.parents[2].name.removeprefix("seed-"))
        units += [Unit(where, labels, seed, "dice", case, "", value) for case, value in dice_by_case(path).items()]
    return units


def main() -> None:
    """Print the means and the test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arm")
    parser.add_argument("reference")
    parser.add_argument("--labels", type=int, default=2)
    parser.add_argument("--split", default="test")
    args = parser.parse_args()
    both = [units_of(where, args.labels, args.split) for where in (args.reference, args.arm)]
    for units in both:
        seeds = sorted({unit.seed for unit in units})
        print(f"{units[0].method}: {sum(unit.value for unit in units) / len(units):.4f}, seeds {seeds}")
    for test in paired_tests([*both[0], *both[1]], args.reference, seed=0):
        print("difference {difference:+.4f} ({low:+.4f} to {high:+.4f}), Wilcoxon {p_wilcoxon:.2g}".format(**test))
    print(TESTS)


if __name__ == "__main__":
    main()
