// What happens in the browser alone. A script of its own, so that the page may forbid all scripts in its text.
"use strict";

const ITEM = JSON.parse(document.getElementById("page").textContent);

/** Write the coordinates of a point of the map below it. */
function showCursor(map) {
  const [a, b, c, d, e, f, digits] = map.tags[0];
  const cursor = document.getElementById("cursor");
  map.on_event("mousemove", ({ x, y }) => {
    cursor.textContent = `x ${(a * x + b * y + c).toFixed(digits)} · y ${(d * x + e * y + f).toFixed(digits)}`;
  });
}

/** Save the table that the button holds, under the name that it holds. */
function download(button) {
  const [name, table] = button.tags;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([table.data.csv[0]], { type: "text/csv" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

/** Open the item of the catalog that the server names. */
function follow(open) {
  open.connect(open.properties.data.change, () => {
    window.location.search = open.data.href[0];
  });
}

async function start() {
  await Bokeh.embed.embed_items({}, [ITEM]);
  const page = Bokeh.documents[0];
  if (page === undefined) return;
  const named = (name) => page.get_model_by_name(name);
  if (named("save")) {
    showCursor(named("map"));
    named("save").on_event("button_click", () => download(named("save")));
  } else if (named("open")) {
    follow(named("open"));
  }
}

start();
