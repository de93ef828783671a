// Sort and filter the leaderboard: by its column headings, or by a list on narrow windows.

function startLeaderboard() {
  const table = $("board");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows]; // in the order of the ranking
  const headings = [...table.querySelectorAll("th[data-sort]")];
  const select = $("board-sort"), find = $("board-find"), keys = [...document.querySelectorAll("#leaderboard button.key")];
  let sorting = { column: "rank", isDescending: false };

  // Numbers first, in the direction of the sorting; then rows without a value, in the order of the ranking.
  function compare(a, b) {
    const [x, y] = [a, b].map((row) => row.dataset[sorting.column] ?? "");
    if (x === "" || y === "") return (x === "") - (y === "") || rows.indexOf(a) - rows.indexOf(b);
    const order = sorting.column === "name" ? x.localeCompare(y, "en", { numeric: true }) : Number(x) - Number(y);
    return (sorting.isDescending ? -order : order) || rows.indexOf(a) - rows.indexOf(b);
  }

  function draw() {
    const text = find.value.trim().toLowerCase();
    const inputs = keys.filter((key) => key.getAttribute("aria-pressed") === "true").map((key) => key.dataset.input);
    for (const row of rows) row.hidden = !(row.dataset.search.toLowerCase().includes(text) && (!inputs.length || inputs.includes(row.dataset.input)));
    body.append(...[...rows].sort(compare));
    for (const heading of headings) {
      const isSorted = heading.dataset.sort === sorting.column;
      heading.setAttribute("aria-sort", isSorted ? (sorting.isDescending ? "descending" : "ascending") : "none");
    }
    select.value = sorting.column;
    const n = rows.filter((row) => !row.hidden).length;
    $("board-count").textContent = n === rows.length ? "" : `${count(n)} of ${plural(rows.length, "row")}`;
  }

  // Names and ranks begin with the first, measures with the highest.
  const sortBy = (column) => {
    const isFirstAscending = ["rank", "name"].includes(column);
    sorting = { column, isDescending: sorting.column === column ? !sorting.isDescending : !isFirstAscending };
    draw();
  };
  for (const heading of headings) heading.querySelector("button").addEventListener("click", () => sortBy(heading.dataset.sort));
  select.addEventListener("change", () => sortBy(select.value));
  find.addEventListener("input", draw);
  for (const key of keys) key.addEventListener("click", () => { key.setAttribute("aria-pressed", key.getAttribute("aria-pressed") !== "true"); draw(); });
  draw();
}
