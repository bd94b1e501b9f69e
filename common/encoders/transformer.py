"""The spectrogram transformer that PaSST, frame-wise PaSST, ATST-Frame, M2D and ASiT share.

All five are pre-norm ViTs on a log-mel. What differs is data (`Config`): the front end, how patches become tokens, how
positions are added, which tokens the readout takes, and what happens to recordings that are not 10 s long.
PaSST: Koutini et al. 2022; frame-wise PaSST: Schmid et al. 2024; ATST-Frame: Li et al. 2024; M2D: Niizumi et al. 2023;
ASiT: Atito et al. 2024.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from timm.models import adapt_input_conv
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from common.encoders.base import Encoder, FrameEncoder, Output, resample_frames
from common.encoders.checkpoints import strip_prefix
from common.frontends import SETTINGS, MelSetting
from common.run.errors import UserError

# Tables of the front ends, which some files hold, and counters.
FRONT_END = re.compile(r"(^|\.)to_spec\.|mel_transform|atst_mel|(^|\.)mel\.(window|preemphasis)|num_batches_tracked$")
# Where the encoder lies in files of other systems: what follows the match is kept, the rest dropped. In turn: Task 4
# systems of 2024 (cpjku_dcase24); ATST-Frame's own pre-training, its fine-tuning, and ATST-SED.
INSIDE = (
    r"^(student\.|model\.|net\.)?net_strong\.",
    r"model\.teacher\.encoder\.",
    r"encoder\.encoder\.frame_encoder\.",
    r"encoder\.encoder\.(?!teacher_module\.)",
)


@dataclass(frozen=True)
class Patchout:
    """How many time columns, frequency rows and, after those, single tokens are left out in training.

    The subset is drawn for each batch, as published, or with `per_example` for each clip.
    """

    time: int = 0
    frequency: int = 0
    tokens: int = 0
    per_example: bool = False


class Draws(NamedTuple):
    """Random draws of one training pass. Kept indices, sorted, (kept,) for all clips or (batch, kept); None: all.

    offset: () first entry of the time table that a shorter clip takes; None: 0.
    """

    columns: Tensor | None = None
    rows: Tensor | None = None
    tokens: Tensor | None = None
    offset: Tensor | None = None


def draw_patchout(patchout: Patchout, batch: int, rows: int, columns: int, device: torch.device | str = "cpu") -> Draws:
    """Draws for patches in `rows` x `columns`, from torch's generator of the device. Raises UserError if none stay."""

    def subset(total: int, dropped: int, what: str) -> Tensor | None:
        if dropped == 0:
            return None
        if not 0 < dropped < total:
            raise UserError(f"patchout: {dropped} of {total} {what} left out; at most {total - 1} can be")
        clips = batch if patchout.per_example else 1
        order = torch.rand(clips, total, device=device).argsort(dim=1)
        return order[:, : total - dropped].sort(dim=1).values

    kept = (columns - patchout.time) * (rows - patchout.frequency)
    return Draws(
        subset(columns, patchout.time, "time columns"),
        subset(rows, patchout.frequency, "frequency rows"),
        subset(kept, patchout.tokens, "tokens"),
    )


def kept(patches: Tensor, draws: Draws) -> tuple[Tensor, tuple[int, int]]:
    """Patches (batch, dim, rows, columns), positions added -> tokens that stay (batch, kept, dim) and their grid.

    Row by row; single tokens that are left out leave a grid of one row. Koutini et al. 2022.
    """
    x = patches
    if draws.columns is not None:
        x = x.take_along_dim(torch.atleast_2d(draws.columns)[:, None, None], dim=3)
    if draws.rows is not None:
        x = x.take_along_dim(torch.atleast_2d(draws.rows)[:, None, :, None], dim=2)
    grid = (x.shape[2], x.shape[3])
    x = x.flatten(2).transpose(1, 2)
    if draws.tokens is None:
        return x, grid
    x = x.take_along_dim(torch.atleast_2d(draws.tokens)[..., None], dim=1)
    return x, (1, x.shape[1])


@dataclass(frozen=True)
class Config:
    """One model as data. Sizes are in mel bands x frames, grids in rows x columns of patches."""

    front_end: str | MelSetting
    grid: tuple[int, int]  # of the position table
    # split: a table for time and one for frequency; cropped, resized: one table that shorter clips take the first
    # columns of, or that is interpolated to every other length.
    position: Literal["split", "cropped", "resized"]
    readout: Literal["clip", "stacked", "all"]  # special tokens; the rows of each column; all tokens as they are
    special_tokens: int = 0  # 1: cls; 2: cls and dist, with positions of their own
    patch: tuple[int, int] = (16, 16)
    stride: tuple[int, int] = (16, 16)
    time_first: bool = False  # the patch convolution sees frames x bands, and rows are time
    stem: tuple[int, ...] = ()  # channels of the convolutions before the patches
    chunk: int | None = None  # mel frames that are encoded at once; longer ones in chunks
    longest: float | None = 10.0  # see `Encoder`
    norm_stats: tuple[float, float] | None = None  # the file has mean and deviation of the log-mel
    mask_token: bool = False  # the file has the token of the pre-training
    prefixes: tuple[str, ...] = ("",)  # of the names in published files
    anchor: str = "cls_token"
    qkv_bias: bool = True
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0

    def tiny(self, **changes: Any) -> "Config":
        """The same model with few parameters and random weights, for tests and toys."""
        return replace(self, **({"dim": 48, "depth": 2, "heads": 4, "mlp_ratio": 2.0} | changes))


class SpectrogramTransformer(FrameEncoder):
    """A pre-norm ViT on a log-mel; frames from its tokens.

    depth: only the first blocks (Task 4 has found two less to be better). norm: "final", the norm after the published
    last block is also that of the cut network; "none". patchout: in training, only for models whose position table is
    split. top_db_per_batch: as in `LogMel`, for parity with the published ATST-Frame code.
    """

    def __init__(
        self,
        config: Config,
        num_classes: int | None = 447,
        head: Literal["linear", "attention"] = "linear",
        depth: int | None = None,
        norm: Literal["final", "none"] = "final",
        patchout: Patchout | None = None,
        top_db_per_batch: bool = False,
    ) -> None:
        self.config = config
        rows = config.grid[0] if config.readout == "stacked" else 1
        super().__init__(config.front_end, config.dim * rows, num_classes, head)
        depth = config.depth if depth is None else depth
        if not 1 <= depth <= config.depth:
            raise UserError(f"depth {depth}: the model has 1 to {config.depth} blocks")
        if patchout and config.position != "split":
            raise UserError("patchout needs a model whose position table is split: passt, fpasst")
        self.patchout = patchout or Patchout()
        self.front_end.top_db_per_batch = top_db_per_batch
        self.longest = config.longest
        self.shortest = 1 if config.stem or config.chunk else config.patch[1]
        setting = self.front_end.setting
        tokens_a_step = setting.num_mels // config.patch[0] if config.readout == "all" else 1
        step = 2 ** (len(config.stem) - 1) if config.stem else config.stride[1]
        self.step_rate = setting.sample_rate / setting.hop / step * tokens_a_step

        self._make_embedding()
        layer_norm = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, config.mlp_ratio, config.qkv_bias, norm_layer=layer_norm)  # type: ignore
            for _ in range(depth)
        )
        self.norm = layer_norm(config.dim) if norm == "final" else None

    def _make_embedding(self) -> None:
        config, dim = self.config, self.config.dim
        channels = config.stem[-1] // 4 if config.stem else 1
        for index, (before, after) in enumerate(pairwise((1, *config.stem))):
            self.add_module(f"conv_in_{index + 1}", nn.Conv2d(before, after, 3, 1 if index == 1 else 2, padding=1))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(channels, dim, config.patch, config.stride)})

        def table(*shape: int) -> nn.Parameter:
            return nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=0.02))

        rows, columns = config.grid
        self.cls_token = table(1, 1, dim) if config.special_tokens else None
        self.dist_token = table(1, 1, dim) if config.special_tokens == 2 else None
        if config.position == "split":
            self.new_pos_embed = table(1, 2, dim)
            self.freq_new_pos_embed, self.time_new_pos_embed = table(1, dim, rows, 1), table(1, dim, 1, columns)
        else:
            self.pos_embed = table(1, 1 + rows * columns, dim)
        # Not trained, but in the published files and counts.
        self.mask_embed = nn.Parameter(torch.zeros(1, 1, dim), requires_grad=False) if config.mask_token else None
        stats = config.norm_stats
        self.norm_stats = nn.Parameter(torch.tensor(stats), requires_grad=False) if stats else None

    def mel(self, waveform: Tensor) -> Tensor:
        x = self.front_end(waveform)
        return x if self.norm_stats is None else (x - self.norm_stats[0]) / self.norm_stats[1]

    def patches(self, mel: Tensor) -> Tensor:
        """Log-mel (batch, mel, frames) -> (batch, dim, rows, columns), without positions."""
        x = mel[:, None]
        for index in range(len(self.config.stem)):
            x = F.gelu(self.get_submodule(f"conv_in_{index + 1}")(x))
        if self.config.stem:
            # Four channels on top of each other give the 128 rows that the patches cover; the last step sees a zero.
            x = F.pad(x.reshape(len(x), x.shape[1] // 4, -1, x.shape[3]), (0, 1))
        x = self.patch_embed["proj"](x.transpose(2, 3) if self.config.time_first else x)
        return x[..., : self.config.grid[1]] if self.config.position == "split" else x

    def positions(self, rows: int, columns: int, offset: Tensor | None = None) -> Tensor:
        """(1, dim, rows, columns)."""
        if self.config.position == "split":
            times = torch.arange(columns, device=self.time_new_pos_embed.device)
            time = self.time_new_pos_embed[..., times if offset is None else offset + times]
            return time + self.freq_new_pos_embed
        table = self.pos_embed[:, 1:].transpose(1, 2)
        if self.config.position == "cropped":
            if columns > self.config.grid[1]:
                raise UserError(f"{self.name}: {columns} steps at once, more than its {self.config.grid[1]} positions")
            return table.unflatten(2, self.config.grid)[..., :columns]
        if rows * columns == table.shape[2]:
            return table.unflatten(2, (rows, columns))
        # ASiT's table was laid out with frequency first and is read with time first: its weights are used to that.
        return F.interpolate(table.unflatten(2, self.config.grid), (rows, columns), mode="bicubic", align_corners=False)

    def special_tokens(self) -> Tensor | None:
        """(1, special tokens, dim), with their positions."""
        if self.cls_token is None:
            return None
        if self.dist_token is None:
            return self.cls_token + self.pos_embed[:, :1]
        return torch.cat((self.cls_token, self.dist_token), dim=1) + self.new_pos_embed

    def draw(self, batch: int, rows: int, columns: int) -> Draws:
        """The draws of one training pass over patches in `rows` x `columns`."""
        if self.config.position != "split":
            return Draws()
        table = self.time_new_pos_embed
        offset = torch.randint(table.shape[3] - columns + 1, (), device=table.device)
        return draw_patchout(self.patchout, batch, rows, columns, table.device)._replace(offset=offset)

    def tokens(self, mel: Tensor, draws: Draws | None = None) -> tuple[Tensor, tuple[int, int]]:
        """Input of the first block (batch, special tokens + patches, dim), and the grid of the patches in it.

        Without `draws` they are drawn in training, and everything is kept in evaluation. Single tokens that are left
        out leave a grid of one row.
        """
        x = self.patches(mel)
        batch, _, rows, columns = x.shape
        if draws is None:
            draws = self.draw(batch, rows, columns) if self.training else Draws()
        x = x + self.positions(rows, columns, draws.offset)
        x, grid = kept(x, draws)
        special = self.special_tokens()
        return x if special is None else torch.cat((special.expand(batch, -1, -1), x), dim=1), grid

    def encode(self, mel: Tensor, count: int = 1, draws: Draws | None = None) -> tuple[Tensor, tuple[int, int]]:
        """The normed outputs of the last `count` blocks, oldest first: (count, batch, tokens, dim), and the grid."""
        if not 1 <= count <= len(self.blocks):
            raise UserError(f"the outputs of {count} blocks: the model has 1 to {len(self.blocks)}")
        x, grid = self.tokens(mel, draws)
        outputs = []
        for index, block in enumerate(self.blocks):
            x = self.through(block, x)
            if index >= len(self.blocks) - count:
                outputs.append(x if self.norm is None else self.norm(x))
        return torch.stack(outputs), grid

    def steps(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens (..., tokens, dim) -> the sequence that they stand for, (..., steps, embedding dim)."""
        if self.config.readout == "all":
            return tokens
        x = tokens[..., self.config.special_tokens :, :].unflatten(-2, grid)
        return x.mean(dim=-3) if self.config.readout == "clip" else x.transpose(-3, -2).flatten(-2)

    def blocks_out(self, mel: Tensor, count: int, draws: Draws | None = None) -> Tensor:
        """Sequences of the last `count` blocks, each through the final norm: (count, batch, steps, embedding dim)."""
        length = self.config.chunk
        if length is None:
            return self.steps(*self.encode(mel, count, draws))
        sequences = []
        for chunk in mel.split(length, dim=2):
            frames = chunk.shape[2]
            missing = min(-frames % self.config.patch[1], length - frames)
            sequences.append(self.steps(*self.encode(F.pad(chunk, (0, missing)), count, draws)))
        return torch.cat(sequences, dim=2)

    def sequence(self, mel: Tensor, draws: Draws | None = None) -> Tensor:
        """Normalised log-mel (batch, mel, frames) -> (batch, steps, embedding dim)."""
        return self.blocks_out(mel, 1, draws)[0]

    def scene(self, mel: Tensor, count: int = 1, valid: Tensor | None = None) -> Tensor:
        """Mean over steps of each of the last `count` blocks, side by side: (batch, count * embedding dim).

        valid: (batch,) steps of each clip that are not padding; ATST-Frame has one for 4 mel frames.
        """
        x = self.blocks_out(mel, count)
        if valid is None:
            return x.mean(dim=2).transpose(0, 1).flatten(1)
        inside = torch.arange(x.shape[2], device=x.device) < valid[:, None]
        total = (x * inside[..., None]).sum(dim=2)
        return (total / valid.clamp(min=1)[:, None]).transpose(0, 1).flatten(1)

    def from_mel(self, mel: Tensor, frames: int | None = None, draws: Draws | None = None) -> Output:
        """As in `Encoder`; `draws`: these instead of random ones, also in evaluation."""
        x = self.sequence(mel, draws)
        return self.readout(x if frames is None else resample_frames(x, frames))

    def canonical(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Names of the AudioSet-strong models and of the models' own releases, ImageNet weights where they fit.

        What a file may lack because it never changes the output, or because ImageNet models have no such layer, keeps
        this model's own values.
        """
        found = {name: value for name, value in state.items() if not FRONT_END.search(name)}
        for pattern in INSIDE:
            matches = {name: re.search(pattern, name) for name in found}
            found = {name[match.end() :]: found[name] for name, match in matches.items() if match} or found
        wrapped = any(re.search(r"(^|model\.|m2d\.)backbone\.", name) for name in found)
        found = strip_prefix(found, self.config.prefixes, self.config.anchor)
        own = self.state_dict()
        if "pos_embed" in found and self.config.position == "split":
            found = self._from_imagenet(found, own)
        if self.norm_stats is not None:
            # The AudioSet-strong M2D has always been fed with fixed statistics, whatever its file says. The original
            # files have more parts than the encoder.
            found = {n: v for n, v in found.items() if (n != "norm_stats" if wrapped else n in own)}
        if self.config.special_tokens == 0:
            found.pop("cls_token", None)
        for name in ("mask_embed", "norm_stats"):
            if name in own:
                found.setdefault(name, own[name])
        return self._fitted(found)

    def _fitted(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Without what a cut network leaves out, and ATST-Frame's linear layer on 64 x 4 cells as a convolution."""
        found = {}
        for name, value in state.items():
            name = name.replace("norm_frame.", "norm.")
            block = re.match(self.block_names, name)
            above = block and len(self.blocks) <= int(block[1]) < self.config.depth  # what this network is cut by
            if above or (self.norm is None and name.startswith("norm.")):
                continue
            if name == "patch_embed.patch_embed.weight" and value.dim() == 2:
                value = value.reshape(len(value), 1, *self.config.patch)
            found[name.replace("patch_embed.patch_embed.", "patch_embed.proj.")] = value
        return found

    def _from_imagenet(self, state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A distilled DeiT: its square of positions becomes the two tables, RGB patches become those of the mel."""
        found = {name: value for name, value in state.items() if not name.startswith("head")}
        table = found.pop("pos_embed").float()
        side = math.isqrt(table.shape[1] - 2)
        square = table[:, 2:].transpose(1, 2).unflatten(2, (side, side))
        square = F.interpolate(square, self.config.grid, mode="bicubic", align_corners=False)
        found |= {"new_pos_embed": table[:, :2], "freq_new_pos_embed": square.mean(3, keepdim=True)}
        weight = own["patch_embed.proj.weight"]
        patches = adapt_input_conv(weight.shape[1], found["patch_embed.proj.weight"]).reshape(weight.shape)
        found |= {"time_new_pos_embed": square.mean(2, keepdim=True), "patch_embed.proj.weight": patches}
        return {name: value for name, value in own.items() if name.startswith("conv_in_")} | found


class PaSST(SpectrogramTransformer):
    """PaSST, a tagger: clip embedding (batch, dim) from its two special tokens, and logits.

    Frames are the patch tokens averaged over frequency, one for 100 ms; with unstructured patchout the kept tokens.
    """

    frame_rate = None
    head_names = ("head.",)
    head_weight = "head.1.weight"

    def __init__(self, config: Config, num_classes: int | None = 527, **options: Any) -> None:
        super().__init__(config, num_classes=None, **options)
        layers = (nn.LayerNorm(config.dim), nn.Linear(config.dim, num_classes)) if num_classes else None
        self.head = nn.Sequential(*layers) if layers else None

    def canonical(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Without the second head of the distillation, which the forward pass never uses."""
        return {name: value for name, value in super().canonical(state).items() if not name.startswith("head_dist.")}

    def from_mel(self, mel: Tensor, frames: int | None = None, draws: Draws | None = None) -> Output:
        outputs, grid = self.encode(mel, draws=draws)
        tokens = outputs[0]
        clip = tokens[:, : self.config.special_tokens].mean(dim=1)
        x = self.steps(tokens, grid)
        x = x if frames is None else resample_frames(x, frames)
        return Output(x, clip, None if self.head is None else self.head(clip), None)


def _passt(stride: int = 10, frames: int = 998, hop: int = 320, **changes: Any) -> Config:
    front_end = replace(SETTINGS["mel_32k"], hop=hop)
    shape: dict[str, Any] = {"grid": (128 // stride, frames // stride), "stride": (stride, stride)}
    shape |= {"position": "split", "readout": "clip", "special_tokens": 2, "prefixes": ("net.", "")}
    return Config(front_end, **(shape | changes))


def _prefixes(family: str, inside: str = "") -> tuple[str, ...]:
    return tuple(f"{before}{inside}" for before in (f"model.{family}.", f"{family}.", "model.", ""))


FPASST = Config(
    *("mel_16k_periodic_7000", (1, 250), "split", "stacked"),
    special_tokens=2,
    patch=(128, 2),
    stride=(1, 1),
    stem=(16, 32, 64),
    prefixes=_prefixes("fpasst"),
)
ATST_F = Config(
    *("atst", (1, 250), "cropped", "stacked"),
    patch=(64, 4),
    stride=(64, 4),
    qkv_bias=False,
    mask_token=True,
    prefixes=_prefixes("atst"),
    anchor="pos_embed",
)
M2D = Config(
    *(replace(SETTINGS["m2d"], mean=0.0, scale=1.0), (5, 62), "cropped", "stacked"),
    special_tokens=1,
    chunk=1001,
    longest=None,
    norm_stats=(SETTINGS["m2d"].mean, SETTINGS["m2d"].scale),
    prefixes=(*_prefixes("m2d", "backbone."), "ar.runtime.backbone.", ""),
)
# Attention grows with the square of the length: one pass takes 30 s at most. The weights saw 10 s.
ASIT = Config(
    *("asit", (8, 37), "resized", "all"), special_tokens=1, time_first=True, longest=30.0, prefixes=_prefixes("asit")
)
PASST_VARIANTS: dict[str, Config] = {
    "passt": _passt(),
    "passt-l": _passt(depth=7),
    "passt-s12": _passt(12),
    "passt-s14": _passt(14),
    "passt-s16": _passt(16),
    "passt-hop100": _passt(frames=3200, hop=100),
    "passt-hop160": _passt(frames=2000, hop=160),
    "passt-20s": _passt(frames=2000, longest=20.0),
    "passt-30s": _passt(frames=3000, longest=30.0),
}
MODELS: dict[str, Callable[..., Encoder]] = {
    **{name: partial(PaSST, config) for name, config in PASST_VARIANTS.items()},
    "passt-fsd50k": partial(PaSST, _passt(), num_classes=200),
    "passt-fsd50k-s16": partial(PaSST, _passt(16), num_classes=200),
    "passt-openmic": partial(PaSST, _passt(), num_classes=20),
    "passt-tiny": partial(PaSST, _passt().tiny(stride=(16, 16), grid=(8, 62))),
    "fpasst": partial(SpectrogramTransformer, FPASST),
    "fpasst-tiny": partial(SpectrogramTransformer, FPASST.tiny(stem=(4, 8, 16))),
    "atst-f": partial(SpectrogramTransformer, ATST_F),
    "atst-f-tiny": partial(SpectrogramTransformer, ATST_F.tiny()),
    "m2d": partial(SpectrogramTransformer, M2D),
    "m2d-tiny": partial(SpectrogramTransformer, M2D.tiny()),
    "asit": partial(SpectrogramTransformer, ASIT),
    "asit-tiny": partial(SpectrogramTransformer, ASIT.tiny()),
}
