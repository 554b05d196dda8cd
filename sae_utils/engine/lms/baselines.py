"""What a trained language model must beat.

In: a model and token rows. Out: nothing, or an error.
Never: a model that is declared untrained; the caller leaves it out.
"""

from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import cross_entropy
from sae_utils.store import Artefact

PREDICTIONS = 1024  # about so many held-out tokens are judged
MARGIN = 0.2  # nats a token


def refuse_worse_than_bigram(model: Artefact, rows: Artefact) -> None:
    """Refuse a model whose loss on held-out rows is not by `MARGIN` below that of a bigram.

    The bigram is fitted on the training rows. Weights that were converted wrongly show here. Raises ProfileError.
    """
    judged = -(-PREDICTIONS // rows.array("tokens").shape[1])  # rows
    found = cross_entropy.held_out(model, rows, judged).meta
    if not found["model"] < found["bigram"] - MARGIN:
        raise ProfileError(
            f"{model.meta['source']}: its loss on held-out text is {found['model']:.2f} nats a token, and a bigram of "
            f"the training text reaches {found['bigram']:.2f}: its weights were converted wrongly, or it was not "
            "trained on such text; take another file or corpus, or say `untrained: true`"
        )
