"""Interface of labelled tasks, and the parts that their training shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
import yaml
from torch import Tensor, nn

from alice3d import console, distributed, files, outputs
from alice3d.config import Config
from alice3d.data.sources.sources import Source
from alice3d.data.store import Case, Store
from alice3d.engine.fit import FitResult
from alice3d.plugins import find_class, listed_folders
from alice3d.tasks.settings import EvaluateConfig, FinetuneSettings, PredictConfig

Validate = Callable[[nn.Module], dict[str, float]]
"""A network in evaluation mode to its scores by name, such as `val_dice`."""


class Job(Protocol):
    """Everything that training a task needs, checked; nothing is written yet."""

    @property
    def config(self) -> FinetuneSettings:
        """The settings as given."""
        ...

    @property
    def cases(self) -> list[Case]:
        """The training cases."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """All that the result depends on, inputs by checksum."""
        ...


@dataclass(frozen=True)
class Selection:
    """Cases or scans to score or predict.

    Attributes:
        cases: of a store, that are scored.
        sources: output name to scan, that are predicted.
        inputs: name to checksum of other inputs of the result.
        rows: data of the task about them.
    """

    cases: list[Case] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    rows: Any = None


class Task(ABC):
    """A labelled task: training, scoring and prediction. `tasks/run.py` does what is the same for all.

    A task is a folder of `tasks/` whose module `task` defines one class of this kind, or `package.module` of the user's
    own. A model is any object with the attributes `card`, the JSON card of its weights, `rule`, an `IntensityRule`, and
    `spacing_mm`; with a method `predict(scan, *, points_mm, device)` it also works with `alice3d.predict`.

    Attributes:
        Config: settings that `alice finetune --task-options.FIELD` takes for it.
        uses: settings of `alice finetune`, `evaluate` and `predict` that it uses beyond `EVERY_TASK`, such as `LOOP`
            (`tasks/settings.py`); a call that gives another one is refused.
        done: participle for messages, such as `segmented`.
    """

    Config: ClassVar[type[Config]] = Config
    uses: ClassVar[frozenset[str]] = frozenset()
    done: ClassVar[str] = "predicted"

    @abstractmethod
    def prepare(self, config: FinetuneSettings, options: Any) -> Job:
        """Open the inputs, sample the cases, build the network; nothing is written.

        Args:
            config: of `alice finetune`.
            options: an instance of `Config`.

        Raises:
            UserError: an input or an option is wrong.
        """

    @abstractmethod
    def train(self, job: Any, state: outputs.State, *, watch: bool) -> tuple[FitResult, nn.Module, dict[str, Any]]:
        """Claim the output folder and train.

        Args:
            job: from `prepare`.
            state: of the folder, from `outputs.check`.
            watch: validate the current model every `validate_every` steps.

        Returns:
            result of the run, the trained network in evaluation mode, and its card.
        """

    @abstractmethod
    def load(self, weights: Path) -> Any:
        """The model of a weights file of this task.

        Raises:
            UserError: damaged, or of another task.
        """

    @abstractmethod
    def select_cases(self, model: Any, store: Store, config: EvaluateConfig, weights: Path) -> Selection:
        """The cases of a store that are scored.

        Raises:
            UserError: none, or they do not match the model.
        """

    @abstractmethod
    def score(
        self, model: Any, store: Store, chosen: Selection, config: EvaluateConfig, *, out: Path, device: str
    ) -> dict[str, Any]:
        """Predict and score; writes OUT/metrics.csv, at least one row per case. Returns the keys of `--json`."""

    @abstractmethod
    def say(self, model: Any, result: dict[str, Any], config: EvaluateConfig, out: Path) -> None:
        """Print the scores and the next command."""

    @abstractmethod
    def select_scans(self, model: Any, found: dict[str, Source], config: PredictConfig) -> Selection:
        """The scans to predict, of all that were found.

        Raises:
            UserError: an option does not match the model.
        """

    @abstractmethod
    def predict(
        self, model: Any, chosen: Selection, config: PredictConfig, *, device: str, refused: dict[str, str]
    ) -> dict[str, Any]:
        """Write predictions of the scans; unreadable ones go into `refused`. Returns `written` and more keys."""

    def predicts(self, names: list[str]) -> list[str]:
        """Files that `predict` writes for scans of these names, as far as they are known before; relative to OUT."""
        return []

    def say_predicted(self, made: dict[str, Any], out: Path) -> tuple[str, str]:
        """Output of `predict`, for the last line, and the next step."""
        return f"{len(made['written'])} files written to {out}", ""


FOLDER = Path(__file__).parent


def task_names() -> list[str]:
    """Names of the tasks of this package."""
    return listed_folders(FOLDER, "task")


def find_task(name: str) -> Task:
    """The task of a name, or of `package.module` in the user's own code.

    Raises:
        UserError: no such task.
    """
    return find_class(name, Task, {one: f"alice3d.tasks.{one}.task" for one in task_names()}, "task")()  # type: ignore[type-abstract]


def minimise(loss_of: Callable[[], Tensor], parameters: list[Tensor], iterations: int) -> float:
    """L-BFGS with a strong Wolfe line search; returns the loss reached."""
    optimiser = torch.optim.LBFGS(parameters, max_iter=iterations, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = loss_of()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return float(loss_of())


class Trained(Protocol):
    """A task that can return the current model."""

    def trained(self) -> nn.Module:
        """The network with EMA weights, or the network itself."""
        ...


def claim(
    config: FinetuneSettings, settings: dict[str, Any], state: outputs.State, pinned: dict[str, Any] | None = None
) -> None:
    """Begin the run in the output folder before training reads it, so that checkpoints of a replaced run are removed.

    Args:
        config, settings: of the run.
        state: of the folder, from `outputs.check`.
        pinned: what the run chose of its inputs, see `data.store.pins`.
    """
    if distributed.rank() == 0:
        more = {"pinned": pinned} if pinned is not None else {}
        outputs.begin(config.out, "model", settings, state=state, overwrite=config.overwrite, more=more)
        written = {**config.written(), "out": str(outputs.shown(config.out))}
        files.write_text(config.out / "config.yaml", yaml.safe_dump(written, sort_keys=False))


def already_claimed() -> None:
    """For `fit`: the folder is already claimed, since a linear head is fitted before."""


def watched(
    task: Trained, config: FinetuneSettings, validate: Validate | None
) -> Callable[[int], dict[str, float]] | None:
    """Called by the loop after each step: nothing, or the validation scores of the current model."""
    if validate is None or not config.validate_every:
        return None

    def watch(step: int) -> dict[str, float]:
        if (step % config.validate_every and step != config.steps) or distributed.rank():
            return {}
        net = task.trained()
        learning = net.training
        scores = validate(net.eval())
        net.train(learning)
        shown = ", ".join(f"{name.removeprefix('val_')} {value:.3f}" for name, value in scores.items())
        console.say(f"Step {step}: {shown} on {config.validate_split}")
        return scores

    return watch


def plain(config: Config, names: tuple[str, ...]) -> dict[str, Any]:
    """The settings that a card repeats."""
    return {name: getattr(config, name) for name in names}
