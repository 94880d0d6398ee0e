import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from genjax.config_files import build_config
from genjax.errors import UserError
from genjax.prepare import reading
from genjax.prepare import run as preparing
from genjax.prepare.matching.components import measure_agreement
from genjax.prepare.people import COLUMNS, GeneratedPeople
from genjax.prepare.tfds_images import TfdsImages


def test_people_are_the_same_each_time_and_slips_change_little():
    reader = GeneratedPeople(50, 20, seed=3)
    plan, schema = reading.plan_reading([reader])
    assert tuple(schema.names) == ("id", "source", *COLUMNS)
    found = [record.values for record in reader.read(plan[0][1], "people")]
    assert (
        found == [record.values for record in reader.read(plan[0][1], "people")]
        and len(found) == 70
    )
    changed = [
        sum(found[n][name] != again[name] for name in COLUMNS[1:])
        for n, again in enumerate(found[50:])
    ]
    assert min(changed) >= 0 and max(changed) == 3
    assert [again["rec_id"] for again in found[50:52]] == ["rec-0-dup-0", "rec-1-dup-0"]
    with pytest.raises(UserError, match="count must be at least 6"):
        GeneratedPeople(5, 6)


def test_the_preparation_finds_who_is_one_without_the_truth(tmp_path):
    preparing.prepare(build_config("prepare_people", tiny=True)[0], "people", tmp_path, say=str)
    rows = [
        (row["rec_id"], row["id"] if row["reason"] is None else row["reason"].split(": of ")[1])
        for part in ("kept", "dropped")
        for path in (tmp_path / "stages" / "02_Linked" / part).glob("*")
        for row in pq.read_table(path).to_pylist()
    ]
    known = [re.match(r"rec-\d+", name)[0] for name, _ in rows]
    assert len(rows) == 500
    assert measure_agreement([one for _, one in rows], known).f1 >= 0.97


def test_images_of_tensorflow_datasets_are_records(tmp_path):
    reader = TfdsImages("cifar10_first4k")
    try:
        plan, schema = reading.plan_reading([reader])
    except UserError as error:
        pytest.skip(str(error))
    assert schema.names == ["id", "source", "image", "label", "part"]
    files = plan[0][1]
    first = [
        record for record, _ in zip(reader.read(files, files.paths[0]), range(10), strict=False)
    ]
    names = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    assert all(
        record.values["label"] in names and record.values["part"] == "train" for record in first
    )
    assert len({record.values["image"] for record in first}) == 10
    assert np.unique([record.place for record in first]).tolist() == [f"{n:09d}" for n in range(10)]
