"""Coverage-guided fuzzing of what images and builds are read from (atheris); a program of its own.

    python tests/fuzz/fuzz_images.py TARGET CORPUS [SEEDS...] [-max_total_time=SECONDS]

The targets are those of tests/fuzz/targets.py.
"""

import sys

import atheris

with atheris.instrument_imports(include=["stackctl"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
