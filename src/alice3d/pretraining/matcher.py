"""From a store to a matcher: training, rounds on its own matches, and its backbone's maps joined in the end."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from alice3d import console, distributed, outputs
from alice3d.data.sampling.base import Masks
from alice3d.data.store import Store, limited
from alice3d.data.store.pins import pin, pinned_cases
from alice3d.data.store.splits import choose_cases
from alice3d.device import resolve_device
from alice3d.errors import UserError
from alice3d.files import replacing
from alice3d.matching.joining import join_backbone_maps
from alice3d.matching.pairing import make_pairs
from alice3d.matching.settings import PairConfig
from alice3d.methods.sam import SAM
from alice3d.nn.heads.embedding import FPN3D
from alice3d.pretraining.job import Around, Job, no_page, prepare_training, train
from alice3d.pretraining.settings import TrainMatcherConfig
from alice3d.weights.files import save_weights

RESULTS = ("matcher.safetensors", "matcher.json")


def train_matcher(
    config: TrainMatcherConfig,
    *,
    around: Around = no_page,
    draw: Callable[[Path, dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train, then write matcher.safetensors and its card; in several rounds where `config` asks for them.

    Args:
        config: of `alice train-matcher`.
        around: entered with the output folder while training runs, such as what draws its curves in the end.
        draw: see `make_pairs`.

    Returns:
        the keys of `--json`.

    Raises:
        UserError: an input or an option is wrong.
        WorkFailed: the run collapsed, or the loss is not finite.
    """
    if config.rounds > 1:
        return _rounds(config, around, draw)

    partner: Literal["matched", "same"] = "matched" if config.pairs is not None else "same"
    with outputs.claimed(config, "matcher", chief=distributed.is_chief()) as output:
        config = output.config
        job = prepare_training(config, "sam", config.options, partner=partner, masks=Masks(), kind="matcher")
        state = output.check(job.settings, former=job.former, results=RESULTS)
        out = outputs.shown(output.out)
        if state == "done":
            console.say(f"{out}: already done")
            return output.earlier_result
        with around(config.out):
            result, card = train(job, state, "matcher")
        network = _finished(config, job, card)
        save_weights(config.out, "matcher", network.state_dict(), card)
        done = {"steps": result.steps, "loss": result.loss, "seconds": result.seconds, "out": str(out)}
        output.finish(done, results=RESULTS)
    curves = ", its curves to curves.html" if (output.out / "curves.html").exists() else ""
    console.say(f"Matcher written to {out}{curves}. Next: alice pair {config.store} {out} PAIRS")
    return done


def _finished(config: TrainMatcherConfig, job: Job, card: dict[str, Any]) -> FPN3D:
    """The network to be saved, with its backbone's maps joined where asked; adds `matching` to the card."""
    method = job.method
    assert isinstance(method, SAM)
    card["matching"] = {
        "mode": config.mode,
        "fine_width": method.config.fine_width,
        "coarse_width": method.config.coarse_width,
        "trunk": config.backbone_maps,
    }
    if config.backbone_maps:
        samples, device = job.samples, resolve_device(config.device, config.threads)
        known = [samples.cases[name] for name in samples.ids]
        spacing_mm = job.spacing_mm
        join_backbone_maps(
            method.averaged, samples.store, known, samples.rule, spacing_mm, crop=config.crop, device=device
        )
    return method.averaged


def _rounds(
    config: TrainMatcherConfig, around: Around, draw: Callable[[Path, dict[str, Any]], None] | None
) -> dict[str, Any]:
    """Train, match, train on the matches, and so on; each part is a folder of its own under OUT, and is restartable."""
    if config.pairs is not None:
        raise UserError("--rounds makes its own pairs tables; leave --pairs out, or take --rounds 1")
    with outputs.claimed(config, "matcher") as output:
        return _rounds_into(output, around, draw)


def _rounds_into(
    output: outputs.Output[TrainMatcherConfig], around: Around, draw: Callable[[Path, dict[str, Any]], None] | None
) -> dict[str, Any]:
    """The rounds of a folder that is claimed; each goes on with the cases that there were when the first began."""
    config, out = output.config, outputs.shown(output.out)
    store = Store.open(config.store)
    known = {"init": config.init}
    cases = pinned_cases(store, config.out, "matcher", config.settings(**known), overwrite=config.overwrite)
    cases = cases or choose_cases(store, config.split)
    checksum = store.checksum_of(cases)
    settings = config.settings(store=checksum, **known)
    state = output.check(settings, former={"store": (store.checksum, checksum)}, results=RESULTS)
    if state == "done":
        console.say(f"{out}: already done")
        return output.earlier_result
    changes: dict[str, Any] = {"rounds": 1, "overwrite": False}
    with limited(config.store, [case.id for case in cases]):
        # refuses a wrong call before anything is claimed
        first = config.model_copy(update={**changes, "out": config.out / "round-1"})
        prepare_training(first, "sam", config.options, partner="same", masks=Masks(), kind="matcher")
        more = {"pinned": pin(store, cases)}
        outputs.begin(config.out, "matcher", settings, state=state, overwrite=config.overwrite, more=more)
        results = _train_rounds(config, changes, around, draw)
    last = config.out / f"round-{config.rounds}"
    for name in RESULTS:
        with replacing(config.out / name) as temporary:
            shutil.copyfile(last / name, temporary)
    done = {
        "steps": sum(result["steps"] for result in results),
        "loss": results[-1]["loss"],
        "seconds": sum(result["seconds"] for result in results),
        "out": str(out),
    }
    output.finish(done, results=RESULTS)
    console.say(f"Matcher written to {out}. Next: alice pair {config.store} {out} PAIRS")
    return done


def _train_rounds(
    config: TrainMatcherConfig,
    changes: dict[str, Any],
    around: Around,
    draw: Callable[[Path, dict[str, Any]], None] | None,
) -> list[dict[str, Any]]:
    """Train and match in turn; the result of each training."""
    rate = config.learning_rate
    results: list[dict[str, Any]] = []
    for number in range(1, config.rounds + 1):
        console.say(f"Round {number} of {config.rounds}")
        folder = config.out / f"round-{number}"
        results.append(train_matcher(config.model_copy(update={**changes, "out": folder}), around=around, draw=draw))
        if number == config.rounds:
            break
        table = config.out / f"pairs-{number}"
        make_pairs(
            PairConfig(
                store=config.store,
                matcher=str(folder),
                out=table,
                split=config.split,
                scan_pairs=config.scan_pairs,
                seed=config.seed + number,
                device=config.device,
                threads=config.threads,
            ),
            draw=draw,
        )
        # Another seed draws other crops; the weights of the round before are the start.
        changes = {**changes, "init": str(folder), "pairs": table, "learning_rate": rate * config.round_rate}
        changes["seed"] = config.seed + number
    return results
