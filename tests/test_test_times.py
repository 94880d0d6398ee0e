"""The list of long tests: read from a report, with a quick test left in each file."""

from benchmarks.test_times import choose_long, read_times

REPORT = """<testsuites><testsuite>
<testcase classname="tests.a.test_x" name="test_one[1.5-b]" time="2.5"/>
<testcase classname="tests.a.test_x" name="test_two" time="0.5"/>
<testcase classname="tests.test_y" name="test_three" time="9"><failure message="no"/></testcase>
<testcase classname="tests.test_y" name="test_four" time="0"><skipped message="no"/></testcase>
</testsuite></testsuites>"""


def test_times_are_by_node_id_without_what_was_skipped(tmp_path):
    (tmp_path / "report.xml").write_text(REPORT, encoding="utf-8")
    assert read_times(tmp_path / "report.xml") == {
        "tests/a/test_x.py::test_one[1.5-b]": 2.5,
        "tests/a/test_x.py::test_two": 0.5,
        "tests/test_y.py::test_three": 9.0,
    }


def test_each_file_keeps_its_quickest_test():
    kept = {"b.py::test_the_tiny_form_trains_samples[vae_digits]": 9.0}
    times = kept | {"a.py::one": 3.0, "a.py::two": 2.0, "a.py::three": 0.1, "b.py::one": 5.0}
    assert choose_long(times, {"c.py::one", "a.py::three"}, 1.5) == [
        "a.py::one",
        "a.py::two",
        "c.py::one",
    ]
