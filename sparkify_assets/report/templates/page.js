// The risk list: sorting, filtering, paging and its download. Without it the page shows the first rows.
"use strict";
(() => {
  const PAGE = 20;
  const data = JSON.parse(document.getElementById("risk-data").textContent);
  const at = Object.fromEntries(data.columns.map((name, i) => [name, i]));
  const reasons = [at.reason_1, at.reason_2, at.reason_3];
  const get = (id) => document.getElementById(id);
  const [find, level, decile, status, body] = ["find", "level", "decile", "shown", "risk-table"].map(get);
  const rows = data.rows.map((row) => ({
    row,
    text: [row[at.user_id], ...reasons.map((i) => row[i] || "")].join("\n").toLowerCase(),
  }));
  const collator = new Intl.Collator("en", { numeric: true });
  const state = { column: "probability", direction: -1, page: 0, matching: rows };

  const percent = (value) => {
    if (value > 0 && value < 0.001) return "<0.1%";
    if (value >= 0.995 && value < 1) return ">99%";
    if (value === 0 || value >= 0.2) return `${Math.round(value * 100)}%`;
    return `${(value * 100).toFixed(1).replace(/\.0$/, "")}%`;
  };

  const make = (tag, text, className) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  };

  // Roles are spelled out: a phone shows rows as cards, and then tables lose theirs.
  function cell(tag, role, content, className) {
    const element = make(tag, typeof content === "object" ? undefined : content, className);
    element.setAttribute("role", role);
    if (content instanceof Node) element.append(content);
    return element;
  }

  function tableRow({ row }) {
    const why = make("ol", undefined, "reasons");
    why.append(...reasons.filter((i) => row[i]).map((i) => make("li", row[i])));
    const user = cell("th", "rowheader", row[at.user_id], "user");
    user.scope = "row";
    const tenth = cell("td", "cell", row[at.risk_decile] ?? "", "figure");
    tenth.dataset.label = "decile";
    const line = cell("tr", "row");
    line.append(
      user,
      cell("td", "cell", percent(row[at.probability]), "figure"),
      tenth,
      cell("td", "cell", row[at.level] || "unknown"),
      cell("td", "cell", why, "why"),
    );
    return line;
  }

  function compare(a, b) {
    const [x, y] = [a.row[at[state.column]], b.row[at[state.column]]];
    if (x === null || y === null) return (x === null) - (y === null);
    const order = typeof x === "number" ? x - y : collator.compare(x, y);
    // Equal values stay in order of risk, as they are embedded.
    return state.direction * order;
  }

  function choose() {
    const wanted = find.value.trim().toLowerCase();
    state.matching = rows
      .filter(
        ({ row, text }) =>
          (!level.value || row[at.level] === level.value) &&
          (!decile.value || String(row[at.risk_decile]) === decile.value) &&
          text.includes(wanted),
      )
      .sort(compare);
    state.page = 0;
    show();
  }

  function show() {
    const count = state.matching.length;
    const pages = Math.max(1, Math.ceil(count / PAGE));
    const first = state.page * PAGE;
    const visible = state.matching.slice(first, first + PAGE);
    body.tBodies[0].replaceChildren(...visible.map(tableRow));
    status.textContent = count
      ? `Showing ${(first + 1).toLocaleString("en")} to ${(first + visible.length).toLocaleString("en")} of ` +
        `${count.toLocaleString("en")} ${count === 1 ? "user" : "users"}` +
        (count < rows.length ? ` that match, of ${rows.length.toLocaleString("en")} listed.` : ".")
      : "No user matches. Clear the filters to see all.";
    get("pages").hidden = pages === 1;
    get("page-number").textContent = `Page ${state.page + 1} of ${pages}`;
    get("previous").disabled = state.page === 0;
    get("next").disabled = state.page === pages - 1;
    get("download").disabled = count === 0;
    get("download").textContent = `Download ${count.toLocaleString("en")} as CSV`;
  }

  function turn(by) {
    state.page += by;
    show();
    get("risk").scrollIntoView();
  }

  function sortBy(header) {
    const column = header.dataset.column;
    // Figures are first sorted from the highest, words from A.
    const natural = column === "probability" || column === "risk_decile" ? -1 : 1;
    state.direction = state.column === column ? -state.direction : natural;
    state.column = column;
    for (const other of body.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", state.direction > 0 ? "ascending" : "descending");
    choose();
  }

  // A spreadsheet would run a text that begins like a formula.
  const field = (value) => {
    if (value === null) return "";
    let text = String(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const csv = (chosen) =>
    [data.columns, ...chosen.map(({ row }) => row)].map((row) => row.map(field).join(",")).join("\r\n") + "\r\n";

  function download() {
    const link = make("a");
    // The mark tells spreadsheets that the text is UTF-8.
    link.href = URL.createObjectURL(new Blob(["\ufeff", csv(state.matching)], { type: "text/csv" }));
    link.download = `churn-risk-${data.dataset}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  for (const header of body.querySelectorAll("th[data-column]")) {
    const button = make("button", header.textContent);
    button.type = "button";
    button.addEventListener("click", () => sortBy(header));
    header.replaceChildren(button);
  }
  const form = get("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", choose);
  form.addEventListener("reset", () => setTimeout(choose));
  get("download").addEventListener("click", download);
  get("previous").addEventListener("click", () => turn(-1));
  get("next").addEventListener("click", () => turn(1));
  form.hidden = false;
  choose();
})();
