// Everything begins here; a part that fails says so where it should stand.

$("zoom")?.addEventListener("click", () => $("zoom").close());
for (const [begin, id] of [[lookAtClips, "clips"], [lookAtFlips, "flips"], [lookAtMaps, "maps"], [lookAtReliability, "reliability"], [lookAtExamples, "examples"]])
  Promise.resolve().then(begin).then(() => { if ($(id)) $(id).dataset.ready = "yes"; }).catch((error) => {
    $(id)?.append(make("p", { class: "failed", role: "alert" }, `This part could not be shown: ${error.message}`));
    console.error(error);
  });
