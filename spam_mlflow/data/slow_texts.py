"""The slowest texts that attacks on the scorer have found, for benchmarks and tests."""

SLOW_TEXTS = {
    "combining marks": "a" + "\u0345" * 100_000 + "\u0334" * 99_999,
    "marks between invisible characters": ("\u0345\u0334" * 15 + "\u200b") * 6451,
    "vowel signs that become marks": "\u0f73" * 200_000,
    "expansions": "\ufdfa" * 200_000,
    "expansions between spaces": "\ufdfa " * 100_000,
    "entities": "&#64986;" * 25_000,
    "unknown entities": ("&" + "a" * 32) * 6060,
    "ampersands": "&" * 200_000,
    "spaced letters": "a " * 100_000,
    "alternating punctuation": "a.b-c.d-" * 25_000,
    "leet": "h3ll0 w0rld " * 16_666,
    "a long run": "freeringtone" * 16_666,
    "zero width": "a\u200b" * 100_000,
    "sharp s": "\xdf" * 200_000,
    "digits": "1" * 200_000,
    "digits and commas": "1," * 100_000,
    "an endless name of an address": "w" * 199_999 + "@",
    "an endless mask": "x" * 199_999 + "1",
    "many short words": " ".join(
        chr(0x2F800 + i % 541) + chr(0x4E00 + i % 20_011) for i in range(66_666)
    ),
    "many scripts": "".join(map(chr, range(0x100, 0xD800))) * 3,
}
"""A text of each kind; it has as many characters as are scored at most."""
