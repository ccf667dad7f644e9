"""Conversion and loading: every number arrives, every bad file is one clear sentence, nothing is left half-written."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from helpers import sgm_parts_twin as parts_twin
from helpers import sgm_twin
from helpers.tiny_model import write_model
from safetensors.torch import load_file, save_file

from mv3d.cli.main import main
from mv3d.core.errors import InputError, Mv3dError, OutputError
from mv3d.models.convert import SV3D_PARTS, OriginalParts, convert, original_plan
from mv3d.models.folder import COMPONENTS, ModelCard, read_info
from mv3d.models.loading import load_model_folder, load_unet
from mv3d.models.locate import resolve
from mv3d.models.network import SV3D_P, SVD
from mv3d.models.weights import open_weights, write_weights

pytestmark = pytest.mark.usefixtures("one_thread")

NETWORK = {
    "num_classes": "sequential",
    "in_channels": 8,
    "out_channels": 4,
    "model_channels": 32,
    "attention_resolutions": [1],
    "num_res_blocks": 1,
    "channel_mult": [1, 1],
    "num_head_channels": 16,
    "use_linear_in_transformer": True,
    "transformer_depth": 1,
    "context_dim": 24,
    "use_spatial_context": True,
    "merge_strategy": "learned_with_images",
    "video_kernel_size": [3, 1, 1],
}
VAE = {"ch": 32, "mult": [1, 2]}
CLIP = {"width": 32, "layers": 2, "heads": 4, "patch": 4, "image": 16, "out": 24}
TEXT_KEYS = (
    "positional_embedding", "text_projection", "logit_scale", "token_embedding.weight", "ln_final.weight", "ln_final.bias",
)  # fmt: skip
PARTS = OriginalParts(
    NETWORK,
    {"block_out_channels": [32, 64], "layers_per_block": 2, "latent_channels": 4, "scaling_factor": 0.18215},
    {
        "hidden_size": 32,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 16,
        "patch_size": 4,
        "projection_dim": 24,
        "hidden_act": "gelu",
    },
)


def original(width: int = 1280, *, temporal: bool = True, seed: int = 0) -> dict[str, torch.Tensor]:
    weights = sgm_twin.random_weights(NETWORK | {"adm_in_channels": width}, seed)
    return weights | parts_twin.random(
        parts_twin.checkpoint_shapes(VAE, CLIP, temporal=temporal, vocabulary=5), seed + 1
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("original") / "sv3d_p.safetensors"
    save_file(original(), path)
    return path


@pytest.fixture(scope="module")
def model(checkpoint, tmp_path_factory) -> Path:
    return convert(checkpoint, tmp_path_factory.mktemp("ours") / "model", parts=PARTS)


@pytest.mark.parametrize("temporal", [True, False], ids=["temporal decoder", "image decoder"])
def test_converted_autoencoder_equals_its_twin(temporal, tmp_path):
    weights = original(temporal=temporal)
    save_file(weights, tmp_path / "w.safetensors")
    vae = load_model_folder(convert(tmp_path / "w.safetensors", tmp_path / "m", parts=PARTS)).vae
    twin = parts_twin.Vae(weights, VAE)
    image, latents = torch.rand(3, 3, 16, 16) * 2 - 1, torch.randn(3, 4, 8, 8)
    with torch.no_grad():
        mean = vae.encode(image).latent_dist.mode()
        pixels = vae.decode(latents, **({"num_frames": 3} if temporal else {})).sample
    assert twin.encode(image).std() > 0.01 and twin.decode(latents).std() > 0.01
    assert torch.allclose(mean, twin.encode(image), atol=1e-5)
    assert torch.allclose(pixels, twin.decode(latents), atol=1e-5)


def test_converted_image_encoder_equals_its_twin(model, checkpoint):
    image = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        ours = load_model_folder(model).image_encoder(pixel_values=image).image_embeds
    twin = parts_twin.clip_embedding(load_file(checkpoint), CLIP, image)
    assert twin.std() > 0.1 and torch.allclose(ours, twin, atol=1e-5)


def test_converted_network_holds_every_number(model, checkpoint):
    weights = load_file(checkpoint)
    ours = load_unet(model).state_dict()
    theirs = [v for k, v in weights.items() if k.startswith(sgm_twin.PREFIX)]
    assert len(ours) == len(theirs)
    assert sum(float(v.double().sum()) for v in ours.values()) == pytest.approx(
        sum(float(v.double().sum()) for v in theirs), rel=1e-12
    )
    assert load_unet(model).micro == SV3D_P


def test_folder_describes_itself(model, checkpoint):
    info = read_info(model)
    assert (info.kind, info.num_frames, info.resolution) == ("sv3d_p", 21, 576)
    assert info.sampler.steps == 50 and info.sampler.cond_aug == 1e-5 and len(info.source_sha256) == 64
    card = (model / "README.md").read_text()
    for word in (
        "license: other",
        "base_model: stabilityai/sv3d",
        "| Data |",
        "| Seed |",
        info.source_sha256,
    ):
        assert word in card
    assert {p.name for p in model.iterdir()} == {
        "unet",
        "vae",
        "image_encoder",
        "mv3d.json",
        "README.md",
        "run.json",
    }
    own = ModelCard("T", "apache-2.0", data="D", seed=3, metrics={"PSNR": 20.5}).text()
    assert "license: apache-2.0" in own and "| PSNR | 20.5 |" in own and "| Seed | 3 |" in own


def test_converting_to_half_precision(checkpoint, tmp_path):
    unet = load_unet(convert(checkpoint, tmp_path / "m", parts=PARTS, dtype=torch.bfloat16))
    assert {v.dtype for v in unet.state_dict().values()} == {torch.bfloat16}
    assert load_unet(tmp_path / "m", dtype=torch.float32).dtype == torch.float32


class FakeFile:
    """A checkpoint of full size: names and shapes, no numbers."""

    def __init__(self, shapes):
        self.path, self.keys, self.shapes = Path("sv3d_p.safetensors"), tuple(shapes), shapes

    def shape(self, key):
        return self.shapes[key]


@pytest.mark.parametrize("temporal", [True, False])
def test_full_size_checkpoint_is_covered_key_by_key(temporal):
    network = sgm_twin.shapes(SV3D_PARTS.network | {"adm_in_channels": 1280})
    rest = parts_twin.checkpoint_shapes(parts_twin.VAE_FULL, parts_twin.CLIP_FULL, temporal=temporal)

    def total(prefix: str) -> int:
        return sum(math.prod(s) for k, s in (network | rest).items() if k.startswith(prefix))

    # The sizes that the original prints when it loads the file.
    assert total("conditioner.embedders.0.") == 683_800_065
    assert total("conditioner.embedders.1.") == 83_653_863
    assert total(sgm_twin.PREFIX) == 1_524_623_082 + 512 * 1280
    plans, kind = original_plan(FakeFile(network | rest), SV3D_PARTS)
    assert kind == "sv3d_p"
    used = {piece.key for plan in plans.values() for piece in plan.pieces.values()}
    left = set(network | rest) - used
    # The still-image decoder with its convolution, and the text side of CLIP: nothing else stays behind.
    text = {f"conditioner.embedders.0.open_clip.model.{k}" for k in TEXT_KEYS}
    still = "conditioner.embedders.1.encoder."
    assert {k for k in left if k.startswith("conditioner.embedders.0.")} == text
    assert all(k.startswith((still + "decoder.", still + "post_quant_conv.")) for k in left - text)
    assert len(left - text) == len(parts_twin.decoder_shapes(parts_twin.VAE_FULL, False)) + 2


def test_svd_folder_of_diffusers(tmp_path):
    from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
    from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    stock = UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        layers_per_block=1,
        cross_attention_dim=24,
        num_attention_heads=(2, 2),
        num_frames=14,
    )
    source = tmp_path / "svd"
    stock.save_pretrained(source / "unet")
    AutoencoderKLTemporalDecoder(block_out_channels=(32,), layers_per_block=2).save_pretrained(source / "vae")
    CLIPVisionModelWithProjection(CLIPVisionConfig(**PARTS.image_encoder)).save_pretrained(
        source / "image_encoder"
    )
    (source / "model_index.json").write_text("{}")
    with pytest.raises(InputError, match="mv3d models convert"):
        resolve(source)
    generator = load_model_folder(convert(source, tmp_path / "ours"))
    assert generator.info.kind == "svd" and generator.info.num_frames == 14 and generator.unet.micro == SVD
    for key, value in stock.state_dict().items():
        assert torch.equal(generator.unet.state_dict()[key], value)
    config = json.loads((source / "unet" / "config.json").read_text())
    (source / "unet" / "config.json").write_text(json.dumps(config | {"wings": 2}))
    with pytest.raises(InputError, match="unknown field wings"):
        convert(source, tmp_path / "again")
    (source / "unet" / "config.json").write_text(json.dumps(config | {"block_out_channels": [32]}))
    with pytest.raises(InputError, match="does not describe a network"):
        convert(source, tmp_path / "again")


def broken(kind: str, path: Path) -> None:
    """Spoil a safetensors file in place."""
    data = path.read_bytes()
    if kind == "cut off":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_bytes(b"<html>sign in, please</html>" * 20)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"weight": [1.0]}))
    elif kind == "torch pickle":
        torch.save({"weight": torch.zeros(2)}, path)
    else:
        weights = load_file(path)
        key = next(k for k in weights if k == "conv_in.weight" or "input_blocks.0.0.weight" in k)
        if kind == "NaN":
            weights[key][0, 0, 0, 0] = math.nan
        elif kind == "missing key":
            del weights[key]
        elif kind == "unknown key":
            weights["wings.weight"] = torch.zeros(1)
        save_file(weights, path)


BROKEN = {
    "cut off": "cut off or damaged",
    "empty": "0 bytes",
    "text": "cut off or damaged",
    "pickle": "got a pickle",
    "torch pickle": "got a pickle",
    "NaN": "are NaN or infinite",
    "missing key": r"1 missing \(.*(conv_in|input_blocks\.0\.0)\.weight\)",
    "unknown key": r"1 unknown \(wings\.weight\)",
}


@pytest.mark.parametrize(("kind", "message"), BROKEN.items(), ids=BROKEN.keys())
def test_bad_checkpoints_are_named_and_leave_nothing(kind, message, checkpoint, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(checkpoint.read_bytes())
    broken(kind, path)
    with pytest.raises(InputError, match=message) as caught:
        convert(path, tmp_path / "out", parts=PARTS)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        (".", {"num_frames": "many"}, r"mv3d\.json: num_frames: expected int"),
        (".", {"num_frames": 0}, "num_frames"),
        (".", {"fov_deg": math.nan}, "fov_deg: expected float, finite"),
        (".", {"elevations_deg": [10**400, 1]}, "not a description"),
        (".", {"elevations_deg": [math.nan, 1]}, "not a description"),
        (".", {"sampler": {"steps": None}}, "steps"),
        ("unet", {"layers_per_block": 10**6}, "layers_per_block: expected numbers up to 256"),
        ("unet", {"_class_name": ["x"] * 9000}, "expected a network .{1,200}$"),
        ("unet", {"block_out_channels": None}, "unet/config.json"),
        ("unet", {"num_frames": [1] * 9000}, "at most 256 entries"),
        ("vae", {"_class_name": []}, "vae/config.json: expected one of"),
        ("vae", {"block_out_channels": 3}, "expected a list block_out_channels"),
        ("vae", {"layers_per_block": "many"}, "vae/config.json: does not describe"),
        ("image_encoder", {"num_hidden_layers": 2**31}, "num_hidden_layers: expected numbers up to 256"),
        ("image_encoder", {"hidden_size": "wide"}, "image_encoder/config.json: does not describe"),
        ("image_encoder", {"num_attention_heads": 0}, "image_encoder/config.json: does not describe"),
    ],
    ids=str,
)
def test_descriptions_that_make_no_sense_are_one_sentence(part, change, message, model, tmp_path):
    import shutil

    shutil.copytree(model, tmp_path / "m")
    path = tmp_path / "m" / part / ("mv3d.json" if part == "." else "config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message) as caught:
        load_model_folder(tmp_path / "m")
    assert "\n" not in str(caught.value)


def test_json_nested_without_end_is_one_sentence(model, tmp_path):
    import shutil

    shutil.copytree(model, tmp_path / "m")
    (tmp_path / "m" / "mv3d.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="not valid JSON"):
        load_model_folder(tmp_path / "m")


def test_weights_of_whole_numbers_are_refused(model, tmp_path):
    import shutil

    shutil.copytree(model, tmp_path / "m")
    path = tmp_path / "m" / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_in.weight"] = weights["conv_in.weight"].int()
    save_file(weights, path)
    with pytest.raises(InputError, match=r"conv_in\.weight is stored as I32"):
        load_model_folder(tmp_path / "m")


@pytest.mark.parametrize(("kind", "message"), BROKEN.items(), ids=BROKEN.keys())
def test_bad_model_folders_are_named(kind, message, model, tmp_path):
    import shutil

    shutil.copytree(model, tmp_path / "m")
    broken(kind, tmp_path / "m" / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(InputError, match=message):
        load_model_folder(tmp_path / "m")


def test_weights_only_as_a_pickle_are_refused(model, tmp_path):
    import shutil

    shutil.copytree(model, tmp_path / "m")
    weights = tmp_path / "m" / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(InputError, match="only as a pickle"):
        load_model_folder(tmp_path / "m")


def test_another_architecture_is_told_by_its_keys(tmp_path):
    save_file({"transformer.h.0.attn.weight": torch.zeros(2)}, tmp_path / "gpt.safetensors")
    with pytest.raises(InputError, match=r"not a checkpoint of SV3D.*transformer\.h\.0\.attn\.weight"):
        convert(tmp_path / "gpt.safetensors", tmp_path / "out")
    save_file(original(768), tmp_path / "svd.safetensors")
    with pytest.raises(InputError, match="for SVD take the folder"):
        convert(tmp_path / "svd.safetensors", tmp_path / "out", parts=PARTS)
    assert not (tmp_path / "out").exists()


def test_a_network_saved_by_diffusers_is_read_back(model, tmp_path):
    unet = load_unet(model)
    unet.save_pretrained(tmp_path / "m" / "unet")
    back = load_unet(tmp_path / "m")
    assert back.micro == unet.micro
    assert all(torch.equal(v, unet.state_dict()[k]) for k, v in back.state_dict().items())


def test_convert_never_overwrites_unasked(model, checkpoint):
    before = (model / "mv3d.json").stat().st_mtime_ns
    with pytest.raises(OutputError, match="--overwrite"):
        convert(checkpoint, model, parts=PARTS)
    assert (model / "mv3d.json").stat().st_mtime_ns == before


def test_unwritable_output(checkpoint, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        convert(checkpoint, tmp_path / "file" / "out", parts=PARTS)


def test_written_file_is_what_safetensors_reads(tmp_path):
    tensors = {
        "a": torch.randn(3, 2),
        "b.c": torch.arange(5),
        "d": torch.randn(2).to(torch.bfloat16),
        "e": torch.tensor(2.0),
    }
    names = {"a": "F32", "b.c": "I64", "d": "BF16", "e": "F32"}
    write_weights(
        tmp_path / "w.safetensors",
        {k: tuple(v.shape) for k, v in tensors.items()},
        names,
        tensors.__getitem__,
        {"note": "x"},
    )
    back = load_file(tmp_path / "w.safetensors")
    assert all(torch.equal(back[k], v) for k, v in tensors.items()) and back.keys() == tensors.keys()
    with open_weights(tmp_path / "w.safetensors") as weights:
        assert weights.metadata["note"] == "x" and weights.shape("a") == (3, 2)


# Names


def hub_error(kind: str):
    import httpx2 as httpx
    from huggingface_hub import errors

    response = httpx.Response(403, request=httpx.Request("GET", "https://huggingface.co"))
    return {
        "gated": errors.GatedRepoError("gated", response=response),
        "absent": errors.RepositoryNotFoundError("absent", response=response),
        "offline": errors.LocalEntryNotFoundError("offline"),
        "refused": ConnectionError("refused"),
        "unwritable": PermissionError(13, "Permission denied", "/cache"),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("gated", "open https://huggingface.co/stabilityai/sv3d, accept, then run: hf auth login"),
        ("absent", "expected a folder, a hub id"),
        ("offline", "hf download stabilityai/sv3d sv3d_p.safetensors"),
        ("refused", "hf download stabilityai/sv3d sv3d_p.safetensors"),
        ("unwritable", "set HF_HOME"),
    ],
)
def test_hub_failures_say_the_way_out(kind, message, monkeypatch, tmp_path):
    def fail(*_, **__):
        raise hub_error(kind)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(Mv3dError) as caught:
        resolve("sv3d_p", cache_dir=tmp_path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_hub_revision_is_recorded(monkeypatch, model, tmp_path):
    snapshot = tmp_path / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (snapshot / "mv3d.json").write_bytes((model / "mv3d.json").read_bytes())
    asked = {}

    def fetch(repo, **settings):
        asked.update(settings, repo=repo)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    found = resolve("someone/orbits", revision="v2")
    assert found.folder == snapshot and found.revision == "abc123"
    assert asked["revision"] == "v2" and not any("bin" in p or "ckpt" in p for p in asked["allow_patterns"])


def test_an_original_on_the_hub_is_converted_once(monkeypatch, tmp_path, checkpoint):
    snapshot = tmp_path / "snapshots" / "c0ffee" / "sv3d_p.safetensors"
    snapshot.parent.mkdir(parents=True)
    snapshot.write_bytes(checkpoint.read_bytes())
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: str(snapshot))
    calls = []

    def small_convert(*arguments, **settings):
        calls.append(1)
        return convert(*arguments, **settings, parts=PARTS)

    monkeypatch.setattr("mv3d.models.convert.convert", small_convert)
    first = resolve("sv3d_p", cache_dir=tmp_path / "cache")
    second = resolve("sv3d_p", cache_dir=tmp_path / "cache")
    assert first == second and len(calls) == 1 and first.revision == "c0ffee"
    assert read_info(first.folder).revision == "c0ffee" and read_info(first.folder).base == "stabilityai/sv3d"


def test_unwritable_cache_of_conversions(monkeypatch, tmp_path, checkpoint):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: str(checkpoint))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="set MV3D_CACHE"):
        resolve("sv3d_p", cache_dir=tmp_path / "file")


@pytest.mark.parametrize("name", ["sv3dp", "./nowhere", "a/b/c", "/nowhere/at/all"])
def test_unknown_names(name):
    with pytest.raises(InputError, match="expected a folder, a hub id"):
        resolve(name)


def test_nearest_name_is_offered():
    with pytest.raises(InputError, match="did you mean sv3d_p"):
        resolve("sv3dp")


def test_a_run_without_its_model_is_no_hub_id(tmp_path, monkeypatch):
    monkeypatch.setattr("mv3d.models.locate.cut_off", lambda endpoint: True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="run/model: no such folder here"):
        resolve("run/model")
    Path("run").mkdir()
    with pytest.raises(InputError, match="the folder run is here, but holds no finished model model"):
        resolve("run/model")


def test_folders_that_are_no_models(tmp_path, model, checkpoint):
    assert resolve(model).folder == model and resolve(str(model)).revision == ""
    with pytest.raises(InputError, match=r"with mv3d\.json"):
        resolve(tmp_path)
    with pytest.raises(InputError, match="mv3d models convert"):
        resolve(checkpoint)
    (tmp_path / "mv3d.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        read_info(tmp_path)
    (tmp_path / "mv3d.json").write_text('{"schema": 1, "kind": "x", "wings": 2}')
    with pytest.raises(InputError, match="wings"):
        read_info(tmp_path)


# The command


def test_models_command(model, tmp_path, capsys):
    assert main(["models", "info", str(model), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["kind"] == "sv3d_p" and document["parameters"]["unet"] == 791_216
    assert document["licence"] and document["dtype"]["unet"] == "F32"
    assert main(["models", "info", str(model)]) == 0
    assert "a camera per view" in capsys.readouterr().out
    assert main(["models", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("default", "sv3d_p", "sv3d_u", "svd_xt"))
    (tmp_path / "bad.safetensors").write_bytes(b"PK\x03\x04" + b"\0" * 20)
    assert main(["models", "convert", str(tmp_path / "bad.safetensors"), str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and "pickle" in captured.err
    assert main(["models", "nonesuch"]) == 2
    assert main(["models"]) == 2
    assert main(["models", "--help"]) == 0


def test_help_is_light():
    import subprocess
    import sys

    code = (
        "import sys\nfrom mv3d.cli.main import main\n"
        "for words in (['models', '--help'], ['models', 'convert', '--help'], ['models', 'list']):\n"
        "    assert main(words) == 0\n"
        "assert main(['models', 'info', 'sv3dp']) == 1\n"
        "import mv3d.models\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Pixels


def test_pixels_to_latents_and_back(model, checkpoint):
    from mv3d.models.encode import decode_frames, embed_image, encode_condition, encode_frames

    parts = load_model_folder(model)
    weights = load_file(checkpoint)
    twin = parts_twin.Vae(weights, VAE)
    frames, latents = torch.rand(5, 3, 16, 16), torch.randn(5, 4, 8, 8)
    mean = twin.encode(frames * 2 - 1)
    assert torch.allclose(encode_condition(parts.vae, frames), mean, atol=1e-5)
    assert torch.allclose(encode_frames(parts.vae, frames, chunk=2), mean * 0.18215, atol=1e-5)
    whole = (twin.decode(latents / 0.18215) / 2 + 0.5).clamp(0, 1)
    assert torch.allclose(decode_frames(parts.vae, latents, chunk=5), whole, atol=1e-5)
    pairs = [(twin.decode(latents[i : i + 2] / 0.18215) / 2 + 0.5).clamp(0, 1) for i in (0, 2, 4)]
    assert torch.allclose(decode_frames(parts.vae, latents, chunk=2), torch.cat(pairs), atol=1e-5)
    noisy = [
        encode_condition(parts.vae, frames, cond_aug=0.1, generator=torch.Generator().manual_seed(s))
        for s in (0, 0, 1)
    ]
    assert torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0], noisy[2])
    with pytest.raises(Mv3dError, match="expected a generator"):
        encode_condition(parts.vae, frames, cond_aug=0.1)
    with pytest.raises(Mv3dError, match="at least 1"):
        decode_frames(parts.vae, latents, chunk=0)
    # An image of the encoder's own size is not resized: the twin sees it normalised.
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1)
        for v in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    )
    expected = parts_twin.clip_embedding(weights, CLIP, (frames - mean) / std)
    embedded = embed_image(parts.image_encoder, frames)
    assert embedded.shape == (5, 1, 24) and torch.allclose(embedded[:, 0], expected, atol=1e-5)
    # A plain colour stays itself through any resizing.
    plain = torch.full((1, 3, 50, 50), 0.3)
    assert torch.allclose(
        embed_image(parts.image_encoder, plain),
        embed_image(parts.image_encoder, plain[..., :16, :16]),
        atol=1e-4,
    )


def test_a_model_folder_is_converted_with_its_description(tmp_path):
    """What `mv3d train` leaves, in half the bytes."""
    source = write_model(tmp_path / "source", SV3D_P)
    (source / "README.md").write_text("The card.\n")
    out = convert(source, tmp_path / "half", dtype=torch.float16)
    assert read_info(out) == read_info(source)
    assert (out / "README.md").read_text() == "The card.\n"
    for component, name in COMPONENTS.items():
        before, after = load_file(source / component / name), load_file(out / component / name)
        for key, value in after.items():
            torch.testing.assert_close(value, before[key].half())


def test_without_a_network_the_cache_alone_is_asked(monkeypatch, tmp_path):
    """The hub's client would try for half a minute and print each time."""
    import socket

    def no_network(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    asked = {}

    def fetch(repo, file, **settings):
        asked.update(settings)
        raise hub_error("offline")

    monkeypatch.setattr("mv3d.models.locate.getproxies", dict)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    monkeypatch.setattr("socket.getaddrinfo", no_network)
    with pytest.raises(InputError, match="the hub cannot be reached"):
        resolve("sv3d_p", cache_dir=tmp_path)
    assert asked["local_files_only"]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [])
    with pytest.raises(InputError, match="the hub cannot be reached"):
        resolve("sv3d_p", cache_dir=tmp_path)
    assert not asked["local_files_only"]
