"""Scenes and devices of TAU Urban Acoustic Scenes 2022 Mobile, in the challenge's order."""

SCENES = (
    "airport",
    "bus",
    "metro",
    "metro_station",
    "park",
    "public_square",
    "shopping_mall",
    "street_pedestrian",
    "street_traffic",
    "tram",
)
DEVICES = ("a", "b", "c", "s1", "s2", "s3", "s4", "s5", "s6")
# s4 to s6 are only heard in the test set.
TRAIN_DEVICES = DEVICES[:6]
DEVICE_GROUPS = {"real": ("a", "b", "c"), "seen": ("s1", "s2", "s3"), "unseen": ("s4", "s5", "s6")}
PARTS_PER_SEGMENT = 10
SAMPLE_RATE = 44100
CLIP_SAMPLES = 44100
# The challenge's limits: memory of the parameters, and multiply-accumulates for one clip.
MAX_BYTES = 128_000
MAX_MACS = 30_000_000
