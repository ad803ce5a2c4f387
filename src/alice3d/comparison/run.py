"""Compare pre-trainings under equal conditions: same probes, same labelled subsets; other differences are reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alice3d import console, files, outputs
from alice3d.comparison.arms import Arm, make_arm, named_methods, refuse_ambiguous
from alice3d.comparison.cells import Cells
from alice3d.comparison.checks import LEARNING, check
from alice3d.comparison.conditions import described, differences
from alice3d.comparison.finetuning import finetuned
from alice3d.comparison.scores import SCORES, scores_csv
from alice3d.comparison.settings import MEASURES, CompareConfig
from alice3d.comparison.table import TESTS, Unit, best, by_patient, paired_tests, table
from alice3d.config import nearest
from alice3d.data.store import Case, Store, limited
from alice3d.data.store.pins import pin, pinned_cases
from alice3d.data.store.splits import choose_cases
from alice3d.errors import UserError
from alice3d.report.comparison_page import draw_comparison, page, table_csv
from alice3d.version import __version__
from alice3d.weights.provenance import source_commit

RESULTS = ("compare.csv", "compare.md", "compare.png", SCORES)


def compare(config: CompareConfig) -> dict[str, Any]:
    """Run every cell that is not done yet, cheap measures first; then table, tests and plot.

    Args:
        config: of `alice compare`.

    Returns:
        the keys of `--json`.

    Raises:
        UserError: an arm, an input or a setting is wrong; nothing is started then.
    """
    arms = arms_of(config)
    with outputs.claimed(config, "comparison") as output:
        store = Store.open(config.store)
        config = output.config
        known = Cells(config, arms).inputs()
        pinned = pinned_cases(store, config.out, "comparison", config.settings(**known), overwrite=config.overwrite)
        cases = pinned or used_cases(config, arms, store)
        splits = {case.split for case in cases}
        others = [case for case in store.cases() if case.split not in splits]
        with limited(config.store, [case.id for case in (*cases, *others)]):
            return _compared(output, arms, pin(store, cases), (store.checksum, store.checksum_of(cases)))


def _compared(
    output: outputs.Output[CompareConfig],
    arms: dict[str, Arm],
    pinned: dict[str, Any],
    checksums: tuple[str, str],
) -> dict[str, Any]:
    """`compare` into a folder that is claimed.

    Args:
        output: the folder.
        arms: by name.
        pinned: the cases that are used, see `data.store.pins`.
        checksums: of the store, and of these cases.
    """
    config, out = output.config, outputs.shown(output.out)
    cells = Cells(config, arms)
    reference = config.reference or next(iter(arms))
    asked = {name: config.model_dump(mode="json")[name] for name in sorted(config.uncounted - {"store"})}
    settings = config.settings(**cells.inputs(), store=checksums[1])
    state = output.check(settings, former={"store": checksums}, results=RESULTS)
    if state == "done" and output.earlier_result.get("asked") == asked:
        console.say(f"{out}: already done")
        return output.earlier_result
    check(cells)
    state = "started" if state == "done" else state
    more = {"pinned": pinned}
    outputs.begin(config.out, "comparison", settings, state=state, overwrite=config.overwrite, more=more)
    differing = differences(cells.conditions, reference)
    if differing:
        said = (f"{name} ({', '.join(key for key, *_ in its)})" for name, its in differing.items())
        console.say(f"Arms whose conditions differ from {reference} (see compare.md): {', '.join(said)}")
    left_out = _left_out(cells)
    for line in left_out:
        console.say(line)
    conditions = [*described(cells.conditions, reference), *(["", *left_out] if left_out else [])]
    units = _measured(cells, reference, conditions)
    result = {**_write(cells, units, reference, conditions), "asked": asked, "out": str(out)}
    output.finish(result, results=RESULTS)
    _say(result, reference)
    console.say(f"Comparison written to {out}: compare.md, compare.csv, compare.png, scores.csv")
    return result


def _measured(cells: Cells, reference: str, conditions: list[str]) -> list[Unit]:
    """Run the cells, quick measures first; tables are written as they come in."""
    config, arms = cells.config, cells.arms
    quick = [name for name in config.measures if name != "finetune"]
    units: list[Unit] = []
    for seed in config.seeds:
        for arm in arms.values():
            console.say(f"{arm.name}, seed {seed}")
            units += cells.probe(arm, seed, quick)
            _write_table(cells, units)
        if seed != config.seeds[-1] or "finetune" in config.measures:
            _write(cells, units, reference, conditions)
    if "finetune" in config.measures:
        for seed in config.seeds:
            for arm in arms.values():
                if not config.finetune_arms or arm.name in config.finetune_arms:
                    console.say(f"{arm.name}, seed {seed}, fine-tuning")
                    units += finetuned(cells, arm, seed)
                    _write_table(cells, units)
    return units


def used_cases(config: CompareConfig, arms: dict[str, Arm], store: Store) -> list[Case]:
    """The cases that any arm learns from or is scored on, sorted by id."""
    used = {case.id: case for split in (config.split, config.train_split) for case in store.cases(split)}
    for arm in arms.values():
        if arm.pretrain is not None:
            split = str({**config.pretrain, **arm.pretrain}.get("split", "auto"))
            used |= {case.id: case for case in choose_cases(store, split)}
    return [used[id] for id in sorted(used)]


def arms_of(config: CompareConfig) -> dict[str, Arm]:
    """The arms by name, checked as far as possible without a store.

    Raises:
        UserError: no arm, a name that is duplicate or not valid for a folder, or a wrong setting.
    """

    entries = dict(config.arms)
    for name in named_methods(config):
        if name in entries:
            raise UserError(f"--methods: {name!r} is also the name of an arm")
        refuse_ambiguous(name)
        entries[name] = {"method": name}
    if not entries:
        raise UserError("nothing to compare: give --methods, or arms in a YAML with --config")
    for name in config.measures:
        if name not in MEASURES:
            raise UserError(f"--measures: no measure {name!r}; {nearest(name, MEASURES)}")
    if not config.seeds or not config.labels or not config.measures:
        raise UserError("--seeds, --labels and --measures each need at least one value")
    for field in ("finetune_arms", "reference"):
        for name in filter(None, [getattr(config, field)] if field == "reference" else getattr(config, field)):
            if name not in entries:
                raise UserError(f"--{field.replace('_', '-')}: no arm {name!r}; {nearest(name, entries)}")
    return {name: make_arm(name, settings or {}, config) for name, settings in entries.items()}


def _left_out(cells: Cells) -> list[str]:
    """A line on the structures that no drawn case shows, by draw; [] where there are none."""
    if not set(LEARNING) & set(cells.config.measures):
        return []
    found: dict[str, list[str]] = {}
    for labels in cells.config.labels:
        for seed in cells.config.seeds:
            values = cells.unlearnt(labels, seed)
            if values:
                names = ", ".join(cells.store.label_names[value] for value in values)
                found.setdefault(names, []).append(f"{labels} labels, seed {seed}")
    said = [f"{names} ({'; '.join(draws)})" for names, draws in found.items()]
    return [f"Left out of every arm's scores, since no drawn case shows it: {'; '.join(said)}."] if said else []


def _write_table(cells: Cells, units: list[Unit]) -> None:
    """Write compare.csv and scores.csv of the finished cells."""
    patients, out = cells.store.patients, cells.config.out
    files.write_text(out / "compare.csv", table_csv(table(by_patient(units, patients))))
    files.write_text(out / SCORES, scores_csv(units, patients))


def _write(cells: Cells, units: list[Unit], reference: str, conditions: list[str]) -> dict[str, Any]:
    """Write compare.csv, scores.csv, compare.md and compare.png of the finished cells; returns `table`, `best` and
    `tests`."""
    config, patients = cells.config, cells.store.patients
    of_patients = by_patient(units, patients)
    rows = table(of_patients)
    tested = paired_tests(of_patients, reference, patients)
    _write_table(cells, units)
    seeds = ", ".join(map(str, sorted({unit.seed for unit in units})))
    about = [
        f"Scored on {_counted({unit.case for unit in units}, patients)} of split `{config.split}`; "
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


def _counted(cases: set[str], patients: dict[str, str]) -> str:
    """`the 12 cases`, and of how many patients where these are fewer."""
    owners = {patients.get(case, case) for case in cases}
    return f"the {len(cases)} cases" + (f" ({len(owners)} patients)" if len(owners) < len(cases) else "")


def _say(result: dict[str, Any], reference: str) -> None:
    """Print the comparison: the best of each measure, and significant differences from the reference."""
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
