"""Models by name: a folder, `default`, an alias of a released model, or a hub id. Adapters by file and weight.

Imports torch and diffusers only for a conversion, so that a wrong name fails at once.
"""

from __future__ import annotations

import difflib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from mv3d.core import caches
from mv3d.core.errors import InputError, OutputError
from mv3d.core.locking import mend
from mv3d.models.folder import INFO_FILE
from mv3d.models.names import ALIASES, DEFAULT_FOLDER

_REPO_FILES = ["*.json", "*.safetensors", "*.md"]


@dataclass(frozen=True)
class ResolvedModel:
    """A model's folder and origin."""

    folder: Path
    name: str
    """The name that was asked for."""
    revision: str = ""
    """The hub's commit, or empty for a folder."""


def resolve(
    name: str | os.PathLike[str], *, revision: str | None = None, cache_dir: Path | None = None
) -> ResolvedModel:
    """The folder of a model by path, `default`, alias (sv3d_u, sv3d_p, svd, svd_xt) or hub id.

    What the hub has in the original's form is converted once into `cache_dir` (see `mv3d.core.caches`). Raises InputError
    with the command to run or the page to open where it cannot be had, OutputError where a cache cannot be written.
    """
    text, path = str(name), Path(name)
    mend(path, path.parent)
    if path.is_dir():
        return ResolvedModel(_model_folder(path), text)
    if path.is_file():
        raise InputError(
            f"{path}: expected a model folder, got a file; make one with: mv3d models convert {path} OUT"
        )
    if text == "default":
        if not (DEFAULT_FOLDER / INFO_FILE).exists():
            raise InputError(
                "model default: no model comes with this installation; use --model sv3d_p, a hub id or a folder "
                "(mv3d models list)"
            )
        return ResolvedModel(DEFAULT_FOLDER, text)
    if text in ALIASES:
        alias = ALIASES[text]
        return _from_hub(text, alias.repo, alias.file, revision, cache_dir)
    if not isinstance(name, str) or text.startswith((".", "/", "~")) or text.count("/") != 1:
        raise InputError(f"model {text}: {_nothing_there(text)}")
    try:
        return _from_hub(text, text, None, revision, cache_dir)
    except InputError as error:
        folder = Path(text).parent
        if not folder.is_dir():
            raise
        raise InputError(
            f"model {text}: the folder {folder} is here, but holds no finished model {Path(text).name}; where a run of "
            "mv3d train writes it, the same command goes on to its end"
        ) from error


def parse_lora_argument(text: str) -> tuple[Path, float]:
    """Path and weight (default 1) of an adapter, from `FILE` or `FILE:WEIGHT`."""
    path, _, weight = text.rpartition(":")
    if path and not Path(text).exists():
        try:
            return Path(path), float(weight)
        except ValueError:
            pass  # a colon in the name itself, as in C:\file
    return Path(text), 1.0


def _nothing_there(text: str) -> str:
    known = ["default", *ALIASES]
    near = difflib.get_close_matches(text.rpartition("/")[2], known, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{hint}expected a folder, a hub id (owner/name) or one of {', '.join(known)}, got nothing by that name"


def _model_folder(path: Path) -> Path:
    if (path / INFO_FILE).exists():
        return path
    if (path / "model_index.json").exists():
        raise InputError(
            f"{path}: a folder in diffusers' form; make one of ours with: mv3d models convert {path} OUT"
        )
    raise InputError(f"{path}: expected a model folder with {INFO_FILE}, got none in it")


def _from_hub(
    name: str, repo: str, file: str | None, revision: str | None, cache_dir: Path | None
) -> ResolvedModel:
    import huggingface_hub as hub  # noqa: PLC0415 - reads its environment when imported
    from huggingface_hub import constants  # noqa: PLC0415

    local = cut_off(constants.ENDPOINT)
    command = (
        f"hf download {repo}" + (f" {file}" if file else "") + (f" --revision {revision}" if revision else "")
    )
    with _explained(repo, command):
        if file is not None:
            fetched = hub.hf_hub_download(repo, file, revision=revision, local_files_only=local)
        else:
            fetched = hub.snapshot_download(
                repo, revision=revision, allow_patterns=_REPO_FILES, local_files_only=local
            )
    fetched = Path(fetched)
    commit = fetched.name if file is None else fetched.parent.name
    if file is None and (fetched / INFO_FILE).exists():
        return ResolvedModel(fetched, name, commit)
    if file is None and not (fetched / "model_index.json").exists():
        raise InputError(
            f"model {name}: neither a model of mv3d ({INFO_FILE}) nor one in diffusers' form is at {repo}"
        )
    folder = cache_dir or caches.cache_dir("models")
    target = folder / f"{repo.replace('/', '--')}--{file or 'all'}--{commit}"
    if not (target / INFO_FILE).exists():
        from mv3d.models.convert import convert  # noqa: PLC0415 - torch loads here, not for a wrong name

        try:
            convert(fetched, target, base=repo, revision=commit, overwrite=True)
        except OutputError as error:
            raise OutputError(
                f"model {name}: cannot be kept converted in {folder} ({error.__cause__ or error}); free some space, set "
                "MV3D_CACHE to another folder, or convert it yourself: mv3d models convert"
            ) from error
    return ResolvedModel(target, name, commit)


def cut_off(endpoint: str) -> bool:
    """Whether the hub's host name cannot be resolved: its own client would retry for half a minute, cached or not."""
    host = urlsplit(endpoint).hostname
    if getproxies() or not host:
        return False
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return True
    return False


@contextmanager
def _explained(repo: str, command: str) -> Iterator[None]:
    """Fetch from the hub within. Raises InputError or OutputError with the way out for each kind of failure."""
    from huggingface_hub import errors  # noqa: PLC0415 - as above

    try:
        yield
    except (errors.HfHubHTTPError, errors.EntryNotFoundError, errors.HFValidationError, OSError) as error:
        page = f"https://huggingface.co/{repo}"
        unreachable = "no such folder here; as a hub id: not in the cache, and the hub cannot be reached"
        ways_out: dict[type[Exception], str] = {
            errors.GatedRepoError: f"its makers ask you to accept their licence first: open {page}, accept, then run: "
            "hf auth login",
            errors.RevisionNotFoundError: f"the hub has no such revision; see {page}/commits",
            errors.RepositoryNotFoundError: f"no such folder here; {_nothing_there(repo)} on the hub; for a private one run: hf auth login",
            errors.LocalEntryNotFoundError: f"{unreachable}; with a connection run: {command}",
            errors.EntryNotFoundError: f"the hub has no such file there; it was asked for by: {command}",
            errors.HFValidationError: f"not a hub id (owner/name): {error}",
            errors.HfHubHTTPError: f"{unreachable} ({type(error).__name__}); with a connection run: {command}",
            ConnectionError: f"{unreachable} ({type(error).__name__}); with a connection run: {command}",
        }
        for kind, text in ways_out.items():  # from the narrowest kind to the widest
            if isinstance(error, kind):
                raise InputError(f"model {repo}: {text}") from error
        if not isinstance(error, OSError) or error.errno is None:
            raise
        raise OutputError(
            f"model {repo}: the cache cannot be written ({error.strerror}: {error.filename}); free some space or set HF_HOME "
            "to another folder"
        ) from error
