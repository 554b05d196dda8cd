"""Wikitext as prose: the sections of an article, without markup, lists, tables and formulas.

In: the wikitext of one page, as mwparserfromhell parses it. Out: the prose of each section, or nothing.
Never: a file, a sentence that the article does not hold; a template whose text would have to be fetched.

What reads as prose is kept: paragraphs and items of lists that end as sentences do. Headings, captions, table cells
and short items end without a full stop, and are left out by that one rule.
"""

import html
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

# content of these elements is not prose
SILENT = set(
    "gallery graph hiero imagemap indicator inputbox mapframe maplink pre ref references score source "
    "syntaxhighlight table templatedata templatestyles timeline".split()
)
FORMULAS = {"ce", "chem", "math"}
# elements and marks that begin a new line
BREAKS = set("blockquote center dd div dl dt hr li ol p poem td th tr ul".split())
# sections that hold no prose, or that of a reference
APPENDICES = set(
    "awards|bibliography|citations|discography|external links|filmography|footnotes|further reading|gallery|notes|"
    "notes and references|publications|references|references and notes|see also|selected works|sources|works|"
    "works cited".split("|")
)
# templates that stand for a text: name -> which of their unnamed parameters read as that text
SHOWN = {
    **dict.fromkeys(
        "abbr angbr angle bracket|as of|big|blockquote|bold|bquote|cquote|em|flag|flagcountry|italics|kbd|math|mvar|"
        "nobold|nobr|nowrap|pull quote|quotation|quote|sc|script/arabic|script/hebrew|small|smaller|smallcaps|sub|sup|"
        "tq|unicode|vanchor|var|visible anchor|vr|nihongo|illm|ill|interlanguage link".split("|"),
        0,
    ),
    **dict.fromkeys(["lang", "transl", "transliteration", "script", "tooltip", "font"], -1),
}
QUANTITIES = {"convert", "cvt"}
SIGNS = {
    "'": "'", "'s": "'s", "' \"": "' \"", "\" '": "\" '", "-": " - ", "mdash": "—", "mdashb": " — ", "nbsp": " ",
    "ndash": "–", "snd": " – ", "spaced ndash": " – ", "spnd": " – ", "thinsp": " ", "!": "|", "=": "=",
}  # fmt: skip
DISAMBIGUATION = re.compile(
    r"\{\{\s*(?:[\w ]*disambig\w*|dab|hndis|geodis|given name|surname|set index article|begriffsklärung|desambiguación|"
    r"homonymie|disambigua|dp|多義語|неоднозначность)\s*[|}\n]|__DISAMBIG__",
    re.IGNORECASE,
)
FORMULA, ITEM = "\ufffc", "\ufffd"  # where a formula was; where an item of a list, or an indented line, begins
REST = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{\||</?(?:ref|math)\b")  # of markup that is broken
CLOSING = r"[\"'”’»)\]]"
ENDED = re.compile(rf"[.!?…]{CLOSING}*$|[。！？]{CLOSING}*$")
# up to the last full stop, after which something else follows: not that of an abbreviation, as in `the U.S.`
UP_TO = re.compile(rf".*(?:(?<=\w\w\w)[.!?]{CLOSING}*(?=\s)|[.!?…]{CLOSING}+(?=\s)|[。！？])", re.DOTALL)
REPAIRS = [  # what is left where something was taken out
    (re.compile(r"[\u200b-\u200f\u2060\ufeff\u00ad]"), ""),  # characters without width
    (re.compile(r"'''(?=s\b)"), "'"),  # italics that end before a genitive
    (re.compile(r"'{2,}"), ""),
    (re.compile(r"</?[a-z]+(?: [^<>]*)?/?>"), " "),
    (re.compile(r"\s+"), " "),
    (re.compile(r"\(\s*(?:[,;:–/]\s*|(?:or|and|in|from)\s+(?=[,;)]))+"), "("),
    (re.compile(r"\(\s+"), "("),
    (re.compile(r"(?:\s*[,;:/])*\s+\)|[,;:]\)"), ")"),
    (re.compile(r" ?(?:\(\s*\)|\[\s*\])"), ""),
    (re.compile(r"\s+(?=[,.;:!?](?:\s|$))"), ""),
    (re.compile(r"([,;:])(?:\s*[,;:])+"), r"\1"),
    (re.compile(r",(?=\.(?:\s|$))"), ""),
]
LETTERS = 20  # fewest in a paragraph
SHORTEST = 200  # fewest letters in a section


def is_disambiguation(title: str, wikitext: str) -> bool:
    """Whether a page lists the meanings of a word: by its title, its templates (of large Wikipedias), or its marker."""
    return title.endswith("(disambiguation)") or bool(DISAMBIGUATION.search(wikitext))


def sections(wikitext: str, spaces: frozenset[str]) -> list[str]:
    """The prose of the introduction and of each section of the second level, its subsections included.

    Paragraphs are separated by a blank line. Sections of fewer than `SHORTEST` letters are left out. `spaces`: names,
    in lower case, of the namespaces whose links show nothing in the text (files, categories).
    """
    import mwparserfromhell

    parsed = mwparserfromhell.parse(wikitext)
    found = []
    lines: list[str] = []
    level = silent = 0  # level of the appendix that is being left out
    for heading, text in _parts(parsed, spaces):
        level = heading.level if heading is not None else 0
        if silent and level > silent:
            continue
        silent = level if heading is not None and _plain(heading) in APPENDICES else 0
        if level <= 2:
            found.append(lines)
            lines = []
        lines += [] if silent else _paragraphs(text)
    prose = ["\n\n".join(lines) for lines in (*found, lines)]
    return [text for text in prose if _letters(text) >= SHORTEST]


def _plain(heading: Any) -> str:
    return str(heading.title.strip_code()).strip().lower()


def _parts(parsed: Any, spaces: frozenset[str]) -> Iterator[tuple[Any, str]]:
    """Each heading, None before the first, and the text below it."""
    from mwparserfromhell.nodes import Heading

    heading: Any = None
    pieces: list[str] = []
    for node in parsed.nodes:
        if isinstance(node, Heading):
            yield heading, "".join(pieces)
            heading, pieces = node, []
        else:
            pieces.append(_shown(node, spaces))
    yield heading, "".join(pieces)


def _shown(node: Any, spaces: frozenset[str]) -> str:
    """What a reader sees of a node, in plain text."""
    from mwparserfromhell import nodes

    if isinstance(node, nodes.Text):
        return str(node.value)
    if isinstance(node, nodes.HTMLEntity):
        return str(node.normalize())
    if isinstance(node, nodes.Wikilink):
        return _link(node, spaces)
    if isinstance(node, nodes.ExternalLink):
        return "" if node.title is None else _inside(node.title, spaces)
    if isinstance(node, nodes.Tag):
        return _element(node, spaces)
    if isinstance(node, nodes.Template):
        return _template(node, spaces)
    if isinstance(node, nodes.Heading):  # inside another element
        return "\n"
    return ""  # comments, and arguments of templates


def _inside(code: Any, spaces: frozenset[str]) -> str:
    return "".join(_shown(node, spaces) for node in code.nodes)


def _link(node: Any, spaces: frozenset[str]) -> str:
    space, colon, _ = str(node.title).partition(":")
    if colon and space.strip().lower() in spaces:
        return ""
    if node.text is not None:
        return _inside(node.text, spaces)
    language = colon and re.fullmatch(r"[a-z]{2,3}(?:-[a-z-]+)?", space)
    return "" if language else str(node.title).lstrip(":")


def _element(node: Any, spaces: frozenset[str]) -> str:
    tag = str(node.tag).strip().lower()
    if tag in SILENT:
        return "\n\n" if tag == "table" else ""
    if tag in FORMULAS:
        return FORMULA
    text = "" if node.contents is None else _inside(node.contents, spaces)
    if node.wiki_markup and tag in ("dd", "dt", "li"):
        return ITEM
    if tag == "br":
        return " "
    return f"\n\n{text}\n\n" if tag in BREAKS else text


def _template(node: Any, spaces: frozenset[str]) -> str:
    name = str(node.name).strip().replace("_", " ").lower()
    if name in SIGNS:
        return SIGNS[name]
    values = [_inside(parameter.value, spaces).strip() for parameter in node.params if not parameter.showkey]
    if name in QUANTITIES:
        return _quantity(values)
    if name.startswith("lang-"):
        return values[0] if values else ""
    if name not in SHOWN or not values:
        return ""
    text = values[SHOWN[name]]
    if name == "as of":
        return f"{'as' if node.has('lc') else 'As'} of {text}"
    return f"\n\n{text}\n\n" if "quote" in name or name == "quotation" else text


def _quantity(values: list[str]) -> str:
    """The first quantity of a conversion, as `100 km` or `3 to 5 m`."""
    if len(values) > 3 and values[1] in ("to", "and", "or", "-", "–", "x", "by"):
        joined = values[1] if values[1] in "-–" else f" {values[1]} "
        return f"{values[0]}{joined}{values[2]} {values[3]}"
    return " ".join(values[:2])


def _paragraphs(text: str) -> list[str]:
    """The paragraphs and items of a text that read as prose; a single end of a line is a space."""
    blocks = _blocks(html.unescape(unicodedata.normalize("NFC", text)))
    return [prose for block, item in blocks if (prose := _prose(block, item))]


def _blocks(text: str) -> Iterator[tuple[str, bool]]:
    """The paragraphs of a text and the items of its lists, each with whether it is an item."""
    paragraph: list[str] = []
    for line in (*text.split("\n"), ""):
        before, *items = line.split(ITEM)
        if before.strip() and not before.lstrip().startswith(("|", "!")):  # what is left of a table
            paragraph.append(before)
        else:
            yield " ".join(paragraph), False
            paragraph = []
        yield from ((item, True) for item in items)


def _prose(text: str, item: bool) -> str:
    """A paragraph up to its last full stop, or an item that is a sentence; empty if it does not read as prose."""
    if FORMULA in text or REST.search(text):
        return ""
    for pattern, replacement in REPAIRS:
        text = pattern.sub(replacement, text)
    text = text.strip()
    if not ENDED.search(text):
        found = UP_TO.match(text)
        text = "" if item or not found else found[0]
    return "" if _letters(text) < LETTERS or (item and _mostly_names(text)) else text


def _mostly_names(text: str) -> bool:
    """Whether half of the words begin with a capital, as in a list of books."""
    initials = re.findall(r"(?<!\w)[^\W\d_]", text)
    return 2 * sum(map(str.isupper, initials)) >= len(initials)


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))
