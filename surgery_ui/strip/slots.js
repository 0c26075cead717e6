// Slots as texts of the plan's notation.
const SLOT = /^(\d+)(\.attn|\.mlp)?(?:\*(-?[\d.e+-]+))?$/;

// What a slot's text says. A slot that is not one layer of this model, such as (4|5), has only its text as a name.
function read(text) {
  const match = SLOT.exec(text);
  if (match) {
    return { text, layer: Number(match[1]), name: "L" + match[1], part: match[2] || "", scale: match[3] || "" };
  }
  const inner = text.replace(/^\(|\)$/g, "").split("|");
  const layers = inner.map((part) => /^(?:mean\()?(\d+)/.exec(part)).filter(Boolean);
  return { text, layer: null, layers: layers.map((one) => Number(one[1])), name: inner.join("|"), part: "", scale: "" };
}

function write(layer, part, scale) {
  return layer + part + (scale && Number(scale) !== 1 ? "*" + scale : "");
}

// Ids of the chips that are out of order: all but a longest increasing run of layer numbers.
function movedIds(slots) {
  const best = slots.map(() => 1);
  const from = slots.map(() => -1);
  let end = -1;
  slots.forEach((slot, i) => {
    if (slot.layer === null) return;
    for (let j = 0; j < i; j += 1) {
      const before = slots[j].layer;
      if (before !== null && before <= slot.layer && best[j] + 1 > best[i]) [best[i], from[i]] = [best[j] + 1, j];
    }
    if (end < 0 || best[i] > best[end]) end = i;
  });
  const inOrder = new Set();
  for (let i = end; i >= 0; i = from[i]) inOrder.add(slots[i].id);
  return new Set(slots.filter((slot) => slot.layer !== null && !inOrder.has(slot.id)).map((slot) => slot.id));
}
