"""The codes on disk are those of the SAE at the sites, with the same token in the same row."""

import mmap

import numpy as np
import pytest
import torch
from sae_lens import SAE
from transformers import AutoTokenizer

from sae_utils import pipeline
from sae_utils.engine.lms import models
from sae_utils.engine.saes import activations, dictionaries
from sae_utils.engine.text import corpora, tokenization

NAMES = ("one_layer", "two_layer")


def dense(world, name: str) -> np.ndarray:
    """All codes at once, (tokens, features): a row of tokens at a time, without padding."""
    reader = pipeline.reader(world, name)
    bridge, sae = models.load(reader.model), SAE.load_from_disk(reader.dictionary.path)
    parts = []
    for row in np.flatnonzero(reader.rows.array("split") != 0):
        tokens = reader.rows.array("tokens")[row, : reader.rows.array("lengths")[row]].astype(np.int64)
        with torch.no_grad():
            _, cache = bridge.run_with_cache(torch.from_numpy(tokens)[None], names_filter=[reader.hook])
            parts.append(sae.encode(cache[reader.hook][0, reader.skip :]).numpy())
    return np.concatenate(parts)


@pytest.mark.parametrize("skip", [1, 4])
def test_sites_are_tokens_without_padding_and_first_positions(world, skip):
    rows = pipeline.rows(world, "one_layer")
    sites = activations.sites(rows, skip)
    arrays = {key: rows.array(key) for key in ("tokens", "classes", "lengths", "documents", "split")}
    expected = [
        (row, position)
        for row in range(len(arrays["lengths"]))
        for position in range(skip, arrays["lengths"][row])
        if arrays["split"][row] != corpora.SPLITS.index("training")
    ]
    row, position = sites.array("rows"), sites.array("positions")
    assert list(zip(row.tolist(), position.tolist(), strict=True)) == expected
    assert sites.meta["tokens"] == len(expected)
    for key in ("tokens", "classes", "documents"):
        np.testing.assert_array_equal(sites.array(key), arrays[key][row, position])
    np.testing.assert_array_equal(sites.array("split"), arrays["split"][row])
    assert set(np.unique(sites.array("split"))) == {1, 2}
    assert (np.diff(sites.array("documents")) >= 0).all()
    assert sites.meta["documents"] == len(np.unique(sites.array("documents")))


def test_codes_are_not_of_training_documents_padding_or_bos(world):
    features = pipeline.features(world, "one_layer")
    words, rows = pipeline.tokenizer(world, "one_layer"), pipeline.rows(world, "one_layer")
    assert rows.meta["tokens"] > features.sites.meta["tokens"] > 0
    special = AutoTokenizer.from_pretrained(words.path, trust_remote_code=False)
    assert not np.isin(features.sites.array("tokens"), [special.bos_token_id, special.pad_token_id]).any()
    training = rows.array("documents")[rows.array("split") == corpora.SPLITS.index("training")]
    assert not np.isin(features.sites.array("documents"), training).any()


def test_packed_rows_are_masked_at_every_bos(world):
    """There are as many activations as sites; where a row begins with the document, they are those of padded rows."""
    source, text = pipeline.reader(world, "one_layer"), corpora.text(world.corpus)
    cut = (text, pipeline.tokenizer(world, "one_layer"), world.corpus.context)
    bridge, found = models.load(source.model), {}
    for packed in (False, True):
        rows = tokenization.rows(*cut, packed)
        sites = activations.sites(rows, 3)
        streamed = models.stream(bridge, rows, activations.judged(rows), [source.hook], 3)
        values = torch.cat([x[source.hook] for x in streamed]).numpy()
        row, position = sites.array("rows"), sites.array("positions")
        place = rows.array("places")[row, position]
        assert len(values) == sites.meta["tokens"] and place.min() == 3
        at_start = np.flatnonzero(place == position)  # the row has held this document only
        found[packed] = {rows.array("tokens")[row[i], : position[i] + 1].tobytes(): values[i] for i in at_start}
    common = found[False].keys() & found[True].keys()
    assert len(common) > 50
    for key in common:
        np.testing.assert_allclose(found[True][key], found[False][key], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_codes_are_those_of_the_sae(world, name):
    features = pipeline.features(world, name)
    expected = dense(world, name)
    assert features.codes.shape == expected.shape == (features.sites.meta["tokens"], 32)
    assert features.codes.dtype == np.float32
    np.testing.assert_allclose(features.codes.toarray(), expected, atol=2e-5)
    assert features.codes.has_canonical_format and (features.codes.data > 0).all()
    np.testing.assert_array_equal(features.decoder, dictionaries.decoder(pipeline.reader(world, name).dictionary))


def test_segments_do_not_change_codes(world, tmp_path, monkeypatch):
    """The number of tokens encoded at once changes only last bits."""
    source = pipeline.reader(world, "one_layer")
    sites = activations.sites(source.rows, source.skip)
    which, arguments = (source.dictionary, source.hook), (source.model, source.rows, sites, source.skip)
    stored = activations.codes([which], *arguments)[which]
    monkeypatch.setattr(dictionaries, "SEGMENT", 17)
    list(activations.codes.__wrapped__({which: tmp_path}, *arguments))
    for name in ("indptr", "indices"):
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), stored.array(name))
    np.testing.assert_allclose(np.load(tmp_path / "values.npy"), stored.array("values"), atol=1e-5)


def test_models_that_share_a_tokenizer_share_their_sites(world):
    one, two = (pipeline.features(world, name) for name in NAMES)
    assert one.sites.path == two.sites.path and one.codes.shape[0] == two.codes.shape[0]


def test_sites_of_other_rows_are_refused(world, tmp_path):
    source = pipeline.reader(world, "one_layer")
    other = activations.sites(source.rows, source.skip + 1)
    with pytest.raises(RuntimeError, match=r"tokens were encoded where \d+ sites were expected"):
        folders = {(source.dictionary, source.hook): tmp_path}
        list(activations.codes.__wrapped__(folders, source.model, source.rows, other, source.skip))


def test_a_matrix_stays_on_disk(world):
    def mapped(array) -> bool:
        while isinstance(array, np.ndarray):
            array = array.base
        return isinstance(array, mmap.mmap)

    codes = pipeline.features(world, "one_layer").codes
    assert mapped(codes.data) and mapped(codes.indices)
    assert codes.indices.dtype == np.int32 and not codes.data.flags.writeable


def test_neurons_are_the_models_own(world):
    source = pipeline.reader(world, "one_layer")
    sites = activations.sites(source.rows, source.skip)
    hook = "blocks.0.mlp.hook_post"
    values = activations.neurons([hook], source.model, source.rows, sites, source.skip)[hook].array("values")
    assert values.shape == (sites.meta["tokens"], 32) and values.dtype == np.float16
    bridge = models.load(source.model)
    for site in np.random.default_rng(0).choice(len(values), 20):
        row, position = sites.array("rows")[site], sites.array("positions")[site]
        tokens = source.rows.array("tokens")[row, : position + 1].astype(np.int64)  # later tokens have no influence
        with torch.no_grad():
            _, cache = bridge.run_with_cache(torch.from_numpy(tokens)[None], names_filter=[hook])
        expected = cache[hook][0, position].numpy()
        np.testing.assert_allclose(values[site], expected, atol=2e-3)
