"""Scores of all windows of a clip, without computing again what overlapping windows share.

A window is scored by a convolutional network that pads with zeros at the window's borders. So its feature maps equal
those of the whole clip, except for some columns at its left and right border, which grow by one with every 3 x 3
convolution and halve with every pooling. Each layer is therefore computed once over the whole clip (once for every
phase of the layer's stride), and per window only for the columns at its borders.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.encoders.cp_resnet import BasicBlock, CPResNet
from common.run.errors import UserError

AT_ONCE = 512  # windows that pass a network together


def repeated(observation: Tensor, length: int) -> Tensor:
    """Spectrograms (batch, mel, frames) of at least `length` frames: shorter ones are repeated."""
    times = -(-length // observation.shape[2])
    return observation if times == 1 else observation.repeat(1, 1, times)[..., :length]


def plain_window_scores(network: nn.Module, observation: Tensor, window: int, hop: int = 1) -> Tensor:
    """Window by window, by any classifier: observation (batch, mel, frames) -> logits (batch, windows)."""
    pieces = observation.unfold(2, window, hop).transpose(1, 2)  # (batch, windows, mel, window)
    parts = [network(part[:, None]) for part in pieces.flatten(0, 1).split(AT_ONCE)]
    return torch.cat(parts)[:, 0].unflatten(0, pieces.shape[:2])


def window_scores(network: CPResNet, observation: Tensor, window: int, hop: int = 1) -> Tensor:
    """Logits (batch, windows) of the windows of `window` frames every `hop` frames, equal to `plain_window_scores`.

    observation: log-mel (batch, mel, frames); the network in evaluation mode. Raises UserError for clips that are
    shorter than a window.
    """
    if network.training:
        raise ValueError("windows share feature maps only in evaluation mode: batch norm would mix them")
    frames = observation.shape[2]
    if frames < window:
        raise UserError(f"a clip of {frames} frames is shorter than a window of {window}")
    offsets = torch.arange(0, frames - window + 1, hop, device=observation.device)
    maps = _Maps(observation[None, :, None], None, None, window, 1, offsets)
    for layer in network.layers():
        for module in layer.children():
            maps = _apply(module, maps)
    assert network.feed_forward is not None
    for module in network.feed_forward:
        maps = _apply(module, maps)
    return maps.mean().transpose(0, 1)


@dataclass(frozen=True)
class _Maps:
    """The windows' feature maps at one layer.

    Window i has `width` columns: `left`, then columns of `dense`, then `right`. dense (phases, batch, channels, bands,
    columns): phase p, column n lies at frame p + stride * n of the clip. left, right (windows, batch, channels, bands,
    columns), None: no such columns. dense None: `left` is the whole map, since the borders have met.
    """

    dense: Tensor | None
    left: Tensor | None
    right: Tensor | None
    width: int
    stride: int
    offsets: Tensor  # first frame of each window

    @property
    def lefts(self) -> int:
        return 0 if self.left is None else self.left.shape[-1]

    @property
    def rights(self) -> int:
        return 0 if self.right is None else self.right.shape[-1]

    def shared(self, first: int, count: int) -> Tensor:
        """Columns first, ..., first + count - 1 of every window, out of `dense`."""
        assert self.dense is not None
        columns = (self.offsets // self.stride)[:, None] + torch.arange(
            first, first + count, device=self.offsets.device
        )
        found = self.dense[(self.offsets % self.stride)[:, None], ..., columns]  # (windows, columns, batch, ...)
        return found.permute(0, 2, 3, 4, 1)

    def begin(self, count: int) -> Tensor:
        """The first `count` columns of every window."""
        return (
            _joined(self.left, self.shared(self.lefts, count - self.lefts)) if count > self.lefts else _some(self.left)
        )

    def end(self, count: int) -> Tensor:
        """The last `count` columns of every window."""
        if count <= self.rights:
            return _some(self.right)[..., self.rights - count :]
        return _joined(self.shared(self.width - count, count - self.rights), self.right)

    def whole(self) -> "_Maps":
        """Every window with all its columns."""
        if self.dense is None:
            return self
        inner = self.shared(self.lefts, self.width - self.lefts - self.rights)
        return replace(self, dense=None, left=_joined(_joined(self.left, inner), self.right), right=None)

    def mean(self) -> Tensor:
        """(windows, batch): over channels (of which there is one), bands and columns."""
        return _some(self.whole().left).mean(dim=(2, 3, 4))


def _some(x: Tensor | None) -> Tensor:
    assert x is not None
    return x


def _joined(a: Tensor | None, b: Tensor | None) -> Tensor:
    return _some(b) if a is None else a if b is None else torch.cat((a, b), dim=-1)


def _each(module: nn.Module, x: Tensor | None) -> Tensor | None:
    """A module on the last four of five axes."""
    return None if x is None else module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _apply(module: nn.Module, maps: _Maps) -> _Maps:
    if isinstance(module, BasicBlock):
        return _block(module, maps)
    if isinstance(module, nn.Conv2d | nn.MaxPool2d):
        return _spatial(module, maps)
    if isinstance(module, nn.BatchNorm2d | nn.ReLU | nn.Identity):
        dense, left, right = (_each(module, part) for part in (maps.dense, maps.left, maps.right))
        return replace(maps, dense=dense, left=left, right=right)
    raise TypeError(f"window_scores knows no {type(module).__name__}")


def _block(block: BasicBlock, maps: _Maps) -> _Maps:
    inner = maps
    for module in (block.conv1, block.bn1, nn.ReLU(), block.conv2, block.bn2):
        inner = _apply(module, inner)
    shortcut = maps if inner.dense is not None else maps.whole()
    if shortcut.dense is not None:  # as many border columns as the other branch
        left = shortcut.begin(inner.lefts) if inner.lefts else None
        right = shortcut.end(inner.rights) if inner.rights else None
        shortcut = replace(shortcut, left=left, right=right)
    for module in block.shortcut:
        shortcut = _apply(module, shortcut)

    def add(name: str) -> Tensor | None:
        a, b = getattr(inner, name), getattr(shortcut, name)
        return None if a is None else torch.relu(a + b)

    return replace(inner, dense=add("dense"), left=add("left"), right=add("right"))


def _spatial(module: nn.Conv2d | nn.MaxPool2d, maps: _Maps) -> _Maps:
    """A convolution or pooling over bands and columns; along the columns borders are told from shared columns."""
    kernel, stride, pad = (_second(value) for value in (module.kernel_size, module.stride, module.padding))
    width = (maps.width + 2 * pad - kernel) // stride + 1
    # Output column j takes the input columns from stride * j - pad on; it is shared where all of them are.
    lefts = -(-(maps.lefts + pad) // stride)
    rights = width - max(0, (maps.width - maps.rights + pad - kernel) // stride + 1)
    if maps.dense is None or lefts + rights >= width:
        whole = _some(maps.whole().left)
        return replace(maps.whole(), left=_columns(module, whole, pad, pad), width=width, stride=maps.stride * stride)
    left = right = None
    if lefts:
        left = _columns(module, maps.begin(stride * (lefts - 1) - pad + kernel), pad, 0)
    if rights:
        first, last = stride * (width - rights) - pad, stride * (width - 1) - pad + kernel
        beyond = max(0, last - maps.width)
        right = _columns(module, maps.end(maps.width - first)[..., : last - beyond - first], 0, beyond)
    phases = [F.pad(maps.dense[..., phase:], (0, phase)) for phase in range(stride)]
    dense = torch.stack([_columns(module, x, pad, pad) for x in phases])  # phase p + stride so far * phase
    return _Maps(dense.flatten(0, 1), left, right, width, maps.stride * stride, maps.offsets)


def _second(value: int | tuple[int, ...] | str) -> int:
    assert not isinstance(value, str)
    return value if isinstance(value, int) else value[1]


def _columns(module: nn.Conv2d | nn.MaxPool2d, x: Tensor, before: int, after: int) -> Tensor:
    """The module on (., ., channels, bands, columns) with the given zeros before and after the columns."""
    flat = F.pad(x.flatten(0, 1), (before, after))
    if isinstance(module, nn.MaxPool2d):
        y = F.max_pool2d(flat, module.kernel_size, module.stride)
    else:
        assert not isinstance(module.padding, str)
        y = F.conv2d(flat, module.weight, module.bias, module.stride, (module.padding[0], 0), groups=module.groups)
    return y.unflatten(0, x.shape[:2])
