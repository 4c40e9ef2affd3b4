"""The program stackctl, also as python -m stackctl."""

import gc
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; never returns.

    The modules of a command make a hundred thousand objects and no garbage; to look for some again and again, as the
    collector does by default, is a quarter of the start-up. Collecting seldom serves the long-lived commands as well.
    """
    gc.set_threshold(200_000, 20, 20)
    from stackctl.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
