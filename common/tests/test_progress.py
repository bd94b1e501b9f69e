"""Progress: times, lines in a log, a bar in a terminal."""

import io
import sys

import pytest

from common.run import progress as module
from common.run.progress import clock, progress


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock, in the test's hands."""
    time = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: time[0])
    return time


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0:00"), (0, "0:00"), (0.5, "0:01"), (59.6, "1:00"), (123, "2:03"), (3599.7, "1:00:00"), (90061, "25:01:01")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_log_gets_a_line_now_and_then(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("pack", 100, "clips") as advance:
        for _ in range(3):
            now[0] += 4
            advance(10)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "pack: 30/100 clips · 2.5 clips/s · 0:12 gone · 0:28 left",
        "pack: 30/100 clips · 2.5 clips/s · 0:12 gone · 0:28 left",
    ]


def test_the_rate_counts_only_what_was_done_now(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("train", 100, "steps", done=60) as advance:
        now[0] += 5
        advance(20, note="epoch 4")
    assert capsys.readouterr().err == "train: 80/100 steps · 4.0 steps/s · 0:05 gone · 0:05 left · epoch 4\n"


def test_an_absolute_position_may_bring_the_total(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("toy", 0, "files") as advance:
        now[0] += 2
        advance.to(3, 4)
    assert capsys.readouterr().err == "toy: 3/4 files · 1.5 files/s · 0:02 gone · 0:01 left\n"


def test_nothing_done_nothing_said(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("pack", 10):
        pass
    assert capsys.readouterr().err == ""


def test_an_error_still_shows_where_the_work_stood(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with progress("pack", 10) as advance:
            now[0] += 1
            advance(4)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert capsys.readouterr().err.startswith("pack: 4/10 clips · 4.0 clips/s")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    with progress("train", 10, "clips") as advance:
        advance(10, note="epoch 1/1")
    assert "train" in terminal.getvalue()
    assert "10/10 clips" in terminal.getvalue()
    assert "epoch 1/1" in terminal.getvalue()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("done", "seconds", "pace"),
    [(50, 10, "5.0 clips/s"), (1, 20, "3.0 clips/min"), (2, 3600, "2.0 clips/h"), (1, 36000, "0.1 clips/h")],
)
def test_slow_work_has_a_rate_too(
    done: int, seconds: int, pace: str, now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("grid", 100) as advance:
        now[0] += seconds
        advance(done)
    assert f" · {pace} · " in capsys.readouterr().err


def test_before_the_first_step_there_is_no_rate(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("grid", 100) as advance:
        now[0] += 30
        advance(0)
        assert capsys.readouterr().err == "grid: 0/100 clips · 0:30 gone · ? left\n"


def test_it_says_which_of_several_runs(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    module.show_as("run 2 of 3")
    try:
        with progress("train split25", 4) as advance:
            now[0] += 1
            advance(4)
    finally:
        module.show_as("")
    assert capsys.readouterr().err.startswith("run 2 of 3: train split25: 4/4 clips")
