"""finetune, evaluate and predict, end to end on generated patients, with both heads on both backbones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from encoder_files import RESUNET, VIT, write_encoder

from alice3d.commands import evaluate, finetune, predict
from alice3d.data.sources.scan_list import find_scans
from alice3d.data.store import Store
from alice3d.errors import UserError
from alice3d.tasks.segmentation import evaluate as segmentation_evaluate
from alice3d.tasks.segmentation import predict as segmentation_predict
from alice3d.tasks.settings import EvaluateConfig, FinetuneConfig, PredictConfig

QUICK = {"steps": 12, "batch": 2, "crop": 24, "workers": 0, "linear_voxels": 60, "linear_iterations": 8}


@pytest.fixture(scope="module")
def model(tiny_store, tmp_path_factory) -> Path:
    """A linear head on an untrained encoder: the quickest model there is."""
    folder = tmp_path_factory.mktemp("model")
    encoder = write_encoder(folder / "encoder", RESUNET, [{"id": "x", "checksum": "no scan of the store"}])
    finetune.run(
        FinetuneConfig(store=tiny_store, out=folder / "model", encoder=str(encoder), head="linear", labels=2, **QUICK)
    )
    return folder / "model"


@pytest.mark.parametrize("head", ["unet", "linear"])
@pytest.mark.parametrize("described", [RESUNET, VIT], ids=["resunet", "vit"])
def test_both_heads_on_both_backbones(tiny_store, tmp_path, described, head):
    encoder = write_encoder(tmp_path / "encoder", described)
    config = FinetuneConfig(
        store=tiny_store, out=tmp_path / "model", encoder=str(encoder), head=head, labels=1, **QUICK
    )
    result = finetune.run(config)
    assert set(result) == {"steps", "loss", "seconds", "out"}
    card = json.loads((tmp_path / "model" / "model.json").read_text())
    assert (card["task"], card["head"], card["backbone"]) == ("segmentation", head, described)
    assert len(card["cases"]) == 1
    scores = evaluate.run(EvaluateConfig(model=tmp_path / "model", store=tiny_store, split="val"))
    assert scores["cases"] == 1
    assert 0 <= scores["dice"]["mean"] <= 1
    assert (scores["dice"]["low"], scores["dice"]["high"]) == (None, None)  # of one case
    written = (tmp_path / "model" / "evaluation-val" / "metrics.json").read_text()
    assert "NaN" not in written  # JSON has none
    assert json.loads(written)["dice"] == scores["dice"]
    assert json.loads(written)["nsd_tolerance_mm"] == 8.0  # a voxel
    assert finetune.run(config) == result  # done already


@pytest.mark.slow
def test_learns_from_scratch(tiny_store, tmp_path):
    finetune.run(
        FinetuneConfig(
            store=tiny_store,
            out=tmp_path / "model",
            backbone_options={"widths": [8, 16, 32], "blocks": [1, 1]},
            **{**QUICK, "steps": 160, "batch": 4},
        )
    )
    scores = evaluate.run(EvaluateConfig(model=tmp_path / "model", store=tiny_store))
    assert scores["dice"]["mean"] > 0.2  # twelve structures in as many seconds; 0 before scores began at frequencies


def test_too_few_labels_write_nothing(tiny_store, tmp_path):
    with pytest.raises(UserError, match="3 labelled cases are requested, the training split has 2"):
        finetune.run(FinetuneConfig(store=tiny_store, out=tmp_path / "model", labels=3))
    assert not (tmp_path / "model").exists()


def test_crop_must_fit_the_backbone(tiny_store, tmp_path):
    with pytest.raises(UserError, match="not a multiple of the backbone's stride 8"):
        finetune.run(FinetuneConfig(store=tiny_store, out=tmp_path / "model", crop=20))


def test_a_batch_that_has_no_equal_parts_writes_nothing(tiny_store, tmp_path):
    with pytest.raises(UserError, match="--batch: 4 samples cannot be split equally over 1 process in 3 parts"):
        finetune.run(FinetuneConfig(store=tiny_store, out=tmp_path / "model", labels=1, batch=4, accumulate=3))
    assert not (tmp_path / "model").exists()


def test_other_settings_are_refused(model, tiny_store):
    with pytest.raises(UserError, match="was made with"):
        finetune.run(FinetuneConfig(store=tiny_store, out=model, labels=1))


def test_encoder_of_another_spacing_is_read_at_its_own(tiny_store, tmp_path, capsys):
    encoder = write_encoder(tmp_path / "encoder", RESUNET, spacing_mm=10.0)
    finetune.run(
        FinetuneConfig(store=tiny_store, out=tmp_path / "model", encoder=str(encoder), head="linear", labels=1, **QUICK)
    )
    assert capsys.readouterr().out.count("10 x 10 x 10 mm") == 1
    evaluate.run(EvaluateConfig(model=tmp_path / "model", store=tiny_store))
    assert json.loads((tmp_path / "model" / "model.json").read_text())["spacing_mm"] == [10.0, 10.0, 10.0]


def test_evaluation_files(model, tiny_store, tmp_path):
    result = evaluate.run(EvaluateConfig(model=model, store=tiny_store, out=tmp_path / "scores"))
    store = Store.open(tiny_store)
    cases = store.cases("test")
    assert result["cases"] == len(cases)
    rows = (tmp_path / "scores" / "metrics.csv").read_text().splitlines()
    assert rows[0].startswith("case,structure,value,dice,nsd,hd95_mm")
    assert len(rows) == 1 + sum(len(case.structures) for case in cases)
    kept = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert kept["dice"] == result["dice"]
    assert set(result["by_structure"]["liver"]) >= {"dice", "nsd", "hd95_mm"}


def test_a_store_of_another_modality_leaves_no_folder(model, tiny_store, tmp_path):
    other = shutil.copytree(tiny_store, tmp_path / "mr")
    spec = json.loads((other / "store.json").read_text())
    (other / "store.json").write_text(json.dumps({**spec, "modality": "mr"}))
    with pytest.raises(UserError, match="holds MR scans; the model reads CT"):
        evaluate.run(EvaluateConfig(model=model, store=other, out=tmp_path / "scores"))
    assert not (tmp_path / "scores").exists()


def test_scored_cases_that_were_trained_on(model, tiny_store, tmp_path, capsys):
    evaluate.run(EvaluateConfig(model=model, store=tiny_store, split="train", out=tmp_path / "a"))
    assert "these scores do not apply to new scans" in capsys.readouterr().err
    card = json.loads((model / "model.json").read_text())
    test_case = Store.open(tiny_store).cases("test")[0]
    seen = {"id": "other name", "checksum": "at another spacing", "content": test_case.content}
    for name, changed in (("model", {"cases": [*card["cases"], seen]}), ("encoder", {"encoder": {"cases": [seen]}})):
        copy = tmp_path / name
        copy.mkdir()
        shutil.copy(model / "model.safetensors", copy)
        (copy / "model.json").write_text(json.dumps({**card, **changed}))
    with pytest.raises(UserError, match=r"was trained on 1 of 2 cases of split 'test'.*--allow-seen"):
        evaluate.run(EvaluateConfig(model=tmp_path / "model", store=tiny_store))
    evaluate.run(EvaluateConfig(model=tmp_path / "model", store=tiny_store, allow_seen=True))
    capsys.readouterr()
    with pytest.raises(UserError, match=r"1 scans of the test split were seen in pre-training.*--allow-seen"):
        evaluate.run(EvaluateConfig(model=tmp_path / "encoder", store=tiny_store))
    assert not (tmp_path / "encoder" / "evaluation-test").exists()
    evaluate.run(EvaluateConfig(model=tmp_path / "encoder", store=tiny_store, allow_seen=True))
    assert "1 scans of the test split were seen in pre-training" in capsys.readouterr().err


def test_training_on_scans_that_the_encoder_saw_is_told(tiny_store, tmp_path, capsys):
    """Also what the weights saw from which the encoder started; the model's card passes both on."""
    case = Store.open(tiny_store).cases("train")[0]
    seen = [{"id": "other name", "checksum": "at another spacing", "content": case.content}]
    encoder = write_encoder(tmp_path / "encoder", RESUNET)
    card = json.loads((encoder / "encoder.json").read_text())
    (encoder / "encoder.json").write_text(json.dumps({**card, "init": {"cases": seen}}))
    finetune.run(FinetuneConfig(store=tiny_store, out=tmp_path / "model", encoder=str(encoder), head="linear", **QUICK))
    assert f"scans without labels ({case.id})" in capsys.readouterr().out
    assert json.loads((tmp_path / "model" / "model.json").read_text())["encoder"]["init"]["cases"] == seen


def test_labels_that_mean_something_else_are_refused(model, tiny_store, tmp_path):
    copy = tmp_path / "model"
    copy.mkdir()
    shutil.copy(model / "model.safetensors", copy)
    card = json.loads((model / "model.json").read_text())
    card["labels"] = dict.fromkeys(card["labels"], "hippocampus")
    (copy / "model.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match="'hippocampus' in the model"):
        evaluate.run(EvaluateConfig(model=copy, store=tiny_store))


def test_prediction_in_each_scans_own_grid(model, tiny_scans, tmp_path):
    scans = sorted(tiny_scans.images.iterdir())[:3]
    (tmp_path / "scans" / "sub").mkdir(parents=True)
    shutil.copy(scans[0], tmp_path / "scans" / "sub" / "first.nii.gz")
    image = nib.load(scans[1])
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine), tmp_path / "scans" / "second.nii")
    (tmp_path / "scans" / "broken.nii.gz").write_bytes(b"not a scan")
    config = PredictConfig(model=model, scans=[tmp_path / "scans", scans[2]], out=tmp_path / "out")
    result = predict.run(config)
    assert result["written"] == ["sub/first.nii.gz", "second.nii", scans[2].name]
    assert [entry["scan"] for entry in result["refused"]] == ["broken.nii.gz"]
    for name, source in zip(result["written"], scans, strict=True):
        ours, theirs = nib.load(tmp_path / "out" / name), nib.load(source)
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
        assert ours.get_data_dtype() == np.uint8
        assert set(np.unique(ours.dataobj)) <= {0, *map(int, result["labels"])}
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.nii*")) == ["first.nii.gz", scans[2].name, "second.nii"]
    assert predict.run(config) == result


def test_prediction_goes_on_where_it_stopped(model, tiny_scans, tmp_path):
    scans = sorted(tiny_scans.images.iterdir())[:2]
    config = PredictConfig(model=model, scans=scans, out=tmp_path / "out")
    whole = predict.run(config)
    marker = json.loads((tmp_path / "out" / "status.json").read_text())
    (tmp_path / "out" / "status.json").write_text(json.dumps({**marker, "state": "started"}))
    expected = (tmp_path / "out" / scans[1].name).read_bytes()
    kept = (tmp_path / "out" / scans[0].name).stat().st_mtime_ns
    (tmp_path / "out" / scans[1].name).unlink()
    (tmp_path / "out" / ".unfinished-x.nii.gz").write_bytes(b"half")
    assert predict.run(config) == whole
    assert (tmp_path / "out" / scans[0].name).stat().st_mtime_ns == kept
    np.testing.assert_array_equal(
        np.asarray(nib.load(tmp_path / "out" / scans[1].name).dataobj), np.asarray(_from_bytes(expected, tmp_path))
    )
    assert not list((tmp_path / "out").glob(".unfinished*"))


def _from_bytes(content: bytes, folder: Path):
    (folder / "expected.nii.gz").write_bytes(content)
    return nib.load(folder / "expected.nii.gz").dataobj


def test_prediction_equals_what_is_scored(model, tiny_store, tiny_scans, tmp_path):
    """A file and a stored scan give the same labels, except for rounding between grids."""
    from alice3d.data.store.read_grid import read_case
    from alice3d.geometry import resample
    from alice3d.tasks.segmentation.model import load_model

    store = Store.open(tiny_store)
    case = store.cases("test")[0]
    predict.run(PredictConfig(model=model, scans=[tiny_scans.images / f"{case.id}.nii.gz"], out=tmp_path / "out"))
    written = nib.load(tmp_path / "out" / f"{case.id}.nii.gz")
    loaded = load_model(model)
    stored = loaded.label_map(*read_case(store, case, loaded.rule, loaded.spacing_mm), case.grid)
    on_store = resample(np.asarray(written.dataobj), written.affine, case.grid, order=0)
    assert (on_store == stored).mean() > 0.9


def test_nothing_to_predict(model, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no scans found"):
        predict.run(PredictConfig(model=model, scans=[tmp_path / "empty"], out=tmp_path / "out"))
    with pytest.raises(UserError, match="no such file or folder"):
        predict.run(PredictConfig(model=model, scans=[tmp_path / "gone.nii"], out=tmp_path / "out"))
    (tmp_path / "bad.nii.gz").write_bytes(b"")
    with pytest.raises(UserError, match="none of 1 scans can be read"):
        predict.run(PredictConfig(model=model, scans=[tmp_path / "bad.nii.gz"], out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_two_scans_of_one_name(tiny_scans, tmp_path):
    scan = sorted(tiny_scans.images.iterdir())[0]
    shutil.copy(scan, tmp_path / scan.name)
    found = find_scans([scan, tmp_path / scan.name])
    assert len(found) == 2
    assert all("two scans would be written as" in source.fault for source in found.values())


def test_scans_of_one_name_in_many_folders_and_without_orientation(model, tiny_scans, tmp_path):
    scan = sorted(tiny_scans.images.iterdir())[0]
    image = nib.load(scan)
    for case in ("s1", "s2"):
        (tmp_path / "new" / case).mkdir(parents=True)
        bare = nib.Nifti1Image(np.asarray(image.dataobj), None)
        bare.header.set_zooms(image.header.get_zooms())
        bare.set_sform(None, 0)
        bare.set_qform(None, 0)
        nib.save(bare, tmp_path / "new" / case / "ct.nii.gz")
    with pytest.raises(UserError, match="give --unoriented las or ras"):
        predict.run(PredictConfig(model=model, scans=[tmp_path / "new"], out=tmp_path / "out"))
    config = PredictConfig(model=model, scans=[tmp_path / "new"], out=tmp_path / "out", unoriented="las")
    assert predict.run(config)["written"] == ["s1/ct.nii.gz", "s2/ct.nii.gz"]
    assert "unoriented" not in PredictConfig(model=model, scans=[scan], out=tmp_path / "out").settings()


def test_scans_are_never_replaced(model, tiny_scans, tmp_path):
    scan = sorted(tiny_scans.images.iterdir())[0]
    shutil.copy(scan, tmp_path / scan.name)
    with pytest.raises(UserError, match=r"OUT .* is SCANS itself"):
        predict.run(PredictConfig(model=model, scans=[tmp_path], out=tmp_path, overwrite=True))


def test_predict_does_what_is_new_changed_or_gone(model, tiny_scans, tmp_path, capsys):
    given = sorted(tiny_scans.images.iterdir())[:3]
    folder = tmp_path / "scans"
    folder.mkdir()
    for name, scan in zip("ab", given, strict=False):
        shutil.copy(scan, folder / f"{name}.nii.gz")
    config = PredictConfig(model=model, scans=[folder], out=tmp_path / "out")
    predict.run(config)
    first = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.nii.gz")}
    shutil.copy(given[2], folder / "c.nii.gz")
    shutil.copy(given[2], folder / "b.nii.gz")
    capsys.readouterr()
    assert predict.run(config)["written"] == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    assert "b.nii.gz: the scan has changed since" in capsys.readouterr().out
    assert (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns == first["a.nii.gz"]
    assert (tmp_path / "out" / "b.nii.gz").read_bytes() == (tmp_path / "out" / "c.nii.gz").read_bytes()
    for content in (None, b""):
        (tmp_path / "out" / "a.nii.gz").unlink()
        if content is not None:
            (tmp_path / "out" / "a.nii.gz").write_bytes(content)
        predict.run(config)
        assert nib.load(tmp_path / "out" / "a.nii.gz").shape == nib.load(given[0]).shape
    (folder / "a.nii.gz").unlink()
    predict.run(config)
    assert (tmp_path / "out" / "a.nii.gz").exists()
    assert "also holds predictions of 1 scans that are not given now (a.nii.gz)" in capsys.readouterr().out


def test_a_label_map_of_somebody_else_is_not_taken_for_a_prediction(model, tiny_scans, tmp_path):
    given = sorted(tiny_scans.images.iterdir())[:2]
    out = tmp_path / "out"
    out.mkdir()
    (out / given[1].name).write_bytes(b"drawn by hand")
    config = PredictConfig(model=model, scans=list(given), out=out, overwrite=True)
    with pytest.raises(UserError, match=f"{given[1].name} lies there"):
        predict.run(config)
    predict.run(config.model_copy(update={"scans": [given[0]]}))
    for again in (config, config.model_copy(update={"overwrite": False})):
        with pytest.raises(UserError, match=f"{given[1].name} lies there"):
            predict.run(again)
    assert (out / given[1].name).read_bytes() == b"drawn by hand"


def test_one_scan_that_does_not_fit_is_refused_and_tried_again(model, tiny_scans, tmp_path, monkeypatch):
    given = sorted(tiny_scans.images.iterdir())[:3]
    config = PredictConfig(model=model, scans=list(given), out=tmp_path / "out")
    read = segmentation_predict.read_scan

    def large(path, **options):
        if path == given[1]:
            raise MemoryError
        return read(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(segmentation_predict, "read_scan", large)
        result = predict.run(config)
    assert result["written"] == [given[0].name, given[2].name]
    assert [entry["scan"] for entry in result["refused"]] == [given[1].name]
    assert "does not fit into memory" in result["refused"][0]["reason"]
    assert predict.run(config)["written"] == [path.name for path in given]


def test_a_scored_case_that_does_not_fit_is_named(model, tiny_store, tmp_path, monkeypatch, capsys):
    read = segmentation_evaluate.read_case
    left_out = Store.open(tiny_store).cases("test")[0].id

    def large(store, case, *rest):
        if case.id == left_out:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return read(store, case, *rest)

    monkeypatch.setattr(segmentation_evaluate, "read_case", large)
    result = evaluate.run(EvaluateConfig(model=model, store=tiny_store, out=tmp_path / "scores"))
    assert result["cases"] == 1
    assert [entry["case"] for entry in result["refused"]] == [left_out]
    assert "the scores are those of the others" in capsys.readouterr().err
    monkeypatch.setattr(segmentation_evaluate, "read_case", lambda *given: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(UserError, match="none of 2 cases could be scored"):
        evaluate.run(EvaluateConfig(model=model, store=tiny_store, out=tmp_path / "other"))
