// How the rewards of stored completions are distributed over the steps of a run.

const ROWS = 12;
const COLUMNS = 28;

function distribution(run, name) {
  const groups = DATA.groups.filter((group) => group.run === run);
  const values = groups.flatMap((group) => group.completions.map((c) => [group.step, name === null ? c.reward : c.rewards[name]])).filter(([, v]) => v !== null && v !== undefined);
  if (!values.length) return null;
  const [s0, s1] = span(values.map(([step]) => step));
  const [v0, v1] = span(values.map(([, value]) => value));
  const columns = Math.min(COLUMNS, s1 - s0 + 1);
  const counts = Array.from({ length: columns }, () => new Array(ROWS).fill(0));
  for (const [step, value] of values) {
    const column = Math.min(columns - 1, Math.floor(((step - s0) / (s1 - s0 + 1)) * columns));
    counts[column][v1 > v0 ? Math.min(ROWS - 1, Math.floor(((value - v0) / (v1 - v0)) * ROWS)) : 0]++;
  }
  return heatmap(run, name, counts, [s0, s1], [v0, v1], values.length);
}

function span(values) {
  return values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
}

function heatmap(run, name, counts, [s0, s1], [v0, v1], total) {
  const width = 360;
  const [w, h] = [(width - MARGIN.left - MARGIN.right) / counts.length, (HEIGHT - MARGIN.top - MARGIN.bottom) / ROWS];
  const cells = counts.flatMap((column, i) => {
    const sum = column.reduce((a, b) => a + b, 0) || 1;
    return column.map((count, j) => !count ? null : svg("rect", { class: "cell", x: MARGIN.left + i * w, y: HEIGHT - MARGIN.bottom - (j + 1) * h, width: w - 0.6, height: h - 0.6, "fill-opacity": (0.08 + 0.92 * (count / sum)).toFixed(3) }, svg("title", {}, `${count} of ${sum} completions`)));
  });
  const title = name === null ? "Reward, weighted sum" : "Reward “" + name + "”";
  const labels = [
    svg("text", { x: MARGIN.left - 6, y: MARGIN.top + 9, "text-anchor": "end" }, short(v1)),
    v1 > v0 ? svg("text", { x: MARGIN.left - 6, y: HEIGHT - MARGIN.bottom, "text-anchor": "end" }, short(v0)) : null,
    svg("text", { x: MARGIN.left, y: HEIGHT - 4 }, "step " + s0),
    svg("text", { x: width - MARGIN.right, y: HEIGHT - 4, "text-anchor": "end" }, "step " + s1),
  ];
  const who = DATA.runs.length > 1 ? el("span", { class: "values" }, el("span", {}, el("i", { class: "dot run" + (run % 6) }), DATA.runs[run].name)) : null;
  return el("figure", { class: "chart" }, el("figcaption", {}, el("h3", {}, title), who), svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title + " over steps" }, ...cells, ...labels), el("p", { class: "note num" }, total.toLocaleString("en") + " completions"));
}

function drawDistributions() {
  const figures = DATA.runs.flatMap((_, run) => {
    const first = DATA.groups.find((group) => group.run === run);
    const names = first ? Object.keys(first.completions[0].rewards) : [];
    return [...(names.length > 1 ? [null] : []), ...names].map((name) => distribution(run, name));
  }).filter(Boolean);
  byId("distributions").replaceChildren(...figures);
  byId("rewards").hidden = !figures.length;
}

drawDistributions();
