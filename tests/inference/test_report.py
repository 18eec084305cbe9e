from __future__ import annotations

from adapool_sr.inference.report import Report


def test_the_last_line_counts_and_names_the_slowest() -> None:
    report = Report(2, 1, 0, [("a.png", "is empty")], 1.0, 2.0, 3.5, 5.04)
    assert report.words() == (
        "2 done, 1 skipped, 1 failed in 5.0 s: "
        "decoding 1.0 s, network 2.0 s, encoding 3.5 s; slowest: encoding"
    )
    assert report.as_dict()["slowest"] == "encoding"


def test_the_exit_status_says_whether_a_file_failed() -> None:
    assert Report(done=3).exit_status == 0
    assert Report(skipped=3).exit_status == 0
    assert Report(done=3, failed=[("a", "b")]).exit_status == 3


def test_a_run_with_nothing_to_do_has_no_slowest_stage_to_tell() -> None:
    assert Report(skipped=2, resumed=1).words() == "0 done, 2 skipped, 1 done before in 0.0 s"


def test_pictures_that_were_large_enough_and_the_lowest_db_are_told() -> None:
    verified = [("a.png", 51.26), ("b.png", 33.0)]
    report = Report(done=2, larger=3, verified=verified, off=1)
    assert report.words().startswith("2 done, 3 skipped as large enough in")
    assert report.words().endswith(
        "; lowest 33.0 dB against its input: b.png, 1 of them off by more than 4 %"
    )
    fields = report.as_dict()
    assert (fields["skipped_larger"], fields["verified"], fields["off"]) == (3, 2, 1)
    assert report.exit_status == 0
