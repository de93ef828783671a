// Start the page that compares results.

$("zoom")?.addEventListener("click", () => $("zoom").close());
startComparison();
if ($("comparison")) $("comparison").dataset.ready = "yes";
