"""Compare pre-trainings under equal conditions: same probes, same draws, and what else is not alike is named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from alice3d import console, files, outputs
from alice3d.config import ComputeConfig, OutputConfig, nearest
from alice3d.errors import UserError

if TYPE_CHECKING:
    from alice3d.commands.compare_arms import Arm
    from alice3d.evaluation.comparison import Unit

MEASURES = ("linear", "knn", "landmark", "finetune")


class CompareConfig(OutputConfig, ComputeConfig):
    """`alice compare STORE OUT --methods alice,mae,scratch --labels 2,5 --seeds 0,1,2`."""

    positional: ClassVar[tuple[str, ...]] = ("store", "out")
    uncounted: ClassVar[frozenset[str]] = frozenset(
        {"store", "pairs", "landmarks", "init", "arms", "methods", "labels", "seeds", "measures", "finetune_arms"}
        | {"reference", "finetune", "allow_seen"}
    )
    store: Path
    """Store with labelled cases, made by `alice prepare --labels`."""
    methods: list[str] = Field(default_factory=list)
    """Arms by their method: alice, mae, package.module of your own, a recipe's name, scratch (random weights, else like
    the other arms), or init (the shared warm start as it is)."""
    arms: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """In a YAML: name of an arm to its `method` or `recipe` or `encoder` (one that exists), and any setting of
    `alice pretrain` in which it differs from the others; of scratch backbone, backbone_options, windows and crop."""
    labels: list[Annotated[int, Field(ge=1)]] = Field(default_factory=lambda: [5])
    """Numbers of labelled cases, comma separated; each seed draws others."""
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default_factory=lambda: [0, 1, 2])
    """Seeds, comma separated: of first weights, crops and the draw of the labelled cases, the same for every arm."""
    measures: list[str] = Field(default_factory=lambda: ["linear"])
    """What is measured, comma separated: linear, knn, landmark (seconds each), finetune (minutes)."""
    finetune_arms: list[str] = Field(default_factory=list)
    """Arms that are fine-tuned, where finetune is measured; left out, all."""
    pairs: Path | None = None
    """Pairs table, made by `alice pair`, for arms that take matched partners."""
    landmarks: Path | None = None
    """CSV with the columns case, structure, x_mm, y_mm, z_mm (RAS), for the measure landmark."""
    init: str | None = None
    """Encoder or matcher that every trained arm starts from: a shared warm start."""
    split: str = "val"
    """Split whose cases are scored."""
    train_split: str = "train"
    """Split that labelled cases are drawn from."""
    pretrain: dict[str, Any] = Field(default_factory=dict)
    """Settings of `alice pretrain` for every arm, as `--pretrain.steps 200`; they win over those of a recipe."""
    finetune: dict[str, Any] = Field(default_factory=dict)
    """Settings of `alice finetune` for every arm, as `--finetune.steps 400`."""
    linear: dict[str, Any] = Field(default_factory=dict)
    """Settings of the linear head, as `--linear.linear_views 1`."""
    neighbours: Annotated[int, Field(ge=1)] = 15
    """Nearest neighbours that vote, for the measure knn."""
    reference: str = ""
    """Arm that the others are tested against; left out, the first."""
    allow_seen: bool = False
    """Score cases that an encoder saw in pre-training, although they lie in a split for testing."""


def run(config: CompareConfig) -> dict[str, Any]:
    """Run every cell that is not there yet, cheap measures first; then table, tests and plot."""
    from alice3d.commands.compare_cells import Cells
    from alice3d.commands.compare_check import check
    from alice3d.commands.compare_conditions import described, differences
    from alice3d.commands.compare_finetune import finetuned

    arms = _arms(config)
    cells = Cells(config, arms)
    reference = config.reference or next(iter(arms))
    asked = {name: config.model_dump(mode="json")[name] for name in sorted(config.uncounted - {"store"})}
    settings = config.settings(**cells.inputs())
    state = outputs.check(config.out, "comparison", settings, overwrite=config.overwrite)
    if state == "done" and outputs.earlier_result(config.out).get("asked") == asked:
        console.say(f"{config.out}: already done")
        return outputs.earlier_result(config.out)
    check(cells)
    outputs.begin(config.out, "comparison", settings, state=state, overwrite=config.overwrite)
    differing = differences(cells.conditions, reference)
    if differing:
        said = (f"{name} ({', '.join(key for key, *_ in its)})" for name, its in differing.items())
        console.say(f"Arms under other conditions than {reference}, as compare.md says: {', '.join(said)}")
    conditions = described(cells.conditions, reference)
    quick = [name for name in config.measures if name != "finetune"]
    units: list[Unit] = []
    for seed in config.seeds:
        for arm in arms.values():
            console.say(f"{arm.name}, seed {seed}")
            units += cells.probe(arm, seed, quick)
            _write_table(config, units)
        if seed != config.seeds[-1] or "finetune" in config.measures:
            _write(config, units, reference, conditions)
    if "finetune" in config.measures:
        for seed in config.seeds:
            for arm in arms.values():
                if not config.finetune_arms or arm.name in config.finetune_arms:
                    console.say(f"{arm.name}, seed {seed}, fine-tuning")
                    units += finetuned(cells, arm, seed)
                    _write_table(config, units)
    result = {**_write(config, units, reference, conditions), "asked": asked, "out": str(config.out)}
    outputs.finish(config.out, result)
    _say(result, reference)
    console.say(f"Comparison written to {config.out}: compare.md, compare.csv, compare.png")
    return result


def _arms(config: CompareConfig) -> dict[str, Arm]:
    """The arms by name; all that can be said of them without a store is checked.

    Raises:
        UserError: no arm, a name twice or unfit for a folder, or a setting that is wrong.
    """
    from alice3d.commands.compare_arms import make_arm

    described = dict(config.arms)
    for name in config.methods:
        if name in described:
            raise UserError(f"--methods: {name!r} is also the name of an arm")
        described[name] = {"method": name}
    if not described:
        raise UserError("nothing to compare: give --methods, or arms in a YAML with --config")
    for name in config.measures:
        if name not in MEASURES:
            raise UserError(f"--measures: no measure {name!r}; {nearest(name, MEASURES)}")
    if not config.seeds or not config.labels or not config.measures:
        raise UserError("--seeds, --labels and --measures each need at least one value")
    for field in ("finetune_arms", "reference"):
        for name in filter(None, [getattr(config, field)] if field == "reference" else getattr(config, field)):
            if name not in described:
                raise UserError(f"--{field.replace('_', '-')}: no arm {name!r}; {nearest(name, described)}")
    return {name: make_arm(name, settings or {}, config) for name, settings in described.items()}


def _write_table(config: CompareConfig, units: list[Unit]) -> None:
    from alice3d.evaluation.comparison import table
    from alice3d.report.comparison import table_csv

    files.write_text(config.out / "compare.csv", table_csv(table(units)))


def _write(config: CompareConfig, units: list[Unit], reference: str, conditions: list[str]) -> dict[str, Any]:
    """compare.csv, compare.md and compare.png of what is there; returns `table`, `best` and `tests`."""
    from alice3d.evaluation.comparison import TESTS, best, paired_tests, table
    from alice3d.report.comparison import draw_comparison, page
    from alice3d.version import __version__
    from alice3d.weights.provenance import source_commit

    rows = table(units)
    tested = paired_tests(units, reference, seed=config.seed)
    _write_table(config, units)
    seeds = ", ".join(map(str, sorted({unit.seed for unit in units})))
    about = [
        f"Scored on the {len({unit.case for unit in units})} cases of split `{config.split}`; "
        f"seeds {seeds}; warm start: {Path(config.init).name if config.init else 'none'}.",
        "",
        *conditions,
        "",
        f"alice3d {__version__}, commit {source_commit() or 'unknown'}.",
    ]
    text = page(rows, tested, reference=reference, about=about, how_tested=TESTS)
    files.write_text(config.out / "compare.md", text)
    with files.replacing(config.out / "compare.png") as temporary:
        temporary.write_bytes(draw_comparison(rows, reference))
    return {"table": rows, "best": best(rows), "tests": tested}


def _say(result: dict[str, Any], reference: str) -> None:
    """The comparison for a person: the best of each measure, and what differs clearly from the reference."""
    for row in result["best"]:
        labels = "" if row["labels"] is None else f", {row['labels']} labels"
        console.say(f"best {row['measure']}{labels}: {row['method']} ({row['value']:.3f})")
    for test in result["tests"]:
        if max(test["p_holm"], test["p_wilcoxon"]) < 0.05:
            labels = "" if test["labels"] is None else f", {test['labels']} labels"
            console.say(
                f"{test['method']} against {reference}, {test['measure']}{labels}: {test['difference']:+.3f} "
                f"({test['low']:+.3f} to {test['high']:+.3f}), p {test['p_holm']:.2g}"
            )
