"""Pre-train an encoder without labels: Alice, or a rival objective."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from alice3d import console, outputs
from alice3d.engine.settings import SelfSupervisedSettings
from alice3d.errors import UserError

if TYPE_CHECKING:
    from alice3d.engine.monitors import Probe
    from alice3d.engine.selfsupervised import Job


class PretrainConfig(SelfSupervisedSettings):
    """`alice pretrain STORE OUT --method alice --pairs PAIRS`."""

    positional: ClassVar[tuple[str, ...]] = ("store", "out")
    uncounted: ClassVar[frozenset[str]] = SelfSupervisedSettings.uncounted | {
        "probe_every",
        "probe_split",
        "probe_cases",
        "landmarks",
    }
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
    mask_regions: bool = False
    """Masks follow anatomy: patches that lie near each other and look alike hide together, about `mask_block`³ at a
    time."""
    probe_every: Annotated[int, Field(ge=0)] = 0
    """Steps between probes of the frozen features on a few labelled cases (nearest neighbours) and, with
    `--landmarks`, by landmark retrieval in mm; 0 = never. Each costs about two steps at 4 mm."""
    probe_split: str = "val"
    """Split of the cases that are probed; choose on it, and keep the test split for the end."""
    probe_cases: Annotated[int, Field(ge=2)] = 4
    """Cases that are probed."""
    landmarks: Path | None = None
    """CSV with the columns case, structure, x_mm, y_mm, z_mm (RAS), for the probe."""


def run(config: PretrainConfig) -> dict[str, Any]:
    """Train, then write encoder.safetensors and its card."""
    from alice3d.engine.selfsupervised import prepare_training, train
    from alice3d.report.run_page import drawn_at_the_end
    from alice3d.weights.files import save_weights

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
        regions=config.mask_regions,
    )
    state = outputs.check(config.out, "encoder", job.settings, overwrite=config.overwrite)
    if state == "done":
        console.say(f"{config.out}: already done")
        return outputs.earlier_result(config.out)
    probe = build_probe(config, job) if config.probe_every else None
    with drawn_at_the_end(config.out):
        result, card = train(job, state, probe=probe, probe_every=config.probe_every)
    save_weights(config.out, "encoder", job.method.encoder().state_dict(), card)
    done = {"steps": result.steps, "loss": result.loss, "seconds": result.seconds, "out": str(config.out)}
    outputs.finish(config.out, done)
    pace = str(result.speed).replace("samples", "pairs")
    console.say(
        f"Encoder written to {config.out}, its curves to curves.html ({pace}). "
        f"Next: alice finetune {config.store} MODEL --encoder {config.out} --labels 5"
    )
    return done


def build_probe(config: PretrainConfig, job: Job) -> Probe:
    """What scores the encoder while it learns, on cases that are read once.

    Raises:
        UserError: the split has too few cases with labels or landmarks.
    """
    from dataclasses import replace

    from alice3d.config import nearest
    from alice3d.data.tables.landmarks import read_landmarks
    from alice3d.engine.device import resolve_device
    from alice3d.evaluation.probe import monitor_inputs, probe_monitor
    from alice3d.evaluation.reading import Reading

    store = job.samples.store
    if config.probe_split not in store.splits:
        raise UserError(
            f"--probe-split: the store has no {config.probe_split!r}; {nearest(config.probe_split, store.splits)}"
        )
    there = {case.id: case for case in store.cases(config.probe_split)}
    marks = read_landmarks(config.landmarks, there) if config.landmarks is not None else None
    marked = set(marks.points_mm) if marks is not None else set()
    useful = [case for case in there.values() if case.id in marked or (case.labelled and case.structures)]
    chosen = sorted(useful, key=lambda case: (case.id not in marked, case.id))[: config.probe_cases]
    if len(chosen) < 2:
        raise UserError(
            f"--probe-every: {len(chosen)} cases of split {config.probe_split!r} have labels or landmarks, 2 are needed"
        )
    device = resolve_device(config.device, config.threads)
    reading = Reading(job.samples.rule, job.samples.settings.spacing_mm, config.crop, device)
    inputs = monitor_inputs(store, chosen, reading, marks)

    def probe(step: int) -> dict[str, float]:
        encoder = job.method.encoder()
        there = next(encoder.parameters()).device  # under torchrun the loop chose it
        return probe_monitor(encoder, replace(inputs, reading=replace(reading, device=there)))

    return probe
