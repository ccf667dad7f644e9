"""`mv3d study prior` on tiny networks: what each start keeps, and a study that goes on where it was cut off."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.training_data import quick, save_base, save_orbits

from mv3d.cli.main import main
from mv3d.core.errors import InputError, OutputError, UsageError
from mv3d.models.loading import load_unet
from mv3d.training import study
from mv3d.training.study import Point, is_spatial, orbit_scores, study_prior, summarized, table, write_start
from mv3d.training.study_config import StudyConfig

CONFIG = quick("svd_mv", steps=2, validation_steps=1)
STUDY = StudyConfig(every=1, seeds=1, evaluation_orbits=2)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    base = save_base(root / "base")
    data, other = save_orbits(root / "data", objects=3), save_orbits(root / "other", objects=5)
    # Objects of its own: the first three are those of `data`.
    record = json.loads((other / "shard-000000.json").read_text())
    assert [sample["uid"] for sample in record["samples"]][:3] == ["o0", "o1", "o2"]
    return {"base": base, "data": data, "other": other}


def test_what_each_start_keeps(given, tmp_path):
    base = load_unet(given["base"]).state_dict()
    made = {}
    for start in ("nothing", "image"):
        write_start(given["base"], given["base"], start, 7, tmp_path / start, image_share=0.9)
        made[start] = load_unet(tmp_path / start).state_dict()
        assert made[start].keys() == base.keys()
    spatial = [name for name in base if is_spatial(name) and base[name].numel() > 1 and base[name].std() > 0]
    temporal = [
        name for name in base if not is_spatial(name) and base[name].numel() > 1 and base[name].std() > 0
    ]
    assert len(spatial) > 20 and len(temporal) > 20
    assert all(torch.equal(made["image"][name], base[name]) for name in spatial)
    assert not any(torch.equal(made["nothing"][name], base[name]) for name in spatial)
    for state in made.values():
        assert not any(torch.equal(state[name], base[name]) for name in temporal)
    mixes = [v for n, v in made["image"].items() if n.endswith("mix_factor")]
    assert mixes and all(torch.sigmoid(v).item() == pytest.approx(0.9) for v in mixes)
    write_start(given["base"], given["base"], "nothing", 8, tmp_path / "other", image_share=0.9)
    assert not torch.equal(
        load_unet(tmp_path / "other").state_dict()[spatial[0]], made["nothing"][spatial[0]]
    )


def test_the_share_is_that_of_the_spatial_branch():
    """diffusers' own blender is the twin of the formula."""
    from diffusers.models.resnet import AlphaBlender

    blender = AlphaBlender(alpha=float(np.log(0.9 / 0.1)), merge_strategy="learned_with_images")
    spatial, temporal = torch.ones(2, 3, 4), torch.zeros(2, 3, 4)
    mixed = blender(spatial, temporal, image_only_indicator=torch.zeros(1, 2))
    assert mixed.mean().item() == pytest.approx(0.9)


def test_a_study_goes_on_where_it_was_cut_off(given, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "_uids", lambda folder: {str(folder)})
    out, trained = tmp_path / "out", []
    real = study.train

    def counted(config, data, base, run):
        trained.append((run.name, config.steps))
        if len(trained) == 4:
            raise KeyboardInterrupt
        return real(config, data, base, run)

    monkeypatch.setattr(study, "train", counted)
    given_all = (CONFIG, STUDY, given["data"], given["other"], str(given["base"]), out)
    measures = {"mean_error": lambda made, truth: np.abs(made - truth).mean((1, 2, 3))}
    with pytest.raises(KeyboardInterrupt):
        study_prior(*given_all, measures=measures)
    result = study_prior(*given_all, measures=measures)
    assert trained == [
        ("nothing-0", 1), ("nothing-0", 2), ("image-0", 1), ("image-0", 2),  # here it was cut off
        ("image-0", 2), ("video-0", 1), ("video-0", 2),
    ]  # fmt: skip
    assert len(result.points) == 6 and all(np.isfinite(list(p.scores.values())).all() for p in result.points)
    again = study_prior(*given_all, measures=measures)
    assert again.points == result.points and len(trained) == 7
    # The last point is the last model, measured once more.
    model = out / "runs" / "video-0" / "model"
    assert orbit_scores(model, given["other"], CONFIG, 2, measures) == result.points[-1].scores
    assert {p.name for p in out.glob("*.png")} == {"psnr.png", "mean_error.png"}
    assert (
        "| video |" in (out / "study.md").read_text()
        and json.loads((out / "study.json").read_text())["points"]
    )
    with pytest.raises(OutputError, match="a study of other data"):
        study_prior(replace(CONFIG, lr=2e-3), *given_all[1:], measures=measures)


def test_the_summary_counts_steps_to_what_nothing_ends_with():
    curves = {"nothing": (10.0, 12.0, 13.0), "image": (11.0, 13.0, 14.0), "video": (13.5, 15.0, 16.0)}
    points = [
        Point(start, seed, 100 * (k + 1), {"psnr": value + seed, "lpips": 0.5})  # pyright: ignore[reportArgumentType]
        for start, values in curves.items()
        for k, value in enumerate(values)
        for seed in (0, 1)
    ]
    found = summarized(points)
    assert [found[s]["steps_to_the_end_of_nothing"] for s in curves] == [300, 200, 100]
    assert found["video"]["psnr"] == [16.5, 0.5] and found["seeds"] == 2
    assert "| image | 14.5 ± 0.5 | 0.5 ± 0 | 200 |" in table(found)


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"config": quick("tiny")}, UsageError, "--preset tiny: expected svd_mv"),
        ({"study": StudyConfig(every=9)}, UsageError, "--every: expected at most --steps 2"),
        ({}, InputError, "expected objects that are not in --data, found 3 that are, such as o0"),
        ({"evaluation": "base"}, InputError, "expected orbit shards"),
    ],
)
def test_requests_that_make_no_sense(given, tmp_path, changes, error, told):
    values = {"config": CONFIG, "study": STUDY} | changes
    evaluation = given[values.pop("evaluation", "other")]
    with pytest.raises(error, match=told):
        study_prior(
            **values, data=given["data"], evaluation=evaluation, base=str(given["base"]), out=tmp_path / "x"
        )
    assert not (tmp_path / "x").exists()


def test_the_command(given, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study, "_uids", lambda folder: {str(folder)})
    flags = "--steps 1 --every 1 --seeds 1 --evaluation-orbits 1 --frames 4 --batch 2 --lr 1e-3 --warmup 0 --precision fp32"
    flags += " --device cpu --workers 0 --ema 0 --validate-every 0 --validation-steps 1 --lpips no --clip-s no --json"
    given_flags = [
        "--data",
        str(given["data"]),
        "--evaluation",
        str(given["other"]),
        "--base",
        str(given["base"]),
    ]
    assert main(["study", "prior", *given_flags, "--out", str(tmp_path / "s"), *flags.split()]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert len(printed["points"]) == 3 and set(printed["summary"]) >= {"nothing", "image", "video"}
    assert main(["study", "past"]) == 2 and main(["study"]) == 2
    assert main(["study", "prior", *given_flags, "--every", "0"]) == 2
    assert "--every: expected at least 1" in capsys.readouterr().err
