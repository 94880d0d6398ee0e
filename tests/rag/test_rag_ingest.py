"""Files come into a store in chunks: exact places, once, and what is damaged is refused."""

import io
import itertools
import json
import random

import pypdf
import pytest

from genjax.__main__ import main
from genjax.errors import UserError
from genjax.rag.chunks import Cutting, open_tokens
from genjax.rag.documents import Source, read_file
from genjax.rag.ingest import ingest_file, ingest_sources, name_document
from genjax.rag.sections import Section, split_markdown
from genjax.rag.sentences import split_sentences
from genjax.store.maintenance import hash_store
from genjax.store.opening import open_store
from genjax.store.searching import make_entry

PIECES = (
    "word ",
    "a", ". ", "🙂", "👨‍👩‍👧", "日本語。", "\n\n", "é", "e\u0301", "x" * 40, " ", "B. ", "\n", "\t",
    "\u2028", "# H\n", "\n## Deep heading\n", "```\n", "Dr. ", "3. Mai ", "\xa0", "ﬃ", "A\n===\n",
)  # fmt: skip
PAGE = """<html><head><title>Cats &amp; dogs</title><script>steal()</script></head><body>
<!-- note --><h1>Animals</h1><p>A <b>c</b>at,<br>asleep &lt;here&gt;.</p><p hidden>ignore me</p>
<div style="display: none">ignore me too</div><noscript>no</noscript><ul><li>one<li>two</ul>
<h2>Dogs<script>bark()</script></h2><pre>a\n  b</pre><table><tr><td>x<td>y</table>&#0;</body>"""


@pytest.fixture(scope="module")
def tokens():
    return open_tokens()


@pytest.fixture
def store(tmp_path):
    with open_store(str(tmp_path / "store.db"), create=True, user="ann") as store:
        yield store


def write_pdf(*pages: str, password: str | None = None) -> bytes:
    """A PDF of a few lines, written by hand."""
    writer = pypdf.PdfWriter()
    for text in pages:
        page = writer.add_blank_page(300, 300)
        lines = "".join(f"({line}) Tj T* " for line in text.split("\n"))
        stream = pypdf.generic.StreamObject()
        stream.set_data(f"BT /F1 12 Tf 14 TL 20 250 Td {lines}ET".encode())
        font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
        names = pypdf.generic.NameObject
        made = pypdf.generic.DictionaryObject({names(k): names(v) for k, v in font.items()})
        fonts = pypdf.generic.DictionaryObject({names("/F1"): made})
        page[names("/Resources")] = pypdf.generic.DictionaryObject({names("/Font"): fonts})
        page[names("/Contents")] = writer._add_object(stream)
    if password is not None:
        writer.encrypt(password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def read_chunks(store):
    documents = {one.id: one for one in store.select(kind="document", origin="any")}
    chunks = list(store.select(kind="chunk", origin="any"))
    for chunk in chunks:
        assert documents[chunk.document].payload.text[chunk.start : chunk.end] == chunk.payload.text
    return chunks


@pytest.mark.parametrize("seed", range(40))
def test_chunks_are_exact_and_hold_all(seed, tokens):
    draw = random.Random(seed)
    text = "".join(draw.choice(PIECES) for _ in range(draw.randrange(1, 300)))
    sections = split_markdown(text)
    assert [s.start for s in sections] == [0, *(s.end for s in sections[:-1])]
    assert sections[-1].end == len(text)
    most = draw.randrange(8, 60)
    cutting = Cutting(most, draw.randrange(most // 2 + 1))
    cuts = cutting.cut(text, sections, tokens)
    held = {at for cut in cuts for at in range(cut.start, cut.end)}
    assert all(character.isspace() for at, character in enumerate(text) if at not in held)
    for cut in cuts:
        part = text[cut.start : cut.end]
        assert part and part == part.strip()
        # A chunk alone may have a token or two more than the same characters within the text.
        assert tokens.count(part) <= most + 2 or len(part) <= 3
        (section,) = [s for s in sections if s.start <= cut.start < s.end]
        assert cut.end <= section.end and cut.headings == section.headings


def test_chunks_overlap_and_end_with_sentences(tokens):
    text = " ".join(f"Sentence number {n} has some words in it." for n in range(100))
    cuts = Cutting(50, 15).cut(text, [Section(0, len(text), ())], tokens)
    assert len(cuts) > 10
    for before, after in itertools.pairwise(cuts):
        assert before.start < after.start < before.end < after.end
        assert text[before.end - 1] == "." and text[after.start :].startswith("Sentence")
        assert tokens.count(text[after.start : before.end]) <= 16
    alone = Cutting(50, 0).cut(text, [Section(0, len(text), ())], tokens)
    assert all(a.end < b.start for a, b in itertools.pairwise(alone))


def test_sentences_end_where_they_should():
    text = (
        "Mr. J. Smith came. Am 3. Mai kam Dr. Maier z. B. spät. “Why?” she said! 3.5 metres. "
        "日本。はい。"
    )
    found = [text[start:end] for start, end in split_sentences(text)]
    assert found == [
        "Mr. J. Smith came.",
        "Am 3. Mai kam Dr. Maier z. B. spät.",
        "“Why?” she said!",
        "3.5 metres.",
        "日本。",
        "はい。",
    ]


def test_headings_are_kept():
    text = (
        "intro\n# One\n```\n# code\n```\n## Two ##\nx\nThree\n=====\ny\n- item\n---\n#no heading\n"
    )
    found = [(s.headings, text[s.start : s.end].split("\n")[0]) for s in split_markdown(text)]
    assert found == [
        ((), "intro"),
        (("One",), "# One"),
        (("One", "Two"), "## Two ##"),
        (("Three",), "Three"),
    ]


def test_headings_are_searched_with_each_chunk(store, tokens):
    text = "# Lighthouses\n\n" + "Its lamp turns all night long. " * 20
    source = Source("n", "place", text, split_markdown(text))
    ingest_sources(store, [source], Cutting(30, 5), tokens)
    chunks = read_chunks(store)
    entries = [make_entry(chunk) for chunk in chunks]
    assert len(entries) > 3 and all("Lighthouses" in entry.text for entry in entries)
    assert sum("Lighthouses" in chunk.payload.text for chunk in chunks) == 1
    assert {entry.fields["metadata.headings"] for entry in entries} == {("Lighthouses",)}


def test_a_page_becomes_what_a_person_reads(tmp_path):
    (tmp_path / "page.html").write_text(PAGE, encoding="utf-8")
    (page,) = read_file(tmp_path / "page.html")
    assert page.name == "Cats & dogs"
    words = "Animals A cat, asleep <here>. one two Dogs a b x y \N{REPLACEMENT CHARACTER}"
    assert page.text.split() == words.split()
    assert "a\n  b" in page.text and "A cat,\nasleep" in page.text
    assert [(s.headings, page.text[s.start : s.end][:7]) for s in page.sections] == [
        (("Animals",), "Animals"),
        (("Animals", "Dogs"), "Dogs\n\na"),
    ]


def test_an_old_page_says_its_encoding(tmp_path):
    raw = '<meta charset="iso-8859-1"><p>Zürich café</p>'.encode("latin-1")
    (tmp_path / "old.html").write_bytes(raw)
    assert read_file(tmp_path / "old.html")[0].text == "Zürich café"


def test_a_deep_page_and_a_long_line_are_read(tmp_path, store, tokens):
    (tmp_path / "deep.html").write_text("<div>" * 3000 + "deep down" + "</div>" * 3000)
    assert read_file(tmp_path / "deep.html")[0].text == "deep down"
    (tmp_path / "long.txt").write_text("x" * 100_000 + " end")
    done = ingest_file(store, tmp_path / "long.txt", tokens=tokens)
    assert done.added == len(read_chunks(store)) > 50


def test_pdf_gives_its_text(tmp_path):
    (tmp_path / "two.pdf").write_bytes(
        write_pdf("A cat sleeps on the won-\nderful mat.", "Page two.")
    )
    (found,) = read_file(tmp_path / "two.pdf")
    assert found.text == "A cat sleeps on the wonderful mat.\n\nPage two."


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.txt", b""),
        ("blank.md", b" \n\t\n"),
        ("empty.jsonl", b""),
        ("blank.jsonl", b'{"text": " "}\n'),
        ("latin.txt", "Zürich".encode("latin-1")),
        ("binary.txt", bytes(range(256))),
        ("picture.txt", b"\x89PNG\r\n\x1a\n1234"),
        ("office.docx", b"PK\x03\x04rest"),
        ("named.txt", b"%PDF-1.4 text"),
        ("nul.html", b"<p>a\x01b</p>"),
        ("zip.html", b"PK\x03\x04rest"),
        ("broken.pdf", b"%PDF-1.4\n1 0 obj\n<<"),
        ("none.pdf", b"hello"),
        ("cut.pdf", write_pdf("A cat")[:300]),
        ("locked.pdf", write_pdf("A cat", password="secret")),
        ("scan.pdf", write_pdf("")),
        ("row.jsonl", b'{"text": 3}\n'),
        ("lacks.jsonl", b'{"title": "x"}\n'),
        ("list.jsonl", b"[1, 2]\n"),
        ("cut.jsonl", b'{"text": "a"}\n{"text": '),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(name, content, tmp_path, store, tokens):
    (tmp_path / name).write_bytes(content)
    before = hash_store(store)
    with pytest.raises(UserError) as error:
        ingest_file(store, tmp_path / name, tokens=tokens)
    assert name in str(error.value) and "\n" not in str(error.value)
    assert hash_store(store) == before


def test_other_encodings_can_be_named(tmp_path):
    (tmp_path / "latin.txt").write_bytes("Zürich\r\ncafé\r".encode("latin-1"))
    assert read_file(tmp_path / "latin.txt", encoding="latin-1")[0].text == "Zürich\ncafé\n"
    (tmp_path / "wide.txt").write_text("Zürich", encoding="utf-16")
    assert read_file(tmp_path / "wide.txt")[0].text == "Zürich"
    with pytest.raises(UserError) as error:
        read_file(tmp_path / "latin.txt", encoding="klingon")
    assert error.value.field == "encoding"


def test_the_same_file_adds_nothing_and_a_changed_one_replaces(tmp_path, store, tokens):
    path = tmp_path / "notes.md"
    text = "# Cats\n\nCats sleep.\n\n# Dogs\n\nDogs bark.\n\n# Birds\n\nBirds sing.\n"
    path.write_text(text)
    first = ingest_file(store, path, tokens=tokens)
    assert (first.documents, first.added, first.kept, first.removed) == (1, 3, 0, 0)
    before = hash_store(store)
    again = ingest_file(store, path, tokens=tokens)
    assert (again.added, again.kept, again.removed) == (0, 3, 0)
    assert hash_store(store) == before
    path.write_text(text.replace("bark", "howl"))  # of the same length: what follows stays
    changed = ingest_file(store, path, tokens=tokens)
    assert (changed.added, changed.kept, changed.removed) == (1, 2, 1)
    assert {c.payload.text for c in read_chunks(store)} >= {"# Dogs\n\nDogs howl."}
    history = store.history(name_document(str(path.resolve())))
    assert [one.action for one in history] == ["add", "update"]
    assert history[1].fields["text"] == [text, text.replace("bark", "howl")]
    path.write_text(text)  # and back: the hidden chunk is shown again
    back = ingest_file(store, path, tokens=tokens)
    assert (back.added, back.removed) == (1, 1) and hash_store(store) != before
    assert len(read_chunks(store)) == 3
    ingest_file(store, path, Cutting(8, 4), tokens)
    assert read_chunks(store) and all(len(c.payload.text) < 40 for c in read_chunks(store))


def test_rows_that_are_gone_are_hidden(tmp_path, store, tokens):
    path = tmp_path / "rows.jsonl"
    rows = [{"text": f"Row {n}.", "title": f"T{n}", "url": "u"} for n in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert ingest_file(store, path, tokens=tokens).added == 3
    names = [one.name for one in store.select(kind="document", order="source")]
    assert names == ["T0", "T1", "T2"]
    path.write_text(json.dumps(rows[0]) + "\n")
    done = ingest_file(store, path, tokens=tokens)
    assert (done.added, done.kept, done.removed) == (0, 1, 2)
    assert store.count(kind="document") == store.count(kind="chunk") == 1


def test_one_that_was_killed_is_continued(tmp_path, store, tokens, monkeypatch):
    """Stopped after each of its writes in turn, it leaves no chunk that is not in its document."""
    path = tmp_path / "notes.md"
    old, new = ("\n\n".join(f"# H{n}\n\nThe {w} {n}." for n in range(5)) for w in ("cat", "dogs"))
    path.write_text(old)
    ingest_file(store, path, tokens=tokens)
    path.write_text(new)
    for stop in ("delete", "update", "add_new"):
        with monkeypatch.context() as patch:

            def fail(self, *values, **options):
                raise KeyboardInterrupt

            patch.setattr(type(store), stop, fail)
            with pytest.raises(KeyboardInterrupt):
                ingest_file(store, path, tokens=tokens)
        read_chunks(store)
    ingest_file(store, path, tokens=tokens)
    assert "".join(c.payload.text for c in read_chunks(store)).count("dogs") == 5
    assert store.count("text:cat", kind="chunk") == 0


def test_an_origin_is_kept(store, tokens):
    source = Source("n", "place", "A text.", (Section(0, 7, ()),))
    ingest_sources(store, [source], tokens=tokens, origin="synthetic", generator="unknown")
    assert store.count(kind="chunk") == 0 and store.count(kind="chunk", origin="synthetic") == 1
    with pytest.raises(UserError) as error:
        ingest_sources(store, [source], tokens=tokens)
    assert error.value.field == "origin"


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("chunk_tokens", {"chunk_tokens": 7}),
        ("overlap", {"overlap": -1}),
        ("overlap", {"chunk_tokens": 100, "overlap": 51}),
    ],
)
def test_wrong_cuts_are_refused(field, options):
    with pytest.raises(UserError) as error:
        Cutting(**options)
    assert error.value.field == field and field in str(error.value)


def test_one_bad_file_does_not_keep_the_others_out(tmp_path, capsys):
    (tmp_path / "good.md").write_text("# Cats\n\nCats sleep.")
    (tmp_path / "bad.txt").write_bytes(b"\x00\x01")
    place = str(tmp_path / "s.db")
    main(["store", "init", place])
    files = [str(tmp_path / name) for name in ("bad.txt", "good.md", "none.md")]
    assert main(["store", "ingest", place, *files]) == 2
    said = capsys.readouterr()
    assert "good.md: 1 documents, 1 new chunks" in said.out
    assert [line.split(":")[0] for line in said.err.splitlines()] == ["genjax"] * 3
