// Copies the page's own address with the given query. Where the browser keeps the clipboard to itself
// (a page that is not served over https), the link is shown to be copied by hand.
export default function ({ parentElement, data }) {
  const button = parentElement.querySelector("button");
  const label = parentElement.querySelector("span");
  const field = parentElement.querySelector("input");
  const live = parentElement.querySelector(".live");
  const link = () => window.location.origin + window.location.pathname + (data.query ? "?" + data.query : "");
  field.hidden = true;

  button.onclick = async () => {
    const said = (await copied(link())) ? "Link copied" : "Copy it from here";
    if (said !== "Link copied") {
      field.value = link();
      field.hidden = false;
      field.select();
    }
    label.textContent = said;
    live.textContent = said;
    setTimeout(() => (label.textContent = "Copy link"), 2000);
  };
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
