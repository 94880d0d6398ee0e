"""Pairs of tables: wide rows by hand, files that come back, and relations that are scored."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest

from genjax import gx, parallel
from genjax.config_files import to_json
from genjax.data.tables.pairs import draw_customers
from genjax.data.tables.related import RelatedCodec, widen
from genjax.errors import UserError
from genjax.evaluation.judge import Model
from genjax.evaluation.tables.relations import (
    TabularRelations,
    measure_dependence,
    measure_siblings,
    shuffle_children,
)
from genjax.parallel import Devices
from genjax.serial.stored import from_json
from tests.evaluation.tables import FAMILY, vectors
from tests.evaluation.test_bias import Planted

PARENTS = "id,city\na,Rome\nb,Oslo\nc,Rome\nd,Oslo\ne,Rome\n"
CHILDREN = "id,toy,price\nc,ball,3\na,kite,2.5\nc,kite,\nd,ball,4\nc,ball,5\ne,kite,1\nb,ball,2\n"


def write(folder, parents=PARENTS, children=CHILDREN, **fields):
    (folder / "parents.csv").write_text(parents)
    (folder / "children.csv").write_text(children)
    fields = {"most": 3, "test_fraction": 0} | fields
    return gx.RelatedTables("parents.csv", "children.csv", "id", root=str(folder), **fields)


def test_children_follow_their_parent_in_the_order_of_the_file(tmp_path):
    data = write(tmp_path).open()
    batch = data.splits["train"].batch(np.arange(5))
    columns = data.codec.decode_columns(batch["numeric"], batch["categorical"])
    assert columns["city"].tolist() == ["Rome", "Oslo", "Rome", "Oslo", "Rome"]
    assert columns["children"].tolist() == ["1", "1", "3", "1", "1"]
    assert columns["toy 1"].tolist() == ["kite", "ball", "ball", "ball", "kite"]
    assert columns["toy 3"].tolist() == [None, None, "ball", None, None]
    np.testing.assert_allclose(columns["price 1"], [2.5, 2, 3, 4, 1], rtol=1e-6)
    assert np.isnan(columns["price 2"]).all() and columns["price 3"][2] == 5
    assert data.codec.lacking == ("price",) and data.codec.parent_columns == ("city",)
    assert from_json(json.loads(json.dumps(to_json(data.codec)))) == data.codec


def test_both_files_come_back_with_keys_that_match(tmp_path):
    data = write(tmp_path).open()
    batch = data.splits["train"].batch(np.arange(5))
    columns = data.codec.decode_columns(batch["numeric"], batch["categorical"])
    path = data.codec.write(vectors(columns, data.codec), tmp_path / "drawn")
    found = [
        [tuple(row.values()) for row in csv.DictReader(file.open())]
        for file in (path, tmp_path / "drawn_children.csv")
    ]
    assert found[0] == [("1", "Rome"), ("2", "Oslo"), ("3", "Rome"), ("4", "Oslo"), ("5", "Rome")]
    assert found[1] == [
        ("1", "kite", "2.5"),
        ("2", "ball", "2.0"),
        ("3", "ball", "3.0"),
        ("3", "kite", ""),
        ("3", "ball", "5.0"),
        ("4", "ball", "4.0"),
        ("5", "kite", "1.0"),
    ]


def test_a_child_that_lacks_what_all_children_have_is_drawn_again(tmp_path):
    data = write(tmp_path).open()
    batch = data.splits["train"].batch(np.arange(5))
    columns = data.codec.decode_columns(batch["numeric"], batch["categorical"])
    columns["toy 1"][1] = None  # there is a child, and every child has a toy
    columns["price 1"][2] = np.nan  # which may be missing
    columns["toy 3"][4] = "ball"  # of a child that is not there
    np.testing.assert_array_equal(
        data.codec.accept(vectors(columns, data.codec)), [True, False, True, True, True]
    )


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"children": CHILDREN + "x,ball,1\n"}, "key"),
        ({"children": CHILDREN + ",ball,1\n"}, "key"),
        ({"parents": PARENTS + "a,Oslo\n"}, "key"),
        ({"most": 2}, "most"),
        ({"count": "city"}, "count"),
        ({"most": 0}, "most"),
        ({"test_fraction": 1.0}, "test_fraction"),
    ],
)
def test_what_is_no_pair_is_refused(tmp_path, changes, field):
    with pytest.raises(UserError) as refused:
        write(tmp_path, **changes).open()
    assert refused.value.field == field


def test_customers_order_as_is_written():
    customers, orders, owner = draw_customers(40_000, 5, 0)
    number, plus = np.bincount(owner, minlength=40_000), customers["plan"] == "plus"
    poisson = np.exp(-1) / np.array([1, 1, 2, 6, 24])  # of 0 to 4 with mean 1; 5 is the most
    expected = 5 - ((5 - np.arange(5)) * poisson).sum()
    np.testing.assert_allclose(number[~plus].mean(), expected, atol=0.02)
    log = np.log(orders["amount"])
    np.testing.assert_allclose(log[plus[owner]].mean() - log[~plus[owner]].mean(), 0.5, atol=0.02)
    two = number >= 2
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    a, b = (log[first[two[owner[first]]] + i] - 0.5 * plus[two] for i in (0, 1))
    np.testing.assert_allclose(np.corrcoef(a, b)[0, 1], 0.64, atol=0.02)


@pytest.fixture(scope="module")
def pair():
    data = gx.Customers(3000, test_fraction=0.4).open()
    batch = data.splits["train"].batch(np.arange(len(data.splits["train"])))
    columns = data.codec.decode_columns(batch["numeric"], batch["categorical"])
    return data, columns


def score(data, samples):
    layout = parallel.start(Devices(count=1))
    model = Model(FAMILY, None, data.spec, data.codec, "planted")
    drawn = vectors(samples, data.codec)
    subject = Planted(model, data.splits, "test", jax.random.key(0), layout, 16, drawn=drawn)
    return TabularRelations(len(drawn))(subject)


def test_real_rows_score_as_chance_and_shuffled_ones_as_no_relation(pair):
    data, columns = pair
    numbers = score(data, columns).numbers
    assert numbers["orphans"] == 0
    for name in ("cardinality_distance", "dependence_difference", "sibling_difference"):
        assert numbers[name] == numbers[f"{name}_train"] < 0.05
    mixed = shuffle_children(data.codec, columns)
    worse = score(data, mixed).numbers
    assert worse["cardinality_distance"] == numbers["cardinality_distance"]
    for name in ("dependence_difference", "sibling_difference"):
        assert worse[name] == numbers[f"{name}_shuffled"] > 3 * numbers[name]


def test_associations_are_those_of_the_equations(pair):
    data, columns = pair
    siblings = measure_siblings(data.codec, columns)["amount", "amount"]
    dependence = measure_dependence(data.codec, columns)
    assert 0.5 < siblings < 0.8 and dependence["plan", "amount"] > 0.3
    assert dependence["plan", "orders"] > 0.4 and abs(dependence["region", "orders"]) < 0.1


def test_shuffled_children_are_the_same_children(pair):
    data, columns = pair
    before, after = (
        data.codec.split(rows)[1] for rows in (columns, shuffle_children(data.codec, columns))
    )
    assert sorted(before["amount"]) == sorted(after["amount"])
    pairs = [sorted(zip(rows["amount"], rows["item"], strict=True)) for rows in (before, after)]
    assert pairs[0] == pairs[1]  # cells of one child stay together


def test_other_tables_are_refused(pair):
    data = pair[0]
    plain = dataclasses.replace(data, codec=gx.EmbeddedTable("iris").open().codec)
    with pytest.raises(UserError):
        layout = parallel.start(Devices(count=1))
        model = Model(FAMILY, None, data.spec, plain.codec, "planted")
        TabularRelations(10)(
            Planted(model, data.splits, "test", jax.random.key(0), layout, 16, drawn=None)
        )
    assert isinstance(data.codec, RelatedCodec)
    with pytest.raises(UserError):
        gx.Customers(100).open_as(plain.spec, plain.codec)


def test_wide_rows_hold_each_child_once():
    pair = draw_customers(50, 5, 1)
    wide = widen(pair, "orders", 5)
    amounts = np.concatenate([wide[f"amount {i}"] for i in range(1, 6)])
    assert sorted(amounts[~np.isnan(amounts)]) == sorted(pair.children["amount"])
