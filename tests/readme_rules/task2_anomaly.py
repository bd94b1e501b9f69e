"""What tests/test_readme.py does with the commands of Task 2."""

DATA = "data/task2_anomaly/toy"
FIRST_SHOT = (r"data\.root=/path/to/data (?=data\.edition)", f"data.root={DATA}_firstshot ")
REAL_DATA = (r"data\.root=/path/to/data", f"data.root={DATA}")

# pattern, how, why, changes
RULES = (
    (
        r"make task2-grid.*",
        "run",
        "one machine, one seed",
        (
            (r"^make task2-grid$", 'make task2-grid SEEDS="3" ARGS="data.machines=[fan_id_00]"'),
            (r'SEEDS="1 2 3"', 'SEEDS="3" ARGS="data.machines=[fan_id_00]"'),
        ),
    ),
    (
        r"python -m task2_anomaly grid .*",
        "run",
        "the tiny data set, two machines, one seed, fewer proxy clips than it has",
        (
            REAL_DATA,
            (r"4096", '4096 --seeds 3 "data.machines=[fan_id_00,ToyCar_id_01]"'),
            (r"64 512", "8 16"),
        ),
    ),
    (r"make task2-train RECIPE=embedding_knn_yamnet .*", "run", "tiny data", (FIRST_SHOT, REAL_DATA)),
    (r"make task2-train RECIPE=embedding_knn .*", "settings", "needs the weights of BEATs", ()),
    (r"make task2-\S+( .*)?", "run", "tiny data and networks", (FIRST_SHOT, REAL_DATA)),
    (
        r"python -m task2_anomaly evaluate --scores /path/to/system .*",
        "run",
        "own scores of the first-shot toy data",
        (
            (r"/path/to/system", "runs/task2_anomaly/toy_firstshot/run1/scores/eval_test"),
            (r"/path/to/truth", f"{DATA}_firstshot"),
        ),
    ),
    (
        r"python -m task2_anomaly validate .*",
        "run",
        "own archives",
        (
            (
                r"somebody\.zip --edition first-shot",
                "runs/task2_anomaly/toy_firstshot/submission.zip --recipe toy_firstshot",
            ),
            (r"somebody\.zip", "runs/task2_anomaly/toy/submission.zip"),
        ),
    ),
    (r"python -m task2_anomaly prepare .*--download .+", "settings", "needs the network", ()),
    (
        r"python -m task2_anomaly \w+ .*data\.root=data/own_machines.*",
        "run",
        "tiny networks",
        ((r"$", " data.toy=null data.audioset=null data.scenes=null data.proxies=same_mic_all_types"),),
    ),
    (r"python -m task2_anomaly benchmark", "run", "an instant a stage", ((r"$", " --seconds 0.02"),)),
    (
        r"python -m task2_anomaly \w+( .*)?",
        "run",
        "tiny data and networks",
        (REAL_DATA, (r"pump_id_00", "ToyCar_id_01")),
    ),
)

PLACES = f"root: {DATA}, audioset: {DATA}/audioset, scenes: {DATA}/scenes"
FAST = "trainer: {max_epochs: 1, accelerator: cpu}\nenergy: {enabled: false}\n"
CHANGES = {
    **dict.fromkeys(
        ("toy", "challenge", "workshop", "variant_01"), f"task2_anomaly/tests/tiny.yaml\ndata: {{{PLACES}}}\n"
    ),
    **dict.fromkeys(("toy_firstshot", "ae_firstshot"), "toy_firstshot\ndata: {toy: tiny}\n"),
    **{name: f"{name}\ndata: {{toy: tiny}}\n" for name in ("toy_embedding", "toy_embedding_firstshot")},
}
RECIPES = {name: f"extends: {text}{FAST}" for name, text in CHANGES.items()}

EXPECTED = (
    *(f"toy/{name}" for name in ("run1/plots/dev_test", "run2/scores/eval_test", "comparison.png", "submission.zip")),
    *("toy/grid/grid.csv", "both/run1/results.json", "mine/submission.zip", "toy_firstshot/submission.zip"),
)
