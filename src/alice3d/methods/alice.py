"""Alice: masked reconstruction and self-distillation aligned within and between two patients' matched crops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed import ReduceOp

from alice3d.config import Config
from alice3d.distributed import all_reduce, world_size
from alice3d.losses.contrast import crop_contrast
from alice3d.losses.distill import Centring, balanced, distillation_loss, entropy, koleo, warmed
from alice3d.losses.reconstruct import reconstruction_loss
from alice3d.losses.target_queue import FEWEST_PAIRS, TargetQueue, by_crop
from alice3d.methods.alice_settings import AliceConfig
from alice3d.methods.base import PretrainMethod
from alice3d.nn.backbones.base import Backbone
from alice3d.nn.casa import CASA
from alice3d.nn.decoder import TokenDecoder, lifted
from alice3d.nn.ema import cosine_momentum, target_of, update_ema
from alice3d.nn.heads.embedding import dense_head, has_pyramid
from alice3d.nn.heads.prototypes import PrototypeHead
from alice3d.nn.layers import take_visible


class Alice(PretrainMethod):
    """Figure 2 of Jiang et al., ICCV 2023 (arXiv 2302.05615), top to bottom.

    Q is a crop of one patient, K the crop around the matched point of another. E_s sees Q and K through the masks u
    and r; E_t, its moving average, sees the whole views w(Q) and v(K).
    """

    Config: ClassVar[type[Config]] = AliceConfig
    paper: ClassVar[str] = "Jiang et al., ICCV 2023, arXiv 2302.05615"
    advice: ClassVar[Mapping[str, str]] = {
        "answers": "try --options.balance sinkhorn, --options.spread 0.15, a lower --options.teacher_temperature or a "
        "larger --batch",
        "features": "try a lower --learning-rate, a longer --warmup, --options.momentum 0.996 or more "
        "--options.reconstruction_weight",
        "pairs": "balanced over fewer, the targets of two matched crops become opposite; take a larger --batch, a "
        "smaller --accumulate, or --options.queue 8",
    }
    places_seed: Tensor

    def __init__(self, backbone: Backbone, config: AliceConfig, *, crop: int, total_steps: int) -> None:
        super().__init__(backbone, config, crop=crop, total_steps=total_steps)
        if config.local_views and crop < 2 * backbone.stride:
            raise ValueError(
                f"options.local_views: half a crop of {crop} voxels is less than the stride {backbone.stride}"
            )
        width = backbone.width
        self.target_backbone = target_of(backbone)  # E_t
        self.decoder = TokenDecoder(  # D_s
            encoder_width=width,
            patch_values=backbone.stride**3 * backbone.in_channels,
            width=config.decoder_width,
            depth=config.decoder_depth,
            heads=config.decoder_heads,
        )
        self.casa = (
            CASA(width=width, decoder_width=config.decoder_width, heads=config.casa_heads) if config.casa else None
        )
        sizes = {"hidden": config.hidden, "bottleneck": config.bottleneck, "prototypes": config.prototypes}
        self.patch_head = PrototypeHead(width, **sizes)
        self.class_head = PrototypeHead(width, **sizes)
        self.target_patch_head = target_of(self.patch_head)
        self.target_class_head = target_of(self.class_head)
        self.patch_centre, self.class_centre = Centring(config.prototypes), Centring(config.prototypes)
        self.patch_queue, self.class_queue = TargetQueue(config.queue), TargetQueue(config.queue)
        self.patch_predictor = _predictor(width, config.hidden) if config.predictor else nn.Identity()
        self.class_predictor = _predictor(width, config.hidden) if config.predictor else nn.Identity()
        self.dense = dense_head(backbone) if config.dense_weight else None
        self.dense_lift = None
        if self.dense is not None and config.dense_from == "decoder":
            if has_pyramid(backbone):
                raise ValueError("options.dense_from: decoder is for a ViT; this backbone has finer maps to read")
            self.dense_lift = nn.Linear(config.decoder_width, width)
        self.target_dense = target_of(self.dense) if self.dense is not None else None
        if config.local_views:  # the loop tells a method no seed: one is drawn as the weights are, and kept with them
            self.register_buffer("places_seed", torch.randint(2**62, ()))

    @property
    def needs_hidden(self) -> bool:
        """Only the reconstruction of hidden patches does."""
        return bool(self.config.hidden_only and self.config.reconstruction_weight)

    @property
    def fewest_pairs(self) -> int:
        """KoLeo spreads crops apart, so it needs two."""
        return 2 if self.config.koleo_weight else 1

    @property
    def fewest_pairs_together(self) -> int:
        """Balanced targets need several, unless a queue holds those of earlier passes."""
        return FEWEST_PAIRS if self.config.balances and not self.config.queue else 1

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """All losses of one batch of crop pairs; Q and K go through the networks as one stack, Q first."""
        config = self.config
        visible = torch.cat([batch["visible_q"], batch["visible_k"]])  # u and r, True = visible
        masked = torch.cat([batch["q"], batch["k"]])
        whole = torch.cat([batch["q_target"], batch["k_target"]])  # w(Q) and v(K)
        grid = self.backbone.token_grid(masked.shape[2:])

        # Online encoder on visible patches, online decoder on all positions: V_u, V_r and H_u, H_r.
        online_class, online_patches = self.backbone.tokens(masked, visible)
        decoded, rebuilt = self.decoder(online_class, online_patches, visible, grid)
        reconstruction = reconstruction_loss(
            rebuilt,
            torch.cat([batch["q_clean"], batch["k_clean"]]),
            visible,
            patch=self.backbone.stride,
            normalised=config.normalised,
            hidden_only=config.hidden_only,
        )

        # Target encoder on whole views: Y_w, Y_v.
        with torch.no_grad():
            target_class, target_patches, target_pyramid = self._target(whole)

        # CASA: both branches complete each visible token, S_u, S_r and T_w, T_v.
        if self.casa is not None:
            student = self.casa.online(online_patches, decoded)
            with torch.no_grad():
                teacher = self.casa.target(online_patches, target_patches)
        else:
            student, teacher = online_patches, take_visible(target_patches, visible)

        # Intra-volume: S_u^Q against T_w^Q and S_r^K against T_v^K, per visible token.
        patch_loss, patch_monitors = self._distil("patch", student.flatten(0, 1), teacher, step)
        # Inter-volume: cls_u^Q against cls_v^K and cls_r^K against cls_w^Q.
        crossed = target_class.roll(len(masked) // 2, dims=0)
        classes = [online_class, *self._local_classes(masked, step)]
        class_loss, class_monitors = self._distil("class", torch.cat(classes), crossed, step)

        parts = {"class": class_loss, "patch": patch_loss, "reconstruction": reconstruction}
        weights = {
            "class": config.class_weight,
            "patch": config.patch_weight,
            "reconstruction": config.reconstruction_weight,
        }
        if config.koleo_weight:
            parts["koleo"] = (koleo(online_class[: len(masked) // 2]) + koleo(online_class[len(masked) // 2 :])) / 2
            weights["koleo"] = config.koleo_weight
        if self.dense is not None:
            maps = self._lifted(decoded, online_patches, visible, grid)
            parts["dense"] = self._dense_contrast(batch, maps, target_pyramid)
            weights["dense"] = config.dense_weight
        loss = torch.stack([weights[name] * part for name, part in parts.items() if weights[name]]).sum()
        return {
            "loss": loss,
            **{name: part.detach() for name, part in parts.items()},
            **patch_monitors,
            **class_monitors,
            "token_deviation": online_patches.detach().float().std(dim=(0, 1)).mean(),
        }

    def _distil(self, kind: str, student: Tensor, teacher: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Heads with prototypes, the teacher balanced and sharpened; cross-entropy, and the entropies to watch.

        Where the student has several answers to each of the teacher's, they follow one another in its rows.
        """
        student = getattr(self, f"{kind}_predictor")(student)
        probability, watched, enough = self._targets(kind, teacher, step)
        answers = probability.repeat(len(student) // len(probability), 1)
        logits = getattr(self, f"{kind}_head")(student)
        loss = distillation_loss(logits, answers, student_temperature=self.config.student_temperature)
        mean = all_reduce(watched.mean(dim=0, keepdim=True), ReduceOp.AVG)
        return loss if enough else loss * 0, {
            f"{kind}_target_entropy": entropy(watched),  # of each answer: falls as the teacher grows sure
            f"{kind}_marginal_entropy": entropy(mean),  # of their mean over all ranks: 0 = collapsed
        }

    @torch.no_grad()
    def _targets(self, kind: str, teacher: Tensor, step: int) -> tuple[Tensor, Tensor, bool]:
        """Target probabilities of the teacher's tokens (2b, …, d); those to watch; whether they are of enough pairs.

        Few pairs are standardised and balanced together with those in the queue, which are watched as well.
        """
        head, queue = getattr(self, f"target_{kind}_head"), getattr(self, f"{kind}_queue")
        pairs, rows = len(teacher) // 2, teacher.flatten(0, -2)
        if not queue.pairs or not self.config.balances or pairs * world_size() >= FEWEST_PAIRS:
            probability = self._balanced(kind, head(rows), step)
            return probability, probability, True
        tokens, own = queue.put(rows, pairs)
        # The same rows in every process: sums over processes multiply all alike, and leave means as they are.
        every = self._balanced(kind, head(tokens.flatten(0, 1)), step)
        return by_crop(every.reshape(*tokens.shape[:2], -1)[own]), every, len(tokens) >= FEWEST_PAIRS

    def _balanced(self, kind: str, logits: Tensor, step: int) -> Tensor:
        """Probabilities of target logits, standardised and balanced over the rows of all processes."""
        centring = None if self.config.balance == "sinkhorn" else getattr(self, f"{kind}_centre")
        return balanced(logits, self._teacher_temperature(step), spread=self.config.spread, centring=centring)

    def _local_classes(self, views: Tensor, step: int) -> list[Tensor]:
        """Class tokens of crops of half the side, at places drawn from the run's seed and the number of the step."""
        if not self.config.local_views:
            return []
        side = views.shape[2] // 2 // self.backbone.stride * self.backbone.stride
        rng = np.random.default_rng([int(self.places_seed), step])
        tokens = []
        for _ in range(self.config.local_views):
            x, y, z = rng.integers(views.shape[2] - side + 1, size=3)
            tokens.append(self.backbone.tokens(views[:, :, x : x + side, y : y + side, z : z + side])[0])
        return tokens

    def _teacher_temperature(self, step: int) -> float:
        first, last = self.config.teacher_temperature
        return warmed(first, last, share=self.config.teacher_warmup, step=step, total_steps=self.total_steps)

    def _target(self, whole: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        if self.dense is None:
            return (*self.target_backbone.tokens(whole), [])
        return self.target_backbone.whole(whole)

    def _lifted(
        self, decoded: Tensor, patches: Tensor, visible: Tensor, grid: tuple[int, int, int]
    ) -> list[Tensor] | None:
        """A map of tokens from the masked view: H_u at all places, and V_u itself where the encoder saw the patch."""
        if self.dense_lift is None:
            return None
        return [lifted(self.dense_lift(decoded), patches, visible, grid)]

    def _dense_contrast(
        self, batch: dict[str, Tensor], maps: list[Tensor] | None, target_pyramid: list[Tensor]
    ) -> Tensor:
        """Past the paper: points of Q against their places in K, other places of K as negatives; and back.

        Online features of the whole view, or of the masked one, against target features of the partner.
        """
        assert self.dense is not None
        assert self.target_dense is not None
        b = len(batch["q"])
        maps = maps if maps is not None else self.backbone.pyramid(torch.cat([batch["q"], batch["k"]]))
        online = self.dense(maps)
        with torch.no_grad():
            target = self.target_dense(target_pyramid)
        losses = [
            crop_contrast(
                [one[view] for one in online],
                [one[other] for one in target],
                batch,
                query=query,
                key=key,
                temperature=self.config.dense_temperature / len(online),
                ignore_mm=self.config.ignore_mm,
            )
            for query, key, view, other in (
                ("q", "k", slice(0, b), slice(b, None)),
                ("k", "q", slice(b, None), slice(0, b)),
            )
        ]
        return torch.stack(losses).mean()

    def after_step(self, step: int) -> None:
        """Everything of the target branch follows its online twin; the momentum rises along a cosine."""
        self._follow(cosine_momentum(step, self.total_steps, start=self.config.momentum, end=self.config.momentum_end))

    def reset_target(self) -> None:
        """Make the target branch equal to the online one."""
        self._follow(0.0)

    def _follow(self, momentum: float) -> None:
        update_ema(self.target_backbone, self.backbone, momentum)
        update_ema(self.target_patch_head, self.patch_head, momentum)
        update_ema(self.target_class_head, self.class_head, momentum)
        if self.casa is not None:
            self.casa.after_step(momentum)
        if self.dense is not None and self.target_dense is not None:
            update_ema(self.target_dense, self.dense, momentum)

    def encoder(self) -> Backbone:
        """E_s, or E_t where `downstream` asks for it."""
        return self.target_backbone if self.config.downstream == "target" else self.backbone


def _predictor(width: int, hidden: int) -> nn.Module:
    """MLP of the online side that the target has not (BYOL, Grill et al., NeurIPS 2020)."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
