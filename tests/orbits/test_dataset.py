"""Encoding and reading: what training sees is what was rendered, in an order that a seed decides."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import tarfile
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks import save_networks

from mv3d.core.errors import InputError, OutputError, UsageError
from mv3d.orbits.build import build_shards
from mv3d.orbits.catalogue import CatalogueItem
from mv3d.orbits.config import OrbitConfig
from mv3d.orbits.dataset import OrbitSet, OrbitSetConfig, mirrored, normalized, orbit_loader
from mv3d.orbits.info import contact_sheets, info_lines, inspect_shards
from mv3d.orbits.jobs import decode_frame
from mv3d.orbits.reading import (
    OrbitSample,
    OrbitStore,
    chosen_frames,
    composite,
    npy_view,
    read_latents,
    relative_azimuths,
)
from mv3d.orbits.shards import Shard
from mv3d.render.cameras import Orbit
from mv3d.training.encode_shards import EncodeConfig, clip_pixels, encode_shards

COUNT = 12
CONFIG = OrbitConfig(views=COUNT, size=32, environments=("uniform",), shard_size=4)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """Ten painted orbits; the colour of a frame tells its object and its number."""
    from helpers.painted import painted

    folder = tmp_path_factory.mktemp("shards")
    items = [CatalogueItem(f"o{index}", licence="CC0-1.0") for index in range(10)]
    build_shards(items, folder, CONFIG, workers=1, work=painted)
    return folder


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> tuple[Path, Path]:
    return save_networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def latents(shards, networks, tmp_path_factory) -> Path:
    return encode_shards(shards, networks[0], networks[1], tmp_path_factory.mktemp("latents")).out_dir


def uids(dataset: OrbitSet, count: int) -> list[str]:
    return [dataset.sample(index)["uid"] for index in range(count)]


def test_every_fourth_of_84_and_the_condition_frame_last():
    frames = chosen_frames(84, 21, 3)
    assert frames[-1] == 3 and frames[0] == 7 and len(set(frames)) == 21 and set(np.diff(frames) % 84) == {4}
    with pytest.raises(InputError, match="divides the 84"):
        chosen_frames(84, 20, 0)


def test_azimuths_relative_to_the_condition_frame():
    np.testing.assert_allclose(relative_azimuths(np.array([100.0, 190.0, 280.0, 10.0])), [90, 180, 270, 0])
    tiny = relative_azimuths(np.array([10.0 - 1e-15, 10.0]))
    assert 0 <= tiny[0] < 360 and tiny[1] == 0


def test_compositing_is_straight_alpha():
    """Against the formula in real numbers, over all values of alpha, and with colour under what is clear."""
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (64, 64, 4), dtype=np.uint8)
    frame[:8, :, 3], frame[8:16, :, 3] = 0, 255
    frame[16:20].reshape(-1, 4)[:, 3] = np.arange(256)
    for color in ([255, 255, 255], [0, 0, 0], [10, 200, 30]):
        alpha = frame[..., 3:] / 255
        expected = frame[..., :3] * alpha + np.array(color) * (1 - alpha)
        got = composite(frame, np.array(color, np.uint8))
        assert np.abs(got[..., :3] - expected).max() <= 0.5
        np.testing.assert_array_equal(got[..., 3], frame[..., 3])


def test_a_pixel_sample_is_what_was_stored(shards):
    dataset = OrbitSet(shards, OrbitSetConfig(frames=4, seed=3))
    starts, colors = set(), set()
    for index in range(len(dataset)):
        sample = dataset.sample(index)
        frames = sample["frames"].numpy()
        assert sample["images"].shape == (4, 32, 32, 4) and len(frames) == 4
        stored = next(
            shard.members(n)
            for shard in map(Shard, sorted(shards.glob("*.tar")))
            for n, place in enumerate(shard.places)
            if place.key == sample["uid"]
        )
        document = json.loads(bytes(stored["json"]))
        azimuths = np.array(document["cameras"]["azimuths_deg"])
        background = (sample["background"].numpy() * 255).round().astype(np.uint8)
        for place, number in enumerate(frames):
            expected = composite(decode_frame(stored[f"{number:03d}.webp"]), background)
            np.testing.assert_array_equal(sample["images"][place].numpy(), expected)
            pixels = normalized(sample["images"])[place].numpy()
            np.testing.assert_allclose((pixels.transpose(1, 2, 0) + 1) * 127.5, expected[..., :3], atol=1e-3)
            assert sample["elevations_deg"][place] == pytest.approx(
                document["cameras"]["elevations_deg"][number], abs=1e-4
            )
            turn = (azimuths[number] - azimuths[frames[-1]]) % 360
            assert sample["azimuths_deg"][place] == pytest.approx(turn, abs=1e-3)
        assert sample["azimuths_deg"][-1] == 0 and (np.diff(sample["azimuths_deg"][:-1]) > 0).all()
        starts.add(int(frames[-1]))
        colors.add(tuple(background))
    assert len(dataset) == 20 and len(starts) > 5
    assert (255, 255, 255) in colors and len(colors) == 11


def test_a_mirrored_orbit_is_the_orbit_of_the_mirrored_object():
    """A point of the object, projected by each frame's camera: turned over with the pictures, it lies on the projection
    of the mirrored point by the mirrored orbit's cameras."""
    azimuths = np.array([40.0, 130.0, 250.0, 0.0])
    elevations = np.array([5.0, 15.0, -10.0, 20.0])
    side, point = 64, np.array([0.2, 0.11, 0.15])

    def place(point_world, elevation_deg, azimuth_deg):
        c2w = Orbit((elevation_deg,), (azimuth_deg,)).cameras(side, side).c2w[0]
        x, y, z = (point_world - c2w[:3, 3]) @ c2w[:3, :3]
        return int(side / 2 + side * x / -z), int(side / 2 - side * y / -z)

    images = np.zeros((4, side, side, 4), np.uint8)
    for image, elevation_deg, azimuth_deg in zip(images, elevations, azimuths, strict=True):
        column, row = place(point, elevation_deg, azimuth_deg)
        image[row, column] = 255
    sample = OrbitSample("o", images, None, None, elevations, azimuths, np.arange(4), np.zeros(3, np.uint8))
    turned = mirrored(sample)
    assert turned.azimuths_deg.tolist() == [110.0, 230.0, 320.0, 0.0]
    assert turned.frames.tolist() == [2, 1, 0, 3]
    assert turned.images is not None
    for image, elevation_deg, azimuth_deg in zip(
        turned.images, turned.elevations_deg, turned.azimuths_deg, strict=True
    ):
        column, row = place(point * [1, -1, 1], elevation_deg, azimuth_deg)
        lit_row, lit_column = np.argwhere(image[..., 3])[0]
        assert abs(lit_row - row) <= 1
        assert abs(lit_column - column) <= 1


def test_half_of_a_mirrored_set_is_turned_over_and_each_sample_always_the_same(shards):
    plain = OrbitSet(shards, OrbitSetConfig(frames=4, backgrounds=("white",)))
    both = OrbitSet(shards, OrbitSetConfig(frames=4, backgrounds=("white",), mirror=True))
    turned = [
        not torch.equal(plain.sample(index)["images"], both.sample(index)["images"]) for index in range(40)
    ]
    assert 8 < sum(turned) < 32
    torch.testing.assert_close(both.sample(7)["images"], both.sample(7)["images"])


def test_latents_cannot_be_mirrored(latents):
    with pytest.raises(UsageError, match="mirror"):
        OrbitSet(latents, OrbitSetConfig(frames=4, mirror=True))


def test_an_epoch_shows_every_orbit_on_both_backgrounds(shards):
    dataset = OrbitSet(shards, OrbitSetConfig(frames=4))
    for epoch in range(2):
        seen = [dataset.sample(epoch * 20 + i) for i in range(20)]
        white = [s["uid"] for s in seen if (s["background"] == 1).all()]
        other = [s["uid"] for s in seen if not (s["background"] == 1).all()]
        assert sorted(white) == sorted(other) == sorted(f"o{i}" for i in range(10))
    assert uids(dataset, 20) != [dataset.sample(20 + i)["uid"] for i in range(20)]


def test_the_seed_decides_everything(shards):
    first, again, other = (OrbitSet(shards, OrbitSetConfig(frames=4, seed=s)) for s in (1, 1, 2))
    for index in (0, 7, 33):
        a, b = first.sample(index), again.sample(index)
        assert a["uid"] == b["uid"] and torch.equal(a["images"], b["images"])
    assert uids(first, 20) != uids(other, 20)


def test_ranks_share_an_epoch_without_overlap(shards):
    parts = [OrbitSet(shards, OrbitSetConfig(frames=4, rank=r, world_size=3)) for r in range(3)]
    assert [len(part) for part in parts] == [6, 6, 6]
    seen = [
        (s["uid"], bool((s["background"] == 1).all()))
        for part in parts
        for s in (part.sample(i) for i in range(6))
    ]
    assert len(set(seen)) == 18


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 3])
def test_a_loader_yields_the_stream_in_order_with_any_number_of_workers(shards, workers):
    config = OrbitSetConfig(frames=4, batch_size=3, epochs=2)
    dataset = OrbitSet(shards, config)
    got = [index for batch in orbit_loader(dataset, workers=workers) for index in batch["index"].tolist()]
    assert got == list(range(40))


def test_latents_read_by_threads_are_those_read_one_by_one(latents):
    config = OrbitSetConfig(frames=4, batch_size=3, epochs=3, seed=2)
    plain = list(orbit_loader(OrbitSet(latents, config)))
    ahead = list(orbit_loader(OrbitSet(latents, config), workers=3))
    assert len(plain) == len(ahead) > 5
    for one, other in zip(plain, ahead, strict=True):
        assert one.keys() == other.keys() and one["uid"] == other["uid"]
        assert torch.equal(one["index"], other["index"]) and torch.equal(one["latents"], other["latents"])
    copy = pickle.loads(pickle.dumps(OrbitSet(latents, config)))
    assert torch.equal(next(iter(orbit_loader(copy, workers=1)))["latents"], plain[0]["latents"])
    feed = iter(orbit_loader(OrbitSet(latents, replace(config, epochs=None)), workers=2))
    next(feed)
    feed.close()  # an endless stream is left: no thread goes on with it
    until = time.monotonic() + 5
    while any(t.name.startswith("latents") for t in threading.enumerate()) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(t.name.startswith("latents") for t in threading.enumerate())


def test_resuming_continues_the_stream(shards):
    config = OrbitSetConfig(frames=4, batch_size=2, epochs=1, seed=5)
    whole = [(b["uid"], b["images"]) for b in orbit_loader(OrbitSet(shards, config))]
    state = OrbitSet(shards, config).state_dict(consumed=6)
    resumed = OrbitSet(shards, config)
    resumed.load_state_dict(json.loads(json.dumps(state)))
    rest = [(b["uid"], b["images"]) for b in orbit_loader(resumed, workers=2)]
    assert [uid for uid, _ in rest] == [uid for uid, _ in whole[3:]]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(rest, whole[3:], strict=True))
    assert resumed.state_dict(consumed=4)["consumed"] == 10
    with pytest.raises(InputError, match="expected seed 6"):
        OrbitSet(shards, replace(config, seed=6)).load_state_dict(state)


def copy_of(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def test_a_broken_shard_is_left_out_and_said(shards, tmp_path):
    folder = copy_of(shards, tmp_path / "x")
    os.truncate(folder / "shard-000001.tar", 1000)
    (folder / "shard-000002.tar").unlink()
    with pytest.warns(UserWarning, match="left out: shard-00000"):
        dataset = OrbitSet(folder, OrbitSetConfig(frames=4))
    assert len(dataset.store.broken) == 2 and "4 samples" in dataset.store.broken[0]
    assert set(uids(dataset, len(dataset))) == {"o0", "o1", "o2", "o3"}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_sample_is_replaced_and_said(shards, tmp_path, workers):
    folder = copy_of(shards, tmp_path / "x")
    place = Shard(folder / "shard-000000.tar").places[1]
    with (folder / "shard-000000.tar").open("r+b") as stream:
        stream.seek(place.offset)
        stream.write(b"\xff" * 700)  # the header of its JSON, and some of that
    dataset = OrbitSet(folder, OrbitSetConfig(frames=4, epochs=1, batch_size=2))
    if workers:
        got = [uid for batch in orbit_loader(dataset, workers=workers) for uid in batch["uid"]]
    else:
        with pytest.warns(UserWarning, match="sample 1 of shard 0 skipped") as said:
            got = [uid for batch in orbit_loader(dataset) for uid in batch["uid"]]
        assert len(said) >= 2
    assert len(got) == 20 and "o1" not in got


def test_frames_that_do_not_divide_are_refused_at_once(shards, latents):
    for folder in (shards, latents):
        with pytest.raises(UsageError, match="divides its 12, got 5"):
            OrbitSet(folder, OrbitSetConfig(frames=5))


@pytest.mark.parametrize("kind", ["pixels", "latents"])
def test_whatever_is_broken_in_a_shard_nothing_else_is_raised(shards, latents, tmp_path, kind):
    folder = copy_of(shards if kind == "pixels" else latents, tmp_path / "x")
    path = folder / "shard-000000.tar"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    skipped = []
    for trial in range(40):
        broken = bytearray(whole)
        for place in rng.integers(0, len(whole), 200):
            broken[place] = rng.integers(256)
        path.write_bytes(broken)
        if trial % 2:  # without its record the headers have to do
            (folder / "shard-000000.json").unlink(missing_ok=True)
        dataset = OrbitSet(folder, OrbitSetConfig(frames=4, seed=trial))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for index in range(6):
                assert dataset.sample(index)["frames"].shape == (4,)
        skipped += [warning for warning in said if "skipped" in str(warning.message)]
    assert len(skipped) > 10


def test_many_shards_need_few_descriptors(shards, monkeypatch):
    monkeypatch.setattr("mv3d.orbits.reading._OPEN_SHARDS", 1)
    store = OrbitStore(shards)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    for place in [*store.places, *store.places]:
        store.members(place)
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    assert after <= before + 1


def test_nothing_but_broken_samples_is_an_error(shards, tmp_path):
    folder = copy_of(shards, tmp_path / "x")
    for tar in folder.glob("*.tar"):
        tar.write_bytes(b"\xff" * tar.stat().st_size)
    dataset = OrbitSet(folder, OrbitSetConfig(frames=4))
    with pytest.warns(UserWarning), pytest.raises(InputError, match="one after the other"):
        dataset.sample(0)


def test_latents_are_the_unscaled_mode_of_the_posterior(shards, latents, networks):
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from transformers import CLIPVisionModelWithProjection

    vae = AutoencoderKL.from_pretrained(networks[0]).eval()
    encoder = CLIPVisionModelWithProjection.from_pretrained(networks[1]).eval()
    pixel_set = OrbitSet(shards, OrbitSetConfig(frames=4, backgrounds=("white",), seed=1))
    latent_set = OrbitSet(latents, OrbitSetConfig(frames=4, backgrounds=("white",), seed=1))
    for index in range(4):
        pixels, cached = pixel_set.sample(index), latent_set.sample(index)
        assert pixels["uid"] == cached["uid"] and torch.equal(pixels["frames"], cached["frames"])
        torch.testing.assert_close(pixels["azimuths_deg"], cached["azimuths_deg"])
        with torch.no_grad():
            mean = vae.encode(normalized(pixels["images"])).latent_dist.mean
            embedding = encoder(clip_pixels(normalized(pixels["images"][-1:]), 28)).image_embeds[0]
        torch.testing.assert_close(cached["latents"].float(), mean, atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(cached["image_embedding"].float(), embedding, atol=2e-3, rtol=2e-3)


def test_cached_latents_keep_their_colour(latents):
    dataset = OrbitSet(latents, OrbitSetConfig(frames=4, backgrounds=("color",)))
    colors: dict[str, set] = {}
    for index in range(20):
        sample = dataset.sample(index)
        colors.setdefault(sample["uid"], set()).add(tuple(sample["background"].tolist()))
    assert all(len(found) == 1 for found in colors.values())
    assert len(set().union(*colors.values())) == 10


def test_the_index_says_what_the_latents_are(latents, networks):
    index = json.loads((latents / "index.json").read_text())
    assert "not multiplied by the scaling factor" in index["latents"] and len(index["vae_sha256"]) == 64
    assert index["finished"] and index["samples"] == 10


def test_encoding_again_is_done_and_other_networks_are_refused(shards, latents, networks, tmp_path):
    assert encode_shards(shards, networks[0], networks[1], latents).already_done
    other = copy_of(networks[0], tmp_path / "vae")
    document = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**document, "scaling_factor": 0.5}))
    with pytest.raises(OutputError, match=r"another vae_sha256.*--overwrite"):
        encode_shards(shards, other, networks[1], latents)


def test_a_damaged_index_is_told_and_can_be_replaced(shards, latents, networks, tmp_path):
    copy = copy_of(latents, tmp_path / "latents")
    good = (copy / "index.json").read_text()
    (copy / "index.json").write_text(json.dumps({**json.loads(good), "samples": -1}))
    with pytest.raises(InputError, match="damaged"):
        encode_shards(shards, networks[0], networks[1], copy)
    encode_shards(shards, networks[0], networks[1], copy, overwrite=True)
    assert (copy / "index.json").read_text() == good


def test_pixels_without_a_size_are_refused(shards, networks, tmp_path):
    copy = copy_of(shards, tmp_path / "shards")
    document = json.loads((copy / "index.json").read_text())
    del document["config"]["size"]
    (copy / "index.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="views and size"):
        encode_shards(copy, networks[0], networks[1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_frames_that_the_autoencoder_would_crop_are_refused(shards, networks, tmp_path):
    copy = copy_of(shards, tmp_path / "shards")
    vae = copy_of(networks[0], tmp_path / "vae")
    (vae / "config.json").write_text('{"_class_name": "PatchAutoencoder", "patch_size": 24}')
    with pytest.raises(InputError, match="multiple of 24"):
        encode_shards(copy, vae, networks[1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_encoding_can_be_cut_off_anywhere(shards, latents, networks, tmp_path, monkeypatch):
    reference = {path.name: path.read_bytes() for path in latents.glob("*.*") if path.is_file()}
    real = os.replace

    class Cut(BaseException):
        pass

    for stop in (2, 6, 7):
        left = stop

        def replace_some(source, target):
            nonlocal left
            left -= 1
            if left == 0:
                raise Cut
            real(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace_some)
            with pytest.raises(Cut):
                encode_shards(shards, networks[0], networks[1], tmp_path / "out")
    encode_shards(shards, networks[0], networks[1], tmp_path / "out")
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").glob("*.*") if p.is_file()} == reference


def test_what_cannot_be_encoded(shards, networks, tmp_path):
    with pytest.raises(InputError, match="no such index"):
        encode_shards(tmp_path, networks[0], networks[1])
    with pytest.raises(InputError, match="safetensors"):
        encode_shards(shards, tmp_path, networks[1], tmp_path / "a")
    with pytest.raises(InputError, match="expected one of AutoencoderKL"):
        encode_shards(shards, networks[1], networks[1], tmp_path / "b")
    with pytest.raises(UsageError, match="--device"):
        encode_shards(shards, networks[0], networks[1], tmp_path / "c", EncodeConfig(device="tpu"))


def test_npy_views_are_what_numpy_reads(tmp_path):
    values = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float16)
    np.save(tmp_path / "x.npy", values)
    np.testing.assert_array_equal(npy_view(memoryview((tmp_path / "x.npy").read_bytes())), values)
    with pytest.raises(ValueError, match="npy"):
        npy_view(memoryview(b"nonsense" * 9))
    for cut in (b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535):
        with pytest.raises(ValueError, match="npy"):
            npy_view(memoryview(cut))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shards": None}, "a list of shards"),
        ({"samples": -1}, "a whole number in samples"),
        ({"licences": {"CC0-1.0": "all"}}, "counts by name in licences"),
        ({"config": {"views": "12"}}, "views a whole number"),
        ({"finished": 1}, "true or false"),
        ({"shards": [{"name": "../x.tar", "samples": 1, "bytes": 9999}]}, r"got \.\./x\.tar"),
        (
            {"shards": [{"name": "x.tar", "samples": 2**60, "bytes": 2**61, "sha256": ""}]},
            "samples of at least",
        ),
        ({"shards": [{"name": "x.tar", "samples": 1, "bytes": 10**400}]}, "samples and bytes"),
    ],
    ids=str,
)
def test_an_index_that_does_not_hold_together_is_one_sentence(shards, tmp_path, change, message):
    folder = copy_of(shards, tmp_path / "x")
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | change))
    for read in (OrbitStore, inspect_shards, contact_sheets):
        with pytest.raises(InputError, match=f"damaged: expected .*{message}"):
            read(folder)


def test_headers_that_lead_back_end(shards, tmp_path):
    """A size below zero once made a reader of headers go round for ever, a length of 0 in an extended header, too."""
    path = tmp_path / "shard-000000.tar"
    data = (shards / "shard-000000.tar").read_bytes()
    path.write_bytes(data[:124] + b"-0000001000\0" + data[136:])
    with pytest.raises(InputError, match="no tar header at byte 0"):
        Shard(path)
    for record in (b"0 path=x\n", b"-9 path=x\n", b"99 path=x\n", b"x", b""):
        info = tarfile.TarInfo("x")
        info.type, info.size = tarfile.XHDTYPE, len(record)
        path.write_bytes(info.tobuf() + record.ljust(512, b"\0")[: 512 * bool(record)] + data)
        try:
            assert len(Shard(path)) > 0
        except InputError as error:
            assert "\n" not in str(error)


def test_a_record_that_leads_out_of_its_shard_is_one_sentence(shards, tmp_path):
    folder = copy_of(shards, tmp_path / "x")
    path = folder / "shard-000000.json"
    record = json.loads(path.read_text())
    record["samples"][0] |= {"offset": 2**40, "bytes": 2**62}
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="expected it within the"):
        Shard(folder / "shard-000000.tar")
    record["samples"][0] |= {"offset": "far"}
    path.write_text(json.dumps(record))  # no record any more: the headers have to do
    assert len(Shard(folder / "shard-000000.tar")) == 4


def test_latents_of_another_type_are_one_sentence():
    out = io.BytesIO()
    np.save(out, np.zeros((4, 4, 2, 2), "M8[s]"))
    angles = {"elevations_deg": [1] * 4, "azimuths_deg": [1] * 4}
    document = json.dumps({"uid": "u", "backgrounds": {"white": [255] * 3}, **angles}).encode()
    members = {"json": document, "latents.white.npy": out.getvalue(), "embeddings.white.npy": out.getvalue()}
    views = {name: memoryview(data) for name, data in members.items()}
    with pytest.raises(InputError, match="expected 4 latents as float16"):
        read_latents(views, frames=2, background="white", rng=np.random.default_rng(0))
    views["json"] = memoryview(document.replace(b"[255, 255, 255]", b"[256, 0, 0]"))
    with pytest.raises(InputError, match="expected angles, latents and embeddings"):
        read_latents(views, frames=2, background="white", rng=np.random.default_rng(0))


def test_webdataset_reads_the_same(shards):
    """The library that others read such shards with."""
    wds = pytest.importorskip("webdataset")
    urls = sorted(str(path) for path in shards.glob("*.tar"))
    theirs = {s["__key__"]: s for s in wds.WebDataset(urls, shardshuffle=False)}
    assert sorted(theirs) == sorted(f"o{i}" for i in range(10))
    shard = Shard(shards / "shard-000000.tar")
    for number, place in enumerate(shard.places):
        ours = {name: bytes(data) for name, data in shard.members(number).items()}
        assert {k: v for k, v in theirs[place.key].items() if not k.startswith("__")} == ours
    decoded = next(iter(wds.WebDataset(urls, shardshuffle=False).decode("rgba8")))
    assert decoded["000.webp"].shape == (32, 32, 4)


def test_the_stream_goes_into_a_webdataset_pipeline(shards):
    wds = pytest.importorskip("webdataset")
    dataset = OrbitSet(shards, OrbitSetConfig(frames=4, epochs=1))
    pipeline = wds.DataPipeline(lambda: iter(dataset), wds.map(lambda sample: sample["uid"]))
    assert list(pipeline) == uids(dataset, 20)


def test_info_counts_and_finds_damage(shards, tmp_path):
    info = inspect_shards(shards, verify=True)
    assert not info.problems and info.document["samples"] == 10
    assert info.document["licences"] == {"CC0-1.0": 10}
    assert (
        any("10 samples" in line for line in info_lines(info))
        and (shards / "rejects.jsonl").read_text() == ""
    )
    folder = copy_of(shards, tmp_path / "x")
    data = bytearray((folder / "shard-000000.tar").read_bytes())
    data[3000] ^= 1
    (folder / "shard-000000.tar").write_bytes(data)
    assert "changed since" in inspect_shards(folder, verify=True).problems[0]
    assert not inspect_shards(folder).problems
    with pytest.raises(InputError, match=r"index\.json"):
        inspect_shards(tmp_path)


def test_contact_sheets_show_samples(shards):
    sheets = contact_sheets(shards, samples=7, frames=3, per_sheet=4)
    assert len(sheets) == 2 and sheets[0].width == 3 * 144
    assert np.asarray(sheets[0]).std() > 10


def test_the_store_opens_its_shards_in_every_process(shards):
    import pickle

    store = OrbitStore(shards)
    first = bytes(store.members(store.places[0])["json"])
    again = pickle.loads(pickle.dumps(store))
    assert bytes(again.members(again.places[0])["json"]) == first
