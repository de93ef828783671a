// The decisions of the classifiers about a segment.

const decisionWords = { // [the segment has the class, it is predicted] -> symbol, word, style
  "1,1": ["✓", "found", "correct"], "1,0": ["✗", "missed", "wrong"], "0,1": ["✗", "false alarm", "wrong"], "0,0": ["✓", "correctly absent", "correct"],
};

function decisionBadge(isTrue, predicted, name = "") {
  const [symbol, word, style] = decisionWords[`${Number(isTrue)},${predicted}`];
  return make("span", { class: `badge ${style}` }, `${symbol} ${word}${name && `: ${name}`}`);
}

// The decisions of each run about each clip: a map from the clip to its row.
const decisionsByRun = {};
function loadDecisions(run) {
  decisionsByRun[run] ??= load(core.runs[run].data).then((rows) => new Map(rows.map((row) => [row[0], row])));
  return decisionsByRun[run];
}

// The decisions of a row: class -> { score, threshold, predicted }.
function readDecisions(row) {
  const decisions = new Map();
  for (let i = 0; i < row[2].length; i += 4) decisions.set(row[2][i], { score: row[2][i + 1], threshold: row[2][i + 2], predicted: row[2][i + 3] });
  return decisions;
}

const runTitle = (run) => core.runs[run].classifier + (["", "score"].includes(core.runs[run].scoring) ? "" : ` (${core.runs[run].scoring})`);
const numberText = (value) => (value === null ? "none" : Math.abs(value) >= 0.001 || value === 0 ? roundedText(value, 3) : value.toPrecision(2));
const noneText = () => make("span", { class: "quiet" }, "none");

// The response of a language model, folded.
function responseDetails(row) {
  const [, , , text, error] = row;
  if (text == null && !error) return null;
  return make("details", { class: "response" }, make("summary", {}, "Response"), text == null ? null : make("blockquote", {}, text === "" ? "(empty)" : text), error ? make("p", { class: "quiet" }, `error: ${error}`) : null);
}

// A row of the table: what a run decides about the class `label`, and its other decisions that are not "correctly absent".
function decisionRow(run, row, segment, label) {
  const title = make("th", { scope: "row" }, runTitle(run), core.runs[run].trials > 1 ? make("small", {}, `first of ${core.runs[run].trials} trials`) : null);
  if (!row) return make("tr", {}, title, make("td", { colspan: label === null ? 1 : 4, class: "quiet" }, "no decision about this segment on this page"));
  const details = responseDetails(row);
  if (row[1]) return make("tr", {}, title, make("td", { colspan: label === null ? 1 : 4 }, make("span", { class: "badge wrong" }, `no decision: ${row[1]}`), details));
  const decisions = readDecisions(row);
  const has = (name) => segment[SEGMENT_CLASSES].includes(name);
  const others = [...decisions].filter(([name, { predicted }]) => name !== label && (has(name) || predicted)).map(([name, { predicted }]) => decisionBadge(has(name), predicted, core.classes[name]));
  const cells = [];
  if (label !== null) {
    const own = decisions.get(label);
    cells.push(
      make("td", {}, own ? decisionBadge(has(label), own.predicted) : make("span", { class: "quiet" }, "not among the stored scores")),
      make("td", { class: "number" }, own ? (own.score === null ? "no score" : numberText(own.score)) : ""),
      make("td", { class: "number" }, own ? (own.threshold === null ? "no threshold" : numberText(own.threshold)) : ""));
  }
  return make("tr", {}, title, ...cells, make("td", { class: "badges" }, others.length ? others : noneText(), details));
}

// Every score of the segment: a row for each class, a column for each run.
function scoreTable(rows, segment) {
  const decisions = rows.map((row) => (row && !row[1] ? readDecisions(row) : new Map()));
  const labels = core.classes.map((_, label) => label).filter((label) => decisions.some((run) => run.has(label)));
  const cell = (label, own) => {
    if (!own) return make("td", { class: "number quiet" }, "not stored");
    const word = decisionWords[`${Number(segment[SEGMENT_CLASSES].includes(label))},${own.predicted}`];
    return make("td", { class: `number ${word[2]}`, title: word[1] }, own.score === null ? word[1] : `${numberText(own.score)} `, own.score === null ? null : make("span", { "aria-label": word[1] }, word[0]));
  };
  return make("div", { class: "scroll" }, make("table", { class: "plain-table scores-table" },
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "class"), rows.map((_, run) => make("th", { scope: "col", class: "number" }, runTitle(run))))),
    make("tbody", {}, labels.map((label) => make("tr", {}, make("th", { scope: "row" }, core.classes[label], segment[SEGMENT_CLASSES].includes(label) ? make("small", {}, "in this segment") : null), decisions.map((run) => cell(label, run.get(label))))))));
}

// The table of the decisions of all runs about a segment; `label` is the class of the selected event, or null.
async function decisionTable(clip, segment, label) {
  const rows = await Promise.all(core.runs.map(async (_, run) => (await loadDecisions(run)).get(clip)));
  const headings = label === null ? ["classifier", "decisions"] : ["classifier", "decision", "score", "threshold", "other decisions"];
  const table = make("table", { class: "plain-table event-decisions" },
    make("thead", {}, make("tr", {}, headings.map((text) => make("th", { scope: "col", class: ["score", "threshold"].includes(text) ? "number" : null }, text)))),
    make("tbody", {}, rows.map((row, run) => decisionRow(run, row, segment, label))));
  const scores = make("details", { class: "all-scores" }, make("summary", {}, "Scores of all classes"));
  scores.addEventListener("toggle", () => { if (scores.open && scores.childElementCount === 1) scores.append(scoreTable(rows, segment)); });
  return [make("h4", {}, label === null ? "Decisions about this segment" : `Decisions about ${core.classes[label]} in this segment`), make("div", { class: "scroll" }, table), scores];
}
