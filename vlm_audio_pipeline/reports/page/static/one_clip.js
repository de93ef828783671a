// One clip at the top of the page: its image, its audio, and what every classifier answers, also under the controls.

const controlTitles = { none: "answer", blank: "if blank", time_shuffled: "if time-shuffled", other_clip: "if of another clip", no_image: "if left out" };

// The runs on the original input, grouped by what they receive. Scorings with the same answers share a line.
function answerGroups(clip) {
  const groupOf = (run) => (run.kind === "annotations" ? "people" : run.takes_audio ? "from the audio" : "from the image");
  const groups = new Map(["from the image", "from the audio", "people"].map((title) => [title, new Map()]));
  for (const i of originalRuns) {
    const run = core.runs[i];
    if (run.kind === "baseline" || run.votes[clip] === null) continue;
    const controls = core.runs.map((_, j) => j).filter((j) => core.runs[j].control !== "none" && core.runs[j].classifier === run.classifier && core.runs[j].scoring === run.scoring && core.runs[j].votes[clip] !== null);
    const answers = new Map([["none", i], ...controls.map((j) => [core.runs[j].control, j])]);
    const key = JSON.stringify([run.classifier, ...[...answers].map(([control, j]) => [control, core.runs[j].votes[clip]])]);
    const lines = groups.get(groupOf(run));
    lines.set(key, [...(lines.get(key) || []), { run: i, answers }]);
  }
  return [...groups].filter(([, lines]) => lines.size);
}

function startOneClip() {
  const container = $("one-clip-view");
  if (!container) return;
  const imageRun = originalRuns.find((i) => core.runs[i].kind === "language_model" && core.runs[i].image_set) ?? originalRuns.find((i) => core.runs[i].image_set) ?? null;
  const candidates = core.labels.map((_, clip) => clip).filter((clip) => imageOf(clip, imageRun) || core.audio[clip]);

  async function show(clip) {
    const [name, , , seconds] = (await load("clips"))[clip];
    const groups = answerGroups(clip);
    const lines = groups.flatMap(([, byAnswers]) => [...byAnswers.values()]);
    const controls = [...new Set(lines.flatMap((runs) => [...runs[0].answers.keys()]))];
    // Neighbouring controls that a classifier does not have share a cell.
    const cells = (answers) => {
      const row = [];
      for (const control of controls) {
        const j = answers.get(control);
        if (j !== undefined) row.push(make("td", {}, predictionBadge(core.runs[j].votes[clip], clip)));
        else if (row.at(-1)?.className === "no-control") row.at(-1).colSpan += 1;
        else row.push(make("td", { class: "no-control" }, "no control"));
      }
      return row;
    };
    const line = (runs) => {
      const { classifier } = core.runs[runs[0].run];
      const isOnlyLine = lines.filter((other) => core.runs[other[0].run].classifier === classifier).length === 1;
      return make("tr", {}, make("th", { scope: "row" }, isOnlyLine ? classifier : `${classifier} (${runs.map((r) => core.runs[r.run].scoring).join(", ")})`, " ", make("small", {}, core.kinds[core.runs[runs[0].run].kind] || "")), cells(runs[0].answers));
    };
    const table = make("table", { class: "plain-table answers" },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "classifier"), controls.map((control) => make("th", { scope: "col" }, controlTitles[control] || control)))),
      groups.map(([title, byAnswers]) => make("tbody", {}, make("tr", {}, make("th", { scope: "rowgroup", colspan: controls.length + 1, class: "group-title" }, title)), [...byAnswers.values()].map(line))));
    const asked = originalRuns.filter((i) => core.runs[i].kind === "language_model" && core.runs[i].votes[clip] !== null);
    const byClassifier = new Map(asked.map((i) => [core.runs[i].classifier, i])); // the last scoring of each, one is enough
    for (const i of asked) if (core.runs[i].scoring === "generation") byClassifier.set(core.runs[i].classifier, i);
    const transcripts = await Promise.all([...byClassifier].map(async ([classifier, i]) => {
      const row = (await predictions(i)).get(clip)?.[0];
      return row && transcript(i, clip, row, `Prompt and response of ${classifier}`);
    }));
    container.replaceChildren(
      make("div", {}, imageFigure(clip, imageRun, name, seconds), player(clip)),
      make("div", {}, make("p", {}, "The true class of this sound is ", make("b", {}, core.classes[core.labels[clip]]), make("span", { class: "quiet" }, ` (clip ${name})`), "."),
        make("div", { class: "scroll" }, table),
        controls.length > 1 ? make("p", { class: "quiet" }, "“If ...” stands for a control: the same question about a changed image. A model that uses the image then gives other answers for many clips. “Time-shuffled”: the columns of the image are in random order. “No control”: the study does not ask this classifier that question.") : null, transcripts.filter(Boolean)));
    stackWideTable(table);
  }

  $("one-clip-next").addEventListener("click", () => show(candidates[Math.floor(Math.random() * candidates.length)]));
  return candidates.length ? show(core.first_clip) : undefined;
}
