"""Turn an encoder, or a fresh net, into a segmenter with labelled cases."""

from __future__ import annotations

from typing import Any, ClassVar

from alice3d import console, outputs
from alice3d.engine.finetune_settings import FinetuneSettings


class FinetuneConfig(FinetuneSettings):
    """`alice finetune STORE OUT --encoder E --labels N`."""

    positional: ClassVar[tuple[str, ...]] = ("store", "out")


def run(config: FinetuneConfig) -> dict[str, Any]:
    """Train, then write model.safetensors and its card."""
    from alice3d.engine.supervised import finetune, prepare_finetuning
    from alice3d.nn.weights import save_weights

    job = prepare_finetuning(config)
    state = outputs.check(config.out, "model", job.settings, overwrite=config.overwrite)
    if state == "done":
        console.say(f"{config.out}: already done")
        return outputs.earlier_result(config.out)
    validate = None
    if config.validate_every and config.head != "linear":
        from alice3d.evaluation.learning import SegmentationCheck

        validate = SegmentationCheck(job)
    result, net, card = finetune(job, state, validate)
    save_weights(config.out, "model", net.state_dict(), card)
    done = {"steps": result.steps, "loss": result.loss, "seconds": result.seconds, "out": str(config.out)}
    outputs.finish(config.out, done)
    console.say(
        f"Model written to {config.out}, from {len(job.cases)} labelled cases. "
        f"Next: alice evaluate {config.out} {config.store}"
    )
    return done
