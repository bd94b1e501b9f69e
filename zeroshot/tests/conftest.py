"""The tiny data set, written and packed once for all tests of a process."""

from common.tests.helpers import tiny_fixtures

tiny_root, tiny = tiny_fixtures("zeroshot")
