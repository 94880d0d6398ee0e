"""The record of the tests that take hours says what a report of pytest's says."""

from benchmarks.checked import results_of

REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="test_whole" time="61.5"/>
<testcase classname="tests.test_a" name="test_broken" time="2"><failure>no</failure></testcase>
<testcase classname="tests.test_a" name="test_elsewhere" time="0"><skipped/></testcase>
</testsuite></testsuites>"""


def test_each_test_has_its_result_and_its_seconds(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(REPORT, encoding="utf-8")
    assert results_of(report) == {
        "tests.test_a::test_whole": {"result": "passed", "seconds": 61.5},
        "tests.test_a::test_broken": {"result": "failure", "seconds": 2.0},
        "tests.test_a::test_elsewhere": {"result": "skipped", "seconds": 0.0},
    }
