import numpy as np
import pytest
from scipy import sparse

from sae_utils import pipeline, replicates
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.text import corpora, stories
from sae_utils.studies.training import appearing, selection, states

TOPIC = "sea"


@pytest.fixture(scope="module")
def text(world):
    return corpora.text(world.training_corpus("one_layer"))


def test_the_rows_of_a_topic_are_its_training_documents(world, text):
    rows = pipeline.training_rows(world, "one_layer")
    number = stories.TOPICS.index(TOPIC)
    one, mixed = (selection.selected(rows, text, number, x) for x in (False, True))
    topics = text.array("topic")[one.array("documents")[:, 0]]
    assert (topics == number).all() and len(np.unique(text.array("topic")[mixed.array("documents")[:, 0]])) > 3
    wanted = (text.array("split") == 0) & (text.array("topic") == number)
    np.testing.assert_array_equal(np.unique(one.array("documents")[:, 0]), np.flatnonzero(wanted))
    for found in (one, mixed):
        assert (found.array("split") == corpora.SPLITS.index("training")).all()
        assert found.meta["tokens"] == found.array("lengths").sum()
    assert 0.8 * one.meta["tokens"] < mixed.meta["tokens"] <= one.meta["tokens"]


def test_an_unknown_topic_is_named():
    with pytest.raises(ProfileError, match=r"here: no topic is called 'seaa'.*`sea`"):
        selection.topic_number("seaa", "here")


def test_a_topic_has_the_classes_that_the_lexicon_gives_it():
    named = {stories.CLASSES[i] for i in np.flatnonzero(selection.own_classes(TOPIC))}
    assert named == {"vehicles", "animals", "nature"}


def test_the_main_class_holds_over_half_of_the_activation():
    classes = np.array([0, 0, 1, -1])
    codes = sparse.csr_array(np.array([[2, 1, 0], [2, 0, 0], [1, 1, 0], [0, 0, 5]], np.float32))
    assert list(selection.main_classes(codes, classes)) == [0, -1, -1]
    chosen = np.arange(len(stories.CLASSES)) == 1
    np.testing.assert_allclose(selection.share_on(codes, classes, chosen), [0.2, 0.5, 0])
    assert selection.nouns().sum() == 13 and (selection.nouns() | ~selection.own_classes(TOPIC)).all()


def test_components_of_the_small_world(world):
    made = selection.trained(world, "one_layer", TOPIC, {"samples": 640, "batch": 64, "width": 16}, "here")
    given = states.read(world, "one_layer", states.rows(world, "one_layer", 60))
    finished = replicates.side([states.features(pipeline.reader(world, "one_layer").dictionary, given)])
    here = selection.in_topic(given, corpora.text(states.text(world, 60)), TOPIC)
    found = selection.components(made[selection.ONE], given, finished, TOPIC, here, 5, 0.5)
    assert found.live == sum(found.kinds.values()) <= 16 and found.own + found.other_nouns <= found.live
    assert 0 <= found.counterparts <= 1 and 0 < found.unexplained[selection.ONE] < 10
    assert appearing.counterparts(finished, finished, 0.99) > 0.9


def test_an_impossible_recipe_is_refused(world):
    with pytest.raises(ProfileError, match=r"here: .*k is at most width"):
        selection.trained(world, "one_layer", TOPIC, {"width": 2}, "here")
