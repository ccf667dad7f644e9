"""`mv3d generate` from end to end with a tiny model of random weights."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.live_bytes import LiveBytes
from helpers.tiny_model import FRAMES, SIDE, write_model
from PIL import Image
from safetensors.torch import load_file, save_file

import mv3d
from mv3d.cli.main import main
from mv3d.core.errors import InputError, Mv3dError, OutputError, UsageError
from mv3d.core.records import ALGORITHMS
from mv3d.generation import elevation, svd
from mv3d.generation.batch import generate_to, plan_jobs
from mv3d.generation.config import GenerateConfig
from mv3d.generation.elevation import find_elevation
from mv3d.generation.generator import Frames
from mv3d.generation.matting import apply_matting
from mv3d.generation.photo import PreparedPhoto, prepare_image
from mv3d.generation.plan import plan_generation
from mv3d.generation.views import generate_orbit, generate_views, load_model, out_of_memory_explained
from mv3d.models.folder import read_info
from mv3d.models.lora import Lora, save_lora
from mv3d.models.network import SV3D_U, SVD, MicroConditioning
from mv3d.views.views import Views, composite

pytestmark = pytest.mark.usefixtures("one_thread")

CAMERA = MicroConditioning(("cond_aug", "polar", "azimuth"), (16, 32, 32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "camera", CAMERA)


@pytest.fixture(scope="module")
def loaded(folder):
    return load_model(GenerateConfig(model=str(folder), device="cpu"))


@pytest.fixture(scope="module")
def still_folder(tmp_path_factory) -> Path:
    """Takes no camera, as SV3D_u."""
    return write_model(
        tmp_path_factory.mktemp("models") / "still", replace(SV3D_U, widths=(16,)), kind="sv3d_u"
    )


def photo(path: Path, color=(200, 60, 40)) -> Path:
    """A block with transparency around it."""
    image = Image.new("RGBA", (60, 40))
    image.paste((*color, 255), (10, 12, 50, 30))
    image.save(path)
    return path


@pytest.fixture
def chair(tmp_path) -> Path:
    return photo(tmp_path / "chair.png")


def test_photo_to_views_folder_and_back(chair, folder, tmp_path, capsys):
    out = tmp_path / "out"
    command = [
        "generate",
        str(chair),
        "--model",
        str(folder),
        "--out",
        str(out),
        "--seed",
        "3",
        "--device",
        "cpu",
    ]
    assert main([*command, "--elevation", "-4.5", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)["results"][0]["record"]
    names = {"transforms.json", "images", "input.png", "contact.png", "orbit.mp4", "run.json"}
    assert {p.name for p in out.iterdir()} == names and set(record["outputs"]) == names - {"run.json"}
    views = mv3d.load_views(out)
    assert views.images.shape == (FRAMES, SIDE, SIDE, 4) and views.input_view == FRAMES - 1
    assert views.orbit.azimuths_deg == (72.0, 144.0, 216.0, 288.0, 0.0)
    assert np.allclose(np.linalg.norm(views.cameras.centers, axis=1), 2.0)
    assert np.allclose(views.cameras.fl_x, 0.5 * SIDE / math.tan(math.radians(33.8) / 2))
    height = 2 * math.sin(math.radians(-4.5))
    assert np.allclose(views.cameras.centers[-1], [2 * math.cos(math.radians(-4.5)), 0, height])
    # The last view is the photo, as the model saw it.
    prepared = prepare_image(chair, width=SIDE)
    assert np.abs(views.images[-1] - prepared.rgba).max() <= 1 / 255
    assert np.abs(views.images[:-1] - views.images[-1]).max() > 0.3
    for key in (
        "schema",
        "versions",
        "input_sha256",
        "device",
        "dtype",
        "seconds",
        "peak_memory_bytes",
        "warnings",
    ):
        assert record[key], key
    assert record["model"]["name"] == str(folder) and len(record["model"]["sha256"]) == 64
    assert (record["command"], record["seed"], record["views"], record["elevation_deg"]) == (
        "generate",
        3,
        5,
        -4.5,
    )
    assert record["settings"]["steps"] == 3 and record["settings"]["guidance"] == 2.5


def test_orbit_video_plays_everywhere(chair, folder, tmp_path):
    import av

    generate_to([chair], tmp_path / "out", GenerateConfig(model=str(folder), device="cpu"))
    with av.open(str(tmp_path / "out" / "orbit.mp4")) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width % 2, stream.height % 2, stream.frames) == (0, 0, FRAMES)


def test_python_call(chair, folder):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        views = mv3d.generate(chair, views=FRAMES, seed=0, model=folder, device="cpu")
    assert isinstance(views, Views) and len(views) == FRAMES
    assert any("left without transparency" in str(w.message) for w in caught)  # random weights make noise
    with pytest.raises(UsageError, match="unknown setting sed; did you mean seed"):
        mv3d.generate(chair, sed=1)


class Fixed:
    """A generator that makes the same frames whatever it is asked for."""

    def __init__(self, info, frames):
        self.info, self.frames = info, frames

    def generate(self, photo, orbit, settings, on_progress=None, on_frame=None):
        return Frames(self.frames.copy(), orbit.cameras(self.frames.shape[2], self.frames.shape[1]))


def with_frames(model, info, frames):
    return replace(model, plan=replace(model.plan, info=info), generator=Fixed(info, frames))


def images(path, model, **changes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return generate_views(path, GenerateConfig(device="cpu", **changes), model).images


def test_seed_decides_whatever_came_before(chair, loaded, tmp_path):
    other = photo(tmp_path / "other.png", (20, 90, 200))
    first = images(chair, loaded, seed=5)
    torch.manual_seed(123)
    images(other, loaded, seed=9)
    assert np.array_equal(images(chair, loaded, seed=5), first)
    assert np.abs(images(chair, loaded, seed=6) - first)[:-1].max() > 0.05


def test_each_frame_is_told_as_it_is_decoded(chair, loaded):
    told = {}
    sampling = replace(loaded.plan.sampling, decode_chunk=2)
    ready = prepare_image(chair, width=SIDE)
    made = loaded.generator.generate(
        ready,
        loaded.plan.orbit,
        sampling,
        on_frame=lambda index, count, frame: told.update({(index, count): frame}),
    )
    assert sorted(told) == [(index, FRAMES) for index in range(FRAMES)]
    assert np.array_equal(np.stack([told[index, FRAMES] for index in range(FRAMES)]), made.images)


def test_batch_makes_no_difference(chair, loaded, tmp_path):
    config = GenerateConfig(device="cpu")
    photos = [prepare_image(p, width=SIDE) for p in (chair, photo(tmp_path / "b.png", (0, 150, 0)))]
    plan, generator = loaded.plan.with_config(config), loaded.generator
    order = list(range(FRAMES))

    def latents(which, seeds):
        conditioning, noise = generator.encode([photos[i] for i in which], plan.orbit, order, seeds)
        return generator.sample(noise, conditioning, plan.sampling, lambda share: None)

    together = latents([0, 1], [4, 7])
    assert torch.allclose(together[0], latents([0], [4])[0], atol=1e-3 * float(together.std()))
    assert torch.allclose(together[1], latents([1], [7])[0], atol=1e-3 * float(together.std()))
    assert not torch.allclose(together[0], latents([0], [7])[0], atol=0.1)


def test_offload_and_chunks(chair, loaded, folder):
    plain = images(chair, loaded)
    offloaded = load_model(GenerateConfig(model=str(folder), device="cpu", offload="model"))
    with pytest.warns(UserWarning, match="offload model: of no use on cpu"):
        made = generate_views(chair, GenerateConfig(device="cpu", offload="model"), offloaded)
    assert np.allclose(made.images, plain, atol=2e-3)
    assert np.array_equal(images(chair, loaded, decode_chunk=FRAMES), plain)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_the_precision_decodes_in_half_the_memory(dtype, chair, loaded, folder):
    plain = images(chair, loaded)
    half = load_model(GenerateConfig(model=str(folder), device="cpu", decode_dtype=dtype))
    vae = half.generator.components.vae
    assert {p.dtype for p in vae.encoder.parameters()} == {torch.float32}  # SVD's overflows in fp16
    first, again = images(chair, half), images(chair, half)
    assert np.array_equal(first, again) and first.dtype == np.float32
    assert 0 < np.abs(first - plain)[:-1].max() < {"fp16": 0.01, "bf16": 0.06}[dtype]
    latents, most = torch.randn(4, 4, 24, 24), {}
    for name, model in (("full", loaded), ("half", half)):
        with LiveBytes() as counted:
            svd.decode_frames(model.generator.components.vae, latents, chunk=4)
        most[name] = counted.most
    assert most["half"] < 0.6 * most["full"]


def test_the_decoder_is_halved_beside_a_halved_network_on_cuda_alone(folder):
    def decoder(device: str, **settings: str) -> str:
        plan = plan_generation(GenerateConfig(model=str(folder), device="cpu", **settings))
        return replace(plan, device=torch.device(device)).decode_dtype

    assert (decoder("cuda"), decoder("cuda", dtype="bf16")) == ("float16", "float16")
    assert decoder("cuda", dtype="fp32") == decoder("cpu", dtype="bf16") == "float32"
    assert decoder("cuda", decode_dtype="fp32") == "float32"


def test_views_are_decoded_a_few_at_a_time(chair, loaded, monkeypatch):
    sizes, decode = [], svd.decode_frames

    def counted(vae, latents, *, chunk):
        sizes.append(len(latents))
        return decode(vae, latents, chunk=chunk)

    monkeypatch.setattr(svd, "decode_frames", counted)
    images(chair, loaded, decode_chunk=2)
    assert sizes == [2, 2, 1]


def test_progress_of_a_stage(chair, loaded):
    seen = []
    generate_orbit(
        chair,
        GenerateConfig(device="cpu", steps=4),
        loaded,
        progress=lambda name, share: seen.append((name, share)),
    )
    assert [share for name, share in seen if name == "sample"] == [0, 0.25, 0.5, 0.75, 1, 1]
    assert list(dict.fromkeys(name for name, _ in seen)) == [
        "prepare",
        "encode",
        "sample",
        "decode",
        "cut out",
    ]


@pytest.mark.parametrize(
    "changes", [{"sampler": "dpmpp_2m"}, {"sampler": "heun"}, {"steps": 5}, {"guidance": 4.0}]
)
def test_settings_reach_the_sampler(changes, chair, loaded):
    assert np.abs(images(chair, loaded, **changes) - images(chair, loaded))[:-1].max() > 1e-3


def test_elevation_reaches_the_network(chair, loaded):
    assert np.abs(images(chair, loaded, elevation=40) - images(chair, loaded))[:-1].max() > 1e-4


def test_own_path_keeps_its_order(chair, loaded, tmp_path):
    path = tmp_path / "path.json"
    path.write_text(
        json.dumps({"elevations_deg": [10] * 5, "azimuths_deg": [0, 72, 144, 216, 288], "input_view": 0})
    )
    turned, usual = images(chair, loaded, trajectory=str(path)), images(chair, loaded)
    # The same turn with the photo first: the same views, each at its own place.
    assert np.allclose(turned, np.roll(usual, 1, axis=0), atol=1e-4)
    with pytest.raises(UsageError, match="--elevation: expected none beside"):
        images(chair, loaded, trajectory=str(path), elevation=3)


def test_lora_files_add_up(chair, loaded, folder, tmp_path):
    name = "add_embedding.linear_1"
    shape = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")[f"{name}.weight"].shape
    torch.manual_seed(0)
    lora = Lora({name: torch.randn(2, shape[1])}, {name: torch.randn(shape[0], 2)}, 2.0)
    save_lora(tmp_path / "a.safetensors", lora)
    a = str(tmp_path / "a.safetensors")
    results = {
        loras: images(
            chair, load_model(GenerateConfig(model=str(folder), device="cpu", lora=loras)), lora=loras
        )
        for loras in [(), (f"{a}:0.5", f"{a}:0.5"), (a,), (f"{a}:0.25", f"{a}:-0.25")]
    }
    assert np.allclose(results[(a,)], results[(f"{a}:0.5", f"{a}:0.5")], atol=1e-3)
    assert np.abs(results[(a,)] - results[()])[:-1].max() > 1e-2
    assert np.allclose(results[()], results[(f"{a}:0.25", f"{a}:-0.25")], atol=1e-3)


def test_an_adapter_trained_at_another_size_is_warned_of(folder, tmp_path, recwarn):
    name = "add_embedding.linear_1"
    shape = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")[f"{name}.weight"].shape
    own = list(read_info(folder).size)
    for size, expected in (([16, 48], "trained on views of [16, 48] pixels, the model makes"), (own, None)):
        weights = {name: torch.zeros(2, shape[1])}, {name: torch.zeros(shape[0], 2)}
        lora = Lora(*weights, 2.0, metadata={"resolution": size})
        save_lora(tmp_path / "a.safetensors", lora)
        recwarn.clear()
        load_model(GenerateConfig(model=str(folder), device="cpu", lora=(str(tmp_path / "a.safetensors"),)))
        said = [str(warning.message) for warning in recwarn if "trained on views" in str(warning.message)]
        assert len(said) == (expected is not None)
        assert expected is None or expected in said[0]


def test_frames_that_are_not_square_and_a_video_model(chair, tmp_path):
    model = load_model(
        GenerateConfig(
            model=str(
                write_model(
                    tmp_path / "video", replace(SVD, widths=(16,) * 3), kind="svd", resolution=48, height=32
                )
            ),
            device="cpu",
        )
    )
    made = generate_orbit(chair, GenerateConfig(device="cpu"), model)
    assert made.views.images.shape == (FRAMES, 32, 48, 4) and made.views.input_view == 0
    assert any("takes no camera" in text for text in made.warnings)


def test_cut_out_views(ball_views):
    white = composite(ball_views.images)
    noise = np.random.default_rng(0).random(white[:1].shape, np.float32)
    out, failed_views = apply_matting(np.concatenate([white[:2], noise]))
    assert failed_views == [2] and (out[2, ..., 3] == 1).all()
    for ours, true in zip(out[:2, ..., 3] > 0.5, ball_views.images[:2, ..., 3] > 0.5, strict=True):
        assert (ours & true).sum() / (ours | true).sum() > 0.98


def test_alpha_that_the_model_made(ball_views):
    """Over white, the same picture again."""
    alpha = ball_views.images[..., 3:].clip(0.02, 1)
    made = np.concatenate([ball_views.images[..., :3] * alpha + 1 - alpha, alpha], -1)
    out, failed_views = apply_matting(made)
    assert failed_views == []
    assert (out[..., 3] == np.where(alpha < 0.04, 0, alpha)[..., 0]).all()
    np.testing.assert_allclose(composite(out), made[..., :3], atol=0.02)
    solid = alpha[..., 0] > 0.1
    np.testing.assert_allclose(out[..., :3][solid], ball_views.images[..., :3][solid], atol=1e-5)
    lower, _ = apply_matting(made, alpha_threshold=0.4)
    np.testing.assert_array_equal(lower[..., 3] > 0.5, alpha[..., 0] > 0.4)
    np.testing.assert_allclose(composite(lower), made[..., :3], atol=0.02)


def test_a_model_can_ask_for_it(ball_views, still_folder):
    """The model's pictures are replaced by those of a ball with a stain that no other view knows."""
    model = load_model(GenerateConfig(model=str(still_folder), device="cpu"))
    side = ball_views.cameras.width
    alpha = ball_views.images[..., 3:].copy()
    alpha[1, :3, :3] = 1
    made = np.concatenate([composite(ball_views.images), alpha], -1)
    photo = PreparedPhoto(ball_views.images[-1], "alpha")
    config = GenerateConfig(device="cpu", elevation=float(ball_views.orbit.elevations_deg[0]))
    stains = {}
    for asked in (False, True):
        info = replace(
            model.info, num_frames=len(made), resolution=side, consistent_alpha=asked, alpha_threshold=0.5
        )
        chosen = with_frames(model, info, made)
        views = generate_orbit(photo, config, chosen).views
        stains[asked] = float(views.images[1, :3, :3, 3].mean())
    assert stains[False] == 1
    assert stains[True] < 0.1


def test_elevation_of_a_model_that_chooses_it_is_measured(cube_views, chair, still_folder):
    """The model's views are replaced by those of a cube, whose elevation is known."""
    loaded = load_model(GenerateConfig(model=str(still_folder), device="cpu"))
    config = GenerateConfig(device="cpu")
    count, side = len(cube_views), cube_views.cameras.width
    info = replace(loaded.info, num_frames=count, resolution=side)
    model = with_frames(loaded, info, composite(cube_views.images))
    true = cube_views.orbit.elevations_deg[0]
    prepared = np.asarray(cube_views.images[-1] * 255 + 0.5).astype(np.uint8)
    made = generate_orbit(Image.fromarray(prepared), config, model)
    assert made.views.orbit.elevations_deg[0] == pytest.approx(true, abs=3)
    fixed = generate_orbit(Image.fromarray(prepared), replace(config, elevation=5), model)
    assert fixed.views.orbit.elevations_deg == (5.0,) * count
    made = generate_orbit(chair, config, loaded)
    assert any("could not be measured" in text and "--elevation" in text for text in made.warnings)


def test_elevation_by_trial_takes_what_fits_together(cube_views, chair, loaded, monkeypatch):
    """Whatever it is told, the model makes the views of a cube from their own elevation: that one fits best."""
    true, count = cube_views.orbit.elevations_deg[0], len(cube_views)
    info = replace(loaded.info, num_frames=count, resolution=cube_views.cameras.width)
    model = with_frames(loaded, info, composite(cube_views.images))
    monkeypatch.setattr(elevation, "_TRIAL_ELEVATIONS_DEG", (true - 25, true, true + 25))
    prepared = prepare_image(Image.fromarray((cube_views.images[-1] * 255 + 0.5).astype(np.uint8)), width=info.resolution)  # fmt: skip
    prepared = replace(prepared, rgba=cube_views.images[-1])
    ticks = []
    plan = model.plan.with_config(GenerateConfig(device="cpu"))
    trial = find_elevation(prepared, plan, model.generator, ticks.append)
    assert trial.found and trial.elevation_deg == true and ticks[-1] == 1.0
    (best, share), (other, less) = trial.recalls[:2]
    assert str(trial) == (
        f"--elevation auto: {best:g} degrees, where the silhouettes agree to {share:.1%}; the runner-up, {other:g} "
        f"degrees, has {less:.1%}"
    )
    monkeypatch.undo()
    # Random weights make noise: nothing fits, and the user is told what is taken.
    made = generate_orbit(chair, GenerateConfig(device="cpu", elevation="auto"), loaded)
    assert made.views.orbit.elevations_deg[0] == 10 and any(
        "no elevation fits" in text for text in made.warnings
    )


def test_same_command_again(chair, folder, tmp_path, capsys):
    command = [
        "generate",
        str(chair),
        "--model",
        str(folder),
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
    ]
    assert main(command) == 0
    stamp = (tmp_path / "out" / "run.json").stat().st_mtime_ns
    capsys.readouterr()
    assert main(command) == 0
    assert "done already" in capsys.readouterr().err
    assert (tmp_path / "out" / "run.json").stat().st_mtime_ns == stamp
    assert main([*command, "--seed", "1"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, "--seed", "1", "--overwrite"]) == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["seed"] == 1
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]


def test_a_mesh_of_replaced_views_goes_with_them(chair, folder, cube_views, tmp_path, capsys):
    """It is of views that are no longer there, and would only stand in recon's way."""
    from mv3d.api import reconstruct_to
    from mv3d.recon.config import ReconConfig

    out = tmp_path / "out"
    cube_views.save(out)
    recon = ReconConfig(quality="draft", faces=500, texture_size=64, formats=("glb", "ply"))
    made = set(reconstruct_to(out, None, recon).files)
    assert {"mesh.glb", "mesh.ply", "recon.json", "turntable.mp4"} <= made
    (out / "mesh.ply").write_text("edited by hand")
    (out / "notes.txt").write_text("mine")
    command = ["generate", str(chair), "--model", str(folder), "--out", str(out), "--device", "cpu"]
    assert main(command) == 1 and "--overwrite" in capsys.readouterr().err
    assert made <= {p.name for p in out.iterdir()}
    assert main([*command, "--overwrite"]) == 0
    told = capsys.readouterr().err
    assert "removed recon.json, mesh.glb, turntable.mp4" in told and f"mv3d recon {out}" in told
    left = {p.name for p in out.iterdir()}
    assert not left & (made - {"mesh.ply"}) and {"mesh.ply", "notes.txt", "run.json"} <= left
    # Again: nothing of recon's is left to remove.
    assert main([*command, "--overwrite"]) == 0 and "removed" not in capsys.readouterr().err


def test_a_mesh_of_other_views_stays(chair, folder, cube_views, tmp_path, capsys):
    from mv3d.api import reconstruct_to
    from mv3d.recon.config import ReconConfig
    from mv3d.recon.products import recon_products

    cube_views.save(tmp_path / "cube")
    recon = ReconConfig(quality="draft", faces=500, texture_size=64)
    reconstruct_to(tmp_path / "cube", tmp_path / "out", recon)
    generate_to([chair], tmp_path / "out", GenerateConfig(model=str(folder), device="cpu"), overwrite=True)
    assert (tmp_path / "out" / "mesh.glb").exists() and not recon_products(tmp_path / "out")


def test_changed_weights_or_algorithms_are_another_request(chair, folder, tmp_path, monkeypatch):
    model = shutil.copytree(folder, tmp_path / "model")
    config = GenerateConfig(model=str(model), device="cpu")
    generate_to([chair], tmp_path / "out", config)
    assert generate_to([chair], tmp_path / "out", config)[0].already_done
    now = ALGORITHMS["generate"]
    with monkeypatch.context() as patch:
        patch.setitem(ALGORITHMS, "generate", now + 1)
        assert f"algorithm version {now} of generate, now {now + 1}" in str(
            generate_to([chair], tmp_path / "out", config)[0].error
        )
    path = model / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    save_file({k: v * 1.01 for k, v in weights.items()}, path)
    assert isinstance(generate_to([chair], tmp_path / "out", config)[0].error, OutputError)


def test_many_photos_one_of_them_broken(folder, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    photo(photos / "a.png")
    photo(photos / "c.png", (0, 0, 200))
    (photos / "b.png").write_bytes(b"no image")
    Image.new("RGBA", (40, 40)).save(photos / "empty.png")
    (photos / "notes.txt").write_text("not an image, and not taken for one")
    out = tmp_path / "out"
    command = ["generate", str(photos), "--model", str(folder), "--out", str(out), "--device", "cpu"]
    assert main(command) == 1
    captured = capsys.readouterr()
    assert captured.out.split() == [str(out / "a"), str(out / "c")]
    lines = [line for line in captured.err.splitlines() if line.startswith("mv3d: ")]
    assert len(lines) == 2 and "b.png" in lines[0] and "without any foreground" in lines[1]
    assert "2 of 4 failed" in captured.err
    assert sorted(p.name for p in out.iterdir()) == ["a", "c"]  # nothing of those that failed
    assert main(command) == 1 and capsys.readouterr().err.count("done already") == 2


def test_places_of_many(tmp_path):
    for name in ("x/chair.png", "x/Chair.jpg", "x/.hidden.png", "y/chair.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    jobs = plan_jobs([tmp_path / "x", tmp_path / "y" / "chair.webp"], Path("out"))
    assert [(p.name, str(o)) for p, o in jobs] == [
        ("Chair.jpg", "out/Chair"), ("chair.png", "out/chair-2"), ("chair.webp", "out/chair-3"),
    ]  # fmt: skip
    assert plan_jobs([tmp_path / "y" / "chair.webp"], Path("out"))[0][1] == Path("out")
    assert plan_jobs([tmp_path / "y"], Path("out"))[0][1] == Path("out/chair")
    (tmp_path / "z").mkdir()
    with pytest.raises(InputError, match="expected a folder of images"):
        plan_jobs([tmp_path / "z"], Path("out"))


def spoil_cut(model):
    path = model / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def spoil_nan(model):
    path = model / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights[next(iter(weights))].view(-1)[0] = math.nan
    save_file(weights, path)


def spoil_pickle(model):
    path = model / "unet" / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".bin"))


def spoil_key(model):
    path = model / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["wings.weight"] = weights.pop("conv_in.weight")
    save_file(weights, path)


@pytest.mark.parametrize(
    ("spoil", "word"),
    [(spoil_cut, "cut off"), (spoil_nan, "NaN"), (spoil_pickle, "pickle"), (spoil_key, "wings")],
)
def test_bad_weights(spoil, word, folder, chair, tmp_path, capsys):
    model = shutil.copytree(folder, tmp_path / "model")
    spoil(model)
    out = tmp_path / "out"
    assert main(["generate", str(chair), "--model", str(model), "--out", str(out), "--device", "cpu"]) == 1
    error = capsys.readouterr().err
    assert word in error and error.count("\n") == 1 and not out.exists()
    # With several photos it is said once: the model is the same for all.
    second = photo(tmp_path / "second.png")
    assert (
        main(
            ["generate", str(chair), str(second), "--model", str(model), "--out", str(out), "--device", "cpu"]
        )
        == 1
    )
    assert capsys.readouterr().err == error and not out.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--views", "6"], 2, "--views: expected at most 5, as many as the model was trained for, got 6"),
        (["--views", "0"], 2, "--views: expected 1 to 1000"),
        (["--device", "cuda:7"], 2, "no such CUDA device here"),
        (["--device", "gpu"], 2, "--device: expected auto, cpu, cuda"),
        (["--elevation", "up"], 2, "--elevation: expected a number of degrees or auto, got up"),
        (["--elevation", "95"], 2, "less than 89"),
        (["--elevation", "nan"], 2, "less than 89"),
        (["--steps", "0"], 2, "--steps"),
        (["--guidance", "nan"], 2, "--guidance"),
        (["--seed", "-1"], 2, "--seed"),
        (["--decode-chunk", "0"], 2, "--decode-chunk"),
        (["--foreground-ratio", "1.5"], 2, "--foreground-ratio"),
        (["--trajectory", "spiral"], 2, "expected one of static, dynamic"),
        (["--lora", "none.safetensors:0.5"], 1, "found no file none.safetensors"),
        (["--model", "defualt"], 1, "did you mean default"),
        (["--model", "default"], 1, "mv3d models list"),
        (["--sampler", "ddim"], 2, "euler"),
        (["--stesp", "3"], 2, "--steps"),
    ],
    ids=lambda value: "-".join(value).strip("-") if isinstance(value, list) else None,
)
def test_bad_requests(arguments, code, message, chair, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mv3d.models.locate.DEFAULT_FOLDER", tmp_path / "nothing")
    model = [] if "--model" in arguments else ["--model", str(folder)]
    device = [] if "--device" in arguments else ["--device", "cpu"]
    assert main(["generate", str(chair), *model, *device, "--out", "out", *arguments]) == code
    captured = capsys.readouterr()
    assert message in " ".join((captured.err + captured.out).replace("│", " ").split())
    assert not captured.out or code == 2
    assert not Path("out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_is_never_replaced_silently(chair, folder, tmp_path, capsys):
    assert (
        main(
            ["generate", str(chair), "--model", str(folder), "--device", "cuda", "--out", str(tmp_path / "o")]
        )
        == 2
    )
    assert "--device cuda: no such CUDA device here" in capsys.readouterr().err


def test_no_image(tmp_path, folder, capsys):
    assert main(["generate", "--model", str(folder)]) == 2
    assert (
        main(["generate", str(tmp_path / "none.png"), "--model", str(folder), "--out", str(tmp_path / "o")])
        == 1
    )
    assert "none.png: expected an image, found no such file" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("device", "error", "config", "ways"),
    [
        (
            "cuda",
            torch.OutOfMemoryError("x"),
            {},
            "--offload model, then --decode-chunk 1, then fewer --views",
        ),
        (
            "cuda",
            torch.OutOfMemoryError("x"),
            {"offload": "model", "dtype": "fp32"},
            "--decode-chunk 1, then --dtype",
        ),
        (
            "cuda",
            torch.OutOfMemoryError("x"),
            {"offload": "model", "decode_chunk": 1},
            "fewer --views, then a smaller",
        ),
        (
            "cpu",
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            {},
            "--decode-chunk 1, then fewer",
        ),
        ("cpu", MemoryError(), {"decode_chunk": 1}, "fewer --views, then a smaller model"),
    ],
)
def test_out_of_memory_says_what_to_try(device, error, config, ways):
    with pytest.raises(Mv3dError, match=f"out of memory on {device}; try {ways}"):
        with out_of_memory_explained(GenerateConfig(**config), torch.device(device)):
            raise error


def test_out_of_memory_of_one_photo_does_not_stop_the_others(chair, folder, tmp_path, monkeypatch, capsys):
    decode, calls = svd.decode_frames, []

    def fails_once(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(*args, **kwargs)

    monkeypatch.setattr(svd, "decode_frames", fails_once)
    command = [
        "generate",
        str(chair),
        str(photo(tmp_path / "b.png")),
        "--model",
        str(folder),
        "--device",
        "cpu",
    ]
    assert main([*command, "--out", str(tmp_path / "out")]) == 1
    assert "out of memory on cpu; try --decode-chunk 1" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["b"]


def test_other_failures_are_not_called_out_of_memory(chair, loaded, monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(svd, "decode_frames", fails)
    with pytest.raises(RuntimeError, match="shapes differ"):
        generate_orbit(chair, GenerateConfig(device="cpu"), loaded)


def test_numbers_out_of_range_say_which_type_to_try(chair, loaded, monkeypatch):
    monkeypatch.setattr(svd, "sample", lambda unet, noise, *args, **kwargs: noise * math.inf)
    with pytest.raises(Mv3dError, match="--dtype bf16 or fp32"):
        generate_orbit(chair, GenerateConfig(device="cpu"), loaded)


def test_types_of_the_network(folder):
    model = load_model(GenerateConfig(model=str(folder), device="cpu", dtype="bf16"))
    auto = replace(model.plan, config=GenerateConfig())
    assert auto.dtype == "float32" and replace(auto, device=torch.device("cuda")).dtype == "float16"
    parts = model.generator.components
    assert parts.unet.dtype == torch.bfloat16 and parts.vae.dtype == torch.float32
    assert not any(p.requires_grad for p in parts.unet.parameters())


def test_folder_that_cannot_be_written(chair, folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = generate_to([chair], tmp_path / "file" / "out", GenerateConfig(model=str(folder), device="cpu"))[
        0
    ]
    assert isinstance(result.error, OutputError) and "choose another --out" in str(result.error)


def test_help_loads_no_torch():
    code = (
        "import sys; from mv3d.cli.main import main; main(['generate', '--help']); "
        "code = main(['generate', 'a.png', '--model', 'defualt']); "
        "print(code, [m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "1 []" and "--decode-chunk" in done.stdout
