// Layout: the menu marks the section on the screen; tables that are too wide for their place become cards.

function startMenu() {
  const [button, links] = [$("menu"), $("links")];
  const items = [...links.querySelectorAll("a")].map((link) => ({ link, section: document.querySelector(link.hash) })).filter(({ section }) => section);
  let isWaiting = false;
  // The current section is the last one that begins above the upper third of the window; at the end of the page, the last one.
  const mark = () => {
    isWaiting = false;
    const isAtEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
    const line = innerHeight / 3;
    const current = isAtEnd ? items.at(-1) : items.findLast(({ section }) => section.getBoundingClientRect().top <= line);
    for (const item of items) item.link.toggleAttribute("aria-current", false);
    button.textContent = current ? `Section: ${current.link.textContent}` : "Sections";
    if (!current) return;
    current.link.setAttribute("aria-current", "location");
  };
  const markSoon = () => { if (!isWaiting) { isWaiting = true; requestAnimationFrame(mark); } };
  const open = (isOpen) => { button.setAttribute("aria-expanded", isOpen); links.classList.toggle("open", isOpen); };
  const menu = links.parentNode;
  new ResizeObserver(() => { if (!links.classList.contains("open")) document.documentElement.style.setProperty("--menu-height", `${menu.offsetHeight + 16}px`); }).observe(menu);
  button.hidden = false;
  button.addEventListener("click", () => open(button.getAttribute("aria-expanded") !== "true"));
  links.addEventListener("click", () => open(false));
  menu.addEventListener("keydown", (event) => { if (event.key === "Escape" && links.classList.contains("open")) { open(false); button.focus(); } });
  addEventListener("scroll", markSoon, { passive: true });
  addEventListener("resize", markSoon);
  mark();
}

const MIN_TABLE_WIDTH = 560; // px; narrower tables would break words

// Give each cell its heading, and show the rows as cards where the table does not fit. A table with the class "wide" scrolls
// sideways instead, except on narrow windows.
function stackWideTable(table) {
  const headings = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
  for (const row of table.rows) if (row.parentNode !== table.tHead) [...row.cells].forEach((cell, i) => { if (cell.colSpan === 1) cell.dataset.title ??= headings[i] || ""; });
  let width = null;
  new ResizeObserver(([entry]) => {
    if (entry.contentRect.width === width) return;
    width = entry.contentRect.width;
    table.classList.remove("stacked");
    const isCut = !table.classList.contains("wide") && (table.scrollWidth > width + 1 || table.offsetWidth > width + 1);
    table.classList.toggle("stacked", width < MIN_TABLE_WIDTH || isCut);
  }).observe(table.parentNode);
}

function startLayout() {
  document.documentElement.classList.add("scripted");
  startMenu();
  document.querySelectorAll(".scroll > .plain-table").forEach(stackWideTable);
}
startLayout();
