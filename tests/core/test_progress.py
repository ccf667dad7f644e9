from mv3d.core.progress import Clock


def test_a_clock_adds_up_stages_and_passes_progress_on():
    told = []
    clock = Clock(lambda stage, share: told.append((stage, share)), {"load": 1.0})
    for _ in range(2):
        with clock.stage("hull") as on_progress:
            on_progress(0.5)
    assert told == [("hull", 0.0), ("hull", 0.5), ("hull", 1.0)] * 2
    assert clock.seconds.keys() == {"load", "hull"} and clock.with_total()["total"] >= 1.0


def test_a_clock_without_listener_only_measures():
    clock = Clock()
    with clock.stage("hull") as on_progress:
        on_progress(0.5)
    assert clock.with_total().keys() == {"hull", "total"}
