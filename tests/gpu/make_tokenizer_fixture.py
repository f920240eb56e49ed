#!/usr/bin/env python3
"""Makes texts, and the token ids that the `tokenizers` library gives them by a byte-level BPE with Qwen's pattern.

    make_tokenizer_fixture.py FOLDER [--seed N] [--strings N]

Needs tokenizers, and a Python whose unicodedata is of Unicode 14, as the tables of PCRE2 10.42 are: of what later versions assign, libraries
have different opinions. tests/gpu/fixtures/tokenizer was made with tokenizers 0.23.3 and --seed 1; other seeds draw other texts.

Left out are texts with code points that Unicode 14 does not assign, and the few whose combining marks the library orders otherwise.

FOLDER/tokenizer.json is the tokenizer. FOLDER/strings.bin has for each text, little-endian: u32 its bytes, these bytes (not always UTF-8: the
library sees replacement characters), u32 its tokens, and u64 FNV-1a of their ids as u32.
"""
import argparse
import pathlib
import random
import struct
import sys
import unicodedata

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
VOCABULARY = 2_000
SCRIPTS = {
    "latin": (0x41, 0x24F), "greek": (0x370, 0x3FF), "cyrillic": (0x400, 0x4FF), "hebrew": (0x591, 0x5F4), "arabic": (0x600, 0x6FF),
    "devanagari": (0x900, 0x97F), "thai": (0xE01, 0xE5B), "jamo": (0x1100, 0x1175), "hangul": (0xAC00, 0xD7A3), "kana": (0x3041, 0x30FF),
    "cjk": (0x4E00, 0x9FFC), "mathematics": (0x1D400, 0x1D7FF), "cuneiform": (0x12000, 0x12399), "full width": (0xFF01, 0xFFEE),
}
SPACES = " \t\n\r\v\f\x1c\x85\xa0\u1680\u180e\u2000\u2003\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
EMOJI = ["🙂", "👍🏽", "👩‍👩‍👧‍👦", "🇩🇪", "🏳️‍🌈", "❤️", "☎︎", "1️⃣", "🧑🏿‍🚀", "👁️‍🗨️"]
WORDS = ("the cat sat there and it's what we're told they'll do don't I'D y'all he’s SHE'LL x'S ſ's can'T über naïve façade straße ﬁne Ǆ İstanbul "
         "parcel delivery invoice refund order number please where when").split(" ")
CODE = ["def ", "return ", "if (", ") {", "};", "for (int i = 0; i < n; ++i)", "->", "::", "/* ", " */", "// ", "#include <", "\\n", "0x1F", "1e-5", "__init__",
        "self.", "lambda x: ", "[[nodiscard]]", "\"key\": ", "null,", "'a'", "<div class=\"x\">", "SELECT * FROM t WHERE ", "&&", "||", "!=", "$HOME/", "https://a.b/c?d=e&f=%20"]
ASSIGNED = [c for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
MARKS = [c for c in ASSIGNED if unicodedata.category(chr(c)) == "Mn" and c < 0x3100]
NUMBERS = [c for c in ASSIGNED if unicodedata.category(chr(c))[0] == "N"]


def script(rng):
    first, last = SCRIPTS[rng.choice(list(SCRIPTS))]
    known = [c for c in range(first, last + 1) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    return "".join(chr(rng.choice(known)) + (" " if rng.random() < 0.1 else "") for _ in range(rng.randrange(1, 24)))


def sentence(rng):
    text = rng.choice([" ", "  ", "\n", ", "]).join(rng.choice(WORDS) for _ in range(rng.randrange(1, 12))) + rng.choice(["", ".", "!?", "...\n", " "])
    return rng.choice([str, str.upper, str.title, lambda t: unicodedata.normalize("NFD", t)])(text)


def code(rng):
    lines = []
    for _ in range(rng.randrange(1, 5)):
        lines.append(rng.choice(["", "  ", "    ", "\t", "\t\t"]) + "".join(rng.choice(CODE) for _ in range(rng.randrange(0, 5))))
    return rng.choice(["\n", "\r\n", "\n\n"]).join(lines)


def spaces(rng):
    kinds = rng.choice([" ", " \n", "\r\n ", SPACES])
    return "".join(rng.choice(kinds) for _ in range(rng.choice([1, 3, 10, 40, 200]))) + rng.choice(["", "x", "7", "."])


def marked(rng):
    return "".join(rng.choice("aeoAKΩйक") + "".join(chr(rng.choice(MARKS)) for _ in range(rng.randrange(0, 4))) for _ in range(rng.randrange(1, 8)))


def anything(rng):
    return "".join(chr(rng.choice(ASSIGNED)) for _ in range(rng.randrange(1, 16)))


def numbers(rng):
    return "".join(rng.choice([str(rng.randrange(10_000)), chr(rng.choice(NUMBERS)), ".", ",", " ", "-", "e"]) for _ in range(rng.randrange(1, 12)))


def emoji(rng):
    return "".join(rng.choice(EMOJI + [" ", "a"]) for _ in range(rng.randrange(1, 10)))


def special(rng):
    return "".join(rng.choice(SPECIAL + ["<|im_", "end|>", "<", "|>", " ", "a\n"]) for _ in range(rng.randrange(1, 8)))


def controls(rng):
    return "".join(chr(rng.choice([*range(0x20), 0x7F, 0x61, 0x20])) for _ in range(rng.randrange(1, 16)))


def long_word(rng):
    return "".join(rng.choice("etaoinsh") for _ in range(rng.choice([60, 300, 1_500])))


KINDS = [(sentence, 16), (code, 14), (script, 22), (spaces, 8), (marked, 8), (anything, 8), (numbers, 8), (emoji, 8), (special, 4), (controls, 4), (long_word, 0.4)]


def draw(rng):
    text = "".join(rng.choices([kind for kind, _ in KINDS], [weight for _, weight in KINDS])[0](rng) for _ in range(rng.choice([1, 1, 2, 3])))
    data = bytearray(text.encode())
    if rng.random() < 0.12:  # broken
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data) + 1)
            data[at:at + rng.randrange(2)] = rng.choice([b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xe0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", bytes([rng.randrange(256)])])
    return bytes(data)


def has_one_normal_form(string):
    """The library's own table of combining marks is of an earlier Unicode: it leaves some of 10 to 14 where they stand."""
    text = string.decode(errors="replace")
    return normalizers.NFC().normalize_str(text) == unicodedata.normalize("NFC", text)


def draw_some(rng, count):
    strings, left_out = [], 0
    while len(strings) < count:
        string = draw(rng)
        if has_one_normal_form(string):
            strings.append(string)
        else:
            left_out += 1
    print(f"left out {left_out} texts that the library brings into another normal form than Unicode 14")
    return strings


def made(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERN), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=SPECIAL, show_progress=False))
    return tokenizer


def hash_of(ids):
    value = 0xCBF29CE484222325
    for byte in struct.pack(f"<{len(ids)}I", *ids):
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--strings", type=int, default=10_500)
    arguments = parser.parse_args()
    assert unicodedata.unidata_version.startswith("14."), f"this Python knows Unicode {unicodedata.unidata_version}"
    rng = random.Random(arguments.seed)
    strings = draw_some(rng, arguments.strings)
    texts = [string.decode(errors="replace") for string in strings]
    tokenizer = made(texts[: len(texts) // 4])
    arguments.folder.mkdir(parents=True, exist_ok=True)
    (arguments.folder / "tokenizer.json").write_text(tokenizer.to_str() + "\n")
    with open(arguments.folder / "strings.bin", "wb") as file:
        for string, text in zip(strings, texts):
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            file.write(struct.pack("<I", len(string)) + string + struct.pack("<IQ", len(ids), hash_of(ids)))
    print(f"{arguments.folder}: {len(strings)} texts, {sum(map(len, strings))} bytes")


if __name__ == "__main__":
    main()
