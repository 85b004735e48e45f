// Tables that sort by a click on a column's head. Every cell sorts by its data-value, or by what it says.

function valueOf(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = Number.parseFloat(text);
  return Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b));
}

function sort(table, head, direction) {
  for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => sign * compare(valueOf(a, head.cellIndex), valueOf(b, head.cellIndex)));
  table.tBodies[0].append(...rows);
}

/** A column that is marked as sorted already is sorted now: names may have taken the place of codes. */
export function makeSortable(table) {
  const marked = table.tHead.querySelector("[aria-sort]");
  if (marked) sort(table, marked, marked.getAttribute("aria-sort"));
  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("button")?.closest("th");
    if (!head) return;
    // Numbers begin with the largest: that is what one looks for.
    const numeric = typeof valueOf(table.tBodies[0].rows[0], head.cellIndex) === "number";
    const before = head.getAttribute("aria-sort");
    const first = numeric ? "descending" : "ascending";
    sort(table, head, before ? (before === "ascending" ? "descending" : "ascending") : first);
  });
}
