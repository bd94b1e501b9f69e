"""Segments and pooling, fusion with metadata, frozen encoders, files of published systems."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from common.run.config import load_config
from common.run.errors import UserError
from task6_retrieval.config import SAMPLE_RATE, Config
from task6_retrieval.model.audio import AudioTower, heard
from task6_retrieval.model.networks import DualEncoder, build_network, load_published, load_weights
from task6_retrieval.model.sequence import SequenceModel
from task6_retrieval.model.text import keyword_text, normalised

TASK = Path(__file__).resolve().parents[1]
SMALL = ["model.audio.encoder=passt-tiny", "model.text.encoder=small", "model.dim=8", "data.segment_seconds=0.5"]


def configured(*overrides: str) -> Config:
    return load_config(Config, TASK / "recipes", "toy", [*SMALL, *overrides])


def network(*overrides: str) -> DualEncoder:
    torch.manual_seed(0)
    return build_network(configured(*overrides)).eval()


def test_a_clip_has_as_many_tokens_as_it_lasts() -> None:
    seconds = torch.tensor([0.01, 10.0, 10.01, 20.0, 30.0])
    assert heard(seconds, 3, 10.0).sum(dim=1).tolist() == [1, 1, 2, 2, 3]
    assert heard(seconds / 3, 750, 0.04).sum(dim=1).tolist() == [1, 84, 84, 167, 250]
    assert heard(torch.tensor([99.0]), 3, 10.0).sum() == 3


def test_segments_of_padding_are_not_computed_and_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, plain = [], AudioTower.encode

    def counted(self: AudioTower, segments: Tensor, features: Any = None) -> Tensor:
        counts.append(len(segments))
        return plain(self, segments, features)

    monkeypatch.setattr(AudioTower, "encode", counted)
    seconds = torch.tensor([0.4, 1.2, 1.5])
    audio = 0.1 * torch.randn(3, round(1.5 * SAMPLE_RATE))
    with torch.no_grad():
        skipped = network().clips(audio, seconds)
        audio[0, round(0.5 * SAMPLE_RATE) :] = 0.5  # behind its first segment: not heard
        all_computed = network("model.audio.skip_padding=false").clips(audio, seconds)
    torch.testing.assert_close(skipped, all_computed)
    assert counts == [1 + 3 + 3, 9]


def test_stored_tokens_give_what_the_waveforms_give() -> None:
    encoder, seconds = network("model.audio.tokens=frames"), torch.tensor([0.6, 1.0])
    audio = 0.1 * torch.randn(2, SAMPLE_RATE)
    with torch.no_grad():
        tower = encoder.audio_encoder
        tokens = tower.encode(audio.reshape(4, -1)).reshape(2, -1, tower.dim)
        assert tokens.shape[1] == 2 * tower.tokens_per_segment
        torch.testing.assert_close(encoder.clips(tokens, seconds), encoder.clips(audio, seconds))


def test_an_encoder_hears_its_own_rate() -> None:
    encoder = network("model.audio.encoder=yamnet-tiny", "data.segment_seconds=1.0", "model.audio.tokens=frames")
    assert encoder.audio_encoder.encoder.sample_rate == 16000
    with torch.no_grad():
        assert encoder.clips(torch.randn(2, SAMPLE_RATE), torch.tensor([1.0, 1.0])).shape == (2, 8)


def test_segments_longer_than_the_encoder_takes_are_refused() -> None:
    with pytest.raises(UserError, match=r"data.segment_seconds: 40 s, but passt-tiny takes 10 s at once"):
        build_network(configured("data.segment_seconds=40", "data.window_seconds=40"))


def test_texts_are_normalised() -> None:
    assert normalised("It's a Dog, far-away!") == "its a dog faraway"
    assert keyword_text("dog;rain; car") == "dog rain  car"


def test_late_fusion_adds_the_metadata_and_nothing_where_there_is_none() -> None:
    audio, seconds = 0.1 * torch.randn(2, SAMPLE_RATE), torch.tensor([1.0, 1.0])
    fused = network("model.late=separate")
    with pytest.raises(UserError, match="embeds clips with their metadata"):
        fused.clips(audio, seconds)
    with torch.no_grad():
        with_words, without = fused.clips(audio, seconds, ["dog", ""]), fused.clips(audio, seconds, ["", ""])
        assert not torch.allclose(with_words[0], without[0])
        torch.testing.assert_close(with_words[1], without[1])
        alone = replace(fused.config, late="none")
        fused.config = alone
        torch.testing.assert_close(fused.clips(audio, seconds), without)


def test_mid_level_fusion_hears_the_keywords() -> None:
    sizes = ["layers=1", "dim=16", "heads=2", "feed_forward=16", "metadata=true"]
    mid = network(*(f"model.sequence.{of}" for of in sizes), "model.audio.tokens=frames")
    audio, seconds = 0.1 * torch.randn(2, SAMPLE_RATE), torch.tensor([1.0, 0.3])
    with torch.no_grad():
        one, other = (mid.clips(audio, seconds, words) for words in (["dog", "cat"], ["dog", "rain;car"]))
    torch.testing.assert_close(one[0], other[0])
    assert not torch.allclose(one[1], other[1])


def test_a_sequence_of_more_tokens_than_positions_is_refused() -> None:
    config = configured("model.sequence.max_length=2", "model.sequence.dim=16", "model.sequence.heads=2").model.sequence
    assert config is not None
    model = SequenceModel(config, 4)
    tokens = torch.randn(1, 3, 4)
    with pytest.raises(UserError, match=r"model.sequence.max_length: 2 positions, but a clip has 3 tokens"):
        model((tokens, torch.ones(1, 3, dtype=torch.bool)))


def test_a_frozen_text_encoder_embeds_a_text_once() -> None:
    encoder = network("model.text.frozen=true").train()
    first = encoder.sentences(["a dog", "rain", "a dog"])
    assert sorted(encoder.sentence_encoder.known) == ["a dog", "rain"]
    encoder.sentence_encoder.encoder.tokens = None  # type: ignore[assignment]
    torch.testing.assert_close(encoder.sentences(["a dog", "rain", "a dog"]), first)
    first.sum().backward()
    assert all(p.grad is None for p in encoder.sentence_encoder.parameters())


def test_groups_hold_every_parameter_once() -> None:
    sizes = ["model.sequence.dim=16", "model.sequence.heads=2", "model.late=separate", "model.audio.tokens=frames"]
    made = network(*sizes, "model.sequence.metadata=true")
    named = [name for group in made.groups().values() for name, _ in group]
    assert sorted(named) == sorted(name for name, _ in made.named_parameters())
    heads = {name for name, _ in made.groups()["text_head"]}
    assert {name.split(".")[0] for name in heads} == {"project_sentence", "project_metadata", "tokens_in"}
    assert "tau" in {name for name, _ in made.groups()["audio_head"]}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights, as transformers saves it."""
    transformers = pytest.importorskip("transformers", reason='the extra "ears" is not installed')
    path = tmp_path_factory.mktemp("bert") / "tiny-bert"
    path.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "bark"]
    (path / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer(str(path / "vocab.txt")).save_pretrained(path)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    transformers.BertModel(transformers.BertConfig(vocab_size=len(words), **sizes)).save_pretrained(path)
    return path


def test_all_that_is_trained_has_gradients(bert: Path) -> None:
    made = network(f"model.text.encoder={bert}", "model.late=separate").train()
    vectors = made.clips(0.1 * torch.randn(2, SAMPLE_RATE), torch.ones(2), ["dog", "bark"])
    (vectors.sum() + made.sentences(["a dog"]).sum()).backward()
    assert [name for name, p in made.named_parameters() if p.requires_grad and p.grad is None] == []


def published(made: DualEncoder, old: dict[str, str]) -> dict[str, Tensor]:
    """The state of a system under published names, with what takes part in no forward pass."""
    state = {"audio_token": torch.zeros(1, 1, 768), "posencode.w": torch.ones(1), "timing_tau": torch.ones(1)}
    for name, value in made.state_dict().items():
        start = next((own for own in old if name.startswith(own)), "")
        state[old.get(start, "") + name.removeprefix(start)] = value + 1.0
    return state


NAMES = {
    "audio_encoder.encoder.": "audio_embedding_model.model.net.",
    "sentence_encoder.encoder.model.": "sentence_embedding_model.",
}


@pytest.mark.parametrize(
    "edition", [{}, {"project_audio.0.": "audio_projection.", "project_sentence.0.": "text_projection."}]
)
def test_published_systems_load_strictly(bert: Path, tmp_path: Path, edition: dict[str, str]) -> None:
    overrides = [f"model.text.encoder={bert}", "model.text.dropout=0.2"]
    made, path = network(*overrides), tmp_path / "system.ckpt"
    dropouts = {of.p for of in made.sentence_encoder.modules() if isinstance(of, torch.nn.Dropout)}
    assert dropouts == {0.2}
    state = published(made, NAMES | edition)
    torch.save({"state_dict": state}, path)
    found = load_published(network(*overrides), path).state_dict()
    for name, value in made.state_dict().items():
        torch.testing.assert_close(found[name], value + 1.0, msg=name)
    for change, words in (
        ({"project_audio.9.weight": torch.zeros(1)}, "project_audio.9.weight"),
        ({"sentence_embedding_model.odd": torch.zeros(1)}, "odd"),
        ({"audio_embedding_model.model.net.odd": torch.zeros(1)}, "odd"),
    ):
        torch.save({"state_dict": state | change}, path)
        with pytest.raises(UserError, match=words):
            load_published(network(*overrides), path)
    short = {
        name: value for name, value in state.items() if not name.endswith(("sentence.0.bias", "text_projection.bias"))
    }
    torch.save({"state_dict": short}, path)
    with pytest.raises(UserError, match=r"project_sentence.0.bias"):
        load_published(network(*overrides), path)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    torch.save({"state_dict": {f"network.{n}": v for n, v in network().state_dict().items()}}, path)
    load_weights(network(), path)
    with pytest.raises(UserError, match=r"checkpoint of another model: .*misshapen"):
        load_weights(network("model.dim=9"), path)


def test_recipes_name_published_files_of_their_encoders() -> None:
    from common.encoders.checkpoints import catalogue

    named = {}
    for path in sorted((TASK / "recipes").glob("*.yaml")):
        audio = load_config(Config, TASK / "recipes", path.stem).model.audio
        if audio.checkpoint is not None and not audio.checkpoint.startswith("atstframe"):
            named[path.stem] = audio.encoder in catalogue()[audio.checkpoint].models
    assert len(named) > 8
    assert all(named.values()), named


def test_atst_frame_is_read_from_the_teacher_of_its_pre_training(tmp_path: Path) -> None:
    part = ["model.audio.encoder=atst-f-tiny", "model.audio.part=teacher", "model.audio.tokens=frames"]
    encoder, path = network(*part).audio_encoder.encoder, tmp_path / "atstframe_base_as2M.ckpt"
    state = {}
    for name, value in encoder.state_dict().items():
        name = name.replace("norm.", "norm_frame.") if name.startswith("norm.") else name
        state[f"model.teacher.encoder.{name}"] = value + 1.0
        state[f"model.student.encoder.{name}"] = value - 1.0
    state["model.teacher.encoder.cls_token"] = torch.zeros(1, 1, encoder.embedding_dim)
    torch.save({"state_dict": state}, path)
    found = network(*part, f"model.audio.checkpoint={path}").audio_encoder.encoder.state_dict()
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(found[name], value + 1.0, msg=name)
    torch.save({"state_dict": state | {"model.teacher.encoder.odd": torch.zeros(1)}}, path)
    with pytest.raises(UserError, match="odd"):
        network(*part, f"model.audio.checkpoint={path}")
