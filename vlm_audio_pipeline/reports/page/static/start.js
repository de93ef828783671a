// Start every section. A section that fails shows the error in its place.

$("zoom")?.addEventListener("click", () => $("zoom").close());
for (const [startSection, id] of [[startClips, "clips"], [startComparison, "comparison"], [startMaps, "maps"], [startReliability, "reliability"], [startExamples, "examples"]])
  Promise.resolve().then(startSection).then(() => { if ($(id)) $(id).dataset.ready = "yes"; }).catch((error) => {
    $(id)?.append(make("p", { class: "failed", role: "alert" }, `This section cannot be shown: ${error.message}`));
    console.error(error);
  });
