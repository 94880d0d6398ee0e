"""Personal data that is planted in texts: names, addresses and numbers with valid check digits."""

import itertools
import random
import string

FIRST = (
    *("James", "Mary", "Robert", "Linda", "David", "Susan", "Wei", "Priya", "Mohammed", "Fatima"),
    *("Carlos", "Ana", "Hans", "Ingrid", "Yuki", "Olga", "Kwame", "Aisha", "Pierre", "Chloe"),
)
LAST = (
    *(
        "Smith",
        "Johnson",
        "Brown",
        "Miller",
        "Garcia",
        "Chen",
        "Patel",
        "Khan",
        "Müller",
        "Schmidt",
    ),
    *(
        "Tanaka",
        "Ivanova",
        "Mensah",
        "Dubois",
        "Rossi",
        "O'Brien",
        "Nguyen",
        "Kim",
        "Silva",
        "Novak",
    ),
)
COUNTRIES = {"DE": 18, "GB": 18, "FR": 23, "NL": 14, "ES": 20, "CH": 17}  # digits after the check
SENTENCES = (
    "Please contact {} before Friday.",
    "The order was placed by {} last week, and it has not arrived.",
    "I spoke with {} about the broken heater in the kitchen.",
    "According to {}, the meeting starts at nine.",
    "My details are: {}. Thank you for your help!",
    "We have {} on file; is that still right?",
)
ORDINARY = (
    "The heater in the kitchen has been broken since last week.",
    "Version 2.11.4 fixes the crash, see section 3.1.2 of the manual.",
    "The model has 124,439,808 parameters and was trained on 9,035,582,198 tokens.",
    "On 2024-03-05 at 12:30:45 the temperature fell to -3.5 degrees.",
    "Add 250 g of flour, 3 eggs and 0.5 litres of milk, then bake for 45 minutes.",
    "The invoice of 1,250.00 euros is due in 30 days.",
    "In 1969 two people walked on the moon for 2.5 hours.",
    "def f(x): return x[1:10] + [3.14159, 2.71828]",
    "ISBN 978-3-16-148410-0 is out of print.",
    "What is the capital of the country that borders the sea on three sides?",
    "Chapter 12, pages 100-120, explains why gradients vanish.",
    "He said that it would rain, and it rained for 40 days and 40 nights.",
    "The learning rate was 0.0003 with 2,000 steps of warm-up.",
    "A list of things: apples, pears, plums and 12 oranges.",
    "The train at 10:45 from platform 7 is 15 minutes late.",
)


def make_planted(count=210, seed=3):
    """Return for each kind ``count`` different values."""
    draw = random.Random(seed)
    names = [f"{a} {b}" for a, b in itertools.product(FIRST, LAST)]
    draw.shuffle(names)
    mails = [
        f"{a.lower()}.{b.lower().replace('ü', 'ue').replace(chr(39), '')}{i}@{host}"
        for i, ((a, b), host) in enumerate(
            zip(
                itertools.product(FIRST, LAST),
                itertools.cycle(("example.org", "mail.example.co.uk", "web.de", "post-box.info")),
                strict=False,
            )
        )
    ]
    return {
        "name": names[:count],
        "email": mails[:count],
        "phone": [_make_phone(draw, i) for i in range(count)],
        "card": [_make_card(draw, i) for i in range(count)],
        "iban": [_make_iban(draw, i) for i in range(count)],
        "ip": [_make_ip(draw, i) for i in range(count)],
    }


def _digits(draw, count):
    return "".join(draw.choices(string.digits, k=count))


def _make_phone(draw, number):
    form = (
        "+49 {a} {b}{c}",
        "+1 ({a}) {b}-{c}",
        "0{a} / {b} {c}",
        "({a}) {b}-{c}",
        "+44{a}{b}{c}",
        "0{a}-{b}{c}",
        "+1-{a}-{b}-{c}",
    )[number % 7]
    a = str(draw.randrange(200, 999))
    return form.format(a=a, b=str(draw.randrange(200, 999)), c=_digits(draw, 4))


def _make_card(draw, number):
    head = ("4", "51", "55", "2221", "6011")[number % 5] if number % 6 else "34"
    body = head + _digits(draw, (15 if head == "34" else 16) - 1 - len(head))
    total = sum(
        d if i % 2 else (2 * d - 9 if d > 4 else 2 * d) for i, d in enumerate(map(int, body[::-1]))
    )
    whole = body + str(-total % 10)
    groups = [whole[i : i + 4] for i in range(0, len(whole), 4)]
    return (whole, " ".join(groups), "-".join(groups))[number % 3]


def _make_iban(draw, number):
    country = list(COUNTRIES)[number % len(COUNTRIES)]
    body = _digits(draw, COUNTRIES[country])
    if country in ("GB", "NL"):
        body = "".join(draw.choices(string.ascii_uppercase, k=4)) + body[: COUNTRIES[country] - 4]
    turned = "".join(str(int(c, 36)) for c in f"{body}{country}00")
    code = f"{country}{98 - int(turned) % 97:02d}{body}"
    return code if number % 2 else " ".join(code[i : i + 4] for i in range(0, len(code), 4))


def _make_ip(draw, number):
    if number % 4:
        return ".".join(str(draw.randrange(1, 255)) for _ in range(4))
    return "2001:db8:" + ":".join(f"{draw.randrange(4096, 65536):x}" for _ in range(6))


def plant_in(value, number):
    """Return a sentence with a value in it."""
    return SENTENCES[number % len(SENTENCES)].format(value)
