"""Required content of a card, checked before anything is built from it. Other keys are allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.errors import UserError
from alice3d.nn.heads.classification import Pool

SHOWN = 40
"""Maximum length of a wrong value in a message."""
USUAL_CROP = 48
"""Voxels per side of the training crops where a card does not say: the default of pre-training."""
Count = Annotated[int, Field(ge=1)]
Millimetres = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Spacing = tuple[Millimetres, Millimetres, Millimetres]


class Part(BaseModel):
    """Part of a card."""

    model_config = ConfigDict(extra="allow", frozen=True)


class BackbonePart(Part):
    """`backbone`."""

    name: str
    in_channels: Count
    options: dict[str, Any] | None = None


class SeenCase(Part):
    """One of `cases`; a scan without either checksum would pass every check for leakage of training scans."""

    checksum: str = ""
    content: str = ""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if not (self.checksum or self.content):
            raise ValueError("checksum or content of the scan is needed")
        return self


class Source(Part):
    """`init` or `encoder`: the initial weights, and their training data."""

    cases: list[SeenCase] = []


class Card(Part):
    """Card of any kind of weights."""

    backbone: BackbonePart
    spacing_mm: Spacing
    intensity: IntensityRule
    cases: list[SeenCase]
    crop: Count = USUAL_CROP
    method: dict[str, Any] = {}
    init: Annotated[Source | None, BeforeValidator(lambda value: None if isinstance(value, str) else value)] = None
    """Cards of early versions hold only a name."""
    encoder: Source | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="after")
    def _channels(self) -> Self:
        given, wanted = self.intensity.channels, self.backbone.in_channels
        if given != wanted:
            raise ValueError(f"backbone.in_channels is {wanted}, but intensity gives {given} channels")
        return self


class Matching(Part):
    """`matching`."""

    mode: str = "robust"
    fine_width: Count = 1
    coarse_width: Count = 1
    trunk: bool = False
    acceptance: dict[str, float] = {}


class MatcherCard(Card):
    """Card of a matcher."""

    matching: Matching = Matching()


class SegmenterCard(Card):
    """Card of a model with `task: segmentation`."""

    crop: Count
    head: Literal["unet", "linear", "both"]
    labels: Annotated[dict[Count, str], Field(min_length=1)]
    single_piece: list[int] = []
    """Label values of structures that are one connected component in every training case; predictions of them lose
    their small components."""

    @model_validator(mode="after")
    def _known_values(self) -> Self:
        if not set(self.single_piece) <= set(self.labels):
            raise ValueError("single_piece names a value that is not among the labels")
        return self


class ClassifierCard(Card):
    """Card of a model with `task: classification`."""

    crop: Count
    classes: Annotated[list[str], Field(min_length=2)]
    pool: Pool
    points: bool
    voxel_mm: Spacing


TASKS: dict[str, type[Card]] = {"segmentation": SegmenterCard, "classification": ClassifierCard}


def crop_of(card: Mapping[str, Any]) -> int:
    """Voxels a side of the crops that the weights of a card learnt from."""
    return int(card.get("crop", USUAL_CROP))


def check_card(card: dict[str, Any], kind: str, where: str) -> None:
    """Check a card against the requirements of its kind and task.

    Args:
        card: as read.
        kind: encoder, matcher or model.
        where: the file, for the message.

    Raises:
        UserError: something is missing or wrong; one line with the name of the field.
    """
    task = card.get("task")
    wanted: type[Card] = MatcherCard if kind == "matcher" else Card
    if kind == "model" and isinstance(task, str):
        wanted = TASKS.get(task, Card)
    try:
        wanted.model_validate(card)
    except ValidationError as error:
        errors = error.errors()
        names = [".".join(str(part) for part in one["loc"] if part != "[key]") for one in errors]
        lacking = [
            name
            for name, one in zip(names, errors, strict=True)
            if one["type"] == "missing" and isinstance(one["loc"][-1], str)
        ]
        if lacking:
            raise UserError(f"{where}: the card lacks {', '.join(lacking)}") from None
        message = (
            "too few numbers" if errors[0]["type"] == "missing" else errors[0]["msg"].removeprefix("Value error, ")
        )
        given = errors[0]["input"]
        # A whole list or mapping is not helpful, and the content of `cases` may name a patient.
        shown = names[0].startswith("cases") or isinstance(given, dict | list) or errors[0]["type"] == "missing"
        got = "" if shown else f", got {repr(given)[:SHOWN]}"
        raise UserError(f"{where}: {names[0] or 'card'}: {message}{got}") from None
