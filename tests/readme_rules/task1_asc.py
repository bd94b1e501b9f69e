"""What tests/test_readme.py does with the commands of Task 1."""

DATA = "data/task1_asc/toy"
REAL_DATA = (r"data\.root=/path/to/data", f"data.root={DATA}")
RUNS = "runs/task1_asc"

# pattern, how, why, changes
RULES = (
    (r"make task1-train RESTART=1", "named", "the same chain once more", ()),
    (
        r"make task1-reproduce .*",
        "run",
        "tiny data and network, one seed",
        ((r"task1-reproduce", "task1-reproduce RUNS=1"), REAL_DATA),
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
    (r"make task1-\S+( .*)?", "run", "tiny data and networks", (REAL_DATA,)),
    (
        r"python -m task1_asc validate .*",
        "run",
        "own archives",
        (
            (r"somebody_2025\.zip", f"{RUNS}/baseline_2025/submission.zip data.root={DATA}"),
            (r"somebody\.zip", f"{RUNS}/toy/submission.zip"),
        ),
    ),
    (r"python -m task1_asc prepare .*--download .+", "settings", "needs the network", ()),
    (r"python -m task1_asc \w+ .*data\.root=data/own_scenes.*", "run", "a tiny network", ((r"$", " data.toy=null"),)),
    (r"python -m task1_asc benchmark .*", "run", "an instant a stage", ((r"$", " --seconds 0.02"),)),
    (r"python -m task1_asc export .*--format folder.*", "run", "tiny network", ()),
    (
        r"python -m task1_asc export .*",
        "run",
        "one file of three",
        ((r"$", " --precision float32 --without-front-end"),),
    ),
    (r"python -m task1_asc \w+( .*)?", "run", "tiny data and networks", (REAL_DATA,)),
)

FAST = "trainer: {max_epochs: 1, check_val_every_n_epoch: 1, accelerator: cpu}\n"
ONE_SPLIT = "submission: null\n"
TAUGHT = "model: {kind: cp_mobile}\nquantize: {epochs: 1, freeze_epochs: 0}\nprecision: int8\n"
CHANGES = {
    "toy": "",
    "baseline": "",
    "baseline_2025": "finetune: {epochs: 1, warmup_steps: 1}\n",
    "toy_teacher": ONE_SPLIT + "model: {kind: cp_resnet, base_channels: 24}\nprecision: float32\n",
    "cp_resnet_teacher": ONE_SPLIT + "model: {kind: cp_resnet, base_channels: 24}\nprecision: float32\n",
    "toy_distilled": ONE_SPLIT + TAUGHT + "distill: {teachers: [toy_teacher]}\n",
    "cp_mobile_int8": ONE_SPLIT + TAUGHT + "distill: {teachers: [cp_resnet_teacher]}\n",
}
SPLITS = {"toy": "", "baseline": "", "baseline_2025": ", splits: [25], edition: 2025"}
RECIPES = {
    name: f"extends: task1_asc/tests/tiny.yaml\ndata: {{root: {DATA}{SPLITS.get(name, ', splits: [5]')}}}\n{FAST}{text}"
    for name, text in CHANGES.items()
}

EXPECTED = (
    *(f"toy/{name}" for name in ("run1/plots", "run2/split100/results.json", "comparison.png", "submission.zip")),
    *("toy/splits/split5.csv", "baseline/report.md", "baseline_2025/submission.zip", "narrow/comparison.csv"),
    *(f"{name}/run1/split5/int8/network_int8.pt" for name in ("toy_distilled", "cp_mobile_int8")),
)
