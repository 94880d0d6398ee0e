"""Contacts of customers, some written down twice or three times with errors that FEBRL's generator
does not make: words swapped or abbreviated, a married name, digits misread, a moved household,
columns left empty. Who shares a household shares name, street and telephone.
"""

import numpy as np
import pyarrow as pa

SYLLABLES = [consonant + vowel for consonant in "bdfghklmnprst" for vowel in "aeio"]
MISREAD = str.maketrans("0158", "OlS3")


def make_contacts(count, seed=0):
    """(a table of ``count`` people and of a third of them once or twice more, who each row is)."""
    rng = np.random.default_rng(seed)

    def word(low, high):
        return "".join(rng.choice(SYLLABLES, rng.integers(low, high)))

    towns, surnames = ([word(2, 5).title() for _ in range(n)] for n in (60, count // 3))
    firsts = [word(2, 4).title() for _ in range(150)]
    streets = [f"{word(2, 4).title()} Street" for _ in range(count // 4)]
    people = []
    for number in range(count):
        first, last = firsts[rng.integers(150)], surnames[rng.integers(len(surnames))]
        person = {
            "name": f"{first} {last}",
            "mail": f"{first}.{last}{rng.integers(100)}@{word(2, 3)}.org".lower(),
            "phone": f"0{rng.integers(10**8, 10**9)}",
            "street": f"{rng.integers(1, 200)} {streets[rng.integers(len(streets))]}",
            "town": towns[rng.integers(60)],
            "born": f"{rng.integers(1930, 2005)}-{rng.integers(1, 13):02}-{rng.integers(1, 29):02}",
        }
        if number and rng.random() < 0.15:  # of the household of the one before
            before = people[-1]
            person |= {key: before[key] for key in ("phone", "street", "town")}
            person["name"] = f"{first} {before['name'].split()[-1]}"
        people.append(person)
    rows = [*people]
    known = [*range(count)]
    for number in rng.permutation(count)[: count // 3].tolist():
        for _ in range(rng.integers(1, 3)):
            rows.append(_spoil(people[number], rng, word))
            known.append(number)
    order = rng.permutation(len(rows))
    table = pa.Table.from_pylist([{"key": f"k{n}", **rows[i]} for n, i in enumerate(order)])
    return table, np.array(known)[order]


def _spoil(person, rng, word):
    row = dict(person)
    first, last = row["name"].split()
    for error in sorted(rng.choice(8, rng.integers(1, 4), replace=False)):
        if error == 0:
            row["name"] = f"{last}, {first}"
        elif error == 1:
            row["name"] = f"{first[0]}. {last}"
        elif error == 2:
            row["name"] = f"{first} {word(2, 4).title()}"
        elif error == 3:
            row["phone"] = row["phone"][:5].translate(MISREAD) + row["phone"][5:]
        elif error == 4:
            row |= {
                "street": f"{rng.integers(1, 200)} {word(2, 4).title()} Road",
                "town": word(2, 4),
            }
        elif error == 5:
            row["mail"] = None
        elif error == 6:
            year, month, day = row["born"].split("-")
            row["born"] = f"{year}-{day}-{month}" if int(day) < 13 else None
        else:
            row |= {"phone": None, "town": row["town"].upper()}
    return row
