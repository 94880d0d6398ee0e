import pytest

from genjax.errors import UserError
from genjax.prepare.stages.presidio import Presidio

pytest.importorskip(
    "presidio_analyzer", reason="Presidio is not installed: pip install 'genjax-train[anonymise]'"
)


def test_kinds_with_check_digits_are_found_and_wrong_ones_are_not(judged):
    texts = [
        "IBAN DE89370400440532013000.",
        "IBAN DE88370400440532013000.",
        "card 4111111111111111",
        None,
    ]
    table, reasons = judged(Presidio(("IBAN_CODE", "CREDIT_CARD")), text=texts)
    assert table["text"].to_pylist() == ["IBAN <IBAN_CODE>.", texts[1], "card <CREDIT_CARD>", None]
    assert reasons == [None] * 4


def test_of_two_that_overlap_the_surer_is_taken():
    assert (
        Presidio().anonymise_text("Write to bob@example.com or so.")
        == "Write to <EMAIL_ADDRESS> or so."
    )


def test_names_are_found_by_a_pipeline_of_spacy(tmp_path):
    import spacy

    pipeline = spacy.blank("en")
    pipeline.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Ada Lovelace"}])
    pipeline.to_disk(tmp_path / "names")
    stage = Presidio(("PERSON",), model=str(tmp_path / "names"))
    assert stage.anonymise_text("It was Ada Lovelace, 1843.") == "It was <PERSON>, 1843."
    assert "names by" in stage.remark and "no names" in Presidio().remark


def test_what_it_does_not_know_is_refused():
    import pyarrow as pa

    with pytest.raises(
        UserError, match="unknown kind of personal data 'IBAN'; did you mean 'IBAN_CODE'"
    ):
        Presidio(("IBAN",)).schema_after(pa.schema([("text", pa.large_string())]))
    with pytest.raises(UserError, match="spaCy cannot open no_such_model"):
        Presidio(model="no_such_model").anonymise_text("a")
    with pytest.raises(UserError, match="threshold must be from 0 to 1"):
        Presidio(threshold=2)
