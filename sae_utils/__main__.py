"""Runs a command with what the package sets when it is imported: the pinned CPU code path, the folder of kernels.

`python -m sae_utils COMMAND ...`
"""

import argparse
import os


def main() -> None:
    """Run a command, as JupyterLab, with the pinned CPU code path."""
    parser = argparse.ArgumentParser(prog="python -m sae_utils", description=main.__doc__)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command and its arguments")
    command = parser.parse_args().command
    if not command:
        parser.error("name a command")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
