// Where two classifiers differ: four groups of the clips both were asked about, each with its clips.

function lookAtFlips() {
  const place = $("flips-groups");
  if (!place) return;
  const selects = [$("flips-first"), $("flips-second")];
  const all = core.runs.map((_, i) => i);
  const chosen = [realRuns[0], realRuns.find((i) => core.runs[i].classifier !== core.runs[realRuns[0]].classifier) ?? realRuns[1]];
  selects.forEach((select, i) => {
    runOptions(select, all, chosen[i]);
    select.addEventListener("change", () => { chosen[i] = Number(select.value); draw(); });
  });

  function draw() {
    const [a, b] = chosen;
    const right = (run, clip) => core.runs[run].votes[clip] === core.labels[clip];
    const both = core.labels.map((_, clip) => clip).filter((clip) => core.runs[a].votes[clip] !== null && core.runs[b].votes[clip] !== null);
    const groups = [
      [`right → wrong: only ${runName(a)} is right`, (clip) => right(a, clip) && !right(b, clip)],
      [`wrong → right: only ${runName(b)} is right`, (clip) => !right(a, clip) && right(b, clip)],
      ["both are right", (clip) => right(a, clip) && right(b, clip)],
      ["neither is right", (clip) => !right(a, clip) && !right(b, clip)],
    ].map(([told, test]) => ({ told, clips: both.filter(test) }));
    const show = (group, button) => {
      place.querySelectorAll("button").forEach((other) => other.setAttribute("aria-pressed", other === button));
      $("flips-told").textContent = `${plural(group.clips.length, "clip")}: ${group.told}`;
      gallery($("flips-gallery"), group.clips, [a, b], {});
    };
    const buttons = groups.map((group) => make("button", { type: "button", class: "group" }, make("b", {}, String(group.clips.length)), " ", group.told));
    buttons.forEach((button, i) => button.addEventListener("click", () => show(groups[i], button)));
    place.replaceChildren(...buttons);
    $("flips-common").textContent = `${both.length} clips were given to both; where a clip has several trials or readers, what most of them said counts.`;
    $("flips-told").textContent = "Choose a group to see and hear its clips.";
    $("flips-gallery").replaceChildren();
  }
  draw();
}
