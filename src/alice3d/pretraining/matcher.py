"""From a store to a matcher: training, rounds on its own matches, and its backbone's maps joined in the end."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from alice3d import console, outputs
from alice3d.data.sampling.base import Masks
from alice3d.data.store import Store
from alice3d.device import resolve_device
from alice3d.errors import UserError
from alice3d.matching.joining import join_backbone_maps
from alice3d.matching.pairing import make_pairs
from alice3d.matching.settings import PairConfig
from alice3d.methods.sam import SAM
from alice3d.nn.heads.embedding import FPN3D
from alice3d.pretraining.job import Around, Job, no_page, prepare_training, train
from alice3d.pretraining.settings import TrainMatcherConfig
from alice3d.weights.files import save_weights


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
    job = prepare_training(config, "sam", config.options, partner=partner, masks=Masks())
    state = outputs.check(config.out, "matcher", job.settings, overwrite=config.overwrite)
    if state == "done":
        console.say(f"{config.out}: already done")
        return outputs.earlier_result(config.out)
    with around(config.out):
        result, card = train(job, state, "matcher")
    network = _finished(config, job, card)
    save_weights(config.out, "matcher", network.state_dict(), card)
    done = {"steps": result.steps, "loss": result.loss, "seconds": result.seconds, "out": str(config.out)}
    outputs.finish(config.out, done)
    curves = ", its curves to curves.html" if (config.out / "curves.html").exists() else ""
    console.say(f"Matcher written to {config.out}{curves}. Next: alice pair {config.store} {config.out} PAIRS")
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
    settings = config.settings(store=Store.open(config.store).checksum, init=config.init)
    state = outputs.check(config.out, "matcher", settings, overwrite=config.overwrite)
    if state == "done":
        console.say(f"{config.out}: already done")
        return outputs.earlier_result(config.out)
    # refuses a wrong call before anything is claimed
    prepare_training(config, "sam", config.options, partner="same", masks=Masks())
    outputs.begin(config.out, "matcher", settings, state=state, overwrite=config.overwrite)
    rate = config.learning_rate
    results: list[dict[str, Any]] = []
    changes: dict[str, Any] = {"rounds": 1, "overwrite": False}
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
        changes |= {"init": str(folder), "pairs": table, "learning_rate": rate * config.round_rate}
        changes["seed"] = config.seed + number
    for name in ("matcher.safetensors", "matcher.json"):
        shutil.copyfile(folder / name, config.out / f".{name}")
        (config.out / f".{name}").replace(config.out / name)
    done = {
        "steps": sum(result["steps"] for result in results),
        "loss": results[-1]["loss"],
        "seconds": sum(result["seconds"] for result in results),
        "out": str(config.out),
    }
    outputs.finish(config.out, done)
    console.say(f"Matcher written to {config.out}. Next: alice pair {config.store} {config.out} PAIRS")
    return done
