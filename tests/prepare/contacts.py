"""Contacts of customers, some written down twice or three times with errors that FEBRL's generator
does not make: words swapped or abbreviated, a married name, digits misread, a moved household,
columns left empty. Who shares a household shares name, street and telephone.

And firms, whose names, addresses, numbers and people are written in other ways.
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


FORMS = {"Ltd": "Limited", "Inc": "Incorporated", "GmbH": "G.m.b.H.", "SA": "S.A.", "LLC": "L.L.C."}
TRADES = ["Foods", "Systems", "Logistics", "Partners", "Design", "Motors", "Press", "Energy"]


def make_firms(count, seed=0):
    """(a table of ``count`` firms and of half of them once more, which firm each row is)."""
    rng = np.random.default_rng(seed)

    def word(low, high):
        return "".join(rng.choice(SYLLABLES, rng.integers(low, high))).title()

    cities, streets = [word(2, 4) for _ in range(40)], [word(2, 4) for _ in range(150)]
    rows = []
    for _ in range(count):
        name = word(2, 4)
        firm = {
            "company": f"{name} {rng.choice(TRADES)} {rng.choice([*FORMS])}",
            "web": f"www.{name.lower()}{rng.integers(10)}.com",
            "vat": f"{rng.integers(10**7, 10**8)}",
            "address": f"{rng.choice(streets)} Ave {rng.integers(1, 99)}",
            "city": str(rng.choice(cities)),
            "zip": f"{rng.integers(10000, 10400)}",
            "contact": f"{word(2, 3)} {word(2, 4)}",
            "revenue": f"{rng.lognormal(3, 1):.2f}",
        }
        rows.append(firm)
    twice = rng.permutation(count)[: count // 2].tolist()
    rows += [_rewrite(rows[number], rng, word) for number in twice]
    order = rng.permutation(len(rows))
    table = pa.Table.from_pylist([{"key": f"x{n}", **rows[i]} for n, i in enumerate(order)])
    return table, np.array([*range(count), *twice])[order]


def _rewrite(firm, rng, word):
    row = dict(firm)
    name, trade, form = firm["company"].split()
    street, _, number = firm["address"].split()
    place = rng.integers(1, len(name))
    changes = [
        {"company": f"{name} {trade} {FORMS[form]}"},
        {"company": f"{name} {trade}".upper()},
        {"company": f"{name[:place]}x{name[place + 1 :]} {trade} {form}"},
        {"web": None},
        {"vat": firm["vat"][1] + firm["vat"][0] + firm["vat"][2:]},
        {"vat": None, "zip": None},
        {"address": f"{number} {street} Avenue"},
        {"contact": f"{word(2, 3)} {word(2, 4)}"},
        {"revenue": f"{float(firm['revenue']) * rng.uniform(0.8, 1.3):.2f}", "city": word(1, 2)},
    ]
    for which in rng.choice(len(changes), rng.integers(1, 4), replace=False):
        row |= changes[which]
    return row
