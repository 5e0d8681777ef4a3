// Curves of all runs over one another.

const MARGIN = { left: 44, right: 8, top: 8, bottom: 20 };
const HEIGHT = 168;
const POINTS = 500; // of a curve that are drawn; longer ones are averaged

// [{run, points: [[x, y]]}] of one metric
function curvesOf(key, axis) {
  return DATA.runs.map((run, number) => {
    const x = run.columns[axis] || [];
    const y = run.columns[key] || [];
    const points = y.map((value, i) => [x[i], value]).filter(([a, b]) => a !== null && a !== undefined && b !== null);
    return { run: number, points };
  }).filter((curve) => curve.points.length);
}

// A schedule or a count is shown as it is.
const smoothingOf = (key) => (DATA.exact.includes(key) ? 0 : Number(byId("smoothing").value));

// Exponential moving average with bias correction, as open_r1.report.curves.smooth.
function smoothed(points, weight) {
  let mean = 0;
  let total = 0;
  return points.map(([x, y]) => {
    mean = weight * mean + y;
    total = weight * total + 1;
    return [x, mean / total];
  });
}

function fewer(points) {
  const size = Math.ceil(points.length / POINTS);
  if (size === 1) return points;
  const means = [];
  for (let i = 0; i < points.length; i += size) {
    const part = points.slice(i, i + size);
    means.push([0, 1].map((k) => part.reduce((sum, point) => sum + point[k], 0) / part.length));
  }
  return means;
}

// The drawn range of y: the data with room, and the nearest bound of the healthy range where all data is outside.
function yRange(curves, metric) {
  let low = Infinity;
  let high = -Infinity;
  for (const { points } of curves) {
    for (const [, y] of points) {
      low = Math.min(low, y);
      high = Math.max(high, y);
    }
  }
  if (metric && metric.high !== null && low > metric.high) low = metric.high;
  if (metric && metric.low !== null && high < metric.low) high = metric.low;
  const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 0.1;
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((size) => size >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

// A tick with as many decimals as its neighbours.
function alike(value, marks) {
  const step = marks.length > 1 ? marks[1] - marks[0] : value;
  const decimals = Math.max(0, -Math.floor(Math.log10(Math.abs(step) || 1) + 1e-9));
  return decimals > 3 || Math.abs(value) >= 1e5 ? short(value) : value.toFixed(decimals);
}

function pathOf(points, x, y) {
  return points.map(([a, b], i) => (i ? "L" : "M") + x(a).toFixed(1) + " " + y(b).toFixed(1)).join("");
}

function scales(curves, metric, width) {
  const xs = curves.flatMap(({ points }) => [points[0][0], points[points.length - 1][0]]);
  const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  const [y0, y1] = yRange(curves, metric);
  const x = (v) => MARGIN.left + ((v - x0) / (x1 - x0 || 1)) * (width - MARGIN.left - MARGIN.right);
  const y = (v) => HEIGHT - MARGIN.bottom - ((v - y0) / (y1 - y0)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  return { x, y, x0, x1, y0, y1 };
}

function axes(scale, width, axis) {
  const { x, y, x0, x1, y0, y1 } = scale;
  const marks = ticks(y0, y1, 4);
  const nodes = marks.flatMap((v) => [
    svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(v), y2: y(v) }),
    svg("text", { x: MARGIN.left - 6, y: y(v) + 4, "text-anchor": "end" }, alike(v, marks)),
  ]);
  const places = x1 > x0 ? ticks(x0, x1, Math.max(2, width / 90)) : [x0];
  return nodes.concat(places.map((v) => {
    const anchor = x(v) > width - 24 ? "end" : "middle";
    return svg("text", { x: x(v), y: HEIGHT - 4, "text-anchor": anchor }, axis === "seconds" ? clock(v) : short(v));
  }));
}

function band(metric, scale, width) {
  if (!metric || (metric.low === null && metric.high === null)) return null;
  const low = Math.max(scale.y0, metric.low === null ? -Infinity : metric.low);
  const high = Math.min(scale.y1, metric.high === null ? Infinity : metric.high);
  if (high <= low) return null;
  return svg("rect", { class: "band", x: MARGIN.left, width: width - MARGIN.left - MARGIN.right, y: scale.y(high), height: scale.y(low) - scale.y(high) });
}

function chart(key) {
  const metric = DATA.health[key] || null;
  const figure = el("figure", { class: "chart", "data-key": key });
  const draw = () => drawChart(figure, key, metric);
  figure.redraw = draw;
  return figure;
}

function titleOf(key) {
  const reward = key.match(/^rewards\/(.*)\/mean$/);
  if (DATA.health[key]) return DATA.health[key].title;
  return reward ? "Reward “" + reward[1] + "”" : key;
}

function drawChart(figure, key, metric) {
  const axis = byId("axis").value;
  const weight = smoothingOf(key);
  const raw = curvesOf(key, axis);
  const smooth = raw.map(({ run, points }) => ({ run, points: smoothed(points, weight) }));
  const width = Math.max(figure.clientWidth - 26, 200);
  const scale = scales(raw, metric, width);
  const values = smooth.map(({ run, points }) => el("span", {}, el("i", { class: "dot run" + (run % 6) }), short(points[points.length - 1][1])));
  const note = metric ? (metric.unit ? metric.unit + ". " : "") + "Healthy: " + metric.healthy.replaceAll("`", "") : "";
  const cursor = svg("line", { class: "cursor", y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom, visibility: "hidden" });
  const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", tabindex: 0, "aria-label": titleOf(key) + ": newest " + values.map((v) => v.textContent).join(", ") },
    band(metric, scale, width), ...axes(scale, width, axis),
    ...raw.map(({ run, points }) => svg("path", { class: "raw s" + (run % 6), d: pathOf(fewer(points), scale.x, scale.y) })),
    ...smooth.map(({ run, points }) => svg("path", { class: "s" + (run % 6), d: pathOf(fewer(points), scale.x, scale.y) })), cursor);
  figure.replaceChildren(el("figcaption", {}, el("h3", {}, titleOf(key)), el("span", { class: "values" }, ...values)), picture, el("p", { class: "note" }, note));
  addTip(figure, picture, cursor, raw, smooth, scale, axis);
}

function addTip(figure, picture, cursor, raw, smooth, scale, axis) {
  const tip = el("div", { class: "tip", hidden: "" });
  figure.append(tip);
  const longest = raw.reduce((a, b) => (b.points.length > a.points.length ? b : a)).points;
  let at = longest.length - 1;
  const show = (i) => {
    at = Math.max(0, Math.min(longest.length - 1, i));
    const x = longest[at][0];
    const rows = smooth.map(({ run, points }, n) => {
      const j = nearest(points, x);
      return el("div", {}, el("span", {}, el("i", { class: "dot run" + (run % 6) }), DATA.runs.length > 1 ? DATA.runs[run].name : "value"), el("b", {}, short(raw[n].points[j][1]) + " (" + short(points[j][1]) + ")"));
    });
    tip.replaceChildren(el("div", {}, axis === "seconds" ? clock(x) : "step " + x), ...rows);
    tip.hidden = false;
    const left = scale.x(x);
    tip.style.top = "3.4rem";
    tip.style.left = Math.max(4, Math.min(left + 22, figure.clientWidth - tip.offsetWidth - 6)) + "px";
    cursor.setAttribute("x1", left);
    cursor.setAttribute("x2", left);
    cursor.setAttribute("visibility", "visible");
  };
  const hide = () => {
    tip.hidden = true;
    cursor.setAttribute("visibility", "hidden");
  };
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const along = ((event.clientX - box.left) / box.width) * picture.viewBox.baseVal.width;
    const share = (along - MARGIN.left) / (picture.viewBox.baseVal.width - MARGIN.left - MARGIN.right);
    show(nearest(longest, scale.x0 + share * (scale.x1 - scale.x0)));
  });
  picture.addEventListener("pointerleave", hide);
  picture.addEventListener("blur", hide);
  picture.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    event.stopPropagation();
    event.preventDefault();
    show(tip.hidden ? at : at + move);
  });
}

function nearest(points, x) {
  let low = 0;
  let high = points.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] <= x) low = middle;
    else high = middle;
  }
  return Math.abs(points[low][0] - x) <= Math.abs(points[high][0] - x) ? low : high;
}

function keysShown() {
  const logged = [...new Set(DATA.runs.flatMap((run) => Object.keys(run.columns)))].filter((key) => curvesOf(key, "step").length);
  const rewards = logged.filter((key) => key.startsWith("rewards/") && key.endsWith("/mean"));
  const known = Object.keys(DATA.health).filter((key) => logged.includes(key));
  const first = [...new Set([...known.slice(0, 1), ...rewards, ...known])];
  if (!byId("all-metrics").checked) return first;
  return [...first, ...logged.filter((key) => !first.includes(key) && key !== "step" && key !== "seconds")];
}

function drawCharts() {
  byId("charts").replaceChildren(...keysShown().map(chart));
  redraw();
}

function redraw() {
  byId("smoothing-value").textContent = Number(byId("smoothing").value).toFixed(2);
  for (const figure of byId("charts").children) figure.redraw();
}

drawCharts();
byId("smoothing").addEventListener("input", redraw);
byId("axis").addEventListener("change", redraw);
byId("all-metrics").addEventListener("change", drawCharts);
byId("curve-controls").addEventListener("submit", (event) => event.preventDefault());
addEventListener("resize", debounced(redraw, 150));
