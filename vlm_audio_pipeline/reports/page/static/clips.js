// Looking at clips: bars of every class, a confusion matrix whose cells are buttons, and the clips behind what is chosen.

function counted(clips) {
  const counts = new Map(); // true class -> given -> predictions
  for (const [clip, rows] of clips)
    for (const row of rows) {
      const line = counts.get(core.labels[clip]) || counts.set(core.labels[clip], new Map()).get(core.labels[clip]);
      line.set(row[2], (line.get(row[2]) || 0) + 1);
    }
  return counts;
}

function classBars(counts, choose) {
  const called = new Map();
  for (const line of counts.values()) for (const [given, n] of line) called.set(given, (called.get(given) || 0) + n);
  const lines = core.classes.map((label, i) => {
    const line = counts.get(i) || new Map();
    const asked = [...line.values()].reduce((a, b) => a + b, 0);
    const right = line.get(i) || 0;
    return { i, label, asked, right, precision: called.get(i) ? right / called.get(i) : null };
  });
  return make("table", { class: "bars" },
    make("thead", {}, make("tr", {}, ["class", "found", "", "right when said"].map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, lines.map((line) => make("tr", {},
      make("th", { scope: "row" }, make("button", { type: "button", class: "plain", onclick: () => choose({ label: line.i }) }, line.label)),
      make("td", { class: "wide" }, make("span", { class: "bar", style: { "--share": line.asked ? line.right / line.asked : 0 } })),
      make("td", { class: "number" }, line.asked ? `${line.right} of ${line.asked}` : "none asked"),
      make("td", { class: "number" }, line.precision === null ? "never said" : percent(line.precision, 0))))));
}

function matrix(counts, choose) {
  const given = [...new Set([...counts.values()].flatMap((line) => [...line.keys()]))];
  const columns = [...core.classes.keys(), ...given.filter((g) => g < 0).sort((a, b) => b - a)];
  const most = Math.max(1, ...[...counts.values()].flatMap((line) => [...line.values()]));
  const cells = [];
  const body = core.classes.map((label, row) => make("tr", {}, make("th", { scope: "row", title: label }, label), columns.map((column) => {
    const n = counts.get(row)?.get(column) || 0;
    const share = n / most;
    const cell = make("button", {
      type: "button", tabindex: cells.length ? -1 : 0, "data-label": row, "data-predicted": column, disabled: !n,
      class: (row === column ? "diagonal" : "off") + (share > (row === column ? 0.45 : 0.22) ? " dark" : ""), style: { "--share": share },
      "aria-label": `${n} of ${label} called ${labelOf(column)}`, onclick: () => choose({ label: row, predicted: column }),
    }, n ? String(n) : "");
    cells.push(cell);
    return make("td", {}, cell);
  })));
  const table = make("table", { class: "matrix" + (columns.length > 20 ? " many" : "") },
    make("thead", {}, make("tr", {}, make("td", { class: "corner" }, "true ↓ called →"), columns.map((c) => make("th", { scope: "col" }, make("span", {}, labelOf(c)))))),
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

function commonestMistake(counts) {
  let best = null;
  for (const [label, line] of counts)
    for (const [predicted, n] of line) if (label !== predicted && (!best || n > best.n)) best = { label, predicted, n };
  return best && { label: best.label, predicted: best.predicted };
}

// Which clips of a run are meant, and how that is called: by true class, by what was said, all wrong, missed by every model.
function chosenClips(run, clips, picked) {
  const models = realRuns.filter((i) => !["human", "baseline"].includes(core.runs[i].kind));
  const wanted = [...clips].filter(([clip, rows]) =>
    (picked.label === undefined || core.labels[clip] === picked.label) &&
    (picked.predicted === undefined || rows.some((row) => row[2] === picked.predicted)) &&
    (picked.only !== "wrong" || core.runs[run].votes[clip] !== core.labels[clip]) &&
    (picked.only !== "hard" || models.every((i) => core.runs[i].votes[clip] !== null && core.runs[i].votes[clip] !== core.labels[clip])));
  const found = wanted.map(([clip]) => clip).sort((a, b) => a - b);
  const n = plural(found.length, "clip");
  const name = runName(run);
  const told =
    picked.only === "hard" ? `${n} that every model misses`
    : picked.only === "wrong" ? `${n} that ${name} has wrong`
    : picked.label !== undefined && picked.predicted !== undefined ? `${n} of ${core.classes[picked.label]} that ${name} called ${labelOf(picked.predicted)}`
    : picked.label !== undefined ? `${n} of ${core.classes[picked.label]}`
    : `${n} that ${name} called ${labelOf(picked.predicted)}`;
  return { found, told };
}

function lookAtClips() {
  if (!core.runs.length) return;
  const select = $("clips-run");
  document.querySelector("#clips .two").classList.toggle("many", core.classes.length > 20);
  let run = realRuns[0] ?? 0;

  async function draw(picked) {
    const clips = await predictions(run);
    const counts = counted(clips);
    const choose = (wanted) => choice(clips, wanted);
    $("class-bars").replaceChildren(classBars(counts, choose));
    $("confusion").replaceChildren(matrix(counts, choose));
    return choice(clips, picked || commonestMistake(counts) || { label: 0 });
  }

  function choice(clips, picked) {
    const { found, told } = chosenClips(run, clips, picked);
    $("picked").textContent = told;
    document.querySelectorAll("#confusion button").forEach((cell) => cell.setAttribute("aria-pressed", String(picked.label) === cell.dataset.label && String(picked.predicted) === cell.dataset.predicted));
    return gallery($("clips-gallery"), found, [run], { predicted: picked.predicted ?? null });
  }

  runOptions(select, core.runs.map((_, i) => i), run);
  select.addEventListener("change", () => { run = Number(select.value); draw(); });
  for (const link of document.querySelectorAll("a.show"))
    link.addEventListener("click", () => {
      run = Number(link.dataset.run);
      select.value = run;
      const picked = { only: link.dataset.only };
      for (const key of ["label", "predicted"]) if (link.dataset[key] !== undefined) picked[key] = Number(link.dataset[key]);
      draw(picked).then(() => $("picked").scrollIntoView({ block: "start" }));
    });
  return draw();
}
