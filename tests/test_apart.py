"""No output of any command is, holds, or lies inside an input."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

import pytest

from alice3d.apart import check_apart
from alice3d.commands import COMMANDS, find_command
from alice3d.config import CommandConfig, Reads, Writes
from alice3d.errors import UserError

NAMES_OF_WEIGHTS = {"matcher", "encoder", "init", "query", "key", "with_", "label_names", "picture"}
"""Settings that are text and may be a path."""
NEEDED: dict[str, dict[str, Any]] = {"match": {"point": "1,2,3"}}


def kind_of(command: str) -> type[CommandConfig]:
    return find_command(command)[1]


def marked(kind: type[CommandConfig], of: type) -> list[str]:
    return [name for name, field in kind.model_fields.items() if any(isinstance(mark, of) for mark in field.metadata)]


def mentions_path(annotation: Any) -> bool:
    return annotation is Path or any(mentions_path(part) for part in get_args(annotation))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_path_says_whether_it_is_read_or_written(command: str) -> None:
    kind = kind_of(command)
    paths = {name for name, field in kind.model_fields.items() if mentions_path(field.annotation)}
    paths |= NAMES_OF_WEIGHTS & set(kind.model_fields)
    assert paths == {*marked(kind, Reads), *marked(kind, Writes)}


def config_of(command: str, **values: Any) -> CommandConfig:
    """Settings with all that is needed; inputs that are not given name nothing that exists."""
    kind = kind_of(command)
    given = {name: f"no-{name}" for name, field in kind.model_fields.items() if field.is_required()}
    return kind.checked({**given, **NEEDED.get(command, {}), **values}, command)


PAIRS = [
    (command, read, written)
    for command in COMMANDS
    for read in marked(kind_of(command), Reads)
    for written in marked(kind_of(command), Writes)
]


@pytest.mark.parametrize(("command", "read", "written"), PAIRS)
def test_output_and_input_lie_apart(tmp_path: Path, command: str, read: str, written: str) -> None:
    given = tmp_path / "outer" / "given"
    given.mkdir(parents=True)
    (given / "file").write_text("")
    (tmp_path / "link").symlink_to(given)
    mark = next(mark for mark in kind_of(command).model_fields[written].metadata if isinstance(mark, Writes))

    def check(source: Path, place: Path) -> None:
        check_apart(config_of(command, **{read: os.fspath(source), written: os.fspath(place)}))

    refused = [
        (given, given / "new", "lies inside"),
        (given, given / "deep" / "new", "lies inside"),
        (given, tmp_path / "link" / "new", "lies inside"),
        (given, tmp_path / "outer" / "other" / ".." / "given" / "new", "lies inside"),
        (given / "file", given / "file", "itself|a file"),
    ]
    if mark.file:
        refused.append((given, given, "is a folder"))
    else:
        refused += [
            (given, given, "itself"),
            (given, tmp_path / "link", "itself"),
            (given, tmp_path / "outer", "holds"),
            (given / "file", given, "holds"),
        ]
    for source, place, words in refused:
        with pytest.raises(UserError, match=words):
            check(source, place)
    for place in (tmp_path / "new", tmp_path / "outer" / "new", tmp_path / "outer" / "given-2"):
        check(given, place)
    check(tmp_path / "missing", tmp_path / "missing" / "new")


def test_where_capitals_make_no_difference_they_make_none_here(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "scans").mkdir()
    same = os.path.samefile

    def samefile(one: Any, other: Any) -> bool:
        return same(str(one).lower(), str(other).lower()) if Path(one).is_absolute() else same(one, other)

    exists, is_dir = Path.exists, Path.is_dir
    monkeypatch.setattr(os.path, "samefile", samefile)
    monkeypatch.setattr(Path, "exists", lambda path: exists(Path(str(path).replace("SCANS", "scans"))))
    monkeypatch.setattr(Path, "is_dir", lambda path: is_dir(Path(str(path).replace("SCANS", "scans"))))
    if str(tmp_path) != str(tmp_path).lower():
        pytest.skip("the temporary folder has capitals")
    with pytest.raises(UserError, match="lies inside"):
        check_apart(config_of("predict", scans=[str(tmp_path / "scans")], out=str(tmp_path / "SCANS" / "out")))


def test_what_is_meant_to_lie_inside_may(tmp_path: Path) -> None:
    for name in ("model", "store"):
        (tmp_path / name).mkdir()
    check_apart(config_of("evaluate", model=tmp_path / "model", out=tmp_path / "model" / "evaluation-mine"))
    check_apart(config_of("inspect", store=tmp_path / "store", page=tmp_path / "store" / "inspect.html"))
    for name in ("index.csv", "images/inspect.html"):
        with pytest.raises(UserError, match=r"--page .*lies inside STORE"):
            check_apart(config_of("inspect", store=tmp_path / "store", page=tmp_path / "store" / name))


def test_inputs_in_groups_count(tmp_path: Path) -> None:
    (tmp_path / "out" / "encoder").mkdir(parents=True)
    arms = {"old": {"encoder": str(tmp_path / "out" / "encoder")}}
    with pytest.raises(UserError, match=r"OUT .*holds --arms"):
        check_apart(config_of("compare", out=tmp_path / "out", arms=arms))


def test_two_outputs_are_two_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is also written by --plot"):
        check_apart(config_of("evaluate-matcher", plot=tmp_path / "a.png", out=tmp_path / "a.png"))


def test_checking_a_store_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    check_apart(config_of("prepare", scans=tmp_path / "store", store=tmp_path / "store", verify=True))
    with pytest.raises(UserError, match="itself"):
        check_apart(config_of("prepare", scans=tmp_path / "store", store=tmp_path / "store"))


def test_a_file_that_the_package_did_not_write_is_not_written_over(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    for command, name in (("inspect", "page"), ("match", "picture"), ("evaluate-matcher", "out"), ("probe", "out")):
        with pytest.raises(UserError, match="was not written by alice; remove it, or give another name"):
            check_apart(config_of(command, **{name: str(notes)}))
        check_apart(config_of(command, **{name: str(tmp_path / "new")}))


def test_pictures_pages_and_results_of_the_package_are_written_over(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    from alice3d.report.page import page
    from alice3d.report.planes import png_of

    figure = Figure()
    figure.add_subplot().plot([0, 1])
    (tmp_path / "a.png").write_bytes(png_of(figure))
    (tmp_path / "a.html").write_text(page("title", []))
    (tmp_path / "a.json").write_text('{\n "made_by": "alice3d",\n "mean_mm": 7.8\n}\n')
    (tmp_path / "empty").write_text("")
    for name in ("a.png", "a.html", "a.json", "empty"):
        check_apart(config_of("match", picture=str(tmp_path / name)))
