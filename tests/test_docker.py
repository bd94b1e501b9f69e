"""The images: one body for every task, what it copies, what it pins and what it is told."""

import json
import re
from pathlib import Path

TASKS = sorted(path.parent.name for path in Path(__file__).parents[1].glob("*/task.mk"))


def instructions(path: Path) -> list[list[str]]:
    """The words of every instruction of a Dockerfile."""
    lines = path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [line.split() for line in lines if line.strip() and not line.startswith("#")]


def test_every_task_has_the_dockerfile(root: Path) -> None:
    """`make dockerfiles` has nothing to change."""
    body = (root / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert body.count("\nARG TASK\n") == 1
    found = {path.name: path.read_text(encoding="utf-8") for path in (root / "docker").glob("*.Dockerfile")}
    assert found == {f"{t}.Dockerfile": body.replace("\nARG TASK\n", f"\nARG TASK={t}\n") for t in TASKS}


def test_dockerfile_copies_what_exists_and_pins_base_and_uv(root: Path) -> None:
    version = re.search(r"^UV=(\S+)$", (root / "common/run/setup.sh").read_text(encoding="utf-8"), re.MULTILINE)
    assert version
    path = root / "docker" / "Dockerfile"
    lines = instructions(path)
    assert lines[0][0] == "FROM"
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm(@sha256:[0-9a-f]{64})?", lines[0][1])
    copied = [word for line in lines if line[0] == "COPY" for word in line[1:-1] if not word.startswith("--")]
    assert "${TASK}" in copied
    sent = [line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(sent) == sorted([*(word for word in copied if word != "${TASK}"), *TASKS])
    for source in sent:
        assert (root / source).exists(), f"{path.name} copies {source}"
    assert re.findall(r"uv==(\S+)", path.read_text(encoding="utf-8")) == [version[1]], "another uv than setup.sh"
    users = [line[1] for line in lines if line[0] == "USER"]
    assert users
    assert users[-1] not in ("root", "0")
    assert lines[-1][0] in ("ENTRYPOINT", "CMD")


def test_image_keeps_what_is_to_stay_in_volumes_and_is_told_its_revision(root: Path) -> None:
    """Under the names that the code reads."""
    lines = instructions(root / "docker" / "Dockerfile")
    of = {line[0]: " ".join(line[1:]) for line in lines}
    assert json.loads(of["VOLUME"]) == ["/work/data", "/work/runs", "/work/cache"]
    assert dict(word.split("=") for word in of["ENV"].split()) == {
        "DCASE_REVISION": "${REVISION}", "DCASE_CACHE": "/work/cache",
    }  # fmt: skip
    assert lines.index(["ARG", "REVISION"]) < lines.index(["ENV", *of["ENV"].split()])
    for name, path in (("REVISION", "run/results/environment.py"), ("CACHE", "encoders/checkpoints.py")):
        assert f'os.environ.get("DCASE_{name}")' in (root / "common" / path).read_text(encoding="utf-8")


def test_docker_readme_says_the_driver_that_the_lock_needs(root: Path) -> None:
    cuda = re.search(r"^nvidia-cuda-runtime==(\d+\.\d+)", (root / "requirements.txt").read_text(), re.MULTILINE)
    assert cuda
    readme = (root / "docker" / "README.md").read_text(encoding="utf-8")
    assert f"CUDA {cuda[1]}" in readme
    assert {"13.0": "driver 580 or newer"}[cuda[1]] in readme
