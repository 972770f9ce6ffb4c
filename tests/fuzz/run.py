"""Fuzzer of one parser: `python -m tests.fuzz.run TARGET`; `make fuzz` runs all.

An input that fails is written into the corpus as `found-...`: rename it, and fix the
parser. Other new inputs are in a temporary folder, which is deleted.
"""

import sys
import tempfile
from pathlib import Path

import atheris

CORPUS = Path(__file__).parent / "corpus"
SEED = "1"


def main(name: str, seconds: str = "30") -> None:
    """Fuzz one target for `seconds`. Ends the process, with status 77 if an input failed."""
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
