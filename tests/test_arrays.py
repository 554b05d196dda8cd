"""Every public call reads an array correctly, or refuses it by name; no digit, mask or cell is lost silently."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from sae_utils import arrays, correlate, filters, labels, matching, measures, nulls, significance
from sae_utils.engine.kernels import assignment, sides

TOKENS, WIDTH = 40, 7
RNG = np.random.default_rng(0)
CODES = (RNG.random((TOKENS, WIDTH)) * (RNG.random((TOKENS, WIDTH)) < 0.5)).astype(np.float32)
OTHER = sparse.csr_array((RNG.random((TOKENS, 9)) * (RNG.random((TOKENS, 9)) < 0.5)).astype(np.float32))
CSR = sparse.csr_array(CODES)
ROWS = RNG.normal(size=(30, 5)).astype(np.float32)
PARTNERS = RNG.normal(size=(30, 6)).astype(np.float32)
EXPECTED = np.corrcoef(CODES.T.astype(float), OTHER.toarray().T)[:WIDTH, WIDTH:]


def made(values=CSR.data, indices=CSR.indices, indptr=CSR.indptr):
    """A CSR matrix of such arrays, which scipy has not looked at."""
    matrix = sparse.csr_array((TOKENS, WIDTH), dtype=np.float32)
    matrix.data, matrix.indices, matrix.indptr = values, indices, indptr
    return matrix


def coo(values=CSR.data, row=None, column=None):
    """A COO matrix of such arrays, which scipy has not looked at."""
    matrix = CSR.tocoo()
    matrix.data = values
    matrix.coords = tuple(x if y is None else y for x, y in zip(matrix.coords, (row, column), strict=True))
    return matrix


def csc(rows):
    matrix = CSR.tocsc()
    matrix.indices = rows
    return matrix


def put(x, place, value):
    changed = np.array(x)
    changed[place] = value
    return changed


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


TURNED = np.concatenate([np.arange(*ends)[::-1] for ends in zip(CSR.indptr[:-1], CSR.indptr[1:], strict=True)])
ROW = np.repeat(np.arange(TOKENS), np.diff(CSR.indptr))
ZERO_ROW, ZERO_COLUMN = np.argwhere(CODES == 0)[0]
SAME_CODES = {
    "csr_matrix": sparse.csr_matrix(CODES),
    "duplicates": made(np.repeat(CSR.data / 2, 2), np.repeat(CSR.indices, 2), 2 * CSR.indptr),
    "duplicates that cancel": made(
        np.repeat(CSR.data, 3) * np.tile([5, -5, 1], CSR.nnz).astype(np.float32),
        np.repeat(CSR.indices, 3),
        3 * CSR.indptr,
    ),
    "unsorted": made(CSR.data[TURNED], CSR.indices[TURNED]),
    "sparse, float64": made(CSR.data.astype(np.float64)),
    "csc": CSR.tocsc(),
    "coo": CSR.tocoo(),
    "explicit zeros": sparse.csr_array(
        (np.append(CSR.data, np.float32(0)), (np.append(ROW, ZERO_ROW), np.append(CSR.indices, ZERO_COLUMN))), CSR.shape
    ),
    "cells past the end": made(np.append(CSR.data, np.float32("nan")), np.append(CSR.indices, np.int32(99))),
    "64 bits": made(indices=CSR.indices.astype(np.int64), indptr=CSR.indptr.astype(np.int64)),
    "mixed bits": made(indptr=CSR.indptr.astype(np.int64)),
    "few bits": made(indices=CSR.indices.astype(np.int8), indptr=CSR.indptr.astype(np.uint16)),
    "other byte order": made(CSR.data.astype(">f4"), CSR.indices.astype(">i4"), CSR.indptr.astype(">i8")),
    "strided": made(*(np.repeat(x, 2)[::2] for x in (CSR.data, CSR.indices, CSR.indptr))),
    "read-only": made(*(read_only(x) for x in (CSR.data, CSR.indices, CSR.indptr))),
    "dense, float64": CODES.astype(np.float64),
    "dense, longdouble": CODES.astype(np.longdouble),
    "dense, other byte order": CODES.astype(">f4"),
    "dense, columns first": np.asfortranarray(CODES),
    "dense, strided": np.repeat(np.repeat(CODES, 2, axis=0), 2, axis=1)[::2, ::2],
    "dense, read-only": read_only(CODES),
    "np.matrix": np.matrix(CODES),
    "a tensor": torch.tensor(CODES),
    "a tensor of a graph": torch.tensor(CODES, requires_grad=True),
    "a sparse tensor": torch.tensor(CODES).to_sparse_csr(),
    "a sparse tensor of cells": torch.tensor(CODES).to_sparse_coo(),
    "a sparse tensor of a graph": torch.tensor(CODES).to_sparse_csr().requires_grad_(),
}


@pytest.mark.parametrize("kind", SAME_CODES)
def test_codes_however_stored_are_the_same_codes(kind):
    given = SAME_CODES[kind]
    parts = [part for part in ("data", "indices", "indptr", "row", "col") if sparse.issparse(given)]
    held = {part: np.array(getattr(given, part)) for part in parts if hasattr(given, part)}
    np.testing.assert_allclose(correlate.features(given, OTHER, k=3).block(), EXPECTED, atol=1e-6)
    pairs = np.repeat(np.arange(WIDTH), 9), np.tile(np.arange(9), WIDTH)
    np.testing.assert_allclose(correlate.pairs(given, OTHER, *pairs), EXPECTED.ravel(), atol=1e-6)
    top = labels.label(given, np.arange(TOKENS), np.zeros(TOKENS, int), k=3, window=0)
    np.testing.assert_array_equal(top.firings, (CODES > 0).sum(0))
    np.testing.assert_allclose(top.activation[:, 0], CODES.max(0))
    for part, before in held.items():
        np.testing.assert_array_equal(before, getattr(given, part))  # what was given is not changed


def test_tensors_of_bfloat16_are_widened():
    rounded = torch.tensor(CODES, dtype=torch.bfloat16)
    for given in (rounded, rounded.to_sparse_csr()):
        np.testing.assert_array_equal(
            correlate.features(given, OTHER, k=2).block(),
            correlate.features(rounded.float().numpy(), OTHER, k=2).block(),
        )


def test_tensors_share_their_memory():
    tensor, rows = torch.tensor(CODES, requires_grad=True), torch.tensor(CODES).to_sparse_csr()
    assert np.shares_memory(arrays.codes(tensor, "codes"), tensor.detach().numpy())
    assert np.shares_memory(arrays.codes(rows, "codes").data, rows.values().numpy())


def test_a_cell_that_stands_twice_correlates_with_itself_by_one():
    twice = SAME_CODES["duplicates"]
    assert np.diag(correlate.features(twice, twice, k=1).block()) == pytest.approx(np.ones(WIDTH), abs=1e-6)


def test_canonical_codes_are_not_copied(tmp_path):
    np.save(tmp_path / "indices.npy", CSR.indices)
    mapped = made(indices=np.load(tmp_path / "indices.npy", mmap_mode="r"), indptr=CSR.indptr.astype(np.int64))
    passed = arrays.codes(mapped, "codes")
    assert np.shares_memory(passed.indices, mapped.indices) and np.shares_memory(passed.data, mapped.data)
    assert passed.indices.dtype == np.int32 and np.shares_memory(arrays.codes(CODES, "codes"), CODES)


BROKEN = {
    "index past the width": (made(indices=put(CSR.indices, 4, WIDTH)), "has the column 7, of 7"),
    "index far past": (made(indices=put(CSR.indices, 4, 10**9)), "has the column 1000000000"),
    "negative index": (made(indices=put(CSR.indices, 0, -1)), "row 0 has the column -1"),
    "indptr past the end": (made(indptr=put(CSR.indptr, -1, 10**6)), "indptr ends at 1000000"),
    "indptr too large in the middle": (made(indptr=put(CSR.indptr, 5, 10**8)), "indptr falls after row 5"),
    "indptr that falls": (made(indptr=put(CSR.indptr, 5, 0)), "indptr falls after row 4"),
    "indptr that falls to 0": (made(indptr=put(CSR.indptr, -1, 0)), "indptr falls after row 39"),
    "negative indptr": (made(indptr=put(CSR.indptr, 5, -3)), "indptr falls"),
    "indptr that starts late": (made(indptr=put(CSR.indptr, 0, 1)), "the first not 0"),
    "indptr too short": (made(indptr=CSR.indptr[:-1]), "40 row starts for 40 rows"),
    "indptr too long": (made(indptr=np.append(CSR.indptr, CSR.nnz)), "42 row starts"),
    "fewer values than indices": (made(CSR.data[:-1]), "no CSR matrix"),
    "float indices": (made(indices=CSR.indices.astype(float)), "indices of side a holds float64"),
    "indices of two dimensions": (made(indices=CSR.indices[None]), "indices of side a has shape"),
    "masked values": (made(np.ma.masked_less(CSR.data, 0.2)), "data of side a is a masked array"),
    "complex values": (made(CSR.data.astype(np.complex64)), "complex64"),
    "values past float32": (made(1e300 * CSR.data.astype(np.float64)), "float32 cannot hold: scale"),
    "values below float32": (made(1e-300 * CSR.data.astype(np.float64)), "float32 cannot hold: scale"),
    "bsr": (CSR.tobsr(), "in the format bsr: give `codes.tocsr"),
    "coo, column past the width": (coo(column=put(ROW, 4, 7)), "columns of side a asks for column"),
    "coo, row past the end": (coo(row=put(ROW, 4, TOKENS)), "rows of side a asks for row 40"),
    "coo, fewer values": (coo(CSR.data[:-1]), "no COO matrix"),
    "coo, masked": (coo(np.ma.masked_less(CSR.data, 0.2)), "data of side a is a masked array"),
    "csc, row past the end": (csc(put(CSR.tocsc().indices, 4, TOKENS)), "transpose of side a is no CSR"),
    "dense, squares of 0": (1e-200 * CODES.astype(np.float64), "column 0: no activation reaches"),
    "sparse of one dimension": (sparse.csr_array(CODES[0]), r"shape \(7,\)|7 tokens"),
    "NaN": (made(put(CSR.data, 3, np.nan)), f"first in row {ROW[3]}, column {CSR.indices[3]}"),
    "dense masked": (np.ma.masked_less(CODES, 0.1), "side a is a masked array"),
    "dense complex": (CODES + 1j, "side a holds complex64"),
    "objects": (CODES.astype(object), "side a holds object"),
    "text": (CODES.astype(str), "side a holds <U"),
    "dates": (CODES.astype("M8[s]"), r"side a holds datetime64\[s\]"),
    "three dimensions": (CODES[None], r"side a has shape \(1, 40, 7\)"),
    "one dimension": (CODES[0], r"side a has shape \(7,\)"),
    "dense infinity": (put(CODES, (5, 3), -np.inf), "first in row 5, column 3"),
    "dense overflow": (1e200 * CODES.astype(np.float64), "squares exceed float64"),
    "a tensor in columns": (torch.tensor(CODES).to_sparse_csc(), "side a is a tensor of layout torch.sparse_csc"),
    "a sparse tensor with NaN": (torch.tensor(CODES * np.float32(np.nan)).to_sparse_csr(), "first in row 0, column 0"),
    "an SAE": (SimpleNamespace(W_dec=CODES), "side a is a types.SimpleNamespace"),
    "a list": (CODES.tolist(), "side a is a builtins.list"),
    "a table": (pd.DataFrame(CODES), "side a is a pandas"),
}


@pytest.mark.filterwarnings("ignore")  # scipy's, while the broken ones are made
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_codes_are_named(kind):
    codes, named = BROKEN[kind]
    for call in (
        lambda: correlate.features(codes, OTHER, k=2),
        lambda: correlate.blocks(codes, OTHER),
        lambda: correlate.pairs(codes, OTHER, [0], [0]),
        lambda: sides.prepare(codes, np.arange(codes.shape[0]) if hasattr(codes, "shape") else [0, 1], "a"),
    ):
        with pytest.raises(ValueError, match=named):
            call()
    with pytest.raises(ValueError):
        correlate.features(OTHER, codes, k=2)
    if kind not in ("dense overflow", "dense, squares of 0"):  # float32, in which labels rank, holds none of it
        with pytest.raises(ValueError):
            labels.label(codes, np.arange(TOKENS), np.zeros(TOKENS, int))


BAD_POSITIONS = {
    "floats": [0.0, 1.0],
    "negative": [1, -1],
    "past the end": [0, 40],
    "unsigned and far past": np.array([0, 2**63], np.uint64),
    "masked": np.ma.array([0, 1], mask=[False, True]),
    "of two dimensions": [[0, 1]],
    "complex": [1j, 0],
    "text": ["0", "1"],
    "objects": np.array([0, 1], object),
    "ragged": [[0], [0, 1]],
    "a mask too short": np.ones(3, bool),
}


@pytest.mark.parametrize("kind", BAD_POSITIONS)
def test_positions_that_are_none_are_named(kind):
    at = BAD_POSITIONS[kind]
    found = correlate.features(CSR, OTHER, k=2)
    for name, call in {
        "rows": lambda: correlate.features(CSR, OTHER, k=2, rows=at),
        "rows_b": lambda: correlate.pairs(CSR, OTHER, [0], [0], rows=[0, 1], rows_b=at),
        "rows ": lambda: sides.prepare(CSR, at, "a"),
        "pairs_a": lambda: correlate.pairs(CSR, OTHER, at, [0, 1]),
        "pairs_b": lambda: correlate.pairs(CSR, OTHER, [0, 1], at),
        "columns": lambda: found.block([0], at),
        "a ": lambda: matching.correlations(found, at, np.array([0, 1])),
    }.items():
        with pytest.raises(ValueError, match=f"^{name.strip()} "):
            call()


def test_a_mask_is_no_list_of_features():
    """As integers it would be features 0 and 1, again and again."""
    with pytest.raises(ValueError, match="pairs_a must be a list of positions, found bool"):
        correlate.pairs(CSR, OTHER, np.ones(WIDTH, bool), np.zeros(WIDTH, int))


SAME_ROWS = {
    "float64": (ROWS.astype(np.float64), 1e-12),
    "longdouble": (ROWS.astype(np.longdouble), 1e-12),
    "other byte order": (ROWS.astype(">f4"), 1e-12),
    "columns first": (np.asfortranarray(ROWS), 1e-12),
    "strided": (np.repeat(np.repeat(ROWS, 2, axis=0), 2, axis=1)[::2, ::2], 1e-12),
    "read-only": (read_only(ROWS), 1e-12),
    "np.matrix": (np.matrix(ROWS), 1e-12),
    "lists": (ROWS.tolist(), 1e-12),
    "a table": (pd.DataFrame(ROWS), 1e-12),
    "a tensor": (torch.tensor(ROWS), 1e-12),
    "a tensor of a graph": (torch.tensor(ROWS, requires_grad=True), 1e-12),
    "a tensor of bfloat16": (torch.tensor(ROWS, dtype=torch.bfloat16), 4e-2),
    "an SAE": (SimpleNamespace(W_dec=torch.nn.Parameter(torch.tensor(ROWS))), 1e-12),
    "float16": (ROWS.astype(np.float16), 5e-3),
}


@pytest.mark.parametrize("kind", SAME_ROWS)
def test_rows_however_stored_are_the_same_rows(kind):
    given, off = SAME_ROWS[kind]
    for name in measures.NAMES:
        assert measures.score(given, PARTNERS, name) == pytest.approx(measures.score(ROWS, PARTNERS, name), abs=off)
    matrix = correlate.cosines(ROWS, ROWS[::-1], k=2).block()
    np.testing.assert_allclose(correlate.cosines(given, ROWS[::-1], k=2).block(), matrix, atol=off)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, bool])
def test_integers_do_not_overflow(dtype):
    numbers = RNG.integers(0, 2 if dtype is bool else 127, (30, 5))
    numbers[:, 0] = 1  # no row is zero
    for name in ("cca", "cka", "rsa_euclidean_pearson", "mutual_knn"):
        found = measures.score(numbers.astype(dtype), PARTNERS, name)
        assert found == measures.score(numbers.astype(np.float64), PARTNERS, name)
    codes = np.resize(numbers, (TOKENS, 5))
    np.testing.assert_array_equal(
        correlate.features(codes.astype(dtype), OTHER, k=2).block(),
        correlate.features(codes.astype(np.float64), OTHER, k=2).block(),
    )


BAD_ROWS = {
    "masked": (np.ma.masked_less(ROWS, 0.1), "is a masked array"),
    "nothing masked": (np.ma.array(ROWS), "is a masked array"),
    "complex": (ROWS + 1j, "holds complex64 values"),
    "objects": (ROWS.astype(object), "holds object values"),
    "text": (ROWS.astype(str), "holds <U"),
    "dates": (ROWS.astype("M8[s]"), "holds datetime64"),
    "three dimensions": (ROWS[None], r"has shape \(1, 30, 5\)"),
    "sparse": (sparse.coo_array(ROWS), "is sparse: give its `.toarray"),
    "NaN": (put(ROWS, (5, 3), np.nan), r"hold NaN or infinity \(first: row 5\), there in column 3"),
    "infinity": (put(ROWS, (5, 3), -np.inf), r"\(first: row 5\), there in column 3"),
    "beyond float64": (ROWS * np.longdouble("1e4000"), r"\(first: row 0\), there in column 0"),
    "no columns": (ROWS[:, :0], r"has shape \(30, 0\)"),
    "ragged": ([[1.0], [1.0, 2.0]], "cannot be read as an array"),
    "a sparse tensor": (torch.tensor(ROWS).to_sparse(), "is sparse: give its `.toarray"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", BAD_ROWS)
def test_bad_rows_are_named(kind):
    rows, named = BAD_ROWS[kind]
    at = np.arange(12)[None]
    pairs = matching.Pairs(np.arange(30), np.arange(30), np.ones(30), np.zeros(30, int), np.zeros(30, int))
    square = measures.dissimilarities(ROWS, "cosine")
    for call in (
        *(lambda name=name: measures.score(rows, PARTNERS, name) for name in measures.NAMES),
        lambda: measures.imd(rows, PARTNERS),
        lambda: measures.dissimilarities(rows, "pearson"),
        lambda: measures.mantel(rows, square),
        lambda: measures.partial_rsa(square, square, [rows]),
        lambda: significance.test(rows, PARTNERS, ["cca"], m=9),
        lambda: significance.test(ROWS, ROWS, ["cka"], null=nulls.Selection("s", lambda rng: (rows, ROWS)), m=2),
        lambda: significance.random_rows(rows, PARTNERS, 9, measures.imd, m=2),
        lambda: significance.test_pairs(pairs, rows, PARTNERS, "cka", m=9, seed=0),
        lambda: measures.of_subsets(rows, PARTNERS, at, at, ["cka_debiased"]),
        lambda: correlate.cosines(rows, ROWS, k=2),
        lambda: matching.align(rows, PARTNERS, pairs),
        lambda: assignment.transport(rows),
    ):
        with pytest.raises(ValueError, match=named):
            call()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_rows_are_named(n):
    few = ROWS[:n]
    for call in (
        *(lambda name=name: measures.score(few, few, name) for name in measures.NAMES),
        lambda: significance.test(few, few, ["cka"], m=9),
        lambda: measures.imd(few, ROWS),
    ):
        with pytest.raises(ValueError, match=f"n = {n} rows on side a"):
            call()
    for codes in (CODES[:n], CSR[:n]):
        with pytest.raises(ValueError, match="at least 2 tokens"):
            correlate.features(codes, codes, k=2, rows=np.arange(n)[:1])
    with pytest.raises(ValueError, match="k = 1 candidates, but side a has 0 features"):
        correlate.features(CODES[:, :0], CODES, k=1)


def test_pairs_that_their_sides_do_not_have_are_named():
    found = correlate.features(CSR, OTHER, k=2)
    pairs = matching.many_to_one(found)
    calls = (
        lambda broken: matching.clusters(broken),
        lambda broken: filters.rare(broken, found.a.count, found.b.count, minimum=1),
        lambda broken: filters.apply(broken, [("one_to_one", {})]),
        lambda broken: matching.random(found, broken, 0),
    )
    for wrong, named in ((pairs.a - 1, "feature -1"), (pairs.a + 1, "feature 7"), (pairs.a[:3], "3 features of a")):
        for call in calls:
            with pytest.raises(ValueError, match=named):
                call(dataclasses.replace(pairs, a=wrong))
    with pytest.raises(ValueError, match="side b has 9 features"):
        filters.no_shared_token(pairs, np.full((WIDTH, 1), "x"), np.full((3, 1), "x"), top=1)
    edges = assignment.Edges(np.array([0, 1]), np.array([0, 5]), np.array([0.5, 0.5]))
    with pytest.raises(ValueError, match=r"edges\.column asks for column 5"):
        assignment.optimal(edges, lambda i, j: np.zeros((len(i), len(j))), 2, 3)
    with pytest.raises(ValueError, match="weights finite"):
        assignment.optimal(edges._replace(weight=np.array([0.5, np.nan])), lambda i, j: np.zeros((1, 1)), 2, 6)


def test_masked_labels_and_documents_are_named():
    masked = np.ma.array(np.arange(TOKENS) // 10, mask=np.arange(TOKENS) < 3)
    for call in (
        lambda: nulls.strata(masked),
        lambda: labels.label(CSR, np.arange(TOKENS), masked),
    ):
        with pytest.raises(ValueError, match="is a masked array"):
            call()
    with pytest.raises(ValueError, match="tokens holds float64"):
        labels.label(CSR, np.arange(TOKENS) + 0.5, np.zeros(TOKENS, int))
    with pytest.raises(ValueError, match="from 0 to 2147483647"):
        labels.label(CSR, np.arange(TOKENS) + 2**40, np.zeros(TOKENS, int))
    with pytest.raises(ValueError, match="ids from -1 to 1"):
        labels.spell(np.array([2]), ["a", "b"])


PAIRS = matching.mutual(correlate.features(CSR, OTHER, k=2))
NONE = {
    "k = 2.0": lambda: correlate.features(CSR, OTHER, k=2.0),
    "threads = '2'": lambda: correlate.features(CSR, OTHER, k=2, threads="2"),
    "k = True": lambda: labels.label(CSR, np.arange(TOKENS), np.zeros(TOKENS), k=True),
    "window = 1.5": lambda: labels.label(CSR, np.arange(TOKENS), np.zeros(TOKENS), window=1.5),
    "document falls": lambda: labels.label(CSR, np.arange(TOKENS), np.full(TOKENS, np.nan)),
    "document falls, or": lambda: labels.label(CSR, np.arange(TOKENS), np.arange(TOKENS)[::-1]),
    "tokens holds": lambda: labels.label(CSR, np.full(TOKENS, -2), np.zeros(TOKENS)),
    "seed = -1": lambda: matching.random(None, PAIRS, -1),
    "seed = 'x'": lambda: significance.test(ROWS, PARTNERS, ["cka"], m=9, seed="x"),
    "m = 'many'": lambda: significance.test(ROWS, PARTNERS, ["cka"], m="many"),
    "m = 0 draws": lambda: significance.random_rows(ROWS, PARTNERS, 5, measures.cka, m=0),
    "k = 1.5": lambda: measures.mutual_knn(ROWS, PARTNERS, k=1.5),
    "pairs.why_a asks": lambda: matching.left_out(dataclasses.replace(PAIRS, why_a=np.full(WIDTH, 99))),
    "pairs.why_b must": lambda: matching.left_out(dataclasses.replace(PAIRS, why_b=np.zeros(9))),
}


@pytest.mark.parametrize("value", NONE)
def test_what_is_no_number_of_things_is_named(value):
    with pytest.raises(ValueError, match=f"^{value}"):
        NONE[value]()


@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_dissimilarities_of_any_size(scale):
    near = np.corrcoef(ROWS), np.corrcoef(PARTNERS)
    assert measures.mantel(near[0] * scale, near[1]) == pytest.approx(measures.mantel(*near), abs=1e-12)


def test_float32_that_was_widened_has_the_rank_of_float32():
    rows = (RNG.normal(size=(40, 4)) @ RNG.normal(size=(4, 9))).astype(np.float32)
    found = measures.cca(rows.astype(np.float64), rows[:, ::-1].astype(np.float64))
    assert (found.k_a, found.k_b) == (4, 4) and found.score == pytest.approx(1)


def test_unit_rows_keep_their_direction_and_zeros_stay():
    given = RNG.normal(size=(6, 4))
    given[2] = 0
    made = arrays.unit(given.astype(np.float32))
    assert made.dtype == np.float64 and (made[2] == 0).all()
    assert np.linalg.norm(np.delete(made, 2, 0), axis=1) == pytest.approx(np.ones(5))
    assert np.einsum("ij,ij->i", made, given) == pytest.approx(np.linalg.norm(given, axis=1), rel=1e-6)
