"""Every reader of every task, given what is no such file: it ends, soon, with one line."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from common.run.config import load_config
from common.run.files import read_json, write_rows
from common.run.plots import read_metrics
from common.run.results.comparison import read_baselines
from common.run.results.listing import read_settings
from common.run.results.store import read_results, record
from tests.faults.faults import FAULTS, Tally, as_nobody, limited, one_line

SCENE = "audio/airport-lisbon-1000-40000-0-a.wav"


class Reader(NamedTuple):
    """A file that a task reads: how a right one is made, and what reads it."""

    name: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]


def table(columns: str, *rows: str) -> Callable[[Path], object]:
    """Writes a table; columns and fields are separated by blanks."""
    return lambda path: write_rows(path, columns.split(), [row.split() for row in rows])


def text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


def common_readers() -> list[Reader]:
    from common import encoders
    from common.audio.downloads import COLUMNS, read_sources
    from common.audio.own import read_table
    from common.audio.packing import write_pack
    from common.audio.packs import open_pack
    from common.audio.reading import load
    from common.run.checkpoints import read_checkpoint
    from common.run.submission.archive import build_zip, open_archive

    def wav(path: Path) -> None:
        import soundfile

        soundfile.write(path, np.zeros(800), 8000, format="WAV")

    def exported(path: Path) -> None:
        encoders.export(encoders.create("mn-tiny"), path.parent)

    def checkpoint(path: Path) -> None:
        import torch

        torch.save({"state_dict": {"a": torch.zeros(2)}}, path)

    def part_of_pack(name: str) -> Reader:
        def make(path: Path) -> None:
            wav(path.parent / "a.wav")
            write_pack(path.parent, [("a.wav", path.parent / "a.wav")], 8000)

        def read(path: Path) -> None:
            pack = open_pack(path.parent)
            pack.read(pack.index_of("a.wav"))
            pack.verify()

        return Reader(name, make, read)

    def archive(path: Path) -> None:
        build_zip(path, {"a/b.txt": b"x" * 1000})

    def unpack(path: Path) -> None:
        with open_archive(path) as folder:
            [entry.read_bytes() for entry in folder.rglob("*") if entry.is_file()]

    def listed(path: Path) -> None:
        wav(path.parent / "a.wav")
        path.write_text("file,label\na.wav,park\n")

    def sources(path: Path) -> None:
        write_rows(path, COLUMNS, [["set", "clips", "1", "*.zip", *[""] * (len(COLUMNS) - 4)]])

    figures = "system,set,metric,value,spread,source\na,b,c,1,0.1,d\n"
    return [
        Reader("a.wav", wav, lambda path: load(path, 8000)),
        Reader("a.ckpt", checkpoint, read_checkpoint),
        Reader("config.json", exported, lambda path: encoders.create(path.parent)),
        Reader("model.safetensors", exported, lambda path: encoders.create(path.parent)),
        Reader("a.zip", archive, unpack),
        Reader("baselines.csv", text(figures), read_baselines),
        Reader("metrics.csv", text("epoch,step,train/loss\n0,1,0.5\n"), read_metrics),
        Reader("own.csv", listed, lambda path: read_table(path, path.parent / "out", ("label",))),
        Reader("downloads.csv", sources, read_sources),
        Reader("a.json", text('{"a": [1, 2]}\n'), read_json),
        Reader("results.json", lambda p: record(p.parent, "test", {"a": 1.0}), lambda p: read_results(p.parent)),
        Reader("config.yaml", text("# t, recipe r, training 1\nseed: 1\n"), lambda p: read_settings(p.parent)),
        *map(part_of_pack, ("pack.json", "names.npy", "index.npy", "lookup.npy", "00000.h5")),
    ]


def recipe(task: str) -> Reader:
    config, recipes = import_module(f"{task}.config").Config, Path(__file__).parents[2] / task / "recipes"
    right = f"extends: toy\nseed: 3\ntrainer: {{max_epochs: 2}}  # {task}\n"
    return Reader(f"{task}.yaml", text(right), lambda path: load_config(config, recipes, str(path)))


def scene_readers() -> list[Reader]:
    from common.audio.arrays import read_logits
    from task1_asc.data.classes import SCENES
    from task1_asc.data.layout import read_evaluation, read_list, read_meta
    from task1_asc.data.teachers import About
    from task1_asc.evaluation.evaluate import read_truth
    from task1_asc.evaluation.report import read_published
    from task1_asc.inference.scores import read_outputs, write_outputs

    def outputs(path: Path) -> None:
        write_outputs(path, ["0.wav", "1.wav"], np.full((2, 10), 0.1))

    def logits(path: Path) -> None:
        from common.audio.arrays import write_logits

        write_logits(path, ["a"], np.zeros((1, len(SCENES))), About(5, "toy", 1, "0" * 64))

    def evaluation(path: Path) -> None:
        (path.parent / "evaluation_setup").mkdir(exist_ok=True)
        write_rows(path, ("filename",), [("audio/0.wav",)], "\t")

    baselines = Path(__file__).parents[2] / "task1_asc" / "baselines.csv"
    meta = f"filename\tscene_label\tidentifier\tsource_label\n{SCENE}\tairport\tlisbon-1000\ta\n"
    return [
        recipe("task1_asc"),
        Reader("meta.csv", text(meta), lambda path: read_meta(path.parent)),
        Reader("split5.csv", text(f"filename\tscene_label\n{SCENE}\tairport\n"), read_list),
        Reader("test.csv", text(f"filename\tscene_label\n{SCENE}\tairport\n"), read_truth),
        Reader("evaluation_setup/fold1_test.csv", evaluation, lambda path: read_evaluation(path.parents[1])),
        Reader("output.csv", outputs, read_outputs),
        Reader("logits.npz", logits, lambda path: read_logits(path, len(SCENES), About)),
        Reader("published.csv", lambda path: path.write_bytes(baselines.read_bytes()), read_published),
    ]


def anomaly_readers() -> list[Reader]:
    from task2_anomaly.evaluation.truth import read_truth_2020, read_truth_first_shot
    from task2_anomaly.inference.scores import read_flags, read_pairs, read_scores, scored_machines

    def truth(path: Path) -> None:
        for part in ("data", "domain", "attributes"):
            folder = path.parents[1] / f"ground_truth_{part}"
            folder.mkdir(exist_ok=True)
            (folder / path.name).write_text(f"section_00_0000.wav,{'a' if part == 'attributes' else 0}\n")

    of_section = "ground_truth_fan_section_00_test.csv"
    return [
        recipe("task2_anomaly"),
        Reader("anomaly_score_fan_id_00.csv", text("a.wav,0.5\nb.wav,1e-3\n"), read_scores),
        Reader("anomaly_score_fan_id_02.csv", text("a.wav,0.5\n"), lambda path: scored_machines(path.parent)),
        Reader("decision_result_fan_section_00_test.csv", text("a.wav,1\n"), lambda path: read_flags(path, "decision")),
        Reader("pairs.csv", text("a.wav,b\n"), read_pairs),
        Reader("eval_data_list.csv", text("fan\nid_00_00000000.wav,x,1\n"), read_truth_2020),
        *(
            Reader(f"ground_truth_{part}/{of_section}", truth, lambda path: read_truth_first_shot(path.parents[1]))
            for part in ("data", "domain", "attributes")
        ),
    ]


def event_readers() -> list[Reader]:
    from task4_sed.data.annotations import read_durations, read_names, read_soft, read_strong, read_weak
    from task4_sed.evaluation.inputs import is_detections, is_soft, read_detections
    from task4_sed.inference.postprocess.csebbs import read_boxes, read_parameters
    from task4_sed.inference.scores import read_logits, read_scores, write_logits

    def logits(path: Path) -> None:
        write_logits(path, ["a"], np.zeros((1, 4, 27)), [f"c{i}" for i in range(27)], durations=[0.25])

    scores = "onset\toffset\tDog\tCat\n0\t0.5\t0.1\t1e-3\n0.5\t1\t0.2\t-inf\n"
    events = "filename onset offset event_label"
    parameters = "event_label step_filter_length merge_threshold_abs merge_threshold_rel"
    return [
        recipe("task4_sed"),
        Reader("strong.tsv", table(events, "a.wav 0 1.5 Dog"), read_strong),
        Reader("soft.tsv", table(f"{events} confidence", "a.wav 0 1 Dog 0.5"), read_soft),
        Reader("kind.tsv", table(f"{events} confidence", "a.wav 0 1 Dog 0.5"), is_soft),
        Reader("weak.tsv", table("filename event_labels", "a.wav Dog,Cat"), read_weak),
        Reader("durations.tsv", table("filename duration", "a.wav 10"), read_durations),
        Reader("excluded.tsv", table("filename", "a.wav"), read_names),
        Reader("detections.tsv", table(f"threshold {events}", "0.5 a.wav 0 1 Dog"), read_detections),
        Reader("whether.tsv", table(f"threshold {events}", "0.5 a.wav 0 1 Dog"), is_detections),
        Reader("csebbs.tsv", table(parameters, "Dog 0.5 0.2 inf"), read_parameters),
        Reader("boxes.tsv", table(f"{events} confidence", "a 0 1 Dog 0.5"), lambda p: read_boxes(p, ["a"], ["Dog"])),
        Reader("scores/a.tsv", text(scores), lambda path: read_scores(path.parent)),
        Reader("all.tsv", text("filename\t" + scores.replace("\n0", "\na.wav\t0")), read_scores),
        Reader("logits.h5", logits, read_logits),
        Reader("scores.h5", logits, read_scores),
    ]


def retrieval_readers() -> list[Reader]:
    from task6_retrieval.data import captions
    from task6_retrieval.data.teachers import Embeddings, read_embeddings, write_embeddings
    from task6_retrieval.evaluation.evaluate import read_truth
    from task6_retrieval.inference.outputs import _read
    from task6_retrieval.inference.scores import Gallery, read_outputs, write_best, write_scores
    from task6_retrieval.training.captions import read_synonyms

    names, queries = [f"{number}.wav" for number in range(12)], ["a dog", "it rains, a lot"]
    scores = np.random.default_rng(0).normal(size=(2, 12)).astype(np.float32)

    def embeddings(path: Path) -> None:
        write_embeddings(path, Embeddings(("s/a.wav",), scores[:1], ("a dog",), scores[1:]))

    def joined(path: Path) -> None:
        np.savez(path, queries=np.array(queries), clips=np.array(names), matrix=scores)

    def outputs(name: str, write: Callable[..., None], gallery: Gallery | None) -> Reader:
        return Reader(name, lambda p: write(p, queries, names, scores), lambda p: read_outputs(p, gallery))

    def segments(path: Path) -> None:
        (path.parent / "classes.csv").write_text("index,mid,display_name\n0,/m/a,Dog\n")
        path.write_text('# comment\nabcdefghijk, 0.000, 10.000, "/m/a,/m/b"\n')

    def labels(path: Path) -> Any:
        return captions.read_audioset_labels([path], path.parent / "classes.csv")

    record = {"split": "development", "file_name": "a.wav", "caption_index": 0, "variants": ["a hound"]}
    clips = [{"id": "1", "caption": "a dog", "tags": ["dog"]}, {"id": "2", "caption": "rain", "title": "Rain"}]
    annotations = "query,audio_filenames\na dog,\"['a.wav', 'b.wav']\"\n"
    return [
        recipe("task6_retrieval"),
        Reader("captions.csv", text("file_name,caption_1,caption_2\na.wav,a dog,it barks\n"), captions.read_captions),
        Reader("truth.csv", text("file_name,caption_1\na.wav,a dog\nb.wav,rain\n"), read_truth),
        Reader("metadata.csv", text("file_name,keywords\na.wav,dog;bark\n"), captions.read_keywords),
        Reader("annotations.csv", text(annotations), captions.read_annotations),
        Reader(
            "audiocaps.csv", text("audiocap_id,youtube_id,start_time,caption\n1,a,0,a dog\n"), captions.read_audiocaps
        ),
        Reader("wavcaps.json", text(json.dumps({"num_captions_per_audio": 1, "data": clips})), captions.read_wavcaps),
        Reader("excluded.csv", text("sound_id\n12\n"), captions.read_excluded),
        Reader("excluded.json", text('{"FreeSound": ["1"], "AudioSet_SL": ["Ya.wav"]}'), captions.read_excluded),
        Reader("variants.jsonl", text(json.dumps(record) + "\n"), captions.read_variants),
        Reader("segments.csv", segments, labels),
        Reader("synonyms.json", text('{"dog": ["hound"]}'), read_synonyms),
        Reader("embeddings.npz", embeddings, read_embeddings),
        Reader("scores.npz", joined, _read),
        outputs("best.csv", write_best, None),
        outputs("known.csv", write_best, Gallery(names)),
        outputs("scores.csv", write_scores, None),
    ]


def zeroshot_readers() -> list[Reader]:
    from common.audio.audioset import read_labels
    from zeroshot.data.layout import read_audioset, read_esc50, read_openmic
    from zeroshot.data.ontology import read_ontology
    from zeroshot.data.splits import _Known, read_split
    from zeroshot.data.texts import read_texts
    from zeroshot.data.vectors import read_attributes
    from zeroshot.evaluation.evaluate import read_truth
    from zeroshot.inference.scores import read_scores
    from zeroshot.inference.scores import read_split as read_classes

    known = _Known(tuple("abcd"), tuple("abcd"), False, True, None)
    config = load_config(import_module("zeroshot.config").Config, Path(__file__).parents[2] / "zeroshot/recipes", "toy")
    labels = "index,mid,display_name\n0,/m/a,Dog\n1,/m/b,Rain\n"
    node = {"id": "/m/a", "name": "Dog", "description": "a dog", "child_ids": ["/m/b"]}
    nodes = [node, {"id": "/m/b", "name": "Bark", "description": "it barks", "child_ids": []}]
    classes: dict[str, Any] = {
        "train": ["a", "b"],
        "val": [],
        "test": ["c", "d"],
        "semantic": {"c": 0.1, "d": 0.2},
        "edges": None,
    }
    classes["texts"] = {name: {"name": name, "descriptions": ["it"]} for name in "abcd"}

    def segments(path: Path) -> None:
        (path.parent / "class_labels_indices.csv").write_text(labels)
        path.write_text('# comment\n# comment\nabcdefghijk, 0.000, 10.000, "/m/a,/m/b"\n')

    def openmic(path: Path) -> None:
        root = path.parents[1] if path.suffix == ".csv" else path.parent
        (root / "partitions").mkdir(exist_ok=True)
        (root / "class-map.json").write_text('{"flute": 0, "piano": 1}')
        for part, name in (("train", "000046_3840"), ("test", "000135_483840")):
            (root / "partitions" / f"split01_{part}.csv").write_text(f"{name}\n")
        keys = np.array(["000046_3840", "000135_483840"], object)
        np.savez(root / "openmic-2018.npz", Y_true=np.eye(2), Y_mask=np.ones((2, 2), bool), sample_key=keys)

    meta = "filename,fold,target,category,esc10,src_file,take\na.wav,1,0,dog,True,1,A\nb.wav,2,1,rain,True,2,A\n"
    return [
        recipe("zeroshot"),
        Reader(
            "near.csv",
            text("class,role,reason\na,train,\nb,train,\nc,test,x\nd,test,x\n"),
            lambda path: read_split(path, config, known),
        ),
        Reader("texts.csv", text("class,text\ndog,a dog barks\nrain,it rains\n"), read_texts),
        Reader("texts.yaml", text("dog: [a dog barks, barking]\nrain: it rains\nquiet:\n"), read_texts),
        Reader("attributes.csv", text("class,loud,high\ndog,1,0\nrain,0.5,1\n"), read_attributes),
        Reader("ontology.json", text(json.dumps(nodes)), read_ontology),
        Reader("scores.csv", text("clip,class,score\na,dog,0.5\na,rain,-1e-3\n"), read_scores),
        Reader("truth.csv", text("clip,class,value\na,dog,1\na,rain,0\n"), read_truth),
        Reader("classes.json", text(json.dumps(classes)), lambda path: read_classes(path.parent)),
        Reader("meta.csv", text(meta), lambda path: read_esc50(path.parent)),
        Reader("class_labels_indices.csv", text(labels), lambda path: read_labels(path.parent)),
        Reader("eval_segments.csv", segments, lambda path: read_audioset(path.parent)),
        Reader("openmic-2018.npz", openmic, lambda path: read_openmic(path.parent)),
        Reader("class-map.json", openmic, lambda path: read_openmic(path.parent)),
        Reader("partitions/split01_train.csv", openmic, lambda path: read_openmic(path.parents[1])),
    ]


FAMILIES = {
    "common": common_readers,
    "task1_asc": scene_readers,
    "task2_anomaly": anomaly_readers,
    "task4_sed": event_readers,
    "task6_retrieval": retrieval_readers,
    "zeroshot": zeroshot_readers,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_reader_ends_with_one_line(family: str, tmp_path: Path, tally: Tally) -> None:
    tmp_path.chmod(0o755)
    lost: list[str] = []
    readers = FAMILIES[family]()
    for number, reader in enumerate(readers):
        place = tmp_path / str(number) / reader.name
        place.parent.mkdir(parents=True)
        reader.make(place)
        reader.read(place)  # a right one is read
        right = place.read_bytes()
        for fault, change in FAULTS.items():
            place.unlink() if not place.is_dir() or place.is_symlink() else place.rmdir()
            change(place, right)
            try:
                with limited(), as_nobody(fault == "not permitted"):
                    reader.read(place)
            except Exception as error:
                if not one_line(error):
                    lost.append(f"{reader.name}, {fault}: {type(error).__name__}: {str(error)[:200]}")
    tried = len(readers) * len(FAULTS)
    tally(f"broken inputs of readers, {family}", tried, tried - len(lost))
    assert not lost, "\n".join(lost)


def test_results_without_a_key_are_named(tmp_path: Path) -> None:
    record(tmp_path, "test", {"sets": {"a": {"x": 1}}})
    values: dict[str, Any] = read_results(tmp_path)["test"]["values"]
    assert json.loads(json.dumps(values)) == {"sets": {"a": {"x": 1}}}
    with pytest.raises(Exception, match=r"results\.json: no 'y'"):
        values["sets"]["a"]["y"]
    assert values["sets"].get("y") is None
