import json
from dataclasses import replace

import pytest

from mv3d.core import records
from mv3d.core.errors import OutputError
from mv3d.core.files import sha256, to_json
from mv3d.core.outputs import Output
from mv3d.core.records import (
    RunRecord,
    RunStatus,
    read_document,
    read_record,
    refuse_other_algorithm,
    refuse_other_request,
    refuse_other_results,
    run_status,
    write_record,
)
from mv3d.core.version import __version__


def written(folder, **values):
    (folder / "mesh.glb").write_bytes(b"mesh")
    record = RunRecord.of(
        "recon",
        input="views",
        input_sha256="abc",
        details={"iou_mean": 0.9, "coverage": None},
        settings={"quality": "draft", "formats": ("glb",)},
        device="cpu",
        device_name="cpu",
        seconds={"hull": 1.5, "total": 1.5},
        peak_memory_bytes=10,
        outputs={"mesh.glb": sha256(folder / "mesh.glb")},
        **values,
    )
    write_record(folder / "recon.json", record)
    return record


def status(folder, quality="draft", digest="abc"):
    settings = {"quality": quality, "formats": ("glb",)}
    return run_status(folder / "recon.json", settings=settings, input_sha256=digest)


def test_a_record_comes_back_as_it_was_written(tmp_path):
    record = written(tmp_path)
    back = read_record(tmp_path / "recon.json")
    assert back == replace(record, settings={"quality": "draft", "formats": ["glb"]})
    document = json.loads((tmp_path / "recon.json").read_text())
    assert (
        document["versions"]["mv3d"] == __version__ and document["algorithm"] == records.ALGORITHMS["recon"]
    )
    assert document["iou_mean"] == 0.9 and document["coverage"] is None and "details" not in document
    assert back.document() == document


def test_fields_that_do_not_apply_are_not_written():
    assert RunRecord.of("eval run").document().keys() == {
        "schema",
        "command",
        "algorithm",
        "versions",
        "outputs",
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[" * 100_000,
        '{"schema": 2}',
        '{"schema": 1, "outputs": []}',
        '{"schema": 1, "algorithm": "1"}',
    ],
)
def test_what_is_no_record_is_none(tmp_path, text):
    assert read_record(tmp_path / "recon.json") is None
    (tmp_path / "recon.json").write_text(text)
    assert read_record(tmp_path / "recon.json") is None


def test_a_document_of_another_kind_needs_the_schema_alone(tmp_path):
    (tmp_path / "a.json").write_text('{"schema": 1, "outputs": 3}')
    assert read_document(tmp_path / "a.json") == {"schema": 1, "outputs": 3}


def test_a_run_is_done_or_says_why_not(tmp_path):
    assert status(tmp_path) is RunStatus.ABSENT
    written(tmp_path)
    assert status(tmp_path) is RunStatus.DONE
    assert status(tmp_path, quality="high") is RunStatus.OTHER_REQUEST
    assert status(tmp_path, digest="other") is RunStatus.OTHER_REQUEST
    (tmp_path / "mesh.glb").write_bytes(b"edited")
    assert status(tmp_path) is RunStatus.OTHER_REQUEST
    (tmp_path / "mesh.glb").unlink()
    assert status(tmp_path) is RunStatus.OTHER_REQUEST


def test_a_result_of_another_algorithm_is_not_done(tmp_path, monkeypatch):
    written(tmp_path)
    refuse_other_algorithm(tmp_path / "recon.json")
    now = records.ALGORITHMS["recon"]
    monkeypatch.setitem(records.ALGORITHMS, "recon", now + 1)
    assert status(tmp_path) is RunStatus.OTHER_ALGORITHM
    assert status(tmp_path, quality="high") is RunStatus.OTHER_REQUEST
    said = rf"mv3d {__version__} \(algorithm version {now} of recon, now {now + 1}\); use --overwrite"
    with pytest.raises(OutputError, match=said):
        refuse_other_results(tmp_path / "recon.json", ["mesh.glb"])
    with pytest.raises(OutputError, match=said):
        refuse_other_algorithm(tmp_path / "recon.json")


def test_a_record_from_before_the_algorithms_counts_as_the_first(tmp_path, monkeypatch):
    record = written(tmp_path).document()
    monkeypatch.setitem(records.ALGORITHMS, "recon", 1)
    del record["algorithm"], record["versions"]["mv3d"], record["device_name"]
    (tmp_path / "recon.json").write_text(to_json(record))
    assert status(tmp_path) is RunStatus.DONE
    monkeypatch.setitem(records.ALGORITHMS, "recon", 2)
    assert status(tmp_path) is RunStatus.OTHER_ALGORITHM


def test_an_early_record_of_training_had_arguments_as_its_command(tmp_path):
    (tmp_path / "run.json").write_text('{"schema": 1, "command": ["mv3d", "train"], "report": {}}')
    record = read_record(tmp_path / "run.json")
    assert record is not None and record.command == "train" and record.details == {"report": {}}


def test_other_results_are_refused_by_name(tmp_path):
    refuse_other_results(tmp_path / "recon.json", ["mesh.glb", "recon.json"])
    written(tmp_path)
    with pytest.raises(OutputError, match=r"holds mesh\.glb, recon\.json of another run"):
        refuse_other_results(tmp_path / "recon.json", ["mesh.glb", "recon.json", "mesh.obj"])


def test_what_tells_two_runs_apart_is_said(tmp_path):
    written(tmp_path)
    asked = {"quality": "standard", "formats": ["glb", "ply"], "later": True}
    said = r"another run \(another input; quality: draft there, standard now; formats: another\); use --overwrite"
    with pytest.raises(OutputError, match=said):
        refuse_other_results(tmp_path / "recon.json", ["mesh.glb"], settings=asked, input_sha256="abd")
    with pytest.raises(
        OutputError, match=r"holds mesh\.glb, recon\.json .*quality: draft there, default now"
    ):
        refuse_other_request(tmp_path / "recon.json", {"quality": None})
    # Nothing to tell: the same settings, one that the record does not have, no record.
    refuse_other_request(tmp_path / "recon.json", {"quality": "draft", "later": True}, "abc")
    refuse_other_request(tmp_path / "run.json", asked)


def test_a_file_of_another_command_is_named_with_it(tmp_path):
    for name, command in (("recon.json", "recon"), ("run.json", "lift")):
        output = Output(tmp_path, name, (f"{command}.glb",))
        with output.opened() as staged:
            (staged / f"{command}.glb").write_bytes(b"x")
            output.publish(staged, RunRecord.of(command))
    with pytest.raises(OutputError, match=r"holds recon.glb, .*made by mv3d recon, which no record"):
        Output(tmp_path, "run.json", ("recon.glb",), overwrite=True).refuse_foreign()
