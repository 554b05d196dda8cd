"""Wikitext comes out as the prose that was written out by hand."""

import pytest

from sae_utils.engine.text import wikitext

HIDDEN = frozenset({"file", "image", "category", "media", "datei"})
LONG = "The fox lives in the forest, where it hunts mice and voles from dusk until dawn. " * 4


def prose(text: str) -> str:
    """The prose of a text that stands in an article of one section."""
    found = wikitext.sections(f"{LONG}\n\n{text}\n\n{LONG}", HIDDEN)
    assert len(found) == 1
    beginning, end = f"{LONG.strip()}\n\n", f"\n\n{LONG.strip()}"
    if found[0] == beginning + LONG.strip():
        return ""
    assert found[0].startswith(beginning) and found[0].endswith(end)
    return found[0][len(beginning) : -len(end)]


CASES = {
    "bold and italics": (
        "The '''red fox''' (''Vulpes vulpes'') is the '''''largest''''' of the true foxes, says ''Nature'''s editor.",
        "The red fox (Vulpes vulpes) is the largest of the true foxes, says Nature's editor.",
    ),
    "links": (
        "It is a [[mammal]] of the [[Canidae|dog family]], seen in [[Paris#Parks|the parks of Paris]] and [[town]]s.",
        "It is a mammal of the dog family, seen in the parks of Paris and towns.",
    ),
    "links that show nothing": (
        "It eats berries in autumn.[[Category:Foxes]] [[fr:Renard roux]][[Image:fox.jpg|thumb|A ''fox''.]]",
        "It eats berries in autumn.",
    ),
    "links to what else would be hidden": (
        "The pictures are in the [[:Category:Foxes|category of foxes]], of which there are many hundreds.",
        "The pictures are in the category of foxes, of which there are many hundreds.",
    ),
    "a file with links in its caption": (
        "[[File:Fox.jpg|thumb|left|A fox in [[Berlin|the city of Berlin]] in {{circa|2004}}, seen by many people.]]"
        "Foxes in towns are smaller than foxes in the country.",
        "Foxes in towns are smaller than foxes in the country.",
    ),
    "a file in another language": (
        "[[Datei:Fuchs.jpg|mini|Ein Fuchs im Wald, den viele gesehen haben.]] Der Fuchs lebt im Wald und auf dem Feld.",
        "Der Fuchs lebt im Wald und auf dem Feld.",
    ),
    "links to other sites": (
        "The [http://fox.example society of foxes] counts them each year [http://fox.example/count] in spring.",
        "The society of foxes counts them each year in spring.",
    ),
    "references": (
        'Foxes hear mice under the snow.<ref name="a">Hall, ''Snow'', p. 3. It is a book.</ref><ref name="a" /> They'
        " then leap high.{{sfn|Hall|1990|p=3}}{{citation needed|date=May 2015}}",
        "Foxes hear mice under the snow. They then leap high.",
    ),
    "nested templates": (
        "{{Infobox animal|name={{nowrap|Red {{small|fox}}}}|range={{convert|3|km}}|text=It is long. And more.}}\n"
        "Its territory is some {{convert|10|km2|sqmi}} wide, or {{convert|3|to|5|mi|km}} across in the far north.",
        "Its territory is some 10 km2 wide, or 3 to 5 mi across in the far north.",
    ),
    "templates that stand for text": (
        "In {{lang|la|vulpes}} ({{lang-fr|renard}}) the word is old{{snd}}{{as of|2014|lc=y}} it is {{nowrap|in use}}.",
        "In vulpes (renard) the word is old – as of 2014 it is in use.",
    ),
    "what a template leaves behind": (
        "The fox ({{IPA|fɒks}}), or '''tod''' ({{IPA|tɒd}}; from [[Old Norse]]) , is shy ( {{audio|x.ogg}} ) by day.",
        "The fox, or tod (from Old Norse), is shy by day.",
    ),
    "comments and entities": (
        "Foxes weigh 5&nbsp;&ndash;&#32;7&#x20;kg<!-- of males; females are\n\nlighter -->, and R&amp;D on it is rare.",
        "Foxes weigh 5 – 7 kg, and R&D on it is rare.",
    ),
    "elements": (
        "H<sub>2</sub>O is what <span style='color:red'>foxes</span> drink<br />from the <code>river</code> at night.",
        "H2O is what foxes drink from the river at night.",
    ),
    "literal text": ("The mark <nowiki>[[</nowiki> is no text of an article about foxes, or is it?", ""),
    "broken markup": ("The fox has a template {{that never ends, so that nobody knows where the text goes on.", ""),
    "a formula takes its paragraph with it": (
        "The number of foxes is <math>N = \\alpha^2</math> in a year. It grows with the number of mice.",
        "",
    ),
    "a formula of its own line": (
        "Their number follows from that of the mice. It is given by\n:<math>N = \\alpha^2</math>\n\n"
        "Mice are many in summer, and few in winter.",
        "Their number follows from that of the mice.\n\nMice are many in summer, and few in winter.",
    ),
    "lines are joined": (
        "Foxes sleep in the day and\nhunt at night, as their prey\ndoes.",
        "Foxes sleep in the day and hunt at night, as their prey does.",
    ),
    "lists": (
        "Foxes eat what they find. Their prey is, for example:\n* mice\n* [[vole]]s and other small animals\n"
        "* The young of birds that breed on the ground.\n** Eggs are carried away and buried for another day.\n"
        "* Smith, John. ''The Life of the Fox''. London: Fox Books, 1990.\n# First they listen, then they leap high.\n"
        "They also eat worms when it rains.",
        "Foxes eat what they find.\n\nThe young of birds that breed on the ground.\n\n"
        "Eggs are carried away and buried for another day.\n\nFirst they listen, then they leap high.\n\n"
        "They also eat worms when it rains.",
    ),
    "definitions": (
        "; Den : The hole in which a fox brings up its young ones.\n: It has several entrances, and is used for years.",
        "The hole in which a fox brings up its young ones.\n\nIt has several entrances, and is used for years.",
    ),
    "tables": (
        '{| class="wikitable" border=1\n|+ Foxes of the world\n! Name !! Weight\n|-\n| Red fox || style="x" | The one'
        " that is heaviest of all.\n|-\n| {| \n| Inner table has a sentence of its own. \n|}\n|}\n"
        "The weights differ from place to place.",
        "The weights differ from place to place.",
    ),
    "what is left of a table": ("| Red fox || The one that is the heaviest of all foxes.\n! A head of a table.", ""),
    "captions and other fragments": ("Red fox in the snow of the north\n\nA fox\n\nSee also below.", ""),
    "galleries and code": (
        "<gallery>\nFile:a.jpg|The fox in its den, seen from above.\n</gallery><source>int fox; // It runs.</source>"
        "Foxes bark, and in winter they scream.",
        "Foxes bark, and in winter they scream.",
    ),
    "quotations": (
        "Hall wrote: {{quote|The fox is the wisest of animals, and the shyest.|Hall}} Others say the same of owls.",
        "The fox is the wisest of animals, and the shyest.\n\nOthers say the same of owls.",
    ),
    "a paragraph ends at its last full stop": (
        "Foxes came to Australia with people. A ship from the U.S. brought",
        "Foxes came to Australia with people.",
    ),
    "other scripts": (
        "キツネは、食肉目イヌ科キツネ属の哺乳類である。「森の中で暮らしている動物だ。」と書かれている本がある。",
        "キツネは、食肉目イヌ科キツネ属の哺乳類である。「森の中で暮らしている動物だ。」と書かれている本がある。",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_markup_becomes_prose(name):
    text, expected = CASES[name]
    assert prose(text) == expected


def test_sections_are_documents_and_appendices_are_left_out():
    text = "\n".join([
        LONG, "== Diet ==", "It eats mice.", LONG, "=== In winter ===", LONG + "Then it starves.",
        "== See also ==", LONG, "=== Books ===", LONG, "== Range ==", LONG + "It is found in Asia.", "==Notes==", LONG,
        "== Name ==", "It is short.",
    ])  # fmt: skip
    introduction, diet, place = wikitext.sections(text, HIDDEN)
    assert introduction == LONG.strip()
    assert diet == f"It eats mice. {LONG.strip()}\n\n{LONG}Then it starves."
    assert place == f"{LONG}It is found in Asia."


def test_nothing_is_found_in_nothing():
    assert wikitext.sections("", HIDDEN) == wikitext.sections("* a\n* b", HIDDEN) == []


@pytest.mark.parametrize(
    "text", ["{{disambiguation}}", "{{Disambig|geo}}", "{{ hndis |x}}", "{{Geodis}}", "__DISAMBIG__"]
)
def test_pages_that_list_meanings(text):
    assert wikitext.is_disambiguation("Fox", f"'''Fox''' may be:\n* a\n{text}")


def test_a_title_says_that_a_page_lists_meanings():
    assert wikitext.is_disambiguation("Fox (disambiguation)", "x")
    assert not wikitext.is_disambiguation("Fox", "{{hatnote|other uses}} The fox is an animal.")
