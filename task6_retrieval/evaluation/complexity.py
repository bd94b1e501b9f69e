"""Parameters, bytes and multiply-accumulates of a recipe's network, part by part."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from common.encoders import RANDOM
from common.encoders.base import Encoder
from common.run.complexity import matrix_macs, plain_operations, size_of
from common.run.results.tables import print_table
from common.run.verbs import Run
from task6_retrieval.config import SAMPLE_RATE, Config
from task6_retrieval.model.networks import DualEncoder, build_network


def complexity(run: Run) -> Mapping[str, Any]:
    """Print and return {part: {"parameters", "bytes", "macs"}} for one clip of a whole window and one caption of
    max_tokens; needs no data. Metadata of fusion is embedded along with the clip: it counts in the audio head.
    """
    config: Config = run.config
    model, text = config.model, config.model.text
    # A frozen text encoder would read the same text only once.
    network = unloaded(replace(config, model=replace(model, text=replace(text, frozen=False)))).eval()
    window, words = config.data.window_seconds, " ".join(["sound"] * text.max_tokens)
    clip = torch.zeros(1, round(window * SAMPLE_RATE)), torch.tensor([window])
    keywords = [words] if model.uses_metadata else None
    with torch.inference_mode(), plain_operations():
        heard = matrix_macs(lambda: network.audio_encoder(*clip, _no_front_end)) if model.hear else 0
        read = matrix_macs(lambda: network.sentence_encoder([words]))
        macs = {
            "audio_encoder": heard,
            "text_encoder": read,
            "audio_head": matrix_macs(lambda: network.clips(*clip, keywords, _no_front_end)) - heard,
            "text_head": matrix_macs(lambda: network.sentences([words])) - read,
        }
    found = {}
    for part, parameters in network.groups().items():
        count, size = size_of(parameter for _, parameter in parameters)
        found[part] = {"parameters": count, "bytes": size, "macs": macs[part]}
    rows = [[part.replace("_", " "), *(f"{value:,}" for value in of.values())] for part, of in found.items()]
    note = f"a clip of {window:g} s and a caption of {text.max_tokens} tokens; without front end"
    print_table(f"recipe {run.recipe}", ["part", "parameters", "bytes", "MACs"], rows, note)
    return found


def unloaded(config: Config) -> DualEncoder:
    """A recipe's network without the weights of its audio encoder's checkpoint, which counting does not need."""
    audio = config.model.audio
    audio = replace(audio, checkpoint=RANDOM if audio.checkpoint else None)
    return build_network(replace(config, model=replace(config.model, audio=audio)))


def parameters(config: Config) -> int:
    """Of a recipe's network."""
    return size_of(unloaded(config).parameters())[0]


def _no_front_end(encoder: Encoder, waveform: Tensor) -> Tensor:
    """A mel of zeros, which costs nothing."""
    return torch.zeros(len(waveform), encoder.front_end.num_mels, encoder.front_end.num_frames(waveform.shape[1]))
