// Reliability diagram: accuracy against confidence, in bins. On the diagonal a model is calibrated.

const PLOT_HEIGHT = 392;
const COUNTS = { top: 326, bottom: 372 }; // the bars with the number of predictions, below the diagram

const variantName = { raw: "before calibration", temperature: "after temperature scaling, fitted on the other folds" };

function startReliability() {
  const container = $("reliability-plot");
  if (!container) return;
  const select = $("reliability-run");
  const runs = [...new Set(core.reliability.map((row) => row[0]))].sort((a, b) => a - b);
  fillRunOptions(select, runs, runs[0]);
  select.addEventListener("change", draw);

  function draw() {
    const rows = core.reliability.filter((row) => row[0] === Number(select.value));
    const variants = [...new Set(rows.map((row) => row[1]))];
    const missing = Object.keys(variantName).filter((variant) => !variants.includes(variant));
    container.replaceChildren(...variants.map((variant) => {
      const bins = rows.filter((row) => row[1] === variant).sort((a, b) => a[2] - b[2]);
      const maxCount = Math.max(...bins.map((row) => row[3]));
      const toPlot = ([confidence, accuracy]) => [30 + 260 * confidence, 275 - 250 * accuracy];
      const svg = make("svg", { viewBox: `0 0 305 ${PLOT_HEIGHT}`, role: "img", "aria-label": `reliability diagram, ${variant}: ` + bins.map((row) => `${row[3]} predictions with confidence ${percent(row[4], 0)}: accuracy ${percent(row[5], 0)}`).join("; ") });
      const [x0, y0] = toPlot([0, 0]), [x1, y1] = toPlot([1, 1]);
      for (const share of [0, 0.25, 0.5, 0.75, 1]) {
        const [x, y] = toPlot([share, share]);
        svg.append(make("line", { x1: x0, x2: x1, y1: y, y2: y, class: "grid" }), make("text", { x: x0 - 5, y: y + 4, "text-anchor": "end" }, String(100 * share)), make("text", { x, y: y0 + 15, "text-anchor": "middle" }, String(100 * share)));
      }
      svg.append(make("line", { x1: x0, y1: y0, x2: x1, y2: y1, class: "chance" }));
      svg.append(make("path", { class: "line", d: bins.map((row, i) => (i ? "L" : "M") + toPlot([row[4], row[5]]).map((v) => v.toFixed(1)).join(" ")).join("") }));
      for (const row of bins) {
        const [cx, cy] = toPlot([row[4], row[5]]);
        svg.append(make("circle", { cx, cy, r: 3 + 8 * Math.sqrt(row[3] / maxCount), class: "dot" }, make("title", {}, `${plural(row[3], "prediction")}, confidence ${percent(row[4], 0)}, accuracy ${percent(row[5], 0)}`)));
      }
      for (const row of bins) { // each bar stands below its dot; bins are a tenth wide
        const x = toPlot([row[4], 0])[0];
        const height = Math.max(1, (COUNTS.bottom - COUNTS.top) * row[3] / maxCount);
        svg.append(make("rect", { x: x - 8, y: COUNTS.bottom - height, width: 16, height, class: "count" }), make("text", { x, y: COUNTS.bottom - height - 3, "text-anchor": "middle", class: "count" }, count(row[3])));
      }
      svg.append(make("line", { x1: x0, x2: x1, y1: COUNTS.bottom, y2: COUNTS.bottom, class: "grid" }), make("text", { x: (x0 + x1) / 2, y: COUNTS.bottom + 14, "text-anchor": "middle" }, "bars: predictions of each dot"));
      svg.append(make("text", { x: (x0 + x1) / 2, y: y0 + 31, "text-anchor": "middle" }, "confidence, %"), make("text", { x: x0, y: 12 }, "accuracy, %"));
      return make("figure", {}, svg, make("figcaption", {}, make("b", {}, variantName[variant] || variant), ` · ${plural(bins.reduce((sum, row) => sum + row[3], 0), "prediction")}`));
    }), ...missing.map((variant) => make("p", { class: "quiet" }, `No diagram ${variantName[variant]}: it is not defined for this classifier. The section Leaderboard, “Further measures”, gives the reason at the calibration error.`)));
  }
  draw();
}
