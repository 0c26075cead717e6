// Slots as texts of the plan's notation.
const NAME = String.raw`"(?:[^"\\]|\\.)*"|[A-Za-z][A-Za-z0-9_./-]*`;
// mean( donor : layer ) without adapter, part * factor, and a stitch behind it, all but the layer optional
const CHANGES = String.raw`(\.bare)?(\.attn|\.mlp)?(?:\*(-?[\d.e+-]+))?`;
const LAYER = new RegExp(String.raw`^(mean\()?(?:(${NAME})\s*:)?(\d+)\)?${CHANGES}(,~)?$`, "su");
const WIDTHS = [{ name: 4, note: 6 }, { name: 9, note: 14 }, { name: 15, note: 22 }];
const NARROW = [{ name: 4, note: 4 }, { name: 7, note: 10 }, { name: 11, note: 16 }]; // of ten in a row
// Characters of a chip's two lines that fit into one, two and three columns; longer ones are cut and stand in its title.

// What a slot's text says.
//   layer: which layer of this model runs there, where it is one and no mean; null otherwise
//   layers: the layers of this model that it names
//   index: the layer of a slot with one layer, whichever model it is of; null for parallel layers and damped blocks
//   name, note: the chip's two lines; spoken: the same for a screen reader
function read(text) {
  const match = LAYER.exec(text);
  if (!match) return text.startsWith("[") ? readBlock(text) : readParallel(text);
  const [, mean, from, number, bare = "", part = "", scale = "", seam = ""] = match;
  const slot = { text, mean: Boolean(mean), from: from ?? "", index: Number(number), bare, part, scale, seam };
  slot.name = "L" + number;
  const donor = donorName(slot.from);
  const note = [donor, mean && "mean", changesOf(slot)].filter(Boolean).join(" ");
  const spoken = (mean ? "mean of " : "") + slot.name + (donor ? " of " + donor : "") + (seam ? ", stitched" : "");
  const own = donor === "" ? [slot.index] : [];
  return { ...slot, note, spoken, layers: own, layer: donor === "" && !mean ? slot.index : null };
}

// What was done to a layer, for its chip.
function changesOf(slot) {
  return [slot.bare.slice(1), slot.part.slice(1), slot.scale && "×" + slot.scale, slot.seam && "~"].filter(Boolean).join(" ");
}

// A damped block: layers one after the other, and the factor on what all of them add.
function readBlock(text) {
  const end = text.lastIndexOf("]");
  const members = text.slice(1, end).match(/(?:"(?:[^"\\]|\\.)*"|[^,"])+/gsu) ?? [];
  const matches = members.map((member) => LAYER.exec(member)).filter(Boolean);
  const layers = matches.filter((match) => !match[2]).map((match) => Number(match[3]));
  const run = members.every((member, at) => member === String(layers[0] + at));
  const name = run ? `${members[0]}-${members.at(-1)}` : shortened(members, ",");
  const factor = text.slice(end + 2);
  const names = members.map((member) => member.replace(/^(\d)/, "L$1"));
  const spoken = `block ${names.join(", ")} damped by ${factor}`;
  const slot = { text, layer: null, index: null, layers, mean: false, from: "", bare: "", part: "", scale: "", seam: "" };
  return { ...slot, note: "×" + factor, name: `[${name}]`, spoken };
}

function readParallel(text) {
  const members = text.replace(/^\(|\)$/g, "").match(/(?:"(?:[^"\\]|\\.)*"|[^|"])+/gsu) ?? [];
  const matches = members.map((member) => LAYER.exec(member)).filter(Boolean);
  const layers = matches.filter((match) => !match[2]).map((match) => Number(match[3]));
  const names = members.map((member) => member.replace(/^(\d)/, "L$1"));
  const spoken = `${names.join("|")} side by side`;
  const slot = { text, layer: null, index: null, layers, mean: false, from: "", bare: "", part: "", scale: "", seam: "" };
  return { ...slot, note: "", name: shortened(members, "|"), spoken };
}

function shortened(members, mark) {
  const [first, second, last] = [members[0], members[1], members.at(-1)];
  return (members.length > 4 ? [first, second, "…", last] : members).join(mark);
}

// A donor's name without quotes.
function donorName(from) {
  return from.startsWith('"') ? from.slice(1, -1).replace(/\\(.)/gsu, "$1") : from;
}

function write(slot, changes) {
  const { from, index, mean, bare, part, scale, seam } = { ...slot, ...changes };
  const name = from ? `${from}:${index}` : String(index);
  return (mean ? `mean(${name})` : name) + bare + part + (scale && Number(scale) !== 1 ? "*" + scale : "") + seam;
}

// How many columns a chip takes.
function columns(slot, grouped) {
  const widths = grouped ? NARROW : WIDTHS;
  const fit = widths.findIndex((width) => slot.name.length <= width.name && slot.note.length <= width.note);
  return fit < 0 ? widths.length : fit + 1;
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
