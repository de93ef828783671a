// Compare two classifiers: four groups of the clips that both classified, each with its clips.

function startComparison() {
  const container = $("comparison-groups");
  if (!container) return;
  const selects = [$("comparison-first"), $("comparison-second")];
  const all = core.runs.map((_, i) => i);
  // Two classifiers of a study; or one classifier in two of the compared results.
  const best = core.best_run ?? originalRuns[0];
  const first = core.runs[best];
  const isPartner = (run) => (first.place ? run.place !== first.place && run.classifier === first.classifier && run.scoring === first.scoring : run.classifier !== first.classifier);
  const selected = [best, originalRuns.find((i) => isPartner(core.runs[i])) ?? originalRuns[1] ?? best];
  selects.forEach((select, i) => {
    fillRunOptions(select, all, selected[i]);
    select.addEventListener("change", () => { selected[i] = Number(select.value); draw(); });
  });

  function draw() {
    const [a, b] = selected;
    const isCorrect = (run, clip) => core.runs[run].votes[clip] === core.labels[clip];
    const both = core.labels.map((_, clip) => clip).filter((clip) => core.runs[a].votes[clip] !== null && core.runs[b].votes[clip] !== null);
    const groups = [
      [`only ${runName(a)} is correct`, (clip) => isCorrect(a, clip) && !isCorrect(b, clip)],
      [`only ${runName(b)} is correct`, (clip) => !isCorrect(a, clip) && isCorrect(b, clip)],
      ["both are correct", (clip) => isCorrect(a, clip) && isCorrect(b, clip)],
      ["both are wrong", (clip) => !isCorrect(a, clip) && !isCorrect(b, clip)],
    ].map(([title, test]) => ({ title, clips: both.filter(test) }));
    const show = (group, button) => {
      container.querySelectorAll("button").forEach((other) => other.setAttribute("aria-pressed", other === button));
      $("comparison-selection").textContent = `${plural(group.clips.length, "clip")}: ${group.title}`;
      showGallery($("comparison-gallery"), group.clips, [a, b], {});
    };
    const buttons = groups.map((group) => make("button", { type: "button", class: "group" }, make("b", {}, count(group.clips.length)), " ", group.title));
    buttons.forEach((button, i) => button.addEventListener("click", () => show(groups[i], button)));
    container.replaceChildren(...buttons);
    $("comparison-total").textContent = `${plural(both.length, "clip")} have predictions of both. Where a clip has several trials or annotators, the majority label counts.`;
    $("comparison-selection").textContent = "Select a group to see and hear its clips.";
    $("comparison-gallery").replaceChildren();
  }
  for (const link of document.querySelectorAll("a.compare"))
    link.addEventListener("click", () => {
      [selected[0], selected[1]] = [Number(link.dataset.first), Number(link.dataset.second)];
      selects.forEach((select, i) => (select.value = selected[i]));
      draw();
      container.children[Number(link.dataset.group)].click();
    });
  draw();
}
