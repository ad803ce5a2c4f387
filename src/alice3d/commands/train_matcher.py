"""Train a matcher that finds the same anatomy in another scan."""

from __future__ import annotations

import shutil
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from alice3d import console, outputs
from alice3d.engine.settings import SelfSupervisedSettings
from alice3d.errors import UserError


class TrainMatcherConfig(SelfSupervisedSettings):
    """`alice train-matcher STORE OUT`."""

    positional: ClassVar[tuple[str, ...]] = ("store", "out")
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """Highest learning rate of AdamW, reached after the warm-up, then falling along a cosine."""
    rounds: Annotated[int, Field(ge=1, le=10)] = 1
    """Rounds of `steps` each: every later one goes on from the pairs of patients that the one before matched."""
    round_rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Highest learning rate of the later rounds, as a share of the first one's."""
    scan_pairs: Annotated[int, Field(ge=0)] = 0
    """Pairs of scans matched between rounds; 0 = two for each scan."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of the objective, as `--options.temperature 0.1`; the reference lists them."""
    mode: Literal["direct", "robust"] = "robust"
    """How the matcher is meant to be used: each point by itself, or with a robust fit over many points."""
    trunk: bool = True
    """Join the trunk's own maps, standardised over the bodies of some scans, to the embedding: matches are nearer,
    embeddings 3.5 times as large."""


def run(config: TrainMatcherConfig) -> dict[str, Any]:
    """Train, then write matcher.safetensors and its card."""
    if config.rounds > 1:
        return _rounds(config)
    from alice3d.engine.device import resolve_device
    from alice3d.engine.joining import join_trunk
    from alice3d.engine.selfsupervised import prepare_training, train
    from alice3d.methods.sam import SAM
    from alice3d.report.run_page import drawn_at_the_end
    from alice3d.weights.files import save_weights

    partner: Literal["matched", "same"] = "matched" if config.pairs is not None else "same"
    job = prepare_training(config, "sam", config.options, partner=partner, hidden_share=0.0, block=1)
    state = outputs.check(config.out, "matcher", job.settings, overwrite=config.overwrite)
    if state == "done":
        console.say(f"{config.out}: already done")
        return outputs.earlier_result(config.out)
    with drawn_at_the_end(config.out):
        result, card = train(job, state, "matcher")
    method = job.method
    assert isinstance(method, SAM)
    card["matching"] = {
        "mode": config.mode,
        "fine_width": method.config.fine_width,
        "coarse_width": method.config.coarse_width,
        "trunk": config.trunk,
    }
    if config.trunk:
        samples, device = job.samples, resolve_device(config.device, config.threads)
        known = [samples.cases[name] for name in samples.ids]
        spacing_mm = samples.settings.spacing_mm
        join_trunk(method.averaged, samples.store, known, samples.rule, spacing_mm, crop=config.crop, device=device)
    save_weights(config.out, "matcher", method.averaged.state_dict(), card)
    done = {"steps": result.steps, "loss": result.loss, "seconds": result.seconds, "out": str(config.out)}
    outputs.finish(config.out, done)
    console.say(
        f"Matcher written to {config.out}, its curves to curves.html. "
        f"Next: alice pair {config.store} {config.out} PAIRS"
    )
    return done


def _rounds(config: TrainMatcherConfig) -> dict[str, Any]:
    """Train, match, train on the matches, and so on; each part is a folder of its own under OUT, and is restartable."""
    from alice3d.commands import pair
    from alice3d.data.store import Store
    from alice3d.engine.selfsupervised import prepare_training

    if config.pairs is not None:
        raise UserError("--rounds makes its own pairs tables; leave --pairs out, or take --rounds 1")
    settings = config.settings(store=Store.open(config.store).checksum, init=config.init)
    state = outputs.check(config.out, "matcher", settings, overwrite=config.overwrite)
    if state == "done":
        console.say(f"{config.out}: already done")
        return outputs.earlier_result(config.out)
    prepare_training(config, "sam", config.options, partner="same", hidden_share=0.0, block=1)  # refuses a wrong call
    outputs.begin(config.out, "matcher", settings, state=state, overwrite=config.overwrite)
    rate = config.learning_rate
    results: list[dict[str, Any]] = []
    changes: dict[str, Any] = {"rounds": 1, "overwrite": False}
    for number in range(1, config.rounds + 1):
        console.say(f"Round {number} of {config.rounds}")
        folder = config.out / f"round-{number}"
        results.append(run(config.model_copy(update={**changes, "out": folder})))
        if number == config.rounds:
            break
        table = config.out / f"pairs-{number}"
        pair.run(
            pair.PairConfig(
                store=config.store,
                matcher=str(folder),
                out=table,
                split=config.split,
                scan_pairs=config.scan_pairs,
                seed=config.seed + number,
                device=config.device,
                threads=config.threads,
            )
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
