"""A dump becomes documents of prose, and an article lies in one split."""

import bz2
from xml.sax.saxutils import escape

import gensim
import numpy as np
import pytest

from sae_utils import inference, pipeline, store
from sae_utils.engine import params
from sae_utils.engine.build import cost, plan
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.saes import activations
from sae_utils.engine.text import corpora, tokenization, wikipedia

HEAD = (
    '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" xml:lang="de">\n<siteinfo><sitename>Wiki</sitename>'
    '<namespaces><namespace key="0" /><namespace key="6">Datei</namespace><namespace key="14">Kategorie</namespace>'
    "</namespaces></siteinfo>\n"
)
SHIPPED = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
SHARES = [0.5, 0.25, 0.25]


def sentences(word: str) -> str:
    return f"The {word} lives in the forest, where it hunts mice and voles from dusk until dawn. " * 4


def page(title: str, text: str, space: int = 0, redirect: bool = False) -> str:
    to = '<redirect title="Fox" />' if redirect else ""
    return (
        f"<page><title>{escape(title)}</title><ns>{space}</ns><id>7</id>{to}<revision><id>8</id>"
        f'<text xml:space="preserve">{escape(text)}</text></revision></page>\n'
    )


def article(word: str, sections: int) -> str:
    parts = [f"[[Datei:{word}.jpg|mini|A picture of it.]]{sentences(word)}<ref>A book of 1990.</ref>"]
    parts += [f"== Part {i} ==\n{sentences(f'{word} {i}')}" for i in range(1, sections)]
    return page(word, "\n".join([*parts, "== References ==", sentences("book"), f"[[Kategorie:{word}]]"]))


PAGES = [
    article("fox", 3),
    page("Tod", "#REDIRECT [[fox]]\n" + sentences("redirect"), redirect=True),
    article("owl", 2),
    page("Owl (disambiguation)", sentences("meaning")),
    page("Mouse", sentences("meaning") + "{{disambiguation}}"),
    page("Talk:Fox", sentences("talk"), space=1),
    page("Template:Fox", sentences("template"), space=10),
    page("List of foxes", "* [[fox]]\n* [[Arctic fox]]"),
    page("Empty", ""),
    article("vole & mouse", 1),
    article("elk", 4),
]
EXPECTED = [("fox", 3), ("owl", 2), ("vole & mouse", 1), ("elk", 4)]


@pytest.fixture
def dump(tmp_path):
    file = tmp_path / "wiki-pages-articles.xml"
    file.write_text(HEAD + "".join(PAGES) + "</mediawiki>\n", "utf-8")
    return file


def of(path, **changes) -> wikipedia.Wikipedia:
    values = {"kind": "wikipedia", "path": str(path), "context": 8, "shares": SHARES, "split_seed": 0}
    made = params.make_corpus(values | changes, "params/x.yaml: corpus")
    assert isinstance(made, wikipedia.Wikipedia)
    return made


def texts(source) -> list[str]:
    return [text for block in corpora.blocks(source) for text in block.texts]


def test_sections_of_articles_are_documents(dump):
    source = corpora.text(of(dump))
    names = [name if not part else f"{name} {part}" for name, count in EXPECTED for part in range(count)]
    assert texts(source) == [sentences(name).strip() for name in names]
    assert source.array("articles").tolist() == np.repeat(np.arange(4), [3, 2, 1, 4]).tolist()
    assert source.meta == {"documents": 10, "articles": 4, "bytes": sum(map(len, texts(source)))}


def test_an_article_lies_in_one_split(dump):
    for seed in range(5):
        source = corpora.text(of(dump, split_seed=seed))
        split, articles = source.array("split"), source.array("articles")
        assert [len(set(split[articles == number])) for number in range(4)] == [1] * 4
        assert np.bincount(split[np.unique(articles, return_index=True)[1]], minlength=3).tolist() == [2, 1, 1]


def test_compressed_or_not_and_in_several_files_the_text_is_the_same(dump, tmp_path):
    plain = texts(corpora.text(of(dump)))
    packed = tmp_path / "packed.bz2"
    half = HEAD.encode() + "".join(PAGES[:3]).encode()  # two streams, as Wikipedia's multistream dumps
    packed.write_bytes(bz2.compress(half) + bz2.compress("".join(PAGES[3:]).encode() + b"</mediawiki>"))
    assert texts(corpora.text(of(packed))) == plain
    for number, pages in enumerate((PAGES[:5], PAGES[5:])):
        (tmp_path / f"part{number}.xml").write_text(HEAD + "".join(pages) + "</mediawiki>", "utf-8")
    several = corpora.text(of(tmp_path / "part*.xml"))
    assert texts(several) == plain and several.meta["articles"] == 4


def test_the_first_articles(dump):
    source = corpora.text(of(dump, articles=3))
    assert source.meta["articles"] == 3 and texts(source) == texts(corpora.text(of(dump)))[:6]
    with pytest.raises(ProfileError, match=r"^corpus\.articles: 5, but .*wiki-pages-articles\.xml holds 4 with prose"):
        corpora.text(of(dump, articles=5))


def test_a_corpus_is_made_once_and_again_when_the_dump_changes(dump):
    before = corpora.text(of(dump))
    assert corpora.text(of(dump)) is before
    dump.write_text(dump.read_text("utf-8").replace("voles", "moles"), "utf-8")
    after = corpora.text(of(dump))
    assert after.key != before.key and texts(after) == [text.replace("voles", "moles") for text in texts(before)]


def test_the_same_bytes_come_back(dump, tmp_path):
    made = []
    before = store.settings()
    try:
        for name in ("one", "two"):
            store.use(threads=1, root=tmp_path / name)
            source = corpora.text(of(dump))
            made.append({file.name: file.read_bytes() for file in source.path.glob("*.npy")})
    finally:
        store.restore(before)
    assert made[0] == made[1] and len(made[0]) > 5


def test_groups_are_articles(dump, world):
    run = world._replace(corpus=of(dump))
    rows = tokenization.rows(corpora.text(run.corpus), pipeline.tokenizer(world, "one_layer"), 8)
    sites = activations.sites(rows, 1)
    article = np.repeat(np.arange(4), [3, 2, 1, 4])
    found = pipeline.articles(run, sites)
    np.testing.assert_array_equal(found, article[sites.array("documents")])
    assert len(set(found)) == 2 and len(set(sites.array("documents"))) > 2  # two of the four are for training
    group = inference.grouped(found)
    assert len(set(zip(group, found, strict=True))) == len(set(group)) == 2


def test_stories_are_articles_of_their_own(world):
    sites = pipeline.features(world, world.pair[0]).sites
    np.testing.assert_array_equal(pipeline.articles(world, sites), sites.array("documents"))


# --- the dump that gensim brings along


def test_the_shipped_dump_is_named_without_a_path():
    corpus = of(f"package:gensim/test/test_data/{SHIPPED}", articles=8)
    assert [str(file) for file in corpus.files()] == [f"{gensim.__path__[0]}/test/test_data/{SHIPPED}"]
    assert corpus.description == "sections of the Wikipedia articles in the package gensim"
    source = corpora.text(corpus)
    found = texts(source)
    assert source.meta["articles"] == 8 and found[0].startswith("Anarchism is a political philosophy that advocates")
    together = "\n".join(found)
    for mark in ("[[", "]]", "{{", "}}", "''", "<ref", "==", "{|", "&nbsp;", "ISBN", " ()", "http://", "File:"):
        assert mark not in together, mark
    paragraphs = [paragraph for text in found for paragraph in text.split("\n\n")]
    ended = sum(paragraph.rstrip("\"'\u201d\u2019»)]")[-1:] in tuple(".!?…") for paragraph in paragraphs)
    assert ended == len(paragraphs) > 300


# --- errors


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no dump of MediaWiki"),
        (b"A fox is an animal.", "is no dump of MediaWiki"),
        (b"<html><body>A fox</body></html>", "is no dump of MediaWiki"),
        (b"\x00\x01\x02\x03", "is no dump of MediaWiki"),
        (HEAD.encode() + b"<page><title>x</title></page></mediawiki>", "is no dump of MediaWiki"),
        (b"BZh9 this is no bzip2", "cannot be read"),
        (bz2.compress((HEAD + "".join(PAGES)).encode())[:-40], "ends too early; copy or fetch it again"),
        ((HEAD + "".join(PAGES)).encode(), "ends too early .*; copy or fetch it again"),
        ((HEAD + PAGES[0] + "</mediawiki>").encode(), r"holds 1 article\(s\) with prose, and three splits need"),
        ((HEAD + "</mediawiki>").encode(), r"holds 0 article\(s\) with prose, and three splits need"),
    ],
)
def test_what_is_no_dump_is_refused(tmp_path, content, message):
    (tmp_path / "x.xml").write_bytes(content)
    with pytest.raises(ProfileError, match=rf"^corpus\.path: .*x\.xml {message}"):
        corpora.text(of(tmp_path / "x.xml"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/nowhere/wiki.xml.bz2", "no file matches /nowhere/wiki.xml.bz2"),
        ("package:gensim/test/nothing.bz2", "the package gensim has no file 'test/nothing.bz2'"),
        ("package:gensim", "the package gensim has no file ''"),
        ("package:gensym/x.bz2", "no package 'gensym' is installed"),
        ("package:/x.bz2", "no package '' is installed"),
        ("package:os/x.bz2", "no package 'os' is installed"),
    ],
)
def test_a_missing_file_is_named(path, message):
    with pytest.raises(ProfileError, match=rf"^corpus\.path: {message}"):
        corpora.text(of(path))


def test_what_is_wrong_in_a_profile():
    with pytest.raises(ProfileError, match=r"corpus\.articles: .*greater than or equal to 3"):
        of("x", articles=2)
    with pytest.raises(ProfileError, match=r"corpus\.kind: unknown kind 'wiki'; did you mean `wikipedia`\?"):
        of("x", kind="wiki")


# --- the plan


def test_the_plan_shows_the_licence_and_the_size(dump, world):
    run = world._replace(corpus=of(dump))
    [source] = [source for source in plan.sources(run) if source.key == "corpus"]
    assert source == plan.Source("corpus", str(dump), 0, dump.stat().st_size, "CC BY-SA")
    [missing] = [x for x in plan.sources(world._replace(corpus=of("/nowhere.xml"))) if x.key == "corpus"]
    assert missing.missing.startswith("corpus.path: no file matches")
    assert plan.sources(run._replace(corpus=of(dump, licence="CC BY 4.0")))[0].terms == "CC BY 4.0"


def test_tokens_are_estimated():
    of_all, of_few = (of(f"package:gensim/test/test_data/{SHIPPED}", articles=n) for n in (None, 3))
    assert 4.5e5 < cost.tokens(of_all) < 7e5
    assert cost.tokens(of_few) == 3 * wikipedia.LONGEST
