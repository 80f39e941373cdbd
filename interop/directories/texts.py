"""What every directory is run on: ordinary texts, and those that break tokenizers."""

# ruff: noqa: RUF001 (letters of many scripts, which look alike)

from __future__ import annotations

LONG = "In the old town there was a small shop, and in the shop there was a cat that sat all day. "

TEXTS: tuple[str, ...] = (
    "The cat sat on the mat.",
    "No",
    # Cut on either side, these keep other words.
    LONG * 3 + "At last the dog came home.",
    "cat " * 100,
    "word " * 30 + "東京" * 40,
    # Spaces and control characters.
    "  The  cat   sat \t on\n\nthe\r\nmat.  ",
    "The\u00a0cat\u2003sat\u3000on\u2028the\u200bmat\ufeff.",
    "cat\x00dog\x01\x1f\x7f\x85 mat",
    "the cat\u00adsat on\u2060the mat \ufffd",
    # One character, many code points.
    "👩\u200d👩\u200d👧 ❤\ufe0f ☃ 👍🏽 🇩🇪 sat",
    "Where is the cafe\u0301 of Zoe\u0308? A\u030angstro\u0308m",
    "Where is the café of Zoë? Ångström",
    "ﬁnd the oﬃce, Ⅷ ½ ℡ ｆｕｌｌ ｗｉｄｔｈ １２３",
    "STRASSE straße İstanbul ISTANBUL ıssız ΌΣΟΣ ǅ",
    # Scripts.
    "我爱北京天安门，東京タワーへ行きました。",
    "ฉันรักแมว हिन्दी में बिल्ली தமிழ்",
    "שלום the cat \u202bمرحبا بالعالم\u202c sat",
    "𝕳𝖊𝖑𝖑𝖔 𠀀𠮷 𐍈",
    # The names of special tokens.
    "The [SEP] cat [CLS] sat [MASK] on [PAD] the [UNK] mat",
    "The </s> cat <s> sat <mask> on <pad> the <unk> mat",
    "the <mask>s [MASK]ed<mask> cat [MASK] .[MASK]",
    "<cls> cat <eos> sat <null_1> ▁the ▁ cat",
    "[sep] [cls] </S> <MASK> [PAD]",
    # Marks.
    "https://example.org/a_b?c=d&e=%20f#g user@mail.com C++ 3.14 $5,000 don't it's",
    "!!!!!! ...... ???? ----- ``quoted'' (\"the\")",
    "a,b;c:d.e-f_g/h\\i|j",
    "THE CAT SAT ON THE MAT",
    "##ing ##s Ġthe Ċ @@",
    "catcatcatcatcatcatcatcatcatcatcatcatcatcatcatcatcatcatcatcatcatcatcatcatcatcat" * 3,
)

PAIRS: tuple[tuple[str, str], ...] = (
    ("Where is the cat?", "On the mat."),
    ("No", LONG * 3 + "At last the dog came home."),
    (LONG * 3 + "At last the dog came home.", "No"),
    (LONG * 2 + "What did the dog do?", LONG * 3 + "At last the dog came home."),
    ("Where [SEP] is </s> the <pad> cat?", "On <mask> the [PAD] mat [MASK]."),
    ("café Zoë 我爱", "👩\u200d👩\u200d👧 STRASSE"),
    ("  Where is\tthe cat? ", "\u200bOn the\nmat.\x00"),
)

PROTEINS: tuple[str, ...] = (
    "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAE",
    "M<mask>TA<mask>YI AKQ<eos>R<pad>Q",
    "MKTAYIAKQRQISFVKSHFSRQ" * 5,
    "mktay J*O",
)

FILLED: tuple[str, ...] = (
    "the cat [MASK] on the <mask> mat",
    "[MASK]<mask> the cat sat",
)


def texts_for(family: str) -> tuple[str, ...]:
    """Single texts of a family."""
    return (*PROTEINS, *TEXTS) if family == "esm" else (*TEXTS, *FILLED)
