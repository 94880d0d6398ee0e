"""The page about answers works as printed."""

import json
import re
import shlex
from pathlib import Path

from genjax.__main__ import main
from genjax.store.opening import open_store

PAGE = (Path(__file__).parents[2] / "docs" / "rag.md").read_text(encoding="utf-8")


def test_the_chain_of_the_page_runs(tmp_path, monkeypatch, capsys):
    """A file is ingested, questions are answered from it, and a poisoned answer is found out."""
    monkeypatch.chdir(tmp_path)
    (text,) = re.findall(r"```markdown\n(.*?)```", PAGE, flags=re.DOTALL)
    Path("harbour.md").write_text(text, encoding="utf-8")
    commands = [line for line in PAGE.splitlines() if line.startswith("genjax ")]
    assert len(commands) == 6
    said = []
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0, command
        said.append(capsys.readouterr().out)
    assert said[1] == "harbour.md: 1 documents, 3 new chunks\n"
    assert re.match(r"“The lighthouse was built in 1871 by Ada Holm.” \[[0-9a-f-]{36}\]\n", said[3])
    found = json.loads(said[4])
    assert found["text"].startswith("“A ticket costs 4 crowns.”") and found["faults"] == []
    assert found["sources"][0]["headings"] == ["The harbour", "Ferries"]
    assert said[5] == "I don't know.\n"
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    scope: dict = {}
    exec(block, scope)
    assert scope["answer"].span == "19 miles" and scope["faults"] == {"altered quote": 1}
    with open_store("harbour.db") as store:
        assert store.count(kind="response", origin="synthetic") == 4
        assert store.count("name=citations value=1", kind="feedback") == 4
        assert store.count("predicate=cites", kind="relation") == 3
