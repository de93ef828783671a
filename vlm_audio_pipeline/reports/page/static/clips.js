// Browse the clips: recall and precision by class, a confusion matrix of buttons, and the clips of the selected cell.

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
      make("td", { class: "number" }, line.total ? `${line.correct} of ${line.total}` : "no clips"),
      make("td", { class: "number" }, line.precision === null ? "never predicted" : percent(line.precision, 0))))));
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
  const table = make("table", { class: "matrix" + (columns.length > 20 ? " many" : "") },
    make("thead", {}, make("tr", {}, make("td", { class: "corner" }, "true ↓ predicted →"), columns.map((c) => make("th", { scope: "col" }, make("span", {}, labelOf(c)))))),
    make("tbody", {}, body));
  table.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns.length, ArrowUp: -columns.length }[event.key];
    let at = cells.indexOf(document.activeElement);
    if (!step || at < 0) return;
    event.preventDefault();
    do at += step; while (cells[at] && cells[at].disabled);
    if (cells[at]) {
      cells.forEach((cell) => (cell.tabIndex = -1));
      cells[at].tabIndex = 0;
      cells[at].focus();
    }
  });
  const first = cells.find((cell) => !cell.disabled);
  cells.forEach((cell) => (cell.tabIndex = cell === first ? 0 : -1));
  return table;
}

function mostFrequentConfusion(counts) {
  let best = null;
  for (const [label, line] of counts)
    for (const [predicted, n] of line) if (label !== predicted && (!best || n > best.n)) best = { label, predicted, n };
  return best && { label: best.label, predicted: best.predicted };
}

// The selected clips of a run and a title: by true class, by predicted label, all wrong ones, or wrong for every model.
function selectClips(run, clips, selection) {
  const models = originalRuns.filter((i) => !["annotations", "baseline"].includes(core.runs[i].kind));
  const matching = [...clips].filter(([clip, rows]) =>
    (selection.label === undefined || core.labels[clip] === selection.label) &&
    (selection.predicted === undefined || rows.some((row) => row[2] === selection.predicted)) &&
    (selection.only !== "wrong" || core.runs[run].votes[clip] !== core.labels[clip]) &&
    (selection.only !== "hard" || models.every((i) => core.runs[i].votes[clip] !== null && core.runs[i].votes[clip] !== core.labels[clip])));
  const numbers = matching.map(([clip]) => clip).sort((a, b) => a - b);
  const n = plural(numbers.length, "clip");
  const name = runName(run);
  const title =
    selection.only === "hard" ? `${n} that every model gets wrong`
    : selection.only === "wrong" ? `${n} that ${name} gets wrong`
    : selection.label !== undefined && selection.predicted !== undefined ? `${n} of ${core.classes[selection.label]} that ${name} classified as ${labelOf(selection.predicted)}`
    : selection.label !== undefined ? `${n} of ${core.classes[selection.label]}`
    : `${n} that ${name} classified as ${labelOf(selection.predicted)}`;
  return { numbers, title };
}

function startClips() {
  if (!core.runs.length) return;
  const runSelect = $("clips-run");
  document.querySelector("#clips .columns").classList.toggle("many", core.classes.length > 20);
  let run = originalRuns[0] ?? 0;

  async function draw(selection) {
    const clips = await predictions(run);
    const counts = confusionCounts(clips);
    const select = (selection) => show(clips, selection);
    $("class-bars").replaceChildren(classBars(counts, select));
    $("confusion").replaceChildren(confusionMatrix(counts, select));
    return show(clips, selection || mostFrequentConfusion(counts) || { label: 0 });
  }

  function show(clips, selection) {
    const { numbers, title } = selectClips(run, clips, selection);
    $("clips-selection").textContent = title;
    document.querySelectorAll("#confusion button").forEach((cell) => cell.setAttribute("aria-pressed", String(selection.label) === cell.dataset.label && String(selection.predicted) === cell.dataset.predicted));
    return showGallery($("clips-gallery"), numbers, [run], { predicted: selection.predicted ?? null });
  }

  fillRunOptions(runSelect, core.runs.map((_, i) => i), run);
  runSelect.addEventListener("change", () => { run = Number(runSelect.value); draw(); });
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
