"use strict";
// Without this script the page is complete; with it tables can be sorted and texts copied.
(function () {
  function compare(one, other) {
    // What is not known comes last, in either direction.
    const a = Number(one), b = Number(other);
    return Number.isNaN(a) || Number.isNaN(b) ? one.localeCompare(other, undefined, { numeric: true }) : a - b;
  }

  function sort(table, column, heading) {
    const rows = Array.from(table.tBodies[0].rows);
    const value = (row) => row.cells[column].dataset.value;
    const numeric = heading.classList.contains("number");
    const first = numeric ? "descending" : "ascending";
    const other = numeric ? "ascending" : "descending";
    const order = heading.getAttribute("aria-sort") === first ? other : first;
    const known = rows.filter((row) => value(row) !== "");
    const unknown = rows.filter((row) => value(row) === "");
    const sign = order === "ascending" ? 1 : -1;
    known.sort((one, two) => sign * compare(value(one), value(two)));
    table.tBodies[0].append(...known, ...unknown);
    for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
  }

  for (const table of document.querySelectorAll("table")) {
    Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent;
      button.addEventListener("click", () => sort(table, column, heading));
      heading.replaceChildren(button);
    });
  }

  for (const button of document.querySelectorAll("button[data-copies]")) {
    const source = document.getElementById(button.dataset.copies);
    button.addEventListener("click", async () => {
      const label = button.textContent;
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        // A file that is opened from disk may not write to the clipboard: the text is selected for the reader.
        getSelection().selectAllChildren(source);
        button.textContent = "Selected: press Ctrl+C or Cmd+C";
      }
      setTimeout(() => { button.textContent = label; }, 3000);
    });
  }

  // What is folded is printed, too.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = Array.from(document.querySelectorAll("details:not([open])"));
    for (const each of opened) each.open = true;
  });
  addEventListener("afterprint", () => { for (const each of opened) each.open = false; });
})();
