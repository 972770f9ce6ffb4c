"""Looks for what breaks a parser: `python -m tests.fuzz.run TARGET`; `make fuzz` takes all.

What it finds is written into the corpus as `found-...`: give it a name there, and
mend the parser. What it has learned stays in a folder of its own that is thrown away.
"""

import sys
import tempfile
from pathlib import Path

import atheris

CORPUS = Path(__file__).parent / "corpus"
SEED = "1"


def main(name: str, seconds: str = "30") -> None:
    """Fuzz one target for so many seconds. Ends the process, with status 77 for what it found."""
    with atheris.instrument_imports(include=["sidecar", "h11"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 it must be instrumented

    kept = CORPUS / name
    with tempfile.TemporaryDirectory() as learned:
        options = [f"-max_total_time={seconds}", f"-seed={SEED}", "-max_len=4096"]
        atheris.Setup(
            [sys.argv[0], *options, f"-artifact_prefix={kept}/found-", learned, str(kept)],
            TARGETS[name],
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
