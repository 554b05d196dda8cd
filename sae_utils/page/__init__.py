"""One page of a profile: what was found for two SAEs, in a file that needs no network.

In: a checked profile, and the results that its notebooks saved. Out: `build/<profile>/report.html`, and the whole match
table as `build/<profile>/pairs.csv`; the same bytes for the same inputs.
Never: a request to another machine; markup from a token, a name or a result.

`python -m sae_utils page PROFILE`
"""

from sae_utils.page.assembly import main, write

__all__ = ["main", "write"]
