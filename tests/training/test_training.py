"""Training runs: what is interrupted goes on as if nothing had happened, and what comes out can be used."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from helpers.places import TESTS
from helpers.training_data import (
    CLIP,
    FRAMES,
    loop,
    quick,
    save_base,
    save_clip,
    save_latents,
    save_orbits,
    small_network,
    without_times,
)
from safetensors.torch import load_file

from mv3d.cli.main import main
from mv3d.core.errors import InputError, MissingPartError, Mv3dError, Mv3dWarning, OutputError, UsageError
from mv3d.core.records import ALGORITHMS
from mv3d.core.signals import Terminated, interrupts_held
from mv3d.generation.config import GenerateConfig
from mv3d.generation.photo import PreparedPhoto
from mv3d.generation.views import generate_orbit, load_model
from mv3d.models import SV3D_P, SVD
from mv3d.models.components import build_image_encoder
from mv3d.models.folder import read_info, write_info
from mv3d.models.loading import load_model_folder, load_unet
from mv3d.models.lora import merge_loras, read_lora
from mv3d.orbits.dataset import normalized
from mv3d.training.autoencoder import fit_image_encoder
from mv3d.training.batches import BatchMaker
from mv3d.training.checkpoint import read_latest
from mv3d.training.data import open_samples
from mv3d.training.ema import Ema
from mv3d.training.loop import CHECKPOINTS, make_optimizer, train_loop
from mv3d.training.metric_log import read_log
from mv3d.training.objective import orbit_objective
from mv3d.training.run import plan, train
from mv3d.training.trainable import build_trainable, check_data_size

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def orbits(tmp_path_factory) -> Path:
    return save_orbits(tmp_path_factory.mktemp("orbits"))


@pytest.fixture(scope="module")
def latents(tmp_path_factory, orbits, base) -> Path:
    return save_latents(orbits, base, tmp_path_factory.mktemp("latents"))


def losses(out: Path) -> list[dict]:
    return [without_times(line) for line in read_log(out)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, latents) -> tuple[Path, dict]:
    """Six steps without an interruption."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("whole")
    return out, loop(quick(steps=6), latents, out).weights


@pytest.mark.parametrize("cut", [4, 5])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(whole, latents, tmp_path, cut):
    """Cut at a checkpoint, and one step after it: that step is done again."""
    loop(quick(steps=6), latents, tmp_path, stop_after=cut)
    assert len(losses(tmp_path)) == cut
    again = loop(quick(steps=6), latents, tmp_path)
    assert again.resumed_from == 4
    assert losses(tmp_path) == losses(whole[0])
    assert all(torch.equal(again.weights[name], value) for name, value in whole[1].items())


def test_a_signal_saves_a_checkpoint_at_the_end_of_the_step(latents, tmp_path):
    def stop(done, total, line):
        if done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with interrupts_held() as interrupt, pytest.raises(Terminated, match="checkpoint of step 3 is kept"):
        loop(quick(steps=6, log_every=1), latents, tmp_path, progress=stop, interrupt=interrupt)
    assert loop(quick(steps=6), latents, tmp_path).resumed_from == 3

    def ended(*arguments, **options):
        raise RuntimeError("DataLoader worker exited")
        yield

    shutil.rmtree(tmp_path / CHECKPOINTS / "00000006")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt, match="of step 4"):
        patch.setattr("mv3d.training.loop.sample_loader", ended)
        loop(quick(steps=6), latents, tmp_path, interrupt=lambda: KeyboardInterrupt)


def test_a_cut_off_checkpoint_is_passed_over(whole, latents, tmp_path):
    loop(quick(steps=6), latents, tmp_path, stop_after=4)
    optimizer = tmp_path / CHECKPOINTS / "00000004" / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="cut off.*the checkpoint before it"):
        again = loop(quick(steps=6), latents, tmp_path)
    assert again.resumed_from == 2
    assert losses(tmp_path) == losses(whole[0])


def test_a_damaged_checkpoint_is_passed_over(whole, tmp_path):
    import shutil

    shutil.copytree(whole[0] / CHECKPOINTS, tmp_path / "c")
    path = tmp_path / "c" / "00000006" / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.warns(UserWarning, match="damaged"):
        found = read_latest(tmp_path / "c")
    assert found is not None and found.step == 4
    assert read_latest(tmp_path / "nothing") is None
    # A record that fits a damaged file, one that names other files, and one that is none.
    record = path.with_name("checkpoint.json")
    whole_record = record.read_text()
    for name, content in (("weights.safetensors", b"\xff" * 64), ("optimizer.pt", b"PK\x03\x04no archive")):
        kept = path.with_name(name).read_bytes()
        path.with_name(name).write_bytes(content)
        document = json.loads(whole_record)
        digest = hashlib.sha256(content).hexdigest()
        document["files"][name] = {"bytes": len(content), "sha256": digest}
        record.write_text(json.dumps(document))
        with pytest.warns(UserWarning, match="checkpoint before it"):
            assert read_latest(tmp_path / "c").step == 4
        path.with_name(name).write_bytes(kept)
    for text in (
        '{"schema": 1, "step": 6, "files": {"../x": {"bytes": 1, "sha256": ""}}}',
        "[" * 100_000,
        "[1]",
    ):
        record.write_text(text)
        with pytest.warns(UserWarning, match="checkpoint before it"):
            assert read_latest(tmp_path / "c").step == 4
    # What a cut in the middle of writing leaves is no checkpoint.
    (tmp_path / "c" / ".00000008.part").mkdir()
    (tmp_path / "c" / "00000009").mkdir()
    with pytest.warns(UserWarning):
        found = read_latest(tmp_path / "c")
    assert found is not None and found.step == 4


def test_accumulation_readers_and_workers_change_no_loss(whole, latents, tmp_path):
    loop(quick(steps=3, micro_batch=4), latents, tmp_path / "a")
    loop(quick(steps=3, micro_batch=1, workers=1, gradient_checkpointing=True), latents, tmp_path / "b")
    for out in (tmp_path / "a", tmp_path / "b"):
        for got, expected in zip(losses(out), losses(whole[0])[:3], strict=True):
            assert got == pytest.approx(expected, rel=1e-4)


def test_two_processes_give_the_losses_of_one(whole, latents, base, tmp_path):
    """DDP over gloo, started as a user would."""
    script = (
        "import sys, torch; torch.set_num_threads(1); sys.path.insert(0, sys.argv[1])\n"
        "from helpers.training_data import loop, quick\nfrom pathlib import Path\n"
        "loop(quick(steps=3), Path(sys.argv[2]), Path(sys.argv[3]))\n"
        "import torch.distributed as d; assert d.get_world_size() == 2; d.destroy_process_group()\n"
    )
    (tmp_path / "go.py").write_text(script)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, str(tmp_path / "go.py"), str(TESTS), str(latents), str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for got, expected in zip(losses(tmp_path / "run"), losses(whole[0])[:3], strict=True):
        assert got == pytest.approx(expected, rel=1e-4)


def test_a_trained_model_is_a_model_folder(latents, base, tmp_path, monkeypatch):
    config = quick("svd_mv", steps=2, validate_every=2, ema=0.5)
    result = train(config, latents, str(base), tmp_path / "run")
    model = load_model_folder(result.files["model"])
    assert model.unet.micro.names == ("elevation",) and model.info.kind == "svd_mv"
    assert (model.info.num_frames, model.info.resolution) == (FRAMES, 32)
    card = (result.files["model"] / "README.md").read_text()
    for words in ("CC0-1.0", str(base), "| Seed | 0 |", "training loss", "validation PSNR"):
        assert words in card
    assert (tmp_path / "run" / "validation" / "00000002.png").exists()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["seed"] == 0 and record["report"]["metrics"]["training loss"] > 0
    # What is written is the average, and it is not what the run began with.
    before = load_unet(base).state_dict()["conv_in.weight"]
    found = read_latest(tmp_path / "run" / CHECKPOINTS)
    assert torch.equal(model.unet.conv_in.weight, found.ema["conv_in.weight"])
    assert not torch.equal(found.ema["conv_in.weight"], found.weights["conv_in.weight"])
    assert not torch.equal(model.unet.conv_in.weight, before)
    assert train(config, latents, str(base), tmp_path / "run").already_done
    with monkeypatch.context() as patch:
        patch.setitem(ALGORITHMS, "train", 2)
        with pytest.raises(OutputError, match="algorithm version 1 of train, now 2"):
            train(config, latents, str(base), tmp_path / "run")
    with pytest.raises(OutputError, match="another --lr"):
        train(replace(config, lr=1e-2), latents, str(base), tmp_path / "run")
    longer = train(replace(config, steps=3), latents, str(base), tmp_path / "run")
    assert longer.report["resumed_from"] == 2 and len(losses(tmp_path / "run")) == 3


def test_an_adapter_changes_the_base_it_was_trained_on(latents, base, tmp_path):
    result = train(quick("lora", steps=2, rank=2, precision="bf16"), latents, str(base), tmp_path / "run")
    assert set(result.files) == {"lora"} and result.files["lora"].stat().st_size < 200_000
    lora = read_lora(result.files["lora"])
    assert lora.rank == 2 and lora.metadata["vector"] == list(SV3D_P.names)
    assert any("temporal" in n for n in lora.down) and any("add_embedding" in n for n in lora.down)
    assert max(value.abs().max() for value in lora.up.values()) > 0
    unet = load_unet(base)
    before = unet.state_dict()["add_embedding.linear_1.weight"].clone()
    merge_loras(unet, [(lora, 1.0)])
    assert not torch.equal(unet.state_dict()["add_embedding.linear_1.weight"], before)


def test_an_adapter_for_another_size_than_its_bases_is_warned_of(latents, tmp_path):
    base = save_base(tmp_path / "base")
    info = read_info(base)
    write_info(base, replace(info, resolution=2 * info.resolution))
    width = info.resolution
    with pytest.warns(
        Mv3dWarning, match=f"orbits are {width}x{width}, the base was trained for {2 * width}x"
    ):
        result = train(quick("lora", steps=1, rank=2), latents, str(base), tmp_path / "run")
    assert read_lora(result.files["lora"]).metadata["resolution"] == [width, width]


def test_an_adapter_for_another_vector_comes_with_its_model(latents, tmp_path):
    base = save_base(tmp_path / "svd", SVD)
    result = train(quick("lora", steps=1, rank=2, vector="sv3d_p"), latents, str(base), tmp_path / "run")
    assert load_unet(result.files["model"]).micro == SV3D_P


def test_temporal_layers_alone(latents, base, tmp_path):
    result = train(quick(steps=1, trained="temporal"), latents, str(base), tmp_path / "run")
    before, after = load_unet(base).state_dict(), load_unet(result.files["model"]).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(
        any(part in n for part in ("temporal", "time_mixer", "time_pos_embed", "add_embedding"))
        for n in changed
    )


def test_static_then_dynamic(latents, base, tmp_path):
    config = quick(steps=2, static_steps=1)
    result = train(config, latents, str(base), tmp_path / "run", static_data=latents)
    first = load_unet(tmp_path / "run" / "static" / "model")
    assert first.micro.names == ("cond_aug",)
    assert load_unet(result.files["model"]).micro == SV3D_P
    assert read_info(result.files["model"]).base.endswith("static/model")


def test_from_rendered_pixels(orbits, base, tmp_path):
    """The same orbits through the autoencoder as it goes."""
    result = train(quick(steps=2), orbits, str(base), tmp_path / "run")
    assert result.report["metrics"]["training loss"] < 10


def test_tiny_starts_from_nothing(orbits, tmp_path):
    result = train(quick("tiny", steps=2, validate_every=2), orbits, "", tmp_path / "run")
    model = load_model_folder(result.files["model"])
    assert model.info.kind == "tiny" and model.info.resolution == 32
    assert (tmp_path / "run" / "validation" / "00000002.png").exists()
    assert 0.1 < model.vae.config["scaling_factor"] < 10
    assert model.vae.config["in_channels"] == 4


@pytest.mark.parametrize("steps", [1, 9, 10, 11])
def test_an_image_encoder_of_any_number_of_steps(orbits, steps):
    config = quick("tiny", encoder_steps=steps)
    encoder, _ = build_image_encoder(dict(CLIP))
    before = encoder.visual_projection.weight.clone()
    fit_image_encoder(encoder, open_samples(orbits, config, (32, 32)), steps=config.encoder_steps, seed=0)
    assert encoder.visual_projection.weight.isfinite().all()
    assert not torch.equal(encoder.visual_projection.weight, before)


def test_a_preset_is_a_name_for_values(latents, base, tmp_path):
    """What is done hangs on the values alone."""
    with pytest.raises(UsageError, match="--base: expected a model"):
        plan(quick("tiny", network="base"), latents, "", tmp_path)
    with pytest.raises(UsageError, match="expected none"):
        plan(quick("lora", network="none", trained="all"), latents, str(base), tmp_path)
    assert plan(quick("svd_mv", network="new"), latents, "", tmp_path)["stages"]


def test_pictures_that_the_network_would_crop_are_refused(base):
    model = build_trainable(quick(), base, base="")
    check_data_size(model, (32, 24))
    with pytest.raises(InputError, match="sides that 8 divides, got 36 × 32"):
        check_data_size(model, (36, 32))


def test_a_model_of_pictures_with_alpha(orbits, tmp_path):
    """It is told the photo's alpha and makes that of its views; its latents can be cached; clips have none."""
    parts = train(quick("autoencoder"), orbits, "", tmp_path / "parts").files["model"]
    pixels = train(quick("tiny", steps=2, mirror=False), orbits, str(parts), tmp_path / "pixels")
    model = load_model(GenerateConfig(model=str(pixels.files["model"]), device="cpu", steps=1))
    rgba = np.zeros((32, 32, 4), np.float32)
    rgba[8:24, 8:24] = (0.9, 0.5, 0.1, 1)
    told = []
    encode = model.generator.components.vae.encode
    model.generator.components.vae.encode = lambda x, **options: told.append(x) or encode(x, **options)
    made = generate_orbit(PreparedPhoto(rgba, "alpha"), GenerateConfig(device="cpu", steps=1), model)
    assert not made.warnings
    torch.testing.assert_close(told[0][0, 3] / 2 + 0.5, torch.from_numpy(rgba[..., 3]), atol=1e-3, rtol=0)
    assert len(np.unique(made.views.images[0, ..., 3])) > 50  # no matte is as soft
    latents = save_latents(orbits, parts, tmp_path / "latents")
    with_vae, cached = (
        open_samples(folder, quick("tiny", mirror=False), (32, 32)) for folder in (orbits, latents)
    )
    one, other = with_vae.sample(0), cached.sample(0)
    assert one["uid"] == other["uid"]
    images = normalized(one["images"], channels=4)
    expected = model.generator.components.vae.encode(images)[0].mode()
    torch.testing.assert_close(other["latents"].float(), expected, atol=2e-2, rtol=2e-3)
    clips = tmp_path / "clips"
    clips.mkdir()
    save_clip(clips / "a.mp4")
    with pytest.raises(InputError, match="clips have no alpha"):
        train(quick("lora", steps=2, rank=2), clips, str(pixels.files["model"]), tmp_path / "run")


def test_camera_motion_from_clips(base, tmp_path, monkeypatch):
    clips = tmp_path / "clips"
    clips.mkdir()
    save_clip(clips / "a.mp4")
    save_clip(clips / "b.mp4", frames=9)
    save_clip(clips / "short.mp4", frames=2)
    (clips / "broken.mp4").write_bytes(b"no video")
    # What it says of its encoder is no UTF-8.
    (clips / "words.mp4").write_bytes((clips / "a.mp4").read_bytes().replace(b"Lavf", b"\xff\xfevf"))
    base = save_base(tmp_path / "svd", SVD)
    with pytest.warns(UserWarning, match="left out"):
        result = train(quick("lora", steps=2, rank=2), clips, str(base), tmp_path / "run")
    merge_loras(load_unet(base), [(read_lora(result.files["lora"]), 1.0)])
    with pytest.warns(UserWarning, match="left out"):
        samples = open_samples(clips, quick(), (32, 16))
    sample = samples.sample(0)
    assert sample["images"].shape == (FRAMES, 16, 32, 3) and len(samples) == 2
    # The square moves to the right: so does the centre of what is red.
    red = (sample["images"][..., 0].float() - sample["images"][..., 2].float()).clamp(min=60) - 60
    centre = (red * torch.arange(32)).sum(dim=(1, 2)) / red.sum(dim=(1, 2))
    assert (centre.diff() > 0).all()
    # What stays in memory is what each decoding gives; with less room for it, nothing stays.
    monkeypatch.setattr("mv3d.training.clips.KEPT_BYTES", (12 + 9) * 32 * 16 * 3 - 1)
    with pytest.warns(UserWarning, match="left out"):
        decoding = open_samples(clips, quick(), (32, 16))
    for number in range(6):
        assert torch.equal(samples.sample(number)["images"], decoding.sample(number)["images"])
    (clips / "a.mp4").unlink()
    (clips / "b.mp4").unlink()
    assert len(samples.sample(6)["images"]) == FRAMES  # in memory
    with pytest.raises(InputError, match=r"[ab]\.mp4"):
        decoding.sample(6)
    with pytest.warns(UserWarning), pytest.raises(InputError, match="at least 4 frames"):
        open_samples(clips, quick(), (32, 32))


def test_the_average_follows_the_weights():
    weight = torch.nn.Parameter(torch.zeros(3))
    ema = Ema([weight], 0.5)
    expected = 0.0
    for step, value in enumerate((1.0, 2.0, 4.0)):
        weight.data.fill_(value)
        ema.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    with ema.in_place():
        assert weight.detach().tolist() == pytest.approx([expected] * 3)
    assert weight.detach().tolist() == [4.0] * 3


def test_what_waits_for_data_is_measured(latents, tmp_path):
    import time

    config = quick(steps=3)
    samples = open_samples(latents, config, (32, 32))

    class Slow:
        format, licences = samples.format, samples.licences

        def sample(self, index):
            time.sleep(0.2)
            return samples.sample(index)

        def __len__(self):
            return len(samples)

    batches = BatchMaker(config, scaling_factor=0.5, device="cpu")
    objective = orbit_objective(config, small_network(), batches)
    done = train_loop(config, objective, Slow(), tmp_path, accelerator=Accelerator(cpu=True))
    assert 0.1 < done.data_wait_share < 1
    line = read_log(tmp_path)[-1]
    assert line["data_wait_share"] * line["seconds_per_step"] >= 0.8


def test_wrong_requests(latents, orbits, base, tmp_path, capsys):
    out = tmp_path / "out"
    for config, data, name, words in (
        (quick(device="cuda"), latents, str(base), "--device cuda: no CUDA device"),
        (quick(), latents, "", "--base"),
        (quick("tiny"), latents, "", "give its folder as --base"),
        (quick(), tmp_path / "none", str(base), "--data"),
        (quick(), tmp_path, str(base), "orbits render or encode, or video clips"),
        (quick(frames=5), latents, str(base), "divides its 8"),
        (quick("tiny", vector="keep"), orbits, str(base), "--vector"),
    ):
        if "cuda" in words and torch.cuda.is_available():
            continue
        with pytest.raises((UsageError, InputError), match=words):
            train(config, data, name, out)
        assert not out.exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    with pytest.raises(OutputError, match="holds something else"):
        train(quick(), latents, str(base), tmp_path / "full")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_says_what_to_try(error, latents, tmp_path, monkeypatch):
    """Wherever in the step it runs out: the optimiser's state is made in its first one."""

    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr(torch.optim.AdamW, "step", fails)
    with pytest.raises(Mv3dError, match="out of memory: try --micro-batch 1, --gradient-checkpointing"):
        loop(quick(steps=1), latents, tmp_path)


def test_8_bit_adam_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(MissingPartError, match="pip install bitsandbytes"):
        make_optimizer(quick(optimizer="adamw8bit"), [torch.nn.Parameter(torch.zeros(1))])


def test_what_is_not_here_is_told_before_anything_is_written(latents, base, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingPartError, match="pip install tensorboard"):
        train(quick(tensorboard=True), latents, str(base), tmp_path / "run")
    with pytest.raises(UsageError, match="adamw8bit: expected a CUDA device, got cpu"):
        train(quick(optimizer="adamw8bit"), latents, str(base), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_events_for_tensorboard(latents, base, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import (  # pyright: ignore[reportMissingImports]
        EventAccumulator,
    )

    train(quick(steps=2, tensorboard=True), latents, str(base), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    told = [(event.step, event.value) for event in events.Scalars("loss")]
    assert [step for step, _ in told] == [1, 2]
    assert [value for _, value in told] == pytest.approx([line["loss"] for line in losses(tmp_path / "run")])


@pytest.mark.slow
def test_a_compiled_network_and_bfloat16_train_alike(whole, latents, tmp_path):
    loop(quick(steps=3, compile=True), latents, tmp_path / "compiled")
    loop(quick(steps=3, precision="bf16"), latents, tmp_path / "bf16")
    for name, tolerance in (("compiled", 1e-3), ("bf16", 2e-2)):
        for got, expected in zip(losses(tmp_path / name), losses(whole[0])[:3], strict=True):
            assert got["loss"] == pytest.approx(expected["loss"], rel=tolerance)


def test_command_line(latents, base, tmp_path, capsys):
    given = ["train", "--data", str(latents), "--base", str(base), "--out", str(tmp_path / "run")]
    assert main([*given, "--preset", "lora", "--dry-run", "--rank", "3", "--json"]) == 0
    settings = json.loads(capsys.readouterr().out)["stages"][0]["settings"]
    assert (settings["rank"], settings["steps"], settings["trained"]) == (3, 5000, "lora")
    assert not (tmp_path / "run").exists()
    assert main([*given, "--preset", "lorra"]) == 2
    assert "did you mean lora" in capsys.readouterr().err
    assert main([*given, "--preset", "lora", "--rnak", "3"]) == 2
    assert "--rank" in capsys.readouterr().err
    fast = "--preset lora --frames 4 --steps 1 --batch 1 --device cpu --workers 0 --validate-every 0 --json"
    assert main([*given, *fast.split()]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    begun = re.search(
        r"^training begins: step 0 of 1, batch 1, (\d+) objects, cpu$", printed.err, re.MULTILINE
    )
    assert begun and int(begun[1]) > 1
    assert Path(document["files"]["lora"]).exists() and not document["already_done"]
    assert main(["train", "--print-config", "fsdp"]) == 0
    assert Path(capsys.readouterr().out.strip()).read_text().count("FSDP")
    assert main(["train", "--print-config", "dpp"]) == 2


def test_the_plan_has_the_stages_of_the_paper(latents, tmp_path):
    from mv3d.training.config import preset

    stages = plan(preset("sv3d_p"), latents, "svd_xt", tmp_path, latents)["stages"]
    assert [s["settings"]["vector"] for s in stages] == ["sv3d_u", "sv3d_p"]
    assert [s["orbits"] for s in stages] == [55_000 * 64, 50_000 * 64]
    assert stages[1]["base"] == f"{tmp_path}/static/model"


def test_an_adapter_is_a_small_file(latents, base, tmp_path):
    """Of the trained values alone: the checkpoints hold no frozen weight."""
    train(quick("lora", steps=2, rank=2), latents, str(base), tmp_path / "run")
    found = load_file(tmp_path / "run" / CHECKPOINTS / "00000002" / "weights.safetensors")
    assert found and all(name.endswith((".lora_A", ".lora_B")) for name in found)


def test_parts_that_cannot_be_made_leave_nothing(latents, tmp_path):
    with pytest.raises(InputError, match="cached latents need the model that made them"):
        train(quick("autoencoder"), latents, "", tmp_path / "run")
    assert not (tmp_path / "run").exists()
