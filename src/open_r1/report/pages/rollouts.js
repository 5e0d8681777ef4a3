// The browser of sampled groups: filtered all at once, drawn a page at a time.

const PAGE = 6; // groups
const SMALL = 160; // px under which a picture is shown pixel by pixel
let pictures = null; // read when first needed: it is most of the page
let found = [];
let page = 0;

function pictureOf(name) {
  pictures = pictures || JSON.parse(byId("pictures").textContent);
  return Object.hasOwn(pictures, name) ? pictures[name] : null;
}

function filters() {
  const number = (id) => (byId(id).value === "" ? null : Number(byId(id).value));
  return {
    run: number("f-run"), equal: byId("f-equal").value, text: byId("f-text").value.toLowerCase(),
    steps: [number("f-step-from") ?? -Infinity, number("f-step-to") ?? Infinity],
    rewards: [number("f-reward-from") ?? -Infinity, number("f-reward-to") ?? Infinity],
    truncated: byId("f-truncated").checked, unparsed: byId("f-unparsed").checked,
  };
}

const isEqual = (group) => group.completions.every((c) => Math.abs(c.advantage) < 1e-6);
const isUnparsed = (completion) => completion.parsed === null;

function groupPasses(group, f) {
  if (f.run !== null && group.run !== f.run) return false;
  if (group.step < f.steps[0] || group.step > f.steps[1]) return false;
  return !f.equal || (f.equal === "equal") === isEqual(group);
}

function completionPasses(completion, group, f) {
  if (f.truncated && !completion.truncated) return false;
  if (f.unparsed && !isUnparsed(completion)) return false;
  if (completion.reward < f.rewards[0] || completion.reward > f.rewards[1]) return false;
  return !f.text || completion.text.toLowerCase().includes(f.text) || group.prompt.toLowerCase().includes(f.text);
}

const meanReward = (group) => group.completions.reduce((sum, c) => sum + c.reward, 0) / group.completions.length;
const ORDERS = {
  new: (a, b) => b.step - a.step, old: (a, b) => a.step - b.step,
  low: (a, b) => meanReward(a) - meanReward(b), high: (a, b) => meanReward(b) - meanReward(a),
};

function search() {
  const f = filters();
  found = DATA.groups.filter((group) => groupPasses(group, f) && group.completions.some((c) => completionPasses(c, group, f)));
  found.sort(ORDERS[byId("f-order").value]);
  page = 0;
  drawPage();
}

function drawPage() {
  const f = filters();
  const shown = found.slice(page * PAGE, (page + 1) * PAGE);
  const completions = found.reduce((sum, group) => sum + group.completions.filter((c) => completionPasses(c, group, f)).length, 0);
  const range = found.length ? `${page * PAGE + 1}–${page * PAGE + shown.length} of ` : "";
  byId("count").textContent = `${range}${found.length.toLocaleString("en")} groups, ${completions.toLocaleString("en")} completions`;
  byId("previous").disabled = page === 0;
  byId("next").disabled = (page + 1) * PAGE >= found.length;
  const nothing = DATA.groups.length ? "No group matches these filters." : "No rollouts are stored: --rollout_groups 0, or a run that samples nothing.";
  byId("groups").replaceChildren(...(shown.length ? shown.map((group) => groupCard(group, f)) : [el("p", { class: "empty" }, nothing)]));
}

function turn(by) {
  const last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
  const next = Math.max(0, Math.min(last, page + by));
  if (next === page) return;
  page = next;
  drawPage();
  byId("filters").scrollIntoView({ block: "start" });
}

function groupCard(group, f) {
  const note = "under noise, as the completions marked noisy saw it";
  const noisy = [...(group.noisy_images || []).map((name, number) => frame(name, number, note)), ...(group.noisy_videos || []).map((video, number) => filmOf(video, number, note))];
  const frames = [...group.images.map((name, number) => frame(name, number)), ...(group.videos || []).map((video, number) => filmOf(video, number)), ...noisy];
  const cards = group.completions.map((c) => completionCard(c, completionPasses(c, group, f), group));
  const choose = (chosen) => {
    cards.forEach((card, i) => card.setAttribute("aria-pressed", i === chosen));
    frames.forEach((one) => one.outline(group, chosen));
  };
  cards.forEach((card, i) => {
    card.addEventListener("click", () => choose(i));
    card.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choose(i);
    });
  });
  choose(Math.max(0, group.completions.findIndex((c) => completionPasses(c, group, f))));
  const body = el("div", { class: frames.length ? "body" : "body textual" }, frames.length ? el("div", { class: "pictures" }, ...frames.map((one) => one.node)) : null,
    el("div", {}, el("pre", { class: "prompt", tabindex: 0 }, group.prompt), el("div", { class: "completions" }, ...cards)));
  return el("article", { class: "group" }, heading(group), body);
}

function heading(group) {
  const run = DATA.runs.length > 1 ? el("span", {}, el("i", { class: "dot run" + (group.run % 6) }), DATA.runs[group.run].name) : null;
  return el("header", {}, run, el("b", { class: "num" }, "step " + group.step), el("span", { class: "soft" }, group.where),
    el("span", { class: "gold" }, "gold ", el("b", {}, group.solution.length > 160 ? group.solution.slice(0, 160) + "…" : group.solution)),
    isEqual(group) ? el("span", { class: "tag" }, "all rewards equal") : null);
}

function frame(name, number, note) {
  const uri = pictureOf(name);
  if (!uri) return { node: el("div", { class: "frame missing" }, "picture " + (number + 1) + " is no longer stored"), outline: () => {} };
  const image = el("img", { alt: "picture " + (number + 1), decoding: "async" });
  image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth < SMALL));
  image.src = uri;
  const layer = svg("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
  const labels = el("div", {});
  const outline = (group, chosen) => {
    const here = (outlines) => (outlines || []).filter((one) => one.image === number && one.points.length);
    const gold = here(group.gold);
    const said = group.completions.flatMap((c, i) => here(c.outlines).map((one) => ({ ...one, faint: i !== chosen })));
    said.sort((a, b) => Number(b.faint) - Number(a.faint));
    layer.replaceChildren(...said.filter((one) => one.faint).map((one) => polygon(one, "said faint")), ...gold.flatMap((one) => [polygon(one, "casing"), polygon(one, "gold")]), ...said.filter((one) => !one.faint).flatMap((one) => [polygon(one, "casing said"), polygon(one, "said")]));
    labels.replaceChildren(...[...gold, ...said.filter((one) => !one.faint)].filter((one) => one.label).map(label));
  };
  const framed = el("div", { class: "frame" }, image, layer, labels);
  return { node: note ? el("div", {}, framed, el("div", { class: "soft" }, note)) : framed, outline };
}

// A video as a film strip that `film.js` plays; frames that a run has thinned out are left out.
function filmOf(video, number, note) {
  const name = "video " + (number + 1) + (note ? ", " + note : ""), outline = () => {};
  const stored = video.frames.map((file, at) => [pictureOf(file), video.seconds[at]]).filter(([uri]) => uri);
  if (!stored.length) return { node: el("div", { class: "frame missing" }, name + " is no longer stored"), outline };
  const cells = stored.map(([uri, seconds]) => el("li", { "data-seconds": seconds }, el("img", { src: uri, alt: "", decoding: "async" }), el("span", { class: "num" }, seconds.toFixed(2))));
  const shown = stored.length < video.sampled ? `${stored.length} of the ${video.sampled} frames` : `${stored.length} frames`;
  const node = el("div", { class: "film", role: "group", "aria-label": name }, el("div", { class: "frame" }, el("img", { class: "screen" })),
    el("div", { class: "player" }, el("button", { type: "button" }), el("input", { type: "range", min: 0, max: stored.length - 1, value: 0, "aria-label": "frame of " + name }), el("span", { class: "time num" })),
    el("ol", { class: "reel", tabindex: 0, "aria-label": "frames of " + name }, ...cells), el("div", { class: "soft" }, `${name}: ${shown} that the model saw of ${short(video.span)} s`));
  return { node: playable(node), outline };
}

function polygon(one, kind) {
  return svg("polygon", { class: kind, points: one.points.map((point) => point.join(",")).join(" ") });
}

function label(one) {
  const node = el("span", { class: "label" }, one.label);
  node.style.left = 100 * Math.min(...one.points.map(([x]) => x)) + "%";
  node.style.top = 100 * Math.min(...one.points.map(([, y]) => y)) + "%";
  return node;
}

// Tokens are shaded by the nats that the picture adds to them, fully from 3 on; those that it makes less likely are underlined.
const FULL_SHADE = 3;

function shaded(dependency) {
  return dependency.filter(([text]) => text).map(([text, nats]) => {
    const node = el("span", { class: nats < -0.05 ? "token less" : "token", title: `${signed(nats)} nats by the picture` }, text);
    node.style.setProperty("--shade", Math.round(100 * Math.min(1, Math.max(0, nats) / FULL_SHADE)) + "%");
    return node;
  });
}

// A completion with tools: all pictures of the row and of its tools with the boxes that were asked for, then the turns.
function strip(c, group) {
  const answers = c.turns.flatMap((turn) => turn.answers);
  const names = [...group.images, ...answers.flatMap((answer) => answer.images)];
  const asked = answers.map((answer) => answer.asked).filter(Boolean);
  if (!answers.length || !names.length) return null;
  return el("div", { class: "strip" }, ...names.map((name, number) => {
    const one = frame(name, number);
    one.outline({ gold: [], completions: [{ outlines: asked }] }, 0);
    return one.node;
  }));
}

function turnsOf(c) {
  return c.turns.flatMap((turn) => [el("pre", {}, turn.text), ...turn.answers.map((answer) =>
    el("pre", { class: answer.error ? "answer failed" : "answer" }, el("b", {}, answer.name || "malformed call"), answer.images.length ? ` ${answer.images.length} picture(s) ` : " ", answer.text)),
    turn.limit ? el("pre", { class: "answer failed" }, el("b", {}, "answer left out"), ` by ${turn.limit}`) : null].filter(Boolean));
}

function completionCard(c, passes, group) {
  const side = c.advantage > 1e-6 ? "up" : c.advantage < -1e-6 ? "down" : "flat";
  const parts = Object.entries(c.rewards).flatMap(([name, value]) => [el("span", {}, name), el("span", {}, value === null ? "–" : value.toFixed(3))]);
  const tags = [c.noisy ? el("span", { class: "tag" }, "noisy") : null, c.truncated ? el("span", { class: "tag" }, "truncated") : null, isUnparsed(c) ? el("span", { class: "tag" }, "unparsed") : null].filter(Boolean);
  const read = isUnparsed(c) || c.parsed === undefined ? null : el("div", { class: "read" }, "read: " + c.parsed);
  return el("div", { class: passes ? "completion" : "completion dim", role: "button", tabindex: 0 },
    el("div", { class: "score" }, el("span", {}, "reward ", el("b", {}, c.reward.toFixed(3))), el("span", { class: side, title: "advantage" }, signed(c.advantage))),
    el("div", { class: "parts" }, ...parts), tags.length ? el("div", {}, ...tags) : null, c.turns ? strip(c, group) : null,
    ...(c.turns ? turnsOf(c) : [el("pre", {}, ...(c.dependency ? shaded(c.dependency) : [c.text]))]), read,
    c.tokens === undefined ? null : el("div", { class: "soft num" }, c.tokens + " tokens"));
}

byId("run-label").hidden = DATA.runs.length < 2;
byId("filters").addEventListener("input", debounced(search, 80));
byId("filters").addEventListener("reset", () => setTimeout(search));
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("previous").addEventListener("click", () => turn(-1));
byId("next").addEventListener("click", () => turn(1));
addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, svg, pre, .scroll, .reel") || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "ArrowLeft") turn(-1);
  if (event.key === "ArrowRight") turn(1);
});
search();
document.documentElement.dataset.ready = "true";
