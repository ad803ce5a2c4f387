"""A store filled as the settings of `alice prepare` say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alice3d import console
from alice3d.data.prepare.options import PrepareOptions
from alice3d.data.prepare.prepare import prepare, verify
from alice3d.data.preprocessing.intensity import parse_windows
from alice3d.data.settings import PrepareConfig
from alice3d.data.tables.label_names import read_label_names
from alice3d.executors import cluster


def prepare_by(config: PrepareConfig) -> dict[str, Any]:
    """Fill a store, or verify one.

    Returns:
        the keys of `--json`: counts of accepted and refused scans and the reasons.

    Raises:
        UserError, WorkFailed: as `prepare` and `verify`.
    """
    if config.verify:
        return verify(config.store)

    options = PrepareOptions(
        labels=config.labels,
        splits=config.splits,
        label_names=read_label_names(config.label_names),
        spacing_mm=config.spacing_mm(),
        modality=config.modality,
        crop=config.crop,
        unoriented=config.unoriented,
        volume=config.volume,
        channel=config.channel,
        windows=parse_windows(config.windows) if config.windows else (),
        shard=config.shard_of(),
        seed=config.seed,
        jobs=config.jobs,
        overwrite=config.overwrite,
        prune=config.prune,
        dry_run=config.dry_run,
    )
    with cluster(config.dask) as (executor, workers):
        if executor is not None:
            options = replace(options, jobs=workers)
        result = prepare(config.scans, config.store, options, executor=executor)
    if config.shard and not config.dry_run:
        console.say(f"Part {config.shard} in {config.store}. Next, after the last: the same command without --shard")
    elif not config.dry_run:
        console.say(f"Store in {config.store}. Next: alice train-matcher {config.store} MATCHER")
    return result
