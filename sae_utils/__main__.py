"""The commands of the package: `python -m sae_utils COMMAND`; `--help` lists them, `COMMAND --help` explains one."""

import argparse
import importlib
import os
import sys

COMMANDS = {  # name -> (module with its `main`, purpose)
    "profile": ("profiles", "checks a profile and writes the parameters of its notebooks"),
    "execute": ("engine.build.execute", "runs one notebook of a profile"),
    "typeset": ("engine.build.typeset", "sets the paper of a profile"),
    "page": ("page", "writes the page of a profile, which needs no network"),
    "compare": ("engine.build.two_saes", "compares two SAEs of yours, and writes their page"),
    "plan": ("engine.build.plan", "says what a profile would fetch and use"),
    "results": (
        "engine.build.results",
        "compares results with the committed ones, and lists those older than the code",
    ),
    "notebooks": ("engine.build.notebooks", "brings each .py and its .ipynb in step"),
    "environment": ("engine.build.environment", "makes .venv"),
}


def main() -> None:
    """Run a command of the package, or with `run` any program on the pinned CPU code path, as `run jupyter lab`."""
    listed = "\n".join(f"  {name:<12} {purpose}" for name, (_, purpose) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m sae_utils",
        description=f"{main.__doc__}\n\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=[*COMMANDS, "run"], metavar="COMMAND", help="one of these, or run")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    asked = parser.parse_args()
    if asked.command in COMMANDS:
        sys.argv[1:] = asked.arguments
        try:
            module = importlib.import_module(f"sae_utils.{COMMANDS[asked.command][0]}")
        except ModuleNotFoundError as error:
            sys.exit(
                f"error: {error.name} is not installed; `pip install .[models,paper]` brings all that commands need"
            )
        module.main()
    elif not asked.arguments:
        parser.error("run: name a command")
    else:
        os.execvp(asked.arguments[0], asked.arguments)


if __name__ == "__main__":
    main()
