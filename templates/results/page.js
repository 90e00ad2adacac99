"use strict";
// Sorting and filtering of the table of scores. Without this, the page says the same.
(() => {
  const table = document.getElementById("score-table");
  const form = document.getElementById("filters");
  const shown = document.getElementById("shown");
  const openAll = document.getElementById("open-all");
  const entries = [...table.tBodies];
  const heads = [...table.tHead.rows[0].cells];
  const filters = ["regime", "variant", "protocol", "head", "dataset"];
  const words = new Set(["task", "split"]);
  const scores = new Set(["before", "after", "difference", "interval", "chance", "shortcut", "lookup", "shuffled", "leak"]);
  const attribute = (key) => "data-by-" + key;

  // What has no value is last in either direction; AUROC and errors are not mixed.
  const compare = (key, sign) => (a, b) => {
    const [x, y] = [a.getAttribute(attribute(key)), b.getAttribute(attribute(key))];
    if (a.dataset.run !== b.dataset.run) return a.dataset.run === "yes" ? -1 : 1;
    if (x === null || y === null) return (x === null) - (y === null);
    if (scores.has(key) && a.dataset.metric !== b.dataset.metric) return a.dataset.metric < b.dataset.metric ? -1 : 1;
    return sign * (words.has(key) ? x.localeCompare(y, "en") : Number(x) - Number(y));
  };

  const tell = (sorted) => {
    const visible = entries.filter((e) => !e.hidden).length;
    const order = sorted ? `, sorted by ${sorted}` : "";
    shown.textContent = `${visible} of ${entries.length} rows${order}`;
  };

  let sorted = "";
  const sort = (head) => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((h) => h.setAttribute("aria-sort", h === head ? (up ? "ascending" : "descending") : "none"));
    entries.slice().sort(compare(head.dataset.key, up ? 1 : -1)).forEach((e) => table.append(e));
    sorted = `${head.querySelector(".t").textContent.toLowerCase()}, ${up ? "ascending" : "descending"}`;
    tell(sorted);
  };

  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.firstElementChild.childNodes);
    const note = button.querySelector("small");
    if (note) note.before(" ");
    head.firstElementChild.replaceWith(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(head));
  }

  const filter = () => {
    for (const entry of entries) {
      const fits = filters.every((f) => !form.elements[f].value || entry.dataset[f] === form.elements[f].value);
      entry.hidden = !fits || (form.elements.run.checked && entry.dataset.run !== "yes");
    }
    tell(sorted);
  };
  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => {
    form.elements.run.checked = false;
    filter();
  }));

  openAll.addEventListener("click", () => {
    const details = entries.filter((e) => !e.hidden).flatMap((e) => [...e.querySelectorAll("details.detail")]);
    const open = details.some((d) => !d.open);
    details.forEach((d) => { d.open = open; });
    openAll.textContent = open ? "Close all details" : "Open all details";
  });

  // A click on any number opens what is behind it; marking text with the mouse does not.
  table.addEventListener("click", (event) => {
    const cell = event.target.closest(".entry > tr:first-child > *");
    if (!cell || String(getSelection())) return;
    const detail = cell.closest("tbody").querySelector("details.detail");
    detail.open = !detail.open;
  });

  // A link to a row, from the plot or the list of faults, shows and opens it.
  const reveal = () => {
    const entry = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!entry || !entries.includes(entry)) return;
    entry.hidden = false;
    entry.querySelector("details.detail").open = true;
    entry.scrollIntoView({ block: "center" });
    entry.querySelector("summary").focus({ preventScroll: true });
  };
  addEventListener("hashchange", reveal);

  form.hidden = false;
  filter();
  reveal();
})();
