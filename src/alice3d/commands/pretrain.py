"""Pre-train an encoder without labels: Alice, or a rival objective."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from alice3d import console, outputs
from alice3d.engine.settings import SelfSupervisedSettings


class PretrainConfig(SelfSupervisedSettings):
    """`alice pretrain STORE OUT --method alice --pairs PAIRS`."""

    positional: ClassVar[tuple[str, ...]] = ("store", "out")
    method: str = "alice"
    """Objective: alice, mae, or package.module of your own."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of the objective, as `--options.dense_weight 0`; the reference lists them."""
    partner: Literal["auto", "same", "matched", "random"] = "auto"
    """Where the second crop comes from; auto: matched where `--pairs` is given, else the same scan."""
    hidden_share: Annotated[float, Field(ge=0, lt=1)] = 0.75
    """Share of the patches that the encoder does not see."""
    mask_block: Annotated[int, Field(ge=1)] = 1
    """Patches hide together in cubes of this side; 1 = each on its own."""


def run(config: PretrainConfig) -> dict[str, Any]:
    """Train, then write encoder.safetensors and its card."""
    from alice3d.engine.selfsupervised import prepare_training, train
    from alice3d.nn.weights import save_weights

    partner = config.partner
    if partner == "auto":
        partner = "matched" if config.pairs is not None else "same"
    job = prepare_training(
        config,
        config.method,
        config.options,
        partner=partner,
        hidden_share=config.hidden_share,
        block=config.mask_block,
    )
    state = outputs.check(config.out, "encoder", job.settings, overwrite=config.overwrite)
    if state == "done":
        console.say(f"{config.out}: already done")
        return outputs.earlier_result(config.out)
    result, card = train(job, state)
    save_weights(config.out, "encoder", job.method.encoder().state_dict(), card)
    done = {"steps": result.steps, "loss": result.loss, "seconds": result.seconds, "out": str(config.out)}
    outputs.finish(config.out, done)
    console.say(
        f"Encoder written to {config.out}. Next: alice finetune {config.store} MODEL --encoder {config.out} --labels 5"
    )
    return done
