"""What tests/test_readme.py does with the commands of Task 6."""

DATA = "data/task6_retrieval/toy"

# pattern, how, why, changes
RULES = (
    (r"make( -\w+( \d+)?)? task6-reproduce.*", "named", "takes minutes to days", ()),
    (r"make task6-\S+( .*)?", "run", "tiny data and network", ()),
    (r"python -m task6_retrieval (evaluate --scores|validate) .*", "named", "needs somebody's outputs", ()),
    (
        r"python -m task6_retrieval evaluate --ensemble .*",
        "run",
        "an ensemble of one",
        ((r"toy toy_atst --weights 2 1", "toy --weights 2"),),
    ),
    (r"python esc_captions\.py .*", "named", "needs ESC-10", ()),
    (
        r"python -m task6_retrieval .*(esc10|runs/task6_retrieval/tags/run1).*",
        "named",
        "a test of the task does it",
        (),
    ),
    (
        r"python -m task6_retrieval \w+ .*data\.root=data/own_captions",
        "run",
        "tiny network",
        ((r"$", " data.toy=null data.batch=2"),),
    ),
    (r"python -m task6_retrieval (index|search) .*", "named", "recordings of one's own; tests of the task run it", ()),
    (r"python -m task6_retrieval demo .*", "named", "runs until it is stopped", ()),
    (
        r"python -m task6_retrieval captions .*",
        "run",
        "tiny data, a small text encoder",
        ((r"^(python -m \S+ captions) .*", rf"\1 {DATA}/clotho_captions_evaluation.csv --encoder small --json"),),
    ),
    (
        r"python -m common\.search benchmark --rows 200000",
        "run",
        "fewer vectors",
        ((r"^python (.*)200000", r".venv/bin/python \g<1>2000 --exact"),),
    ),
    (
        r"python -m task6_retrieval benchmark --metrics",
        "run",
        "an instant",
        ((r"$", " --queries 20 --clips 500"),),
    ),
    (r"python -m task6_retrieval benchmark", "run", "an instant a stage", ((r"$", " --seconds 0.02"),)),
    (
        r"python -m task6_retrieval tune .*",
        "run",
        "one trial",
        ((r"--trials 20", "--trials 1"),),
    ),
    (
        r"python -m task6_retrieval \w+( .*)?",
        "run",
        "tiny data",
        ((r"data\.toy=null data\.root=/path/to/clotho", f"data.root={DATA}"),),
    ),
)

TINY = f"extends: task6_retrieval/tests/tiny.yaml\ndata: {{root: {DATA}}}\n"
RECIPES = {"toy": TINY, "yamnet": TINY, "toy_stage2": f"{TINY}start: toy\ndistill: {{teachers: [toy]}}\n"}

EXPECTED = (
    *(f"toy/{name}" for name in ("coverage.json", "run1/plots", "comparison.png", "submission.zip")),
    "toy_stage2/against_toy/comparison.png",
    "toy/submission_2025.zip",
    "both/run1/scores/challenge.npz",
)
