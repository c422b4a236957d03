"""``python -m tests.fuzz.guided TARGET SECONDS SEED FOLDER``: one target, its inputs guided by coverage.

A process of its own for each target, as atheris ends the one that it runs in. What was found is in FOLDER.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gateway"]):
    from tests.fuzz.mutating import Mutator
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Run one target."""
    name, seconds, seed, folder = sys.argv[1:]
    target = TARGETS[name]
    examples, found = Path(folder) / name / "examples", Path(folder) / name / "found"
    for directory in (examples, found):
        directory.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(target.examples):
        (examples / str(number)).write_bytes(example)
    dictionary = Path(folder) / name / "words"
    dictionary.write_text("".join(map(_quoted, target.words)))

    def run(data: bytes) -> None:
        # What arrives in pieces is cut the same way whenever the same input comes.
        target.run(data, Mutator(repr(data), target.examples))

    options = [
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-artifact_prefix={found}/",
        "-max_len=4000",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, f"-dict={dictionary}", str(examples)], run)
    atheris.Fuzz()


def _quoted(word: bytes) -> str:
    """A line of a dictionary as libFuzzer reads it."""
    return '"' + "".join([rf"\x{byte:02x}" for byte in word]) + '"\n'


if __name__ == "__main__":
    main()
