"""Downloads against a server that misbehaves in every way seen in the wild."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers.store_server import Store, running_store

from mv3d.core.errors import OutputError, UsageError
from mv3d.orbits.infrastructure.download import Downloaded, DownloadError, Transport, download

DATA = bytes(range(256)) * 40


@pytest.fixture
def store(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with running_store() as running:
        yield running


class Waits(threading.Event):
    """Notes the waits between tries instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        return False


def fetch(
    url: str, target: Path, *, waits: Waits | None = None, sha256=None, check=None, **options
) -> Downloaded:
    transport = Transport(**{"timeout_s": 0.2, "retries": 3, "backoff_s": 0.001, **options})
    return download(
        url,
        target,
        transport,
        sha256=sha256,
        check=check,
        rng=np.random.default_rng(0),
        stop=waits or Waits(),
    )


def failed(url: str, target: Path, **options) -> DownloadError:
    with pytest.raises(DownloadError) as caught:
        fetch(url, target, **options)
    assert not target.exists()
    return caught.value


@pytest.fixture
def url(store: Store) -> str:
    return store.put("glbs/a.bin", DATA)


def faults(store: Store, *names: str) -> None:
    store.faults[next(iter(store.files))] += names


def test_a_good_file_arrives_whole(store, url, tmp_path):
    done = fetch(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == DATA
    assert done == Downloaded(len(DATA), hashlib.sha256(DATA).hexdigest(), tries=1)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("fault", ["status 500", "status 503", "status 429", "longer", "cut", "stall"])
def test_passing_faults_are_overcome(store, url, tmp_path, fault):
    faults(store, fault, fault)
    assert fetch(url, tmp_path / "a").tries == 3
    assert (tmp_path / "a").read_bytes() == DATA


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("status 500", "http_error"),
        ("longer", "cut_off"),
        ("stall", "timeout"),
    ],
)
def test_lasting_faults_end_after_the_tries(store, url, tmp_path, fault, reason):
    store.ranges = False
    faults(store, *[fault] * 10)
    error = failed(url, tmp_path / "a")
    assert error.reason == reason and "after 4 tries" in error.detail
    assert len(store.requests) == 4


@pytest.mark.parametrize(
    ("status", "reason"),
    [("404", "not_found"), ("410", "not_found"), ("403", "forbidden"), ("400", "http_error")],
)
def test_final_answers_are_not_asked_for_again(store, url, tmp_path, status, reason):
    faults(store, f"status {status}")
    assert failed(url, tmp_path / "a").reason == reason
    assert len(store.requests) == 1


def test_a_cut_off_file_goes_on_where_it_broke(store, url, tmp_path):
    faults(store, "cut")
    done = fetch(url, tmp_path / "a")
    assert done.resumed_from == len(DATA) // 2
    assert store.requests[1][1]["Range"] == f"bytes={len(DATA) // 2}-"
    assert (tmp_path / "a").read_bytes() == DATA


def test_a_later_run_goes_on_with_the_part(store, url, tmp_path):
    faults(store, "cut")
    failed(url, tmp_path / "a", retries=0)
    assert (tmp_path / ".a.part").stat().st_size == len(DATA) // 2
    assert fetch(url, tmp_path / "a").resumed_from == len(DATA) // 2
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_part_of_a_file_that_changed_is_not_continued(store, url, tmp_path):
    faults(store, "cut")
    failed(url, tmp_path / "a", retries=0)
    store.put("glbs/a.bin", DATA[::-1])
    assert fetch(url, tmp_path / "a").resumed_from == 0
    assert (tmp_path / "a").read_bytes() == DATA[::-1]


def test_without_a_proof_of_sameness_nothing_is_continued(store, url, tmp_path):
    store.etags = False
    faults(store, "cut")
    assert fetch(url, tmp_path / "a").resumed_from == 0
    faults(store, "cut")  # the checksum is a proof as good
    done = fetch(url, tmp_path / "b", sha256=hashlib.sha256(DATA).hexdigest())
    assert done.resumed_from == len(DATA) // 2 and (tmp_path / "b").read_bytes() == DATA


def test_a_server_without_ranges_sends_all_again(store, url, tmp_path):
    store.ranges = False
    faults(store, "cut")
    assert fetch(url, tmp_path / "a").resumed_from == 0
    assert (tmp_path / "a").read_bytes() == DATA


def test_a_part_that_is_too_long_is_thrown_away(store, url, tmp_path):
    (tmp_path / ".a.part").write_bytes(DATA + b"more")
    assert fetch(url, tmp_path / "a", sha256=hashlib.sha256(DATA).hexdigest()).tries == 2
    assert (tmp_path / "a").read_bytes() == DATA


def test_an_answer_without_a_length_is_read_to_its_end(store, url, tmp_path):
    faults(store, "unsized")
    assert fetch(url, tmp_path / "a").bytes == len(DATA)


def test_a_wrong_checksum_is_tried_again_and_never_kept(store, url, tmp_path):
    error = failed(url, tmp_path / "a", sha256="0" * 64, retries=1)
    assert error.reason == "checksum" and len(store.requests) == 2
    assert not list(tmp_path.iterdir())


def test_the_hash_that_a_hub_announces_is_checked(store, url, tmp_path):
    address = store.put("pointer", b"")
    path = list(store.files)[-1]
    store.faults[path] = [f"linked {url} {hashlib.sha256(DATA).hexdigest()}", f"linked {url} {'1' * 64}"]
    assert fetch(address, tmp_path / "a").bytes == len(DATA)
    assert failed(address, tmp_path / "b", retries=0).reason == "checksum"


def test_a_redirected_file_goes_on_where_it_broke(store, url, tmp_path):
    """As a hub and its storage host do: every request is redirected, and both halves are of one file."""
    address = store.put("pointer", b"")
    place = url.removeprefix(store.url)
    digest = hashlib.sha256(DATA).hexdigest()
    store.faults[list(store.files)[-1]] = [f"linked {place} {digest}"] * 2  # a relative address, too
    faults(store, "cut")
    done = fetch(address, tmp_path / "a")
    assert done.tries == 2 and done.resumed_from == len(DATA) // 2
    assert (tmp_path / "a").read_bytes() == DATA


def test_content_that_the_check_refuses(store, url, tmp_path):
    error = failed(
        url, tmp_path / "a", check=lambda path: f"{path.stat().st_size} bytes of nonsense", retries=0
    )
    assert error.reason == "bad_content" and "10240 bytes of nonsense" in error.detail


@pytest.mark.parametrize("fault", ["", "unsized"])
def test_too_large_files_are_left_at_once(store, url, tmp_path, fault):
    faults(store, fault)
    assert failed(url, tmp_path / "a", max_bytes=5000).reason == "too_large"
    assert len(store.requests) == 1 and not list(tmp_path.iterdir())


def test_a_trickle_meets_the_total_limit(store, url, tmp_path):
    faults(store, "trickle")
    assert failed(url, tmp_path / "a", total_timeout_s=0.15, retries=0).reason == "timeout"


@pytest.mark.parametrize(
    "address", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x", "nothing", "http://:x/"]
)
def test_only_http_addresses(tmp_path, address):
    assert failed(address, tmp_path / "a").reason == "refused_url"


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://127.0.0.1/x", "gopher://x/"])
def test_redirects_lead_to_http_only(store, url, tmp_path, address):
    faults(store, f"redirect {address}")
    assert failed(url, tmp_path / "a").reason == "refused_url"


def test_a_circle_of_redirects_ends(store, url, tmp_path):
    faults(store, *[f"redirect {url}"] * 40)
    assert failed(url, tmp_path / "a", retries=0).reason == "http_error"


def test_nobody_there(tmp_path):
    assert failed("http://127.0.0.1:9/x", tmp_path / "a", retries=1).reason == "unreachable"


def test_the_token_stays_on_its_host(store, url, tmp_path):
    with running_store() as other:
        elsewhere = other.put("glbs/a.bin", DATA)
        inside = store.put("glbs/b.bin", DATA)
        host = store.url.removeprefix("http://")
        faults(store, f"redirect {inside}", f"redirect {elsewhere}")
        fetch(url, tmp_path / "a", token="secret", token_host=host)
        assert [headers.get("Authorization") for _, headers in store.requests] == ["Bearer secret"] * 2
        fetch(url, tmp_path / "b", token="secret", token_host=host)
        fetch(elsewhere, tmp_path / "c", token="secret", token_host=host)
        assert len(other.requests) == 2
        assert all("Authorization" not in headers for _, headers in other.requests)


def test_waits_double_with_jitter_and_follow_retry_after(store, url, tmp_path):
    faults(store, "status 500", "status 500", "status 429 7", "status 503 9999")
    waits = Waits()
    fetch(url, tmp_path / "a", waits=waits, retries=4, backoff_s=1.0, max_backoff_s=20.0)
    first, second, third, fourth = waits.seconds
    assert 0.5 <= first <= 1.5 and 1 <= second <= 3 and third == 7 and fourth == 20
    again = Waits()
    faults(store, "status 500", "status 500")
    fetch(url, tmp_path / "b", waits=again, backoff_s=1.0)
    assert again.seconds == [first, second]  # the same seed


def test_a_stop_leaves_the_part_for_the_next_run(store, url, tmp_path):
    faults(store, "cut", "cut")
    stop = threading.Event()
    stop.set()
    transport = Transport(timeout_s=0.2)
    with pytest.raises(DownloadError) as caught:
        download(url, tmp_path / "a", transport, rng=np.random.default_rng(0), stop=stop)
    assert caught.value.reason == "interrupted"
    assert fetch(url, tmp_path / "a").bytes == len(DATA)


def test_a_folder_that_cannot_be_written_is_no_fault_of_the_file(store, url, tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        fetch(url, tmp_path / "missing" / "a")


def test_settings_out_of_range():
    for options in ({"timeout_s": 0}, {"total_timeout_s": -1}, {"retries": -1}, {"max_bytes": 0}):
        with pytest.raises(UsageError):
            Transport(**options)
