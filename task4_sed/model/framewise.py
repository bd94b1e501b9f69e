"""The network of frame-level pre-training: encoder, perhaps a sequence model, two heads (Schmid et al. 2025)."""

from collections.abc import Mapping

from torch import Tensor, nn

from common.encoders.base import FrameEncoder, Output, resample_frames
from task4_sed.config import SequenceConfig
from task4_sed.model.sequence import sequence_model

FRAMES = 250  # of every clip: 40 ms of 10 s


class FramewiseNetwork(nn.Module):
    """Log-mel (batch, mel, frames) of the encoder's front end -> `Output` of 250 frames.

    `strong_head` gives the classes of each frame, `weak_head` those of the mean frame. The heads are the encoder's own,
    on the features of the sequence model where there is one.
    """

    def __init__(self, encoder: FrameEncoder, num_classes: int, sequence: SequenceConfig | None = None) -> None:
        super().__init__()
        self.seq_model, width = None, encoder.embedding_dim
        if sequence is not None:
            self.seq_model, width = sequence_model(sequence, width)
        self.encoder, self.num_classes = encoder, num_classes
        encoder.strong_head, encoder.weak_head = nn.Linear(width, num_classes), nn.Linear(width, num_classes)

    def forward(self, mel: Tensor) -> Output:
        frames = resample_frames(self.encoder.sequence(mel), FRAMES)
        return self.encoder.readout(frames if self.seq_model is None else self.seq_model(frames))

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A published state dict under this network's names."""
        state = {name.replace("seq_model.rnn.", "seq_model.0.gru."): value for name, value in state.items()}
        sequence = {name: value for name, value in state.items() if name.startswith("seq_model.")}
        rest = {name: value for name, value in state.items() if name not in sequence}
        # The convolutions of a TCN are listed twice.
        found = {name: value for name, value in sequence.items() if ".conv1." not in name and ".conv2." not in name}
        return found | {f"encoder.{name}": value for name, value in self.encoder.canonical(rest).items()}
