"""Writes verses.tsv: verses of the King James Bible by genre, 1,000 of each. Standard library only.

    make.py FOLDER

FOLDER holds what Debian's packages bible-kjv and bible-kjv-text 4.38 install (`dpkg-deb -x` of both into it).
Which verses are taken is a function of their text's SHA-256: of each genre the 1,000 with the smallest, among those
of 8 words and more that no other genre has.
"""
import hashlib
import re
import subprocess
import sys
from pathlib import Path

VERSES, SHORTEST = 1000, 8
# Genres and how many books each has, in the order of the books; those of `None` are left out.
GENRES = [("law", 5), ("history", 12), ("poetry", 5), ("prophets", 17), ("gospels", 4), (None, 1), ("letters", 21), (None, 1)]

folder = Path(sys.argv[1])
program = [folder / "usr/bin/bible", "-f", "-p", folder / "usr/lib", "Gen1:1-Rev22:21"]
lines = subprocess.run(program, capture_output=True, text=True, check=True).stdout.splitlines()
books = {}
for line in lines:
    reference, text = line.split(" ", 1)
    books.setdefault(re.match(r"\d?[A-Za-z]+", reference).group(), []).append(text.strip())
assert len(books) == 66 and sum(map(len, books.values())) == 31102, "not the whole text"
in_order, found = iter(books.values()), {}
for genre, count in GENRES:
    verses = [verse for _ in range(count) for verse in next(in_order)]
    found[genre] = {verse for verse in verses if len(verse.split()) >= SHORTEST}
del found[None]
digest = lambda text: hashlib.sha256(text.encode()).hexdigest()
chosen = []
for genre, verses in found.items():
    others = set().union(*(other for name, other in found.items() if name != genre))
    chosen += [(digest(text), genre, text) for text in sorted(verses - others, key=digest)[:VERSES]]
with (Path(__file__).parent / "verses.tsv").open("w") as out:
    out.writelines(f"{genre}\t{text}\n" for _, genre, text in sorted(chosen))
