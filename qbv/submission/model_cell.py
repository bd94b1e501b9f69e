"""Imitations and recordings by their encoders, compared by cosine; of a file its samples alone are looked at."""

from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
import soxr


class QVIMModel:
    """folder: of imitation.onnx and recording.onnx; seconds: what of a sound is heard, from its beginning."""

    folder = Path("model")
    seconds, padding, rate = 10.0, "zeros", 32_000

    def __init__(self) -> None:
        self.encoders = {
            side: onnxruntime.InferenceSession(str(self.folder / f"{side}.onnx"), providers=["CPUExecutionProvider"])
            for side in ("imitation", "recording")
        }

    def compute_similarities(self, items: dict, queries: dict) -> dict:
        """{query id: {item id: cosine}} of {item id: path} and {query id: path}."""
        of_items = {name: self.vector("recording", path) for name, path in items.items()}
        of_queries = {name: self.vector("imitation", path) for name, path in queries.items()}
        return {
            query: {item: float(vector @ other) for item, other in of_items.items()}
            for query, vector in of_queries.items()
        }

    def vector(self, side: str, path: str) -> np.ndarray:
        """Of length 1, (dim,)."""
        (found,) = self.encoders[side].run(["vector"], {"waveform": self.waveform(path)[None]})
        return found[0] / max(float(np.linalg.norm(found[0])), 1e-12)

    def waveform(self, path: str) -> np.ndarray:
        """The beginning of a sound, (samples,); a shorter one ends in zeros, or is repeated."""
        audio, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
        audio = soxr.resample(audio.mean(axis=1), rate, self.rate, "HQ")
        samples = round(self.seconds * self.rate)
        if self.padding == "repeat":
            return np.resize(audio, samples)
        return np.pad(audio[:samples], (0, max(0, samples - len(audio))))
