"""What the explorer holds: partners, ranks, families, contexts, links and the match table, on planted sides."""

import types

import explored
import numpy as np
import pandas as pd

from sae_utils import matching, pipeline
from sae_utils.labels import SPACE
from sae_utils.page import assembly, payload, sides
from sae_utils.studies.semantic_subspaces import concepts


def test_the_sides_of_a_small_world_are_its_pairs(world):
    found = sides.of(world)
    a, b = (pipeline.features(world, name) for name in world.pair)
    both = pipeline.correlated(a, b, world.sections["01_feature_matching"]["candidates"])
    forward, mutual = matching.many_to_one(both.found), matching.mutual(both.found)
    np.testing.assert_array_equal(found.a.ids[found.a.partner >= 0], forward.a)
    np.testing.assert_array_equal(found.b.ids[found.a.partner[found.a.partner >= 0]], forward.b)
    np.testing.assert_array_equal(found.a.held_out[found.a.partner >= 0], both.held_out(forward))
    np.testing.assert_array_equal(found.a.ids[found.a.kind == 2], mutual.a)
    np.testing.assert_array_equal(found.b.ids[found.b.kind == 2], np.sort(mutual.b))
    assert all(found.b.tokens) and found.a.near.shape == (len(found.a.ids), min(sides.LISTED, len(found.a.ids) - 1))


def test_a_page_and_its_match_table_are_written(world, monkeypatch, tmp_path):
    monkeypatch.setattr(assembly, "REPOSITORY", tmp_path)
    page = assembly.write(world)
    assert page == tmp_path / "build" / "world" / "report.html" and world.pair[0] in page.read_text("utf-8")
    assert len(pd.read_csv(page.with_name("pairs.csv"))) == len(sides.table(sides.of(world)))


def test_families_hang_together_by_near_neighbours():
    index = np.array([[1], [2], [0], [4], [3], [0]])
    cosine = np.array([[0.9], [0.8], [0.1], [0.95], [0.95], [0.2]])
    np.testing.assert_array_equal(sides.families(index, cosine, 0.7), [1, 1, 1, 2, 2, 0])
    assert len(sides.families(np.zeros((0, 0), int), np.zeros((0, 0)), 0.7)) == 0


def test_a_context_has_forty_characters_around_its_token():
    row = [f"word{i}" for i in range(17)]
    before, token, after = sides._context(row, " ")
    assert token == "word8" and before.endswith("word7 ") and after.startswith(" word9")
    assert len(before + token + after) <= sides.CHARACTERS
    glued = sides._context([f"{SPACE}a", "b", f"{SPACE}c", "", ""], "")
    assert "".join(glued) == " ab c"


def test_a_token_longer_than_a_context_is_whole():
    assert sides._context(["a", "x" * 50, "b"], " ") == ("", "x" * 50, "")


def test_a_feature_is_about_the_concept_with_most_of_its_activation():
    found = types.SimpleNamespace(
        words=("sea", "sky", "tea"), mass=np.array([[6.0, 1], [3, 1], [1, 8]]), total=np.array([10.0, 10])
    )
    lists = {"water": ("sea",), "air": ("sky",)}
    np.testing.assert_array_equal(sides.about(found, lists, 0.2), [1, 0])
    assert concepts.share(found, np.array([True, False, False])).tolist() == [0.6, 0.1]


def test_the_match_table_has_a_mutual_pair_once():
    table = sides.table(explored.planted(60, 40))
    assert len(table) == 40 and set(table["kind"]) == {"mutual"}
    assert (table["r_held_out"].diff().dropna() <= 0).all()
    first = table.iloc[0]
    assert (first["a"], first["b"], first["tokens_b"]) == (0, 2, "w1 x1 the")


def test_a_best_partner_that_prefers_another_is_named_by_its_side():
    found = explored.planted(4)
    one_way = found.b._replace(kind=np.array([2, 2, 1, 2], np.uint8), partner=np.array([3, 0, 0, 2], np.int32))
    table = sides.table(found._replace(b=one_way))
    assert table["kind"].tolist().count("best of b") == 1


def test_no_feature_on_a_side_gives_an_empty_table():
    assert len(sides.table(explored.planted(5, 0))) == 0


def test_released_saes_have_a_link():
    from sae_utils.engine.saes.releases import GemmaScope, Saelens

    gpt2 = Saelens(kind="saelens", model="m", source="gpt2-small-res-jb", id="blocks.8.hook_resid_pre")
    assert sides.neuronpedia(gpt2) == "https://www.neuronpedia.org/gpt2-small/8-res-jb/"
    path, hook = "layer_1/width_16k/average_l0_102", "blocks.1.hook_resid_post"
    scope = GemmaScope(kind="gemma_scope", model="m", source="google/gemma-scope-2b-pt-res", path=path, hook=hook)
    assert sides.neuronpedia(scope) == "https://www.neuronpedia.org/gemma-2-2b/1-gemmascope-res-16k/"
    folder = Saelens(kind="saelens", model="m", source="./mine")
    assert sides.neuronpedia(folder) == sides.neuronpedia(object()) == ""


def test_the_block_of_data_is_the_same_every_time_and_holds_no_markup():
    one, two = (payload.packed(explored.planted(), ("A", "B")) for _ in range(2))
    assert one == two and not set(one) & set("<>&\"'")


def test_coordinates_keep_their_proportions():
    grid = payload._on_grid(np.array([[0.0, 0], [4, 1], [2, 0.5]]))
    assert grid[:, 0].tolist() == [0, 4095, 2048] and abs(int(grid[1, 1]) - int(grid[0, 1]) - 4095 / 4) <= 1
    np.testing.assert_array_equal(payload._on_grid(np.ones((3, 2))), np.full((3, 2), 2048))
