"""What tests/test_readme.py does with the commands of Task 6."""

DATA = "data/task6_retrieval/toy"

# pattern, how, why, changes
RULES = (
    (r"python esc_captions\.py .*", "named", "needs ESC-10", ()),
    (
        r"python -m task6_retrieval .*(esc10|runs/task6_retrieval/tags/run1).*",
        "named",
        "a test of the task does it",
        (),
    ),
    (
        r"python -m task6_retrieval \w+ .*data\.root=data/own",
        "run",
        "tiny network",
        ((r"$", " data.toy=null data.batch=2"),),
    ),
    (r"python -m task6_retrieval (evaluate|validate) .*", "named", "needs somebody's outputs", ()),
    (r"python -m task6_retrieval (index|search) .*", "named", "recordings of one's own; tests of the task run it", ()),
    (r"python -m task6_retrieval demo .*", "named", "runs until it is stopped", ()),
    (
        r"python -m task6_retrieval captions .*",
        "run",
        "tiny data, a small text encoder",
        ((r"^(python -m \S+ captions) .*", rf"\1 {DATA}/clotho_captions_evaluation.csv --encoder small --json"),),
    ),
    (
        r"python -m task6_retrieval benchmark",
        "run",
        "an instant",
        ((r"$", " --queries 20 --clips 500"),),
    ),
    (
        r"python -m task6_retrieval \w+( .*)?",
        "run",
        "tiny data",
        ((r"data\.toy=null data\.root=/path/to/clotho", f"data.root={DATA}"),),
    ),
)

RECIPES = {name: f"extends: task6_retrieval/tests/tiny.yaml\ndata: {{root: {DATA}}}\n" for name in ("toy", "yamnet")}

EXPECTED = ("toy/coverage.json",)
