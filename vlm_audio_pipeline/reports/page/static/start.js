// Start every section. A section that fails shows the error in its place.

$("zoom")?.addEventListener("click", () => $("zoom").close());
for (const [startSection, id] of [[startOneClip, "one-clip"], [startLeaderboard, "leaderboard"], [startClips, "clips"], [startComparison, "comparison"], [startMaps, "maps"], [startReliability, "reliability"], [startPrompts, "prompts"]])
  Promise.resolve().then(startSection).then(() => { if ($(id)) $(id).dataset.ready = "yes"; }).catch((error) => {
    $(id)?.append(make("p", { class: "failed", role: "alert" }, `This section cannot be shown: ${error.message}`));
    console.error(error);
  });
