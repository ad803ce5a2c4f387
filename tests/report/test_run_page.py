"""The page of a run: its curves, a shipped run's behind them where one is alike."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
import yaml

from alice3d.report.curves import NAME, POINTS, expected_of, loss_curves, thinned
from alice3d.report.run_page import write_run_page

SETTINGS = {"method": "alice", "backbone": "resunet", "init": "headneck-ct", "steps": 300, "batch": 4}
LOG = [
    {"step": step, "loss": 14 - step / 100, "patch": 6.2, "step_s": 2.0, "data_wait_s": 0.02, "samples_per_s": 2.0}
    for step in range(200)
]


def write(out: Path, settings: dict[str, object]) -> str:
    (out / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in LOG))
    (out / "config.yaml").write_text(yaml.safe_dump(settings))
    page = write_run_page(out)
    assert page is not None
    return page.read_text()


def test_shipped_curves_are_small_whole_and_found() -> None:
    files = [folder.joinpath(NAME) for folder in (resources.files("alice3d.weights") / "shipped").iterdir()]
    shipped = [json.loads(file.read_text()) for file in files if file.is_file()]
    assert {one["kind"]["method"] for one in shipped} == {"alice", "sam"}
    for one in shipped:
        last = one["settings"]["steps"] - 1
        assert all(points[0][0] == 0 and points[-1][0] == last for points in one["curves"].values())
        assert all(len(points) <= POINTS for points in one["curves"].values())
    expected = expected_of(SETTINGS)
    assert expected is not None
    assert expected.curves["loss"][-1][1] < expected.curves["loss"][0][1]


def test_only_runs_alike_are_compared() -> None:
    assert expected_of({**SETTINGS, "init": None}) is None
    assert expected_of({**SETTINGS, "method": "mae"}) is None
    assert expected_of({**SETTINGS, "backbone": "vit"}) is None


def test_curves_are_stretched_to_the_run() -> None:
    expected = expected_of(SETTINGS)
    assert expected is not None
    assert max(step for step, _ in expected.stretched(300)["loss"]) == pytest.approx(299.5)


def test_thinning_keeps_ends_and_means() -> None:
    content = thinned(LOG, {**SETTINGS, "licence": "MIT"}, "a run")
    assert set(content["curves"]) == {"loss", "patch"}
    assert [content["curves"]["loss"][i][0] for i in (0, -1)] == [0, 199]
    assert "licence" not in content["settings"]


def test_the_expected_curve_lies_behind_and_in_view() -> None:
    figure = loss_curves(LOG, expected={"loss": [(0.0, 20.0), (300.0, 2.0)]})
    loss, patch = figure.axes[:2]
    assert list(loss.lines[0].get_ydata()) == [20.0, 2.0]
    assert loss.get_ylim()[0] < 2
    assert loss.get_ylim()[1] > 20
    assert len(patch.lines[0].get_ydata()) == 0


def test_the_page_says_how_far_how_fast_and_what_is_behind(tmp_path: Path) -> None:
    html = write(tmp_path, SETTINGS)
    assert "the run that made headneck-ct-alice" in html
    assert "200 of 300" in html
    assert "1.0%" in html
    assert "Grey" not in write(tmp_path, {**SETTINGS, "method": "my_package.my_method"})


def test_what_is_no_number_is_left_out() -> None:
    figure = loss_curves([*LOG, {"step": 200, "loss": float("nan"), "probe": float("nan")}])
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()] == ["loss", "patch"]
    assert len(figure.axes[0].lines[1].get_xdata()) == 200


def test_no_log_no_page(tmp_path: Path) -> None:
    assert write_run_page(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
