"""Train a matcher that finds the same anatomy in another scan."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from alice3d import console, outputs
from alice3d.engine.settings import SelfSupervisedSettings


class TrainMatcherConfig(SelfSupervisedSettings):
    """`alice train-matcher STORE OUT`."""

    positional: ClassVar[tuple[str, ...]] = ("store", "out")
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """Highest learning rate of AdamW, reached after the warm-up, then falling along a cosine."""
    crop: Annotated[int, Field(ge=8)] = 64
    """Voxels a side of the crops."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of the objective, as `--options.temperature 0.1`; the reference lists them."""
    mode: Literal["direct", "robust"] = "robust"
    """How the matcher is meant to be used: each point by itself, or with a robust fit over many points."""


def run(config: TrainMatcherConfig) -> dict[str, Any]:
    """Train, then write matcher.safetensors and its card."""
    from alice3d.engine.selfsupervised import prepare_training, train
    from alice3d.methods.sam import SAM
    from alice3d.nn.weights import save_weights

    partner: Literal["matched", "same"] = "matched" if config.pairs is not None else "same"
    job = prepare_training(config, "sam", config.options, partner=partner, hidden_share=0.0, block=1)
    state = outputs.check(config.out, "matcher", job.settings, overwrite=config.overwrite)
    if state == "done":
        console.say(f"{config.out}: already done")
        return outputs.earlier_result(config.out)
    result, card = train(job, state)
    method = job.method
    assert isinstance(method, SAM)
    card["matching"] = {
        "mode": config.mode,
        "fine_width": method.config.fine_width,
        "coarse_width": method.config.coarse_width,
    }
    save_weights(config.out, "matcher", method.averaged.state_dict(), card)
    done = {"steps": result.steps, "loss": result.loss, "seconds": result.seconds, "out": str(config.out)}
    outputs.finish(config.out, done)
    console.say(f"Matcher written to {config.out}. Next: alice pair {config.store} {config.out} PAIRS")
    return done
