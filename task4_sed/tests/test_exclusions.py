"""Exclusion lists from YouTube ids."""

from pathlib import Path

import pytest

from common.run.files import write_rows
from common.run.verbs import main
from task4_sed.__main__ import TASK
from task4_sed.data.annotations import read_durations, read_names, read_weak
from task4_sed.data.exclusions import video_of, write_exclusions
from task4_sed.data.layout import EXCLUSION_LISTS, SETS


@pytest.mark.parametrize(
    ("clip", "video"),
    [
        ("Y-6p32k2WUCs_0.000_10.000.wav", "-6p32k2WUCs"),
        ("1Ro0FgMWTUE_120_130.wav", "1Ro0FgMWTUE"),
        ("YYRo0FgMWTUE_120_130.wav", "YRo0FgMWTUE"),
        ("1234.wav", None),
        ("cafe_restaurant_00-000100-001100.wav", None),
    ],
)
def test_video_of_a_clip(clip: str, video: str | None) -> None:
    assert video_of(clip) == video


def test_lists_name_clips_of_the_same_video_only(tmp_path: Path) -> None:
    audio = tmp_path / SETS["weak"].audio[0]
    audio.mkdir(parents=True)
    for name in ("Yaaaaaaaaaaa_0.000_10.000.wav", "Ybbbbbbbbbbb_0.000_10.000.wav"):
        (audio / name).touch()
    rows = [("aaaaaaaaaaa_30_40.wav", 10.0)]
    write_rows(tmp_path / SETS["eval_public"].durations[0], ("filename", "duration"), rows)
    assert write_exclusions(tmp_path) == {"strong": 0, "weak": 1, "unlabeled": 0}
    assert read_names(tmp_path / EXCLUSION_LISTS["weak"]) == ["Yaaaaaaaaaaa_0.000_10.000.wav"]
    assert read_names(tmp_path / EXCLUSION_LISTS["strong"]) == []


def test_real_metadata_share_the_known_videos(shared: Path) -> None:
    """Counts of the data set's documentation: public eval shares 1 video with Weak, 3 with Unlabeled; devtest none."""
    folder = shared / "data" / "sed" / "desed_metadata"
    if not folder.is_dir():
        pytest.skip("no real metadata")
    public = {video_of(row) for row in _names(folder / "public.tsv")}
    assert len(public & {video_of(name) for name in read_weak(folder / "weak.tsv")}) == 1
    assert len(public & {video_of(name) for name in read_names(folder / "unlabel_in_domain.tsv")}) == 3
    devtest = {video_of(name) for name in read_durations(folder / "validation_durations.tsv")}
    assert not devtest & {video_of(name) for name in read_weak(folder / "weak.tsv")}


def _names(path: Path) -> set[str]:
    from task4_sed.data.annotations import read_strong

    return set(read_strong(path))


def test_missing_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TASK, ["prepare", "--exclusions", "--recipe", "baseline", f"data.root={tmp_path / 'none'}"]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'}: data set not found\n"
