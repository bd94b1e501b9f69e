"""Audio on disk: files and packs of clips to float32 waveforms in [-1, 1]."""

from common.audio.packing import PackReport, write_pack
from common.audio.packs import Pack, open_pack
from common.audio.reading import (
    AudioInfo,
    Resampling,
    Waveform,
    audio_files,
    info,
    load,
    read,
    resample,
    resampled_length,
    to_pcm16,
    write_wav,
)

__all__ = [
    "AudioInfo",
    "Pack",
    "PackReport",
    "Resampling",
    "Waveform",
    "audio_files",
    "info",
    "load",
    "open_pack",
    "read",
    "resample",
    "resampled_length",
    "to_pcm16",
    "write_pack",
    "write_wav",
]
