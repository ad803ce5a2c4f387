"""The pipeline as Python calls: prepare, train a matcher, pair, pre-train, fine-tune, evaluate.

Each call takes the settings of its command under the same names, refuses unknown ones, and writes the same results;
only the commands draw curves and figures.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import UnionType
from typing import Any, TypeVar, get_args

from alice3d.apart import check_apart
from alice3d.api.results import Evaluation, Finetuning, MadePairs, MatcherTraining, PreparedStore, Pretraining
from alice3d.config import CommandConfig
from alice3d.data.prepare.configured import prepare_by
from alice3d.data.settings import PrepareConfig
from alice3d.errors import UserError
from alice3d.matching import pairing
from alice3d.matching.settings import PairConfig
from alice3d.pretraining import matcher as matcher_training
from alice3d.pretraining import pretrain as pretraining
from alice3d.pretraining.settings import PretrainConfig, TrainMatcherConfig
from alice3d.tasks import run as tasks
from alice3d.tasks.settings import EvaluateConfig, FinetuneConfig
from alice3d.weights.files import find_weights

C = TypeVar("C", bound=CommandConfig)
PathLike = str | os.PathLike[str]


def prepare(scans: PathLike, store: PathLike, **settings: Any) -> PreparedStore:
    """Fill a store from scans: read, check, reorient to RAS, resample, crop.

    >>> prepared = alice3d.prepare("scans", "store", labels="labels", spacing=4, jobs=4)  # doctest: +SKIP
    >>> prepared.taken, prepared.open().splits                                           # doctest: +SKIP

    Args:
        scans: folder, file, CSV or dataset.json.
        store: folder; the same call again resumes, or adds new scans.
        settings: of `alice prepare`; `spacing` may be a number or three (mm along R, A, S), `label_names` a dict.

    Raises:
        UserError: nothing to read, an unknown setting, or a store made with other settings.
        WorkFailed: the store cannot be written.
    """
    config = checked(PrepareConfig, "prepare", {"scans": scans, "store": store}, settings)
    if config.verify:
        raise UserError("prepare: verify: is for the command line, alice prepare --verify STORE")
    return PreparedStore(config.store, prepare_by(config))


def train_matcher(store: PathLike, out: PathLike, *, pairs: PathLike | None = None, **settings: Any) -> MatcherTraining:
    """Train a matcher, which finds anatomically corresponding points in another scan.

    >>> run = alice3d.train_matcher("store", "matcher", steps=2000)                          # doctest: +SKIP
    >>> alice3d.match(run.matcher(), "a.nii.gz", "b.nii.gz", [[12, -40, 105]]).point_mm      # doctest: +SKIP

    Args:
        store: that `prepare` filled.
        out: folder of the matcher; the same call again resumes.
        pairs: table of `pair`; crops are then taken at corresponding points of two patients.
        settings: of `alice train-matcher`.

    Raises:
        UserError: an input or a setting is wrong.
        WorkFailed: the features collapsed, or the loss is not finite.

    Source: Yan et al., SAM, IEEE TMI 2022.
    """
    given = {"store": store, "out": out, "pairs": pairs}
    config = checked(TrainMatcherConfig, "train_matcher", given, settings)
    return MatcherTraining(config.out, matcher_training.train_matcher(config))


def pair(store: PathLike, matcher: PathLike, out: PathLike, **settings: Any) -> MadePairs:
    """Match points between patients and write a pairs table, from which training samples matched crops.

    >>> table = alice3d.pair("store", "headneck-ct", "pairs", jobs=4).open()  # doctest: +SKIP
    >>> query, key = table.scan_pairs()[0]                                    # doctest: +SKIP

    Args:
        store: that `prepare` filled.
        matcher: a folder or file of `train_matcher`, or a shipped name.
        out: folder of the table; the same call again resumes.
        settings: of `alice pair`; with `jobs` above 1 call it under `if __name__ == "__main__":`.

    Raises:
        UserError: an input or a setting is wrong, or the matcher fails a sanity check.
        WorkFailed: a process died twice at the same scan or pair.
    """
    config = checked(PairConfig, "pair", {"store": store, "matcher": matcher, "out": out}, settings)
    return MadePairs(config.out, pairing.make_pairs(config))


def pretrain(
    store: PathLike, out: PathLike, *, method: str = "alice", pairs: PathLike | None = None, **settings: Any
) -> Pretraining:
    """Pre-train an encoder without labels.

    >>> run = alice3d.pretrain("store", "encoder", pairs="pairs", options={"dense_weight": 0.5})  # doctest: +SKIP
    >>> encoder = run.encoder()  # a torch.nn.Module                                              # doctest: +SKIP

    Args:
        store: that `prepare` filled.
        out: folder of the encoder; the same call again resumes.
        method: see `list_methods`, or package.module of your own.
        pairs: table of `pair`.
        settings: of `alice pretrain`; those of the objective as a dict `options`.

    Raises:
        UserError: an input or a setting is wrong.
        WorkFailed: the features collapsed, or the loss is not finite.

    Source: Jiang et al., Alice, ICCV 2023; He et al., MAE, CVPR 2022.
    """
    given = {"store": store, "out": out, "method": method, "pairs": pairs}
    config = checked(PretrainConfig, "pretrain", given, settings)
    return Pretraining(config.out, pretraining.pretrain(config))


def finetune(
    store: PathLike,
    out: PathLike,
    *,
    encoder: PathLike | None = None,
    labels: int | None = None,
    **settings: Any,
) -> Finetuning:
    """Fine-tune a segmenter or a classifier on few labelled scans.

    >>> run = alice3d.finetune("store", "model", encoder="headneck-ct-alice", labels=5)  # doctest: +SKIP
    >>> run.model().predict("scan.nii.gz").save("labels.nii.gz")                         # doctest: +SKIP

    Args:
        store: that `prepare` filled, with labels.
        out: folder of the model; the same call again resumes.
        encoder: a folder or file of `pretrain` or `train_matcher`, or a shipped name; None trains from scratch.
        labels: number of labelled cases, a seeded random subset of the split; None: all.
        settings: of `alice finetune`.

    Raises:
        UserError: an input or a setting is wrong.
        WorkFailed: the loss is not finite.
    """
    given = {"store": store, "out": out, "encoder": encoder, "labels": labels}
    config = checked(FinetuneConfig, "finetune", given, settings)
    return Finetuning(config.out, tasks.finetune(config))


def evaluate(model: PathLike, store: PathLike, *, split: str = "test", **settings: Any) -> Evaluation:
    """Score a model on the labelled cases of a split.

    >>> scores = alice3d.evaluate("model", "store", split="val").scores  # doctest: +SKIP
    >>> scores["dice"]["mean"], scores["dice"]["low"]                    # doctest: +SKIP

    Args:
        model: a folder or file of `finetune`.
        store: that `prepare` filled, with labels.
        split: of the store.
        settings: of `alice evaluate`.

    Raises:
        UserError: model and store do not match, no case to score, or a case of a test split was used in training.
    """
    given = {"model": model, "store": store, "split": split}
    config = checked(EvaluateConfig, "evaluate", given, settings)
    out = tasks.scores_folder(config, find_weights(config.model, "model"))
    return Evaluation(out, tasks.evaluate(config))


def checked(kind: type[C], call: str, given: dict[str, Any], settings: dict[str, Any]) -> C:
    """The settings of a call, under the rules of its command.

    Args:
        kind: settings of the command.
        call: for messages.
        given: the arguments that the call names; None stands for one that was left out.
        settings: the others.

    Raises:
        UserError: unknown, with the nearest that is known, or a value that is not possible; or the output is, holds or
            lies inside an input.
    """
    known = kind.model_fields
    values = {key: value for key, value in given.items() if value is not None} | settings
    words = {key: _word(value, known[key].annotation) if key in known else value for key, value in values.items()}
    config = kind.checked(words, call)
    check_apart(config)
    return config


def _word(value: Any, annotation: Any) -> Any:
    """A value as the settings take it: a path as text; for a setting that is text, numbers and lists as one writes
    them on the command line, `4,4,4`, `-200:300,-1000:1000` or `1=liver,2=spleen`."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if annotation is not str and not (isinstance(annotation, UnionType) and str in get_args(annotation)):
        return [_word(one, None) for one in value] if isinstance(value, (list, tuple)) else value
    if isinstance(value, Mapping):
        return ",".join(f"{key}={one}" for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return ",".join(":".join(map(str, one)) if isinstance(one, (list, tuple)) else str(one) for one in value)
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
