"""Labels of submitted systems, and files that are no archives."""

import re
from pathlib import Path

import pytest

from common.run.errors import UserError
from task2_anomaly.submission.rules import label_problem
from task2_anomaly.submission.validate import validate


@pytest.mark.parametrize(
    ("label", "wrong"),
    [
        ("Muster_Uni_task2_1", None),
        ("Primus_CP-JKU_task2_4", None),
        ("Muster_task2_1", "3 parts"),
        ("Muster_Uni_task1_1", "not of the form"),
        ("Muster__task2_1", "not of the form"),
        ("Muster_Uni_task2_01", "not of the form"),
        ("Muster_Uni_task2_5", "index 5, expected 1 to 4"),
    ],
)
def test_labels(label: str, wrong: str | None) -> None:
    found = label_problem(label)
    assert found is None if wrong is None else re.search(wrong, found or "")


def test_no_archive(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_text("no zip")
    with pytest.raises(UserError, match=r"x\.zip"):
        validate(tmp_path / "x.zip")
    with pytest.raises(UserError, match="not found"):
        validate(tmp_path / "none")
