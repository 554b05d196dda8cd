// The explorer: two linked maps. Bokeh draws the points; links, tooltips and lists are made here.
// Text of tokens reaches the page through textContent only.
"use strict";
window.explorer = (() => {
  const el = (id) => document.getElementById(id);
  const KINDS = ["no partner", "one way", "mutual"];
  const MISSING = -32768, SHOWN_ROWS = 200;
  const TYPED = { u1: Uint8Array, u2: Uint16Array, i2: Int16Array, i4: Int32Array, f4: Float32Array };
  const side = {};  // a, b
  let data, looks, hovered = null, picked = null;
  const other = (s) => (s === "a" ? "b" : "a");

  // --- reading
  async function unpacked(text) {
    const raw = atob(text), bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const buffer = await new Response(stream).arrayBuffer();
    const length = new DataView(buffer).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    const array = ([type, start, size]) => new TYPED[type](buffer, 4 + length + start, size);
    return { ...header, arrays: Object.fromEntries(Object.entries(header.arrays).map(([k, v]) => [k, array(v)])) };
  }

  function sideOf(name, number) {
    const own = Object.fromEntries(Object.entries(data.arrays).filter(([key]) => key.startsWith(name + "_"))
      .map(([key, array]) => [key.slice(2), array]));
    const n = own.ids.length;
    const rank = new Int32Array(n);  // by held-out r, 0 where there is none
    Array.from(own.held.keys()).filter((i) => own.held[i] !== MISSING).sort((i, j) => own.held[j] - own.held[i] || i - j)
      .forEach((i, place) => { rank[i] = place + 1; });
    return { ...own, ...data.sides[number], rank, key: name, n, k: n ? own.near.length / n : 0, visible: new Uint8Array(n),
      shown: new Int32Array(0), selected: [], marked: [] };
  }

  function choosers(s, t) {  // for every feature of s, the features of t whose best partner it is
    const start = new Int32Array(s.n + 1);
    for (const p of t.partner) if (p >= 0) start[p + 1]++;
    for (let i = 0; i < s.n; i++) start[i + 1] += start[i];
    const list = new Int32Array(start[s.n]), at = start.slice();
    t.partner.forEach((p, i) => { if (p >= 0) list[at[p]++] = i; });
    return (i) => list.subarray(start[i], start[i + 1]);
  }

  const between = (ends, i) => [i ? ends[i - 1] : 0, ends[i]];
  const tokens = (s, i) => Array.from(s.tokens.subarray(...between(s.tokened, i)), (x) => data.words[x]);
  const correlation = (x) => (x === MISSING ? "n/a" : (x / 10000).toFixed(2).replace("-", "\u2212"));
  const shared = (s, i) => {
    const t = side[other(s.key)], p = s.partner[i];
    if (p < 0) return [];
    const around = new Set(t.near.subarray(p * t.k, (p + 1) * t.k));
    return Array.from(s.near.subarray(i * s.k, (i + 1) * s.k)).filter((j) => around.has(s.partner[j]));
  };

  // --- building text safely
  function make(tag, properties = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(properties)) {
      if (key in node) node[key] = value; else node.setAttribute(key, value);
    }
    node.append(...children.filter((x) => x !== null));
    return node;
  }
  const labelled = (name, value) => make("div", {}, make("span", { className: "name" }, name + " "), value);

  function contexts(s, i) {
    const [from, to] = between(s.contexted, i), [before, token, after] = s.contexts;
    return Array.from({ length: to - from }, (_, j) => make("div", { className: "context" },
      "\u2026" + before[from + j], make("mark", {}, token[from + j]), after[from + j] + "\u2026"));
  }

  function card(s, i) {
    const link = s.link ? make("a", { href: s.link + s.ids[i], target: "_blank", rel: "noopener noreferrer" },
      "Neuronpedia") : null;
    const concept = s.concept[i] ? labelled("concept", data.concepts[s.concept[i] - 1]) : null;
    return make("div", { className: "card side-" + s.key }, make("strong", {}, `${s.key.toUpperCase()} ${s.ids[i]}`), " ",
      link ?? "", make("div", { className: "tokens" }, ...tokens(s, i).flatMap((x) => [make("code", {}, x), " "])),
      ...contexts(s, i), labelled("fires on", `${(100 * s.rate[i]).toPrecision(2)}% of tokens`),
      labelled("held-out r", s.partner[i] < 0 ? "no live partner"
        : `${correlation(s.held[i])}, rank ${s.rank[i] || "n/a"} of ${s.n} (${KINDS[s.kind[i]]})`), concept ?? "");
  }

  const brief = (s, i) => `${s.key.toUpperCase()} ${s.ids[i]} ${tokens(s, i).slice(0, 3).join(" ")}`;
  function jump(s, i) {
    return make("button", { type: "button", className: "jump", onclick: () => pick(s, i), onmouseenter: () => point(s, i),
      onfocus: () => point(s, i) }, brief(s, i));
  }

  // --- drawing
  function coordinates(s) {
    const map = s["map" + Math.min(+el("explorer-map").value, s.maps.length - 1)];
    const step = 100 / data.grid;
    s.x = new Float32Array(s.n); s.y = new Float32Array(s.n);
    for (let i = 0; i < s.n; i++) { s.x[i] = map[2 * i] * step; s.y[i] = map[2 * i + 1] * step; }
  }

  function coloured() {
    const mode = el("explorer-colour").value, family = (of) => (s, i) => {
      const at = s.key === of ? i : s.partner[i];
      return at < 0 ? 0 : Math.min(side[of].family[at], looks.groups.length);
    };
    const groups = (names, code) => ({ code, names, palette: [looks.none, ...names.map((_, i) =>
      looks.groups[i % looks.groups.length])] });
    const scale = (code, low, high) => ({ code, ends: [low, high], palette: [looks.none, ...looks.scale] });
    const steps = looks.scale.length - 1;
    if (mode === "concept") return groups(data.concepts, (s, i) => s.concept[i]);
    if (mode === "kind") return groups(KINDS.slice(1), (s, i) => s.kind[i]);
    if (mode.startsWith("family")) return groups(looks.groups.map((_, i) => i < looks.groups.length - 1 ?
      `family ${i + 1}` : "smaller families"), family(mode.slice(-1)));
    if (mode === "frequency") return scale((s, i) => 1 + Math.round(steps * Math.min(1, Math.max(0,
      (Math.log10(s.rate[i] + 1e-9) + 5) / 5))), "1 in 100,000 tokens", "every token");
    return scale((s, i) => s.held[i] === MISSING ? 0 : 1 + Math.round(steps * Math.max(0, s.held[i] / 10000)),
      "held-out r 0 or below", "1");
  }

  function draw() {
    const look = coloured(), least = +el("explorer-r").value;
    const wanted = KINDS.map((_, i) => el("explorer-kind-" + i).checked);
    el("explorer-r-value").textContent = least > -1 ? least.toFixed(2).replace("-", "\u2212") : "any";
    for (const s of Object.values(side)) {
      const shown = [], rest = [];
      for (let i = 0; i < s.n; i++) {
        const passes = least <= -1 || (s.held[i] !== MISSING && s.held[i] / 10000 >= least);
        s.visible[i] = wanted[s.kind[i]] && passes;
        (s.visible[i] ? shown : rest).push(i);
      }
      s.shown = Int32Array.from(shown);
      const pickedFrom = (list, of) => Float32Array.from(list, (i) => of[i]);
      s.colours.palette = look.palette; s.colours.low = -0.5; s.colours.high = look.palette.length - 0.5;
      s.points.data = { x: pickedFrom(shown, s.x), y: pickedFrom(shown, s.y),
        c: Float32Array.from(shown, (i) => look.code(s, i)) };
      s.rest.data = { x: pickedFrom(rest, s.x), y: pickedFrom(rest, s.y) };
      el("count-" + s.key).textContent = `${shown.length} of ${s.n} live features`;
    }
    legend(look);
    highlightSelection();
    overlay();
  }

  function legend(look) {
    const swatch = (color) => { const node = make("span", { className: "swatch" }); node.style.background = color; return node; };
    const box = el("explorer-legend");
    if (!look.names) {
      const strip = make("span", { className: "strip" });
      strip.style.background = `linear-gradient(to right, ${looks.scale.filter((_, i) => i % 32 === 0).join(",")})`;
      return box.replaceChildren(look.ends[0], " ", strip, " ", look.ends[1], " ", swatch(looks.none), " none");
    }
    box.replaceChildren(...look.names.map((name, i) => make("button", { type: "button", title: "select these",
      onclick: () => select(name, (s, at) => look.code(s, at) === i + 1) }, swatch(look.palette[i + 1]), name)),
      make("span", {}, swatch(looks.none), "none"));
  }

  // --- links and tooltips, above both maps
  function place(s, i) {  // in pixels of the box of both maps
    const box = el("explorer-maps").getBoundingClientRect(), view = s.view;
    const canvas = view.canvas_view.el.getBoundingClientRect(), frame = view.frame.bbox;
    const x = view.frame.x_scale.compute(s.x[i]), y = view.frame.y_scale.compute(s.y[i]);
    const inside = x >= frame.left && x <= frame.right && y >= frame.top && y <= frame.bottom;
    return { x: canvas.left - box.left + x, y: canvas.top - box.top + y, inside };
  }

  function drawn(tag, properties) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(properties)) node.setAttribute(key, value);
    return node;
  }

  function ring(s, i, main) {
    const at = place(s, i);
    return at.inside ? [drawn("circle", { cx: at.x, cy: at.y, r: main ? 9 : 6, class: `ring side-${s.key}${main ? " main" : ""}`,
      "data-side": s.key, "data-id": s.ids[i] })] : [];
  }

  function link(s, i, t, j, own) {  // as wide as the correlation
    const from = place(s, i), to = place(t, j), held = own ? s.held[i] : t.held[j];
    if (!from.inside || !to.inside) return [];
    const r = held === MISSING ? 0 : Math.max(0, held / 10000);
    const line = drawn("line", { x1: from.x, y1: from.y, x2: to.x, y2: to.y, "stroke-width": (0.75 + 6 * r).toFixed(2),
      class: own ? "link" : "link back", "data-r": (held / 10000).toFixed(3) });
    if (!own) return [line];
    const text = drawn("text", { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 - 6, class: "strength" });
    text.textContent = `r ${correlation(held)}`;
    return [line, text];
  }

  function partners(s, i) {
    const t = side[other(s.key)], best = s.partner[i];
    const back = Array.from(s.choosers(i)).filter((j) => j !== best);
    return { t, best, back: back.sort((x, y) => t.held[y] - t.held[x]).slice(0, 30) };
  }

  function overlay() {
    const svg = el("explorer-links"), tips = [el("tip-a"), el("tip-b")], now = hovered ?? picked;
    svg.replaceChildren();
    tips.forEach((tip) => { tip.hidden = true; });
    if (!now) return;
    const { s, i } = now, { t, best, back } = partners(s, i);
    svg.append(...back.flatMap((j) => [...link(s, i, t, j, false), ...ring(t, j, false)]));
    if (best >= 0) svg.append(...link(s, i, t, best, true), ...ring(t, best, true));
    svg.append(...ring(s, i, true));
    if (hovered) { tip(s, i); if (best >= 0) tip(t, best); }
  }

  function tip(s, i) {
    const box = el("tip-" + s.key), at = place(s, i), width = el("explorer-maps").clientWidth;
    if (!at.inside) return;
    box.replaceChildren(card(s, i));
    box.hidden = false;
    box.style.left = `${Math.max(0, Math.min(at.x + 14, width - box.offsetWidth))}px`;
    box.style.top = `${at.y + 14}px`;
  }

  function point(s, i) { hovered = s && { s, i }; overlay(); }

  function hover(name, geometry, indices) {
    const s = side[name];
    if (!indices.length) { if (hovered && hovered.s === s) point(null); return; }
    const far = (k) => (s.x[s.shown[k]] - geometry.x) ** 2 + (s.y[s.shown[k]] - geometry.y) ** 2;
    const i = s.shown[indices.reduce((best, k) => (far(k) < far(best) ? k : best))];
    if (!hovered || hovered.s !== s || hovered.i !== i) point(s, i);
  }

  // --- one feature in full
  function pick(s, i) {
    picked = { s, i };
    const { t, best, back } = partners(s, i), common = shared(s, i);
    const list = (name, items, none) => make("div", {}, make("h4", {}, name),
      items.length ? make("ul", {}, ...items.map((x) => make("li", {}, ...x))) : make("p", {}, none));
    const rest = Array.from(s.near.subarray(i * s.k, (i + 1) * s.k)).filter((j) => !common.includes(j));
    el("explorer-detail").replaceChildren(
      make("div", { className: "cards" }, card(s, i), best >= 0 ? card(t, best) : ""),
      make("div", { className: "lists" },
        list("Neighbours shared with the partner", common.map((j) => [jump(s, j), " with ", jump(t, s.partner[j])]),
          best < 0 ? "This feature has no live partner." : `None of its ${s.k} nearest neighbours.`),
        list("Neighbours not shared", rest.map((j) => [jump(s, j)]), "None."),
        list("Others whose best partner it is", back.map((j) => [jump(t, j), ` r ${correlation(t.held[j])}`]), "None.")));
    overlay();
  }

  // --- selecting
  function chosen(name, indices) {  // by a tool of a map
    const s = side[name], t = side[other(name)];
    if (String(indices) === String(s.marked)) return;  // marked by this script
    s.selected = indices.map((k) => s.shown[k]);
    const inT = new Set();
    for (const i of s.selected) { if (s.partner[i] >= 0) inT.add(s.partner[i]); }
    t.selected = [...inT].filter((j) => t.visible[j]);
    if (s.selected.length === 1) pick(s, s.selected[0]);
    settled(s.selected.length ? `${s.selected.length} features of ${name.toUpperCase()} and their partners` : "", s);
  }

  function select(what, holds) {  // on both sides, and zoom to them
    for (const s of Object.values(side)) s.selected = Array.from(s.shown).filter((i) => holds(s, i));
    const [a, b] = ["a", "b"].map((x) => side[x].selected.length);
    if (!a && !b) return settled(`No feature that is shown: ${what}.`);
    for (const s of Object.values(side)) if (s.selected.length) zoom(s, s.selected);
    settled(`${what}: ${a} features of A, ${b} of B`);
  }

  function settled(words, leading = null) {
    highlightSelection();
    el("explorer-said").textContent = words;
    table(leading);
    overlay();
  }

  function highlightSelection() {
    for (const s of Object.values(side)) {
      const wanted = new Set(s.selected), at = [];
      s.shown.forEach((i, k) => { if (wanted.has(i)) at.push(k); });
      s.marked = at;
      s.points.selected.indices = at;
    }
  }

  function zoom(s, list) {
    const ends = (of) => list.reduce(([low, high], i) => [Math.min(low, of[i]), Math.max(high, of[i])], [Infinity, -Infinity]);
    for (const [range, [low, high]] of [[s.xRange, ends(s.x)], [s.yRange, ends(s.y)]]) {
      const middle = (low + high) / 2, half = Math.max(4, 0.58 * (high - low));
      range.setv({ start: middle - half, end: middle + half });
    }
  }

  function search() {
    const asked = el("explorer-search").value.trim().toLocaleLowerCase();
    if (!asked) return settled("Type a token or the name of a concept.");
    const concept = 1 + data.concepts.findIndex((x) => x.toLocaleLowerCase() === asked);
    const found = (test) => new Set(data.folded.flatMap((word, i) => (test(word) ? [i] : [])));
    let words = found((word) => word === asked);
    if (!words.size && !concept) words = found((word) => word.startsWith(asked));
    const has = (s, i) => (concept && s.concept[i] === concept) ||
      s.tokens.subarray(...between(s.tokened, i)).some((x) => words.has(x));
    select(`\u201c${el("explorer-search").value.trim()}\u201d`, has);
  }

  function clear() {
    for (const s of Object.values(side)) {
      s.selected = [];
      for (const range of [s.xRange, s.yRange]) range.setv({ start: looks.range[0], end: looks.range[1] });
    }
    hovered = picked = null;
    el("explorer-detail").replaceChildren();
    settled("");
  }

  // --- the selection as a table
  const COLUMNS = ["A", "tokens of A", "B", "tokens of B", "r", "held-out r", "rank", "kind"];
  let rows = [];
  function table(leading) {
    const order = leading ? [leading] : Object.values(side), seen = new Set();
    rows = [];
    for (const s of order) for (const i of s.selected) {
      const j = s.partner[i], [a, b] = s.key === "a" ? [i, j] : [j, i];
      if (seen.has(`${a} ${b}`)) continue;
      seen.add(`${a} ${b}`);
      rows.push({ s, i, cells: [a < 0 ? "" : side.a.ids[a], a < 0 ? "" : tokens(side.a, a).join(" "), b < 0 ? "" : side.b.ids[b],
        b < 0 ? "" : tokens(side.b, b).join(" "), correlation(s.r[i]), correlation(s.held[i]), s.rank[i] || "",
        s.kind[i] === 1 ? `best of ${s.key.toUpperCase()}` : KINDS[s.kind[i]]] });
    }
    rows.sort((x, y) => y.s.held[y.i] - x.s.held[x.i]);
    const body = rows.slice(0, SHOWN_ROWS).map(({ s, i, cells }) => make("tr", { tabIndex: 0, onmouseenter: () => point(s, i),
      onmouseleave: () => point(null), onfocus: () => point(s, i), onblur: () => point(null), onclick: () => pick(s, i),
      onkeydown: (event) => { if (event.key === "Enter") pick(s, i); } }, ...cells.map((x) => make("td", {}, String(x)))));
    el("explorer-rows").replaceChildren(...body);
    el("explorer-table").hidden = !rows.length;
    el("explorer-more").textContent = rows.length > SHOWN_ROWS ? `${SHOWN_ROWS} of ${rows.length} rows are shown; the CSV has all.` : "";
  }

  const quoted = (x) => (/[",\r\n]/.test(x) ? `"${x.replaceAll('"', '""')}"` : x);
  const csv = () => [COLUMNS, ...rows.map((x) => x.cells)].map((row) =>
    row.map((x) => quoted(String(x).replace("\u2212", "-"))).join(",")).join("\r\n") + "\r\n";

  async function copy() {
    const text = csv();
    try { await navigator.clipboard.writeText(text); } catch {
      const area = make("textarea", { value: text });  // where the browser gives a file no clipboard
      document.body.append(area); area.select(); document.execCommand("copy"); area.remove();
    }
    el("explorer-said").textContent = `${rows.length} rows copied as CSV`;
  }

  // --- by keyboard: arrows go from feature to feature
  const AHEAD = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  function key(s, event) {
    if (event.key === "Escape") return clear();
    const now = hovered && hovered.s === s ? hovered : picked && picked.s === s ? picked : null;
    if (event.key === "Enter" && now) { event.preventDefault(); return pick(s, now.i); }
    if (!(event.key in AHEAD) || !s.shown.length) return;
    event.preventDefault();
    if (now) return point(s, nearest(s, now.i, AHEAD[event.key]));
    const best = s.shown.reduce((x, i) => (s.held[i] > s.held[x] ? i : x), s.shown[0]);  // begin at the strongest
    point(s, best);
  }

  function nearest(s, from, [dx, dy]) {
    let found = from, least = Infinity;
    for (const i of s.shown) {
      const x = s.x[i] - s.x[from], y = s.y[i] - s.y[from], along = x * dx + y * dy, off = Math.abs(x * dy - y * dx);
      if (along > 1e-6 && off <= along && along + 2 * off < least) { least = along + 2 * off; found = i; }
    }
    return found;
  }

  // --- start
  async function start() {
    looks = JSON.parse(el("explorer-looks").textContent);
    data = await unpacked(el("explorer-data").textContent.trim());
    data.folded = data.words.map((x) => x.toLocaleLowerCase());
    ["a", "b"].forEach((name, i) => { side[name] = sideOf(name, i); });
    for (const item of JSON.parse(el("explorer-figures").textContent)) {
      const views = await Bokeh.embed.embed_item(item), name = item.target_id.slice(-1), s = side[name];
      s.view = views.roots[0];
      const of = (part) => s.view.model.document.get_model_by_name(`${part}-${name}`);
      [s.points, s.rest, s.colours, s.xRange, s.yRange] = ["points", "rest", "colours", "x", "y"].map(of);
      s.choosers = choosers(s, side[other(name)]);
      if (matchMedia("(pointer: coarse)").matches) s.view.model.toolbar.active_drag = null;  // a finger scrolls the page
      el("box-" + name).addEventListener("keydown", (event) => key(s, event));
      el("box-" + name).addEventListener("mouseleave", () => point(null));
      coordinates(s);
    }
    const longest = Object.values(side).reduce((x, s) => (s.maps.length > x.length ? s.maps : x), []);
    el("explorer-map").replaceChildren(...longest.map((name, i) => make("option", { value: i }, name)));
    el("explorer-concepts").replaceChildren(...data.concepts.map((x) => make("option", { value: x })));
    listen();
    draw();
    el("explorer").dataset.ready = Math.round(performance.now());  // milliseconds after the page was asked for
  }

  function listen() {
    const redraw = () => { Object.values(side).forEach(coordinates); draw(); };
    el("explorer-map").onchange = redraw;
    el("explorer-colour").onchange = draw;
    el("explorer-r").oninput = draw;
    KINDS.forEach((_, i) => { el("explorer-kind-" + i).onchange = draw; });
    el("explorer-form").onsubmit = (event) => { event.preventDefault(); search(); };
    el("explorer-clear").onclick = clear;
    el("explorer-copy").onclick = copy;
    new ResizeObserver(() => overlay()).observe(el("explorer-maps"));
  }

  const ready = start().catch((error) => {
    el("explorer-said").textContent = "The maps cannot be drawn in this browser: " + error.message;
    throw error;
  });
  return { hover, chosen, moved: () => requestAnimationFrame(overlay), ready, side, csv, place };
})();
