"""Turn an encoder, or a fresh net, into a segmenter or a classifier with labelled cases."""

from __future__ import annotations

from typing import Any, ClassVar

from alice3d import console, outputs
from alice3d.engine.finetune_settings import FinetuneSettings
from alice3d.errors import UserError


class FinetuneConfig(FinetuneSettings):
    """`alice finetune STORE OUT --encoder E --labels N`."""

    positional: ClassVar[tuple[str, ...]] = ("store", "out")


def run(config: FinetuneConfig) -> dict[str, Any]:
    """Train, then write model.safetensors and its card."""
    from alice3d import distributed
    from alice3d.engine.classification import prepare_classification
    from alice3d.engine.supervised import prepare_finetuning

    if config.head == "linear" and distributed.announced() > 1:
        raise UserError("--head linear is solved in seconds by one process; call it without torchrun")
    if config.validate_every and config.shard_weights:
        raise UserError(
            "--validate-every: one process scores alone, which needs whole weights; leave out --shard-weights"
        )
    if config.task == "classification":
        return _finish(config, prepare_classification(config))
    if config.classes is not None:
        raise UserError("--classes is for --task classification; a segmenter learns from the store's labels")
    return _finish(config, prepare_finetuning(config))


def _finish(config: FinetuneConfig, job: Any) -> dict[str, Any]:
    """Train a prepared job, unless that is done already."""
    from alice3d.engine.classification import ClassificationJob, learn_classes
    from alice3d.engine.supervised import finetune
    from alice3d.evaluation.learning import ClassificationCheck, SegmentationCheck
    from alice3d.weights.files import save_weights

    state = outputs.check(config.out, "model", job.settings, overwrite=config.overwrite)
    if state == "done":
        console.say(f"{config.out}: already done")
        return outputs.earlier_result(config.out)
    watch = config.validate_every and config.head != "linear"
    net: Any
    if isinstance(job, ClassificationJob):
        result, net, card = learn_classes(job, state, ClassificationCheck(job) if watch else None)
    else:
        result, net, card = finetune(job, state, SegmentationCheck(job) if watch else None)
    save_weights(config.out, "model", net.state_dict(), card)
    done = {"steps": result.steps, "loss": result.loss, "seconds": result.seconds, "out": str(config.out)}
    outputs.finish(config.out, done)
    console.say(
        f"Model written to {config.out}, from {len(job.cases)} labelled cases. "
        f"Next: alice evaluate {config.out} {config.store}"
    )
    return done
