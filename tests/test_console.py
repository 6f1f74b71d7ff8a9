"""What a person sees of progress: one line a meter when it is done."""

from __future__ import annotations

import pytest

from synthrec import console


def test_each_meter_leaves_its_line_but_one_that_had_nothing_to_do(capsys):
    with console.meters({"queries": 4, "brand": 0, "reply": None}, "rows") as found:
        found["queries"].advance(3, note="2 accepted")
        found["queries"].advance()
        assert (found["queries"].done, found["queries"].note) == (4, "2 accepted")
    lines = [line.strip() for line in capsys.readouterr().err.splitlines()]
    assert len(lines) == 2
    assert lines[0].startswith("queries: 4 rows in ")
    assert lines[0].endswith("2 accepted")
    assert lines[1].startswith("reply: 0 rows in ")


def test_a_meter_leaves_no_line_when_its_work_failed(capsys):
    with pytest.raises(ValueError, match="on purpose"), console.meter("queries", 4) as one:
        one.advance()
        raise ValueError("on purpose")
    assert capsys.readouterr().err == ""


def test_a_meter_counts_its_own_time_only(monkeypatch):
    now = 100.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    one = console.Meter("queries", 20, "rows", None)
    now = 130.0
    one.begin(130.0)  # until then another task was asked
    now = 140.0
    one.advance(10)
    assert one.rate == pytest.approx(1.0)
    one.begin(139.0)  # too late: it has begun
    assert one.line() == "queries: 10/20 rows, 1.0/s, ETA 10s"
    one.end()
    now = 1000.0
    assert one.seconds == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0s"), (59.4, "59s"), (59.6, "1m00s"), (187, "3m07s"), (3599.7, "1h00m"), (7500, "2h05m")],
)
def test_a_time_is_told_shortly(seconds, shown):
    assert console.clock(seconds) == shown
