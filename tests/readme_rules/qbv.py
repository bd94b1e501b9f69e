"""What tests/test_readme.py does with the commands of query by vocal imitation."""

DATA = "data/qbv/toy"

# pattern, how, why, changes
RULES = (
    (r"(make qbv-|python -m qbv )demo.*", "named", "runs until it is stopped", ()),
    (
        r"python -m qbv (index|search|prepare --imitate) .*",
        "named",
        "recordings of one's own; tests of the task run it",
        (),
    ),
    (r"make qbv-reproduce .*", "named", "two recipes; tests of make plan it", ()),
    (r"make qbv-\S+( .*)?", "run", "tiny data and network", ()),
    (r"python -m qbv evaluate --scores .*", "named", "needs somebody's outputs", ()),
    (r"python -m qbv validate entry\.zip .*", "run", "as it is", ()),
    (r"python -m qbv validate .*", "named", "needs somebody's files", ()),
    (r"python -m qbv compare --runs-of .*", "named", "needs a second trained recipe", ()),
    (r"python -m qbv train --recipe .*", "named", "needs the real data", ()),
    (r"python -m qbv benchmark", "run", "an instant a stage", ((r"$", " --seconds 0.02 --library 20"),)),
    (r"python -m qbv \w+( .*)?", "run", "tiny data and network", ()),
)

PLACES = (
    f"root: {DATA}, vocal_sketch: {DATA}/vocal_sketch, vocal_imitation_set: {DATA}/vocal_imitation_set, "
    f"qvim: {DATA}/qvim"
)
RECIPES = {
    "toy": f"extends: qbv/tests/tiny.yaml\ndata: {{{PLACES}}}\n",
    "toy_qvim": f"extends: [toy_qvim, qbv/tests/tiny.yaml]\nloss: softmax\ndata: {{{PLACES}, protocol: qvim}}\n",
}

EXPECTED = (
    *(f"toy/{name}" for name in ("comparison.png", "run1/plots", "run1/fold0/predictions/truth.csv")),
    "toy_qvim/submission.zip",
)
