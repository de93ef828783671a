// Browse the clips: recall and precision by class, a confusion matrix of buttons, and the clips of the selected cell.

const MANY_COLUMNS = 20; // a wider matrix has small cells
const MAX_LISTED_CONFUSIONS = 20;

function confusionCounts(clips) {
  const counts = new Map(); // true class -> predicted -> number of predictions
  for (const [clip, rows] of clips)
    for (const row of rows) {
      const line = counts.get(core.labels[clip]) || counts.set(core.labels[clip], new Map()).get(core.labels[clip]);
      line.set(row[2], (line.get(row[2]) || 0) + 1);
    }
  return counts;
}

function classBars(counts, select) {
  const predictedCounts = new Map();
  for (const line of counts.values()) for (const [predicted, n] of line) predictedCounts.set(predicted, (predictedCounts.get(predicted) || 0) + n);
  const lines = core.classes.map((label, i) => {
    const line = counts.get(i) || new Map();
    const total = [...line.values()].reduce((a, b) => a + b, 0);
    const correct = line.get(i) || 0;
    return { i, label, total, correct, precision: predictedCounts.get(i) ? correct / predictedCounts.get(i) : null };
  });
  return make("table", { class: "bars" },
    make("thead", {}, make("tr", {}, ["class", "recall", "", "precision"].map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, lines.map((line) => make("tr", {},
      make("th", { scope: "row" }, make("button", { type: "button", class: "plain", onclick: () => select({ label: line.i }) }, line.label)),
      make("td", { class: "wide" }, make("span", { class: "bar", style: { "--share": line.total ? line.correct / line.total : 0 } })),
      make("td", { class: "number" }, line.total ? [percent(line.correct / line.total), make("small", {}, `${line.correct} of ${line.total}`)] : "no clips"),
      make("td", { class: "number" }, line.precision === null ? "never predicted" : percent(line.precision))))));
}

function confusionMatrix(counts, select) {
  const predicted = [...new Set([...counts.values()].flatMap((line) => [...line.keys()]))];
  const columns = [...core.classes.keys(), ...predicted.filter((p) => p < 0).sort((a, b) => b - a)];
  const maxCount = Math.max(1, ...[...counts.values()].flatMap((line) => [...line.values()]));
  const cells = [];
  const body = core.classes.map((label, row) => make("tr", {}, make("th", { scope: "row", title: label }, label), columns.map((column) => {
    const n = counts.get(row)?.get(column) || 0;
    const share = n / maxCount;
    const cell = make("button", {
      type: "button", tabindex: cells.length ? -1 : 0, "data-label": row, "data-predicted": column, disabled: !n,
      class: (row === column ? "diagonal" : "off") + (share > (row === column ? 0.45 : 0.22) ? " dark" : ""), style: { "--share": share },
      "aria-label": `${n} of ${label} classified as ${labelOf(column)}`, onclick: () => select({ label: row, predicted: column }),
    }, n ? String(n) : "");
    cells.push(cell);
    return make("td", {}, cell);
  })));
  const table = make("table", { class: "matrix" + (columns.length > MANY_COLUMNS ? " many" : "") },
    make("thead", {}, make("tr", {}, make("td", { class: "corner" }, "true\u00a0↓ predicted\u00a0→"), columns.map((c) => make("th", { scope: "col" }, make("span", {}, labelOf(c)))))),
    make("tbody", {}, body));
  table.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns.length, ArrowUp: -columns.length }[event.key];
    let index = cells.indexOf(document.activeElement);
    if (!step || index < 0) return;
    event.preventDefault();
    do index += step; while (cells[index] && cells[index].disabled);
    if (cells[index]) {
      cells.forEach((cell) => (cell.tabIndex = -1));
      cells[index].tabIndex = 0;
      cells[index].focus();
    }
  });
  const first = cells.find((cell) => !cell.disabled);
  cells.forEach((cell) => (cell.tabIndex = cell === first ? 0 : -1));
  return table;
}

// The wrong cells of the matrix, the most frequent first.
function confusions(counts) {
  const wrong = [...counts].flatMap(([label, line]) => [...line].filter(([predicted]) => predicted !== label).map(([predicted, n]) => ({ label, predicted, n })));
  return wrong.sort((a, b) => b.n - a.n || a.label - b.label);
}

// For many classes, a list stands beside the matrix, whose cells are small; on narrow windows it replaces the matrix.
function confusionList(counts, select) {
  return make("ul", { class: "confusions", "aria-label": "most frequent confusions" }, confusions(counts).slice(0, MAX_LISTED_CONFUSIONS).map(({ label, predicted, n }) =>
    make("li", {}, make("button", { type: "button", onclick: () => select({ label, predicted }) }, `${core.classes[label]} → ${labelOf(predicted)}: ${count(n)}`))));
}

// Results that a clip can have: title of the choice, words of the heading, and the test of a clip's vote.
const models = originalRuns.filter((i) => !["annotations", "baseline"].includes(core.runs[i].kind));
const resultFilters = {
  correct: { title: "correct", words: (name) => `${name} classified correctly`, test: (vote, label) => vote === label },
  wrong: { title: "wrong", words: (name) => `${name} gets wrong`, test: (vote, label) => vote !== label },
  none: { title: "without a label", words: (name) => `have no label from ${name}`, test: (vote) => vote < 0 },
  hard: { title: "wrong for every classifier", words: () => "every classifier gets wrong", test: (vote, label, clip) => models.every((i) => core.runs[i].votes[clip] !== null && core.runs[i].votes[clip] !== label) },
};

// Orders of the cards: title, and the value by which clips are sorted, the smallest first.
const correctModels = (clip) => models.filter((i) => core.runs[i].votes[clip] === core.labels[clip]).length;
const cardOrders = {
  clip: { title: "clip", value: (clip) => (core.audio[clip] || imageOf(clip, null) ? clip : clip + core.labels.length) }, // clips without image and audio come last
  label: { title: "true class", value: (clip) => core.labels[clip] },
  sure: { title: "confidence, highest first", value: (clip, rows) => -(rows[0][4] ?? -1) },
  unsure: { title: "confidence, lowest first", value: (clip, rows) => rows[0][4] ?? 2 },
  hardest: { title: "hardest for all classifiers first", value: correctModels },
};

function hasText(text, name, rows) {
  return [name, ...rows.flatMap((row) => [row[6], row[8]])].some((value) => value?.toLowerCase().includes(text));
}

// The selected clips of a run in their order, and a title.
function selectClips(run, clips, names, selection) {
  const filter = resultFilters[selection.only];
  const text = (selection.find || "").trim().toLowerCase();
  const matching = [...clips].filter(([clip, rows]) =>
    (selection.label === undefined || core.labels[clip] === selection.label) &&
    (selection.predicted === undefined || rows.some((row) => row[2] === selection.predicted)) &&
    (!filter || filter.test(core.runs[run].votes[clip], core.labels[clip], clip)) &&
    (!text || hasText(text, names[clip][0], rows)));
  const order = cardOrders[selection.order || "clip"];
  const values = new Map(matching.map(([clip, rows]) => [clip, order.value(clip, rows)]));
  const numbers = matching.map(([clip]) => clip).sort((a, b) => values.get(a) - values.get(b) || a - b);
  const name = runName(run);
  const conditions = [
    ...(selection.predicted === undefined ? [] : [`${name} classified as ${labelOf(selection.predicted)}`]),
    ...(filter ? [filter.words(name)] : []),
    ...(text ? [`contain “${text}” in the name or the response`] : []),
  ];
  const ofClass = selection.label === undefined ? "" : ` of ${core.classes[selection.label]}`;
  return { numbers, title: `${plural(numbers.length, "clip")}${ofClass}${conditions.length ? " that " + conditions.join(" and ") : ""}` };
}

function startClips() {
  if (!core.runs.length) return;
  document.querySelector("#clips .columns").classList.toggle("many", core.classes.length > MANY_COLUMNS);
  const runSelect = $("clips-run");
  const filters = { label: $("clips-label"), predicted: $("clips-predicted"), only: $("clips-only"), find: $("clips-find"), order: $("clips-order") };
  let run = core.best_run ?? originalRuns[0] ?? 0;
  let call = 0;

  const option = (value, text) => make("option", { value }, text);
  const classOptions = core.classes.map((label, i) => option(i, label));
  filters.label.replaceChildren(option("", "all"), ...classOptions);
  filters.only.replaceChildren(option("", "all"), ...Object.entries(resultFilters).map(([key, { title }]) => option(key, title)));
  filters.order.replaceChildren(...Object.entries(cardOrders).map(([key, { title }]) => option(key, title)));

  const number = (value) => (value === "" ? undefined : Number(value));
  const readFilters = () => ({ label: number(filters.label.value), predicted: number(filters.predicted.value), only: filters.only.value, find: filters.find.value, order: filters.order.value });
  const writeFilters = (selection) => { for (const name of ["label", "predicted", "only", "find"]) filters[name].value = selection[name] ?? ""; };

  // Draw the tables of a run and its clips; a later call replaces an earlier one that is still loading.
  async function draw(selection) {
    const current = ++call;
    const clips = await predictions(run);
    if (current !== call) return;
    const counts = confusionCounts(clips);
    const select = (selected) => { writeFilters(selected); return show(); };
    $("class-bars").replaceChildren(classBars(counts, select));
    const matrix = confusionMatrix(counts, select);
    $("confusion").replaceChildren(...[matrix.classList.contains("many") && confusionList(counts, select), matrix].filter(Boolean));
    const outcomes = [...new Set([...counts.values()].flatMap((line) => [...line.keys()]))].filter((p) => p < 0).sort((a, b) => b - a);
    filters.predicted.replaceChildren(option("", "all"), ...[...core.classes.keys(), ...outcomes].map((p) => option(p, labelOf(p))));
    const [{ label, predicted } = {}] = confusions(counts);
    writeFilters(selection || { label, predicted });
    return show();
  }

  async function show() {
    const [clips, names] = await Promise.all([predictions(run), load("clips")]);
    const selection = readFilters();
    const { numbers, title } = selectClips(run, clips, names, selection);
    $("clips-selection").textContent = title;
    document.querySelectorAll("#confusion button").forEach((cell) => cell.setAttribute("aria-pressed", String(selection.label) === cell.dataset.label && String(selection.predicted) === cell.dataset.predicted));
    return showGallery($("clips-gallery"), numbers, [run], { predicted: selection.predicted ?? null });
  }

  fillRunOptions(runSelect, core.runs.map((_, i) => i), run);
  runSelect.addEventListener("change", () => { run = Number(runSelect.value); draw(); });
  for (const filter of Object.values(filters)) filter.addEventListener("input", show);
  $("clips-all").addEventListener("click", () => { writeFilters({}); show(); });
  for (const link of document.querySelectorAll("a.show"))
    link.addEventListener("click", () => {
      run = Number(link.dataset.run);
      runSelect.value = run;
      const selection = { only: link.dataset.only };
      for (const key of ["label", "predicted"]) if (link.dataset[key] !== undefined) selection[key] = Number(link.dataset[key]);
      draw(selection).then(() => $("clips-selection").scrollIntoView({ block: "start" }));
    });
  return draw();
}
