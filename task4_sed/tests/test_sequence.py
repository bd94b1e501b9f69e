"""Sequence models: the scan of Mamba against a plain loop, the minimal GRU against its steps, names, refusals."""

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from common.encoders import create
from common.run.errors import UserError
from task4_sed.config import SequenceConfig
from task4_sed.model.framewise import FRAMES, FramewiseNetwork
from task4_sed.model.mamba import Mamba2, chunked_scan
from task4_sed.model.sequence import MinGRU, Rotary, sequence_model

KINDS = ("gru", "attn", "tf", "hybrid", "mamba", "tcn")


def plain_scan(x: Tensor, log_decay: Tensor, into: Tensor, out: Tensor) -> Tensor:
    """What `chunked_scan` computes, one step after the other."""
    state, found = x.new_zeros(len(x), x.shape[2], into.shape[2], x.shape[3]), []
    for step in range(x.shape[1]):
        added = torch.einsum("bn,bhw->bhnw", into[:, step], x[:, step])
        state = log_decay[:, step].exp()[..., None, None] * state + added
        found.append(torch.einsum("bn,bhnw->bhw", out[:, step], state))
    return torch.stack(found, dim=1)


def scan_case(batch: int, steps: int, heads: int, width: int, state: int, dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(steps)
    shapes = ((batch, steps, heads, width), (batch, steps, heads), (batch, steps, state), (batch, steps, state))
    x, decay, into, out = (torch.randn(shape, dtype=dtype) for shape in shapes)
    return [x, -decay.abs(), into, out]


@settings(max_examples=40, deadline=None)
@given(
    *(st.integers(1, n) for n in (3, 40, 3, 4, 5)),
    st.integers(1, 50),
)
def test_scan_equals_the_loop_with_gradients(
    batch: int, steps: int, heads: int, width: int, state: int, chunk: int
) -> None:
    case = [value.requires_grad_() for value in scan_case(batch, steps, heads, width, state, torch.float64)]
    weight = torch.randn(batch, steps, heads, width, dtype=torch.float64)
    ours, loop = chunked_scan(*case, chunk=chunk), plain_scan(*case)
    torch.testing.assert_close(ours, loop, rtol=1e-9, atol=1e-9)
    gradients = (torch.autograd.grad((y * weight).sum(), case) for y in (ours, loop))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_scan_is_stable_where_a_state_dies_at_once() -> None:
    x, decay, into, out = scan_case(1, 200, 2, 4, 8, torch.float32)
    y = chunked_scan(x, decay * 200, into, out)
    assert torch.isfinite(y).all()
    torch.testing.assert_close(y, plain_scan(x, decay * 200, into, out), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_scan_is_faster_than_the_loop() -> None:
    case = scan_case(8, FRAMES, 32, 64, 64, torch.float32)

    def seconds(scan: object) -> float:
        start = time.perf_counter()
        scan(*case)  # type: ignore[operator]
        return time.perf_counter() - start

    times = [(seconds(chunked_scan), seconds(plain_scan)) for _ in range(5)]
    ours, loop = (sorted(of)[2] for of in zip(*times, strict=True))
    print(f"scan {ours * 1e3:.0f} ms, loop {loop * 1e3:.0f} ms")
    assert ours < loop


def test_mamba_hears_nothing_of_the_future() -> None:
    torch.manual_seed(0)
    layer, x = Mamba2(32, 32), torch.randn(1, 100, 32)
    changed = x.clone()
    changed[:, 70:] += 1.0
    with torch.no_grad():
        before, after = layer(x), layer(changed)
    torch.testing.assert_close(before[:, :70], after[:, :70])
    assert not torch.allclose(before[:, 70:], after[:, 70:])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(0, 1000))
def test_minimal_gru_equals_its_steps(steps: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer, x = MinGRU(5, 4), torch.randn(2, steps, 5) * 3
    with torch.no_grad():
        hidden, gate = layer.to_hidden_and_gate(x).chunk(2, dim=-1)
        new = torch.where(hidden >= 0, hidden + 0.5, hidden.sigmoid())
        h, expected = torch.zeros(2, 4), []
        for step in range(steps):
            z = gate[:, step].sigmoid()
            h = (1 - z) * h + z * new[:, step]
            expected.append(h)
        torch.testing.assert_close(layer(x), torch.stack(expected, dim=1), rtol=1e-4, atol=1e-5)


def test_rotation_depends_on_the_distance_alone() -> None:
    torch.manual_seed(0)
    rotary, one, other = Rotary(8), torch.randn(8), torch.randn(8)
    turned = rotary(torch.stack((one, one, one, other, other, other))[None, None])[0, 0]
    products = [turned[at] @ turned[at + 3] for at in range(3)]
    torch.testing.assert_close(products[0], products[1])
    torch.testing.assert_close(products[0], products[2])


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_give_what_they_announce(kind: str) -> None:
    model, features = sequence_model(SequenceConfig(kind, dim=64), 40)  # type: ignore[arg-type]
    assert model(torch.randn(2, 30, 40)).shape == (2, 30, features)
    assert features == (128 if kind == "gru" else 64)


def published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Under the names of the released files."""
    found = {}
    for name, value in state.items():
        name = name.removeprefix("encoder.").replace("seq_model.0.gru.", "seq_model.rnn.")
        inside = name.startswith(("seq_model.", "strong_head.", "weak_head."))
        name = name if inside else f"model.atst.{name}"
        name = name.replace("patch_embed.proj", "patch_embed.patch_embed")
        found[name.replace("model.atst.norm.", "model.atst.norm_frame.")] = value
    return found


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_published_names_load(kind: str | None) -> None:
    config = None if kind is None else SequenceConfig(kind, dim=32)  # type: ignore[arg-type]

    def made(seed: int) -> FramewiseNetwork:
        torch.manual_seed(seed)
        return FramewiseNetwork(create("atst-f-tiny", num_classes=None), 7, config).eval()  # type: ignore[arg-type]

    one, other = made(0), made(1)
    other.load_state_dict(other.from_published(published(one.state_dict())))
    mel = torch.randn(2, 64, 1001)
    with torch.no_grad():
        out = other(mel)
        torch.testing.assert_close(out.frame_logits, one(mel).frame_logits)
    assert out.frame_logits.shape == (2, FRAMES, 7)
    assert out.logits.shape == (2, 7)
    assert isinstance(one.encoder.strong_head, nn.Linear)


@pytest.mark.parametrize(("kind", "dim"), [("attn", 36), ("tf", 20), ("hybrid", 130), ("mamba", 40)])
def test_widths_that_do_not_divide_are_refused(kind: str, dim: int) -> None:
    with pytest.raises(UserError, match=f"sequence.dim: {dim}"):
        SequenceConfig(kind, dim=dim)  # type: ignore[arg-type]
