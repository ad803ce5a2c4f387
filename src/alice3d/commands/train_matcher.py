"""Train a matcher that finds the same anatomy in another scan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from alice3d import console, outputs
from alice3d.engine.settings import SelfSupervisedSettings


class TrainMatcherConfig(SelfSupervisedSettings):
    """`alice train-matcher STORE OUT`."""

    positional: ClassVar[tuple[str, ...]] = ("store", "out")
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """Highest learning rate of AdamW."""
    options: dict[str, Any] = {}
    """Settings of the objective, as `--options.temperature 0.1`; `alice train-matcher --help` cannot list them: see the reference."""
    mode: Annotated[str, Field(pattern="^(direct|robust)$")] = "robust"
    """How the matcher is meant to be used: `direct` match of each point, or `robust` with a fit over many points."""


def run(config: TrainMatcherConfig) -> dict[str, Any]:
    """Train, then write matcher.safetensors and its card."""
    from alice3d.engine.device import resolve_device
    from alice3d.engine.selfsupervised import train
    from alice3d.methods.sam import SAM
    from alice3d.nn.weights import save_weights

    state = outputs.claim(config.out, "matcher", config.fingerprint(), config.overwrite)
    if state == "done":
        return outputs.report_done(config.out)
    method, result, card = train(
        config,
        method_name="sam",
        options=config.options,
        partner="matched" if config.pairs is not None else "same",
        hidden_share=0.0,
        block=1,
        device=resolve_device(config.device, config.threads),
    )
    assert isinstance(method, SAM)
    settings = method.config
    card["matching"] = {
        "mode": config.mode,
        "fine_width": settings.fine_width,
        "coarse_width": settings.coarse_width,
    }
    save_weights(config.out, "matcher", method.averaged.state_dict(), card)
    done = {"steps": result.steps, "loss": result.loss, "seconds": result.seconds, "out": str(config.out)}
    outputs.finish(config.out, done)
    console.say(f"Matcher written to {config.out}. Next: alice pair {config.store} {config.out} PAIRS")
    return done
