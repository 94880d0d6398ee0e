"""Columns of numbers as people write them are numbers."""

import numpy as np
import pytest

from genjax.data.sources import Table
from genjax.data.tables.units import read_numbers

READ = [
    (["12 kg", "1.5 kg", None, "-3 kg"], ["12", "1.5", None, "-3"], "kg"),
    (["1,234.5", "3", "-1,000,000"], ["1234.5", "3", "-1000000"], ""),
    (["$3", "$4.50", "-$2", "$1,200"], ["3", "4.50", "-2", "1200"], "$"),
    (["45%", "3.5 %"], ["45", "3.5"], "%"),
    (["(3.50)", "2"], ["-3.50", "2"], ""),
    (["1.234,5", "2"], ["1234.5", "2"], ""),
    (["12,5", "3,25"], ["12.5", "3.25"], ""),
    (["1.234.567", "-2.345.678"], ["1234567", "-2345678"], ""),
    (["1 234", "5\u202f678\u202f901"], ["1234", "5678901"], ""),
    (["EUR 5", "EUR 6"], ["5", "6"], "EUR"),
    (["1 year", "2 years"], ["1", "2"], "year"),
    (["20 °C", "-3 °C"], ["20", "-3"], "°C"),
    (["3,00 €", "1.234,50 €"], ["3.00", "1234.50"], "€"),
    ([f"{n}kg" for n in range(30)], [str(n) for n in range(30)], "kg"),
]
LEFT = [
    ["1", "2.5"],
    ["12 kg", "3 lb"],
    ["4WD", "2WD"],
    ["012", "3,000"],
    ["1.234,5", "1,234.5"],
    ["12 kg", "heavy"],
    ["12:30", "11:20"],
    ["1/2", "3/4"],
    ["3-4", "5-6"],
    ["2023-01-02", "2023-01-03"],
    ["192.168.1.1", "10.0.0.1"],
    ["+-3 kg"],
    ["(3", "4)"],
    ["kg", "%"],
    [None],
]


@pytest.mark.parametrize(("cells", "numbers", "unit"), READ, ids=[str(r[0][0]) for r in READ])
def test_a_column_written_in_one_way_is_read(cells, numbers, unit):
    assert read_numbers(cells) == (numbers, unit)


@pytest.mark.parametrize("cells", LEFT, ids=[str(cells[0]) for cells in LEFT])
def test_any_other_column_is_left_as_it_is(cells):
    assert read_numbers(cells) is None


def test_a_table_says_what_it_reads_as_numbers(tmp_path, capsys):
    rows = "".join(f'{n},"{n}.50 kg","${n},000","{n % 3} star"\n' for n in range(1, 31))
    (tmp_path / "t.csv").write_text("n,weight,price,stars\n" + rows)
    source = Table(str(tmp_path / "t.csv"), test_fraction=0, modes=1)
    data = source.open()
    assert [code.name for code in data.codec.numbers] == ["n", "weight", "price", "stars"]
    batch = data.splits["train"].batch(np.arange(30))
    back = data.codec.decode_columns(batch["numeric"], batch["categorical"])
    np.testing.assert_allclose(back["weight"], np.arange(1, 31) + 0.5, rtol=1e-5)
    np.testing.assert_allclose(back["price"], 1000 * np.arange(1, 31), rtol=1e-5)
    told = "t.csv: column 'weight' holds numbers with the unit 'kg', such as '1.50 kg'"
    assert told in capsys.readouterr().err
    kept = Table(str(tmp_path / "t.csv"), test_fraction=0, modes=1, categorical=("stars",)).open()
    assert [code.name for code in kept.codec.numbers] == ["n", "weight", "price"]
