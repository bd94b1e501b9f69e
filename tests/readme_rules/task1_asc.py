"""What tests/test_readme.py does with the commands of Task 1."""

from pathlib import Path

# The tiny recipes carry the names of the real ones, so that they write to the same folders.
FOLDER = "tiny/task1_asc"
DATA = "data/task1_asc/toy"
TINY_MAKE = (r"^(make task1-\S+)(?!.*RECIPE=)", rf"\1 RECIPE={FOLDER}/toy.yaml")
NAMED_MAKE = (r"RECIPE=(\w+)(?!\S*\.yaml)\b", rf"RECIPE={FOLDER}/\1.yaml")
TINY_VERB = (r"^(python -m task1_asc [a-z]+)(?!.*--recipe)", rf"\1 --recipe {FOLDER}/toy.yaml")
NAMED_VERB = (r"--recipe (\w+)(?!\S*\.yaml)\b", rf"--recipe {FOLDER}/\1.yaml")
REAL_DATA = (r"data\.root=/path/to/data", f"data.root={DATA}")
RUNS = "runs/task1_asc"

# pattern, how, why, changes
RULES = (
    (r"make task1-train RESTART=1", "named", "the same chain once more", ()),
    (
        r"make task1-reproduce .*",
        "run",
        "tiny data and network, one seed",
        ((r"task1-reproduce", f"task1-reproduce RUNS=1 RECIPE={FOLDER}/baseline.yaml"), REAL_DATA),
    ),
    (
        r"make task1-package RECIPE=scenes_entry\.yaml .*",
        "run",
        "the archive is made of the toy training",
        (
            (r"^make task1-package RECIPE=(\S+)", r"python -m task1_asc package --recipe \1"),
            (r"ARGS=.*", f"--run-dir {RUNS}/toy --out scenes_entry.zip data.root={DATA}"),
        ),
    ),
    (r"make task1-\S+( .*)?", "run", "tiny data and networks", (TINY_MAKE, NAMED_MAKE, REAL_DATA)),
    (
        r"python -m task1_asc validate .*",
        "run",
        "own archives",
        (
            (r"somebody_2025\.zip", f"{RUNS}/baseline_2025/submission.zip data.root={DATA}"),
            (r"somebody\.zip", f"{RUNS}/toy/submission.zip"),
            TINY_VERB,
        ),
    ),
    (r"python -m task1_asc benchmark .*", "run", "an instant a stage", (TINY_VERB, (r"$", " --seconds 0.02"))),
    (
        r"python -m task1_asc export .*",
        "run",
        "one file of three",
        (TINY_VERB, (r"$", " --precision float32 --without-front-end")),
    ),
    (r"python -m task1_asc \w+( .*)?", "run", "tiny data and networks", (TINY_VERB, NAMED_VERB, REAL_DATA)),
)

FAST = "trainer: {max_epochs: 1, check_val_every_n_epoch: 1, accelerator: cpu}\n"
ONE_SPLIT = "submission: null\n"
TAUGHT = "model: {architecture: cp_mobile}\nquantize: {epochs: 1, freeze_epochs: 0}\nprecision: int8\n"
RECIPES = {
    "toy": "",
    "baseline": "",
    "baseline_2025": "finetune: {epochs: 1, warmup_steps: 1}\n",
    "toy_teacher": ONE_SPLIT + "model: {architecture: cp_resnet, base_channels: 24}\nprecision: float32\n",
    "cp_resnet_teacher": ONE_SPLIT + "model: {architecture: cp_resnet, base_channels: 24}\nprecision: float32\n",
    "toy_distilled": ONE_SPLIT + TAUGHT + "distill: {teachers: [toy_teacher]}\n",
    "cp_mobile_int8": ONE_SPLIT + TAUGHT + "distill: {teachers: [cp_resnet_teacher]}\n",
}
SPLITS = {"toy": "", "baseline": "", "baseline_2025": ", splits: [25], edition: 2025"}


def write_recipes(folder: Path) -> None:
    """The tiny recipes and a participant's network, in a copy of the checkout."""
    (folder / FOLDER).mkdir(parents=True)
    for name, text in RECIPES.items():
        data = f"data: {{root: {DATA}{SPLITS.get(name, ', splits: [5]')}}}\n"
        recipe = f"extends: ../../task1_asc/tests/tiny.yaml\n{data}{FAST}{text}"
        (folder / FOLDER / f"{name}.yaml").write_text(recipe)
    (folder / "my_module.py").write_text(
        "from torch import nn\n\n\ndef build_model():\n    return nn.Sequential(nn.Conv2d(1, 10, 8, 8), nn.Flatten())\n"
    )


EXPECTED = (
    *(f"toy/{name}" for name in ("run1/plots", "run2/split100/results.json", "comparison.png", "submission.zip")),
    *("toy/splits/split5.csv", "baseline/report.md", "baseline_2025/submission.zip", "narrow/comparison.csv"),
    *(f"{name}/run1/split5/int8/network_int8.pt" for name in ("toy_distilled", "cp_mobile_int8")),
)
