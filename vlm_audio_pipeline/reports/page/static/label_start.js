// Start the sections of the page of a multi-label study. A section that fails shows the error in its place.

for (const [startSection, id] of [[startEvents, "events"], [startSegments, "clips"]])
  Promise.resolve().then(startSection).then(() => { if ($(id)) $(id).dataset.ready = "yes"; }).catch((error) => {
    $(id)?.append(make("p", { class: "failed", role: "alert" }, `This section cannot be shown: ${error.message}`));
    console.error(error);
  });
